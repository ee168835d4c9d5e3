"""Forgets the connections of an address.

Owns: how entries are deleted, on kernels old and new. Must not: delete any of another address.

Goals, and how they are met: an address's next owner must inherit no allowed connection, so every entry goes in which
the address is source or destination, as sent or after translation. From Linux 6.8 the kernel deletes by a filter, in
one request for each of these; before, `conntrack -D` reads the whole table and deletes one by one.
Source: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import subprocess

from manx_agent.drivers.netlink_codec import NFGENMSG, attributes, family_of, is_ipv6, nested, packed
from manx_agent.drivers.netlink_wire import Message, NetlinkError, Wire

IPCTNL_MSG_CT_DELETE = (1 << 8) | 2
NETLINK_NETFILTER = 12
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_FILTER = 1, 2, 25
"""Of the first two, numbered alike, CTA_FILTER's flags."""
CTA_TUPLE_IP = 1
SRC, DST = 1, 2
"""CTA_IP_V4_SRC and CTA_IP_V4_DST, and the filter's flags; those of IPv6 follow."""
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
        _deletion(address, CTA_TUPLE_ORIG, SRC),
        _deletion(address, CTA_TUPLE_ORIG, DST),
        _deletion(address, CTA_TUPLE_REPLY, SRC),
    ]


def _deletion(address: str, direction: int, side: int) -> Message:
    # The family counts only if the version is not 0; the filter is refused without a family.
    header = NFGENMSG.pack(family_of(address), 1, 0)
    kind = side + 2 if is_ipv6(address) else side
    body = header + attributes(
        nested(direction, nested(CTA_TUPLE_IP, (kind, packed(address)))), nested(CTA_FILTER, (direction, side))
    )
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
