"""What the kernel has of links, addresses and routes, for checks and autodetection.

Owns: queries and their decoding. Must not: change anything, or be used on the event loop.

Why this way: a dump of all routes would cost with the cluster's size (BGP's routes are among them), so a pod's route is
looked up by its address, and dumps are filtered by the kernel (strict checking, Linux 4.20).
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from manx_agent.drivers import netlink_codec as codec
from manx_agent.drivers.netlink_classes import decoded, encoded, ifaddrmsg, ifinfmsg
from manx_agent.drivers.netlink_codec import attributes, bits_of, family_of, is_ipv6, packed, parsed, spelt
from manx_agent.drivers.netlink_messages import IFF_UP, PREFIX, RT_SCOPE_UNIVERSE, PodLink, gateway_of
from manx_agent.drivers.netlink_wire import NetlinkError, Wire
from manx_core.api.v1alpha1 import ROUTE_PROTOCOL, Interface

SIOCGIFFLAGS = 0x8913
IFA_ADDRESS, IFA_LOCAL = 1, 2
_IFADDRMSG = struct.Struct("=4BI")
"""Family, prefix length, flags, scope, interface's index (linux/if_addr.h)."""
_DEVICES = Path("/proc/thread-self/net/dev")
DEFAULT_MTU = 1500
_AWAY = (errno.ENODEV, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESRCH)


class Address(NamedTuple):
    """Of an interface. `link`: the interface's index."""

    link: int
    address: str
    prefix_length: int
    scope: int


class Route(NamedTuple):
    """`destination` and `gateway`: "" where it has none."""

    destination: str
    prefix_length: int
    protocol: int
    gateway: str


