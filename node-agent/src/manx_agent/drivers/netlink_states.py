"""Whether anything about an interface has changed.

Owns: a digest of what the kernel says of each. Must not: say what has changed, or be used on the event loop.

Why this way: what pods' links need (up, and some ten parameters under /proc/sys/net each) is checked every few seconds.
Reading the files takes 0.1 ms a pod; the kernel tells all of it of all interfaces in two answers. It tells more,
packets and neighbours counted above all, so of an interface its flags and parameters alone are looked at.
Source: linux/if_link.h (IFLA_AF_SPEC has the parameters of both families), linux/neighbour.h (NDTA_PARMS has those
under ipv4/neigh).
"""

from __future__ import annotations

import hashlib
import socket
import struct

from manx_agent.drivers.netlink_codec import ATTRIBUTE, NESTED, RTM_GETLINK, attributes, number
from manx_agent.drivers.netlink_messages import (
    IFLA_AF_SPEC,
    IFLA_IFNAME,
    NDTA_PARMS,
    NDTPA_IFINDEX,
    NDTPA_PROXY_DELAY,
    PREFIX,
)
from manx_agent.drivers.netlink_wire import Wire

RTM_GETNEIGHTBL = 66
IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS = 29, 1 << 3

_IFINFOMSG = struct.Struct("=BxHiII")
_WITHOUT_COUNTERS = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attributes((IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS))
_PREFIX = PREFIX.encode()
_IPV4_NEIGHBOURS = struct.pack("=B3x", socket.AF_INET)


def states() -> dict[str, bytes]:
    """Pods' interface → digest. The same as before: neither its flags nor any of its parameters has changed; another:
    some of it may have. Raises NetlinkError."""
    names: dict[int, str] = {}
    digests: dict[str, hashlib.blake2b] = {}
    with Wire(strict=True) as wire:
        for body in wire.dump(RTM_GETLINK, _WITHOUT_COUNTERS):
            kind, value = _first(body, _IFINFOMSG.size)
            if kind == IFLA_IFNAME and value.startswith(_PREFIX):
                name = names[_IFINFOMSG.unpack_from(body)[2]] = value.rstrip(b"\0").decode()
                digests[name] = hashlib.blake2b(body[: _IFINFOMSG.size], digest_size=16)
                digests[name].update(_value_of(body, _IFINFOMSG.size, IFLA_AF_SPEC) or body)
        for body in wire.dump(RTM_GETNEIGHTBL, _IPV4_NEIGHBOURS):
            parameters = _value_of(body, len(_IPV4_NEIGHBOURS), NDTA_PARMS)
            kind, value = _first(parameters, 0)
            if kind == NDTPA_IFINDEX and (index := number(value)) in names:
                digests[names[index]].update(_value_of(parameters, 0, NDTPA_PROXY_DELAY) or parameters)
    return {name: digest.digest() for name, digest in digests.items()}


def _value_of(body: bytes, offset: int, wanted: int) -> bytes:
    """One of the attributes from an offset on, of which an interface has some forty; the others are not decoded."""
    last, unpack = len(body) - ATTRIBUTE.size, ATTRIBUTE.unpack_from
    while offset <= last:
        length, kind = unpack(body, offset)
        if kind & ~NESTED == wanted:
            return body[offset + ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3 or ATTRIBUTE.size
    return b""


def _first(body: bytes, offset: int) -> tuple[int, bytes]:
    """The first attribute: what tells whose the message is comes first."""
    if offset + ATTRIBUTE.size > len(body):
        return 0, b""
    length, kind = ATTRIBUTE.unpack_from(body, offset)
    return kind, body[offset + ATTRIBUTE.size : offset + length]
