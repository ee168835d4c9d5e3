"""The generation number of nf_tables.

Owns: one netlink question. Must not: be taken for more than it is: a hint that nothing at all has changed.

Every transaction on any nf_tables table of a network namespace raises the number (NFT_MSG_GETGEN). As long as it stays,
nobody has changed a rule, and reading them all back can be left out. Why not pyroute2: it has no such call, and this
is one request with one answer.
"""

from __future__ import annotations

import socket
import struct

_NETLINK_NETFILTER = 12
_GETGEN = 10 << 8 | 16
"""NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN (linux/netfilter/nf_tables.h)."""
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_NFTA_GEN_ID = 1

_HEADER = struct.Struct("=IHHII")
_FAMILY = struct.pack("=BBH", 0, 0, 0)
_ATTRIBUTE = struct.Struct("=HH")
_TIMEOUT = 1.0


def generation() -> int | None:
    """The number, in the calling thread's network namespace. None where it cannot be had."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as link:
            link.settimeout(_TIMEOUT)
            link.send(_HEADER.pack(_HEADER.size + len(_FAMILY), _GETGEN, _NLM_F_REQUEST, 1, 0) + _FAMILY)
            return _parse(link.recv(8192))
    except OSError:
        return None


def _parse(message: bytes) -> int | None:
    """NFTA_GEN_ID is a number in network byte order."""
    length, kind, *_ = _HEADER.unpack_from(message)
    if kind == _NLMSG_ERROR:
        return None
    at = _HEADER.size + len(_FAMILY)
    while at + _ATTRIBUTE.size <= length:
        size, attribute = _ATTRIBUTE.unpack_from(message, at)
        if attribute == _NFTA_GEN_ID:
            return int(struct.unpack_from("!I", message, at + _ATTRIBUTE.size)[0])
        at += max(size + 3 & ~3, _ATTRIBUTE.size)
    return None
