"""Forgets the connections of an address.

Owns: how entries are deleted, on kernels old and new. Must not: delete any of another address.

Goals, and how they are met: an address's next owner must inherit no allowed connection, so every entry goes in which
the address is source or destination, as sent or after translation. From Linux 6.8 the kernel deletes by a filter, in
one request for each of these; before, the table is read and entries are deleted one by one.

Of IPv6 they always are: the kernel's filter (seen with Linux 6.18) compares IPv6 addresses the wrong way round and
deletes all entries but the address's. Reading them is done in a thread.
Source: linux/netfilter/nfnetlink_conntrack.h; net/netfilter/nf_conntrack_netlink.c, ctnetlink_filter_match_tuple().
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from manx_agent.drivers.netlink_codec import NESTED, NFGENMSG, attributes, family_of, is_ipv6, nested, packed, parsed
from manx_agent.drivers.netlink_wire import Message, NetlinkError, Wire

IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE = (1 << 8) | 1, (1 << 8) | 2
NETLINK_NETFILTER = 12
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 2, 12, 18, 25
"""Of the first two, numbered alike, CTA_FILTER's flags."""
CTA_TUPLE_IP = 1
SRC, DST = 1, 2
"""CTA_IP_V4_SRC and CTA_IP_V4_DST, and the filter's flags; those of IPv6 follow."""
NOT_SUPPORTED = {errno.EINVAL, errno.EOPNOTSUPP}
ABSENT = frozenset({errno.ENOENT})
BATCH = 50
"""Deletions in one datagram."""
_SIDES = ((CTA_TUPLE_ORIG, SRC), (CTA_TUPLE_ORIG, DST), (CTA_TUPLE_REPLY, SRC))
"""As sent from an address, as sent to it, and as answered by it (where it stands behind a service's address)."""


def flush(address: str) -> None:
    """Blocking. Raises NetlinkError."""
    with Wire(NETLINK_NETFILTER) as wire:
        if is_ipv6(address):
            _one_by_one(wire, address)
            return
        try:
            wire.send(deletions(address))
        except NetlinkError as error:
            if error.errno not in NOT_SUPPORTED:
                raise
            _one_by_one(wire, address)


def deletions(address: str) -> list[Message]:
    """By the kernel's filter. IPv4 only."""
    return [_deletion(address, direction, side) for direction, side in _SIDES]


def _deletion(address: str, direction: int, side: int) -> Message:
    # The family counts only if the version is not 0; the filter is refused without a family.
    header = NFGENMSG.pack(family_of(address), 1, 0)
    body = header + attributes(
        nested(direction, nested(CTA_TUPLE_IP, (side, packed(address)))), nested(CTA_FILTER, (direction, side))
    )
    return Message(f"forget connections of {address}", IPCTNL_MSG_CT_DELETE, 0, body, ABSENT)


def _one_by_one(wire: Wire, address: str) -> None:
    family, sought = family_of(address), packed(address)
    # Most entries have the address's bytes nowhere: those are not decoded.
    entries = [entry for entry in wire.dump(IPCTNL_MSG_CT_GET, NFGENMSG.pack(family, 0, 0)) if sought in entry]
    identities = [(family, identity) for entry in entries if (identity := identity_of(entry, sought))]
    delete(wire, f"forget a connection of {address}", identities)


def delete(wire: Wire, about: str, identities: Sequence[tuple[int, bytes]]) -> None:
    """Deletes entries: (family, the attributes that identify it). One that has gone meanwhile is no error. `about`: for
    errors. Blocking. Raises NetlinkError."""
    messages = [
        Message(about, IPCTNL_MSG_CT_DELETE, 0, NFGENMSG.pack(family, 0, 0) + identity, ABSENT)
        for family, identity in identities
    ]
    for start in range(0, len(messages), BATCH):
        wire.send(messages[start : start + BATCH])


def identity_of(entry: bytes, address: bytes) -> bytes:
    """The attributes by which the kernel finds an entry, from the body of a message that describes it; empty where the
    entry is not the address's. With the entry's number: one of the same ends that came since is another."""
    found = parsed(entry, NFGENMSG.size)
    ipv6 = 2 if len(address) == 16 else 0
    for direction, side in _SIDES:
        ends = parsed(parsed(found.get(direction, b""), 0).get(CTA_TUPLE_IP, b""), 0)
        if ends.get(side + ipv6) == address:
            others = [(kind, found[kind]) for kind in (CTA_ZONE, CTA_ID) if kind in found]
            return attributes((CTA_TUPLE_ORIG | NESTED, found[CTA_TUPLE_ORIG]), *others)
    return b""
