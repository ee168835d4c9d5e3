"""What the kernel has of links, addresses and routes, for checks and autodetection.

Owns: queries and their decoding. Must not: change anything, or be used on the event loop.

Why this way: pyroute2 decodes. A dump of all routes would cost with the cluster's size (BGP's routes are among them),
so a pod's route is looked up by its address, and dumps are filtered by the kernel (strict checking, Linux 4.20).
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError as LibraryError

from manx_agent.drivers.netlink_messages import IFF_UP, PREFIX, RT_SCOPE_UNIVERSE, PodLink, gateway_of, is_ipv6
from manx_agent.drivers.netlink_wire import NetlinkError, Wire
from manx_core.api.v1alpha1 import ROUTE_PROTOCOL, Interface

RTM_GETROUTE, RTA_DST, RTA_OIF = 26, 1, 4
RTMSG, ATTRIBUTE = struct.Struct("=8BI"), struct.Struct("=HH")
SIOCGIFFLAGS = 0x8913
RTM_F_FIB_MATCH = 0x2000
"""Answer with the route itself, not with what a packet would use."""
DEFAULT_MTU = 1500


class Reader:
    """In the network namespace of the thread that opens it. All methods raise NetlinkError; what went away while it was
    being read is no error."""

    def __init__(self) -> None:
        self._route = IPRoute(strict_check=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._route.close()

    def endpoint_addresses(self, index: int) -> set[str]:
        """To which addresses our routes go through this interface."""
        return {
            route.get_attr("RTA_DST")
            for family, length in ((socket.AF_INET, 32), (socket.AF_INET6, 128))
            for route in self._ask("get_routes", family=family, oif=index)
            if route["proto"] == ROUTE_PROTOCOL and route["dst_len"] == length
        }

    def problems_in_pod(self, link: PodLink, index: int) -> list[str]:
        """What the pod's end lacks."""
        found = [] if is_up(link.pod_interface) else [f"{link.pod_interface} is down in the pod"]
        for address in link.addresses:
            found += self._problems_of_address(link.pod_interface, address, index)
        return found

    def _problems_of_address(self, interface: str, address: str, index: int) -> list[str]:
        family, name = (socket.AF_INET6, "IPv6 ") if is_ipv6(address) else (socket.AF_INET, "")
        there = self._ask("get_addr", family=family, index=index)
        addresses = {found.get_attr("IFA_LOCAL") or found.get_attr("IFA_ADDRESS") for found in there}
        routes = self._ask("get_routes", family=family, oif=index)
        gateways = {route.get_attr("RTA_GATEWAY") for route in routes if route["dst_len"] == 0}
        found = [] if address in addresses else [f"{interface} does not have {address} in the pod"]
        if gateway_of(address) not in gateways:
            found.append(f"no {name}default route through {interface} in the pod")
        return found

    def interfaces(self) -> tuple[Interface, ...]:
        names = {found["index"]: found.get_attr("IFLA_IFNAME") for found in self._ask("get_links")}
        addresses: dict[str, list[str]] = {}
        for found in self._ask("get_addr"):
            name = names.get(found["index"], PREFIX)
            if found["scope"] == RT_SCOPE_UNIVERSE and not name.startswith(PREFIX):
                address = found.get_attr("IFA_LOCAL") or found.get_attr("IFA_ADDRESS")
                addresses.setdefault(name, []).append(f"{address}/{found['prefixlen']}")
        return tuple(Interface(name=name, addresses=tuple(found)) for name, found in sorted(addresses.items()))

    def addresses(self) -> frozenset[str]:
        """Every address of every interface."""
        found = (one.get_attr("IFA_LOCAL") or one.get_attr("IFA_ADDRESS") for one in self._ask("get_addr"))
        return frozenset(str(address) for address in found)

    def mtu_of(self, address: str) -> int:
        """Of the interface that has the address; 1500 if none has."""
        for found in self._ask("get_addr"):
            if address in (found.get_attr("IFA_LOCAL"), found.get_attr("IFA_ADDRESS")):
                return next((int(link.get_attr("IFLA_MTU")) for link in self._ask("get_links", found["index"])), 1500)
        return DEFAULT_MTU

    def _ask(self, method: str, *args: Any, **kwargs: Any) -> list[Any]:
        try:
            return list(getattr(self._route, method)(*args, **kwargs))
        except LibraryError as error:
            if error.code in (errno.ENODEV, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESRCH):
                return []
            raise NetlinkError(f"{method}: {error}", error.code) from error
        except OSError as error:
            raise NetlinkError(f"{method}: {error}", error.errno or 0) from error


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
    requests = [(RTM_GETROUTE, _route_lookup(address)) for address in addresses]
    with Wire() as wire:
        answers = wire.query(requests)
    found = {addresses[number]: _endpoint_route_index(body) for number, body in answers.items()}
    return {address: index for address, index in found.items() if index}


def _route_lookup(address: str) -> bytes:
    """Written out, since every endpoint's route is looked up every few seconds."""
    family, length = (socket.AF_INET6, 128) if is_ipv6(address) else (socket.AF_INET, 32)
    header = RTMSG.pack(family, length, 0, 0, 0, 0, 0, 0, RTM_F_FIB_MATCH)
    return header + ATTRIBUTE.pack(ATTRIBUTE.size + length // 8, RTA_DST) + socket.inet_pton(family, address)


def _endpoint_route_index(body: bytes) -> int:
    """0 where it is not an endpoint route of ours."""
    family, prefix_length, _, _, _, protocol, _, _, _ = RTMSG.unpack_from(body)
    whole = prefix_length == (128 if family == socket.AF_INET6 else 32)
    offset = RTMSG.size if whole and protocol == ROUTE_PROTOCOL else len(body)
    while offset + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, offset)
        if kind == RTA_OIF:
            return int(struct.unpack_from("=I", body, offset + 4)[0])
        offset += max(4, (length + 3) & ~3)
    return 0


def present() -> frozenset[str]:
    """The interfaces that carry our prefix."""
    return frozenset(name for _, name in socket.if_nameindex() if name.startswith(PREFIX))


def addresses_behind(interfaces: Iterable[str]) -> frozenset[str]:
    """To which addresses our routes go through any of these; those gone meanwhile count for nothing."""
    indices = {name: index for index, name in socket.if_nameindex()}
    with Reader() as reader:
        found = [reader.endpoint_addresses(indices[name]) for name in interfaces if name in indices]
    return frozenset().union(*found)