class Reader:
    """In the network namespace of the thread that opens it. All methods raise NetlinkError; what went away while it was
    being read is no error."""

    def __init__(self) -> None:
        self._wire = Wire(strict=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    def endpoint_addresses(self, index: int) -> set[str]:
        """To which addresses our routes go through this interface."""
        return {
            route.destination
            for family, length in ((socket.AF_INET, 32), (socket.AF_INET6, 128))
            for route in self._routes(family, index)
            if route.protocol == ROUTE_PROTOCOL and route.prefix_length == length
        }

    def problems_in_pod(self, link: PodLink, index: int) -> list[str]:
        """What the pod's end lacks."""
        found = [] if is_up(link.pod_interface) else [f"{link.pod_interface} is down in the pod"]
        for address in link.addresses:
            found += self._problems_of_address(link.pod_interface, address, index)
        return found

    def _problems_of_address(self, interface: str, address: str, index: int) -> list[str]:
        family, name = family_of(address), "IPv6 " if is_ipv6(address) else ""
        addresses = {found.address for found in self._addresses(family, index)}
        gateways = {route.gateway for route in self._routes(family, index) if route.prefix_length == 0}
        found = [] if address in addresses else [f"{interface} does not have {address} in the pod"]
        if gateway_of(address) not in gateways:
            found.append(f"no {name}default route through {interface} in the pod")
        return found

    def interfaces(self) -> tuple[Interface, ...]:
        names = dict(socket.if_nameindex())
        addresses: dict[str, list[str]] = {}
        for found in self._addresses():
            name = names.get(found.link, PREFIX)
            if found.scope == RT_SCOPE_UNIVERSE and not name.startswith(PREFIX):
                addresses.setdefault(name, []).append(f"{found.address}/{found.prefix_length}")
        return tuple(Interface(name=name, addresses=tuple(found)) for name, found in sorted(addresses.items()))

    def addresses(self) -> frozenset[str]:
        """Every address of every interface."""
        return frozenset(found.address for found in self._addresses())

    def mtu_of(self, address: str) -> int:
        """Of the interface that has the address; 1500 if none has."""
        index = next((found.link for found in self._addresses() if found.address == address), 0)
        mtus = (int(link.get_attr("IFLA_MTU")) for link in self._links() if link["index"] == index)
        return next(mtus, 0) or DEFAULT_MTU

    def _links(self) -> list[Any]:
        return [decoded(ifinfmsg, body) for body in self._table(codec.RTM_GETLINK, encoded(ifinfmsg()))]

    def _addresses(self, family: int = socket.AF_UNSPEC, index: int = 0) -> list[Address]:
        """`index` 0: of all interfaces."""
        asked = ifaddrmsg()
        asked["family"], asked["index"] = family, index
        return [_address(body) for body in self._table(codec.RTM_GETADDR, encoded(asked))]

    def _routes(self, family: int, index: int) -> list[Route]:
        body = codec.RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + attributes((codec.RTA_OIF, index))
        return [_route(body) for body in self._table(codec.RTM_GETROUTE, body)]

    def _table(self, kind: int, body: bytes) -> list[bytes]:
        try:
            return self._wire.table(kind, body)
        except NetlinkError as error:
            if error.errno in _AWAY:
                return []
            raise


def _address(body: bytes) -> Address:
    _, prefix_length, _, scope, index = _IFADDRMSG.unpack_from(body)
    found = parsed(body, _IFADDRMSG.size)
    return Address(index, spelt(found.get(IFA_LOCAL) or found.get(IFA_ADDRESS, b"")), prefix_length, scope)


def _route(body: bytes) -> Route:
    _, prefix_length, _, _, _, protocol, _, _, _ = codec.RTMSG.unpack_from(body)
    found = parsed(body, codec.RTMSG.size)
    destination, gateway = spelt(found.get(codec.RTA_DST, b"")), spelt(found.get(codec.RTA_GATEWAY, b""))
    return Route(destination, prefix_length, protocol, gateway)


def index_of(interface: str) -> int:
    """Raises NetlinkError (ENODEV) where there is none."""
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        raise NetlinkError(f"there is no interface {interface}", errno.ENODEV) from error


def is_up(interface: str) -> bool:
    """False where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sH14x", interface.encode(), 0))
        except OSError:
            return False
    return bool(struct.unpack_from("16xH", answer)[0] & IFF_UP)


def endpoint_routes(addresses: Sequence[str]) -> dict[str, int]:
    """For each of these addresses that our route leads to, the index of the route's interface. Raises NetlinkError."""
    requests = [(codec.RTM_GETROUTE, route_lookup(address)) for address in addresses]
    with Wire() as wire:
        answers = wire.query(requests)
    found = {addresses[number]: _endpoint_route_index(body) for number, body in answers.items()}
    return {address: index for address, index in found.items() if index}


def route_lookup(address: str) -> bytes:
    """The body of a RTM_GETROUTE that is answered by the route itself that leads to an address."""
    header = codec.RTMSG.pack(family_of(address), bits_of(address), 0, 0, 0, 0, 0, 0, codec.RTM_F_FIB_MATCH)
    return header + attributes((codec.RTA_DST, packed(address)))


def _endpoint_route_index(body: bytes) -> int:
    """0 where it is not an endpoint route of ours."""
    family, prefix_length, _, _, _, protocol, _, _, _ = codec.RTMSG.unpack_from(body)
    if protocol != ROUTE_PROTOCOL or prefix_length != (128 if family == socket.AF_INET6 else 32):
        return 0
    return codec.number(parsed(body, codec.RTMSG.size).get(codec.RTA_OIF, b""))


def present() -> frozenset[str]:
    """The interfaces that carry our prefix. The kernel lists names at a fifth of what it takes to dump the links."""
    names = (line.partition(":")[0].strip() for line in _DEVICES.read_text().splitlines())
    return frozenset(name for name in names if name.startswith(PREFIX))


def addresses_behind(interfaces: Iterable[str]) -> frozenset[str]:
    """To which addresses our routes go through any of these; those gone meanwhile count for nothing."""
    indices = {name: index for index, name in socket.if_nameindex()}
    with Reader() as reader:
        found = [reader.endpoint_addresses(indices[name]) for name in interfaces if name in indices]
    return frozenset().union(*found)
