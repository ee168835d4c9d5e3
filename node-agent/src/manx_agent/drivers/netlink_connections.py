"""The connections that the kernel tracks: read them all, forget some.

Owns: the requests. Must not: decode entries or choose among them (`recheck` does), or be used on the event loop.
Source: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

from manx_agent.drivers.netlink_codec import NFGENMSG
from manx_agent.drivers.netlink_conntrack import IPCTNL_MSG_CT_GET, NETLINK_NETFILTER, delete
from manx_agent.drivers.netlink_reading import Reader
from manx_agent.drivers.netlink_wire import Wire


def entries() -> Iterator[bytes]:
    """The bodies of the messages that describe all entries, of both families. Blocking. Raises NetlinkError."""
    with Wire(NETLINK_NETFILTER) as wire:
        yield from wire.dump(IPCTNL_MSG_CT_GET, NFGENMSG.pack(socket.AF_UNSPEC, 0, 0))


def forget(identities: Sequence[tuple[bool, bytes]]) -> None:
    """Deletes entries: (whether of IPv6, the attributes that identify it). One that has gone meanwhile is no error.
    Blocking. Raises NetlinkError."""
    found = [(socket.AF_INET6 if ipv6 else socket.AF_INET, identity) for ipv6, identity in identities]
    with Wire(NETLINK_NETFILTER) as wire:
        delete(wire, "forget a connection", found)


def own_addresses() -> frozenset[str]:
    """Every address of this node, of both families. Blocking. Raises NetlinkError."""
    with Reader() as reader:
        return reader.addresses()
