"""Forgets the connections of an address.

Owns: how entries are deleted, on kernels old and new. Must not: delete any of another address.

Goals, and how they are met: an address's next owner must inherit no allowed connection, so every entry goes in which
the address is source or destination, as sent or after translation. From Linux 6.8 the kernel deletes by a filter, in
one request for each of these; before, `conntrack -D` reads the whole table and deletes one by one.
Source: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import socket
import subprocess

from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg

from manx_agent.drivers.netlink_messages import is_ipv6
from manx_agent.drivers.netlink_wire import Message, NetlinkError, Wire

IPCTNL_MSG_CT_DELETE = (1 << 8) | 2
NETLINK_NETFILTER = 12
IP_SRC, IP_DST = 1, 2
NOT_SUPPORTED = {errno.EINVAL, errno.EOPNOTSUPP}
ABSENT = frozenset({errno.ENOENT})


def flush(address: str) -> None:
    """Blocking. Raises NetlinkError."""
    try:
        with Wire(NETLINK_NETFILTER) as wire:
            wire.send(deletions(address))
    except NetlinkError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        _flush_by_tool(address)


def deletions(address: str) -> list[Message]:
    """As sent from it, as sent to it, and as answered by it (where it stands behind a service's address)."""
    return [
        _deletion(address, "ORIG", "SRC", IP_SRC),
        _deletion(address, "ORIG", "DST", IP_DST),
        _deletion(address, "REPLY", "SRC", IP_SRC),
    ]


def _deletion(address: str, direction: str, side: str, flag: int) -> Message:
    body = nfct_msg()
    # The family counts only if the version is not 0; the filter is refused without a family.
    family, version = (socket.AF_INET6, "V6") if is_ipv6(address) else (socket.AF_INET, "V4")
    body["nfgen_family"], body["version"] = family, 1
    body["attrs"] = [
        (f"CTA_TUPLE_{direction}", {"attrs": [("CTA_TUPLE_IP", {"attrs": [(f"CTA_IP_{version}_{side}", address)]})]}),
        ("CTA_FILTER", {"attrs": [(f"CTA_FILTER_{direction}_FLAGS", flag)]}),
    ]
    return Message(f"forget connections of {address}", IPCTNL_MSG_CT_DELETE, 0, body, ABSENT)


def _flush_by_tool(address: str) -> None:
    for option in ("--orig-src", "--orig-dst", "--reply-src"):
        command = ["conntrack", "-D", "-f", "ipv6" if is_ipv6(address) else "ipv4", option, address]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NetlinkError(f"forget connections of {address}: {error}") from error
        if done.returncode and "0 flow entries" not in done.stderr:
            raise NetlinkError(f"forget connections of {address}: {done.stderr.strip()}")
