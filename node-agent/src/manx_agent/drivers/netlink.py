"""Pods' links: made, brought up, inspected, mended and taken away.

Owns: links, addresses, neighbour entries, endpoint routes and kernel parameters of interfaces named mnx*. Must not:
touch others' interfaces, or BGP's routes (`drivers.routes`), or bring a link up before its caller has the pod's policy
in place.

Everything that can block is done in threads (`netlink_threads`). Links are made, and connections forgotten, one after
the other: the kernel has a lock on each. Deletions, which it ends outside its lock, go on a few at a time.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from manx_agent.drivers import netlink_conntrack, netlink_messages, netlink_sysctl
from manx_agent.drivers.netlink_codec import is_ipv6
from manx_agent.drivers.netlink_messages import NodeEnd, PodLink, gateway_of
from manx_agent.drivers.netlink_reading import Reader, addresses_behind, endpoint_routes, index_of, is_up, present
from manx_agent.drivers.netlink_states import states
from manx_agent.drivers.netlink_threads import CLONE_NEWNET, SandboxError, Worker, in_thread, inside
from manx_agent.drivers.netlink_wire import Message, NetlinkError, Wire
from manx_core.api.v1alpha1 import Interface

T = TypeVar("T")

_Sound = tuple[NodeEnd, bytes, tuple[int | None, ...]]
"""What an end should be like, what the kernel said of it, and through which interface each of its addresses is reached:
as long as these are the same, nothing has become wrong."""

NS_GET_NSTYPE = 0xB703
CONCURRENCY = 8


class Netlink:
    """All methods raise NetlinkError. `proc_sys_net` is where the node's own /proc/sys/net is to be found."""

    def __init__(self, proc_sys_net: Path = netlink_sysctl.PROC_SYS_NET) -> None:
        self._sysctl = proc_sys_net
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._links, self._connections = Worker(), Worker()
        self._sound: dict[str, _Sound] = {}
        """By interface: those with which nothing was wrong at the last `mend`."""

    @property
    def families(self) -> frozenset[int]:
        """The families of addresses (4, 6) that this kernel has."""
        return frozenset({4, 6} if netlink_sysctl.has_ipv6(self._sysctl) else {4})

    async def prepare(self) -> None:
        """Set what the node itself needs."""
        await self._do(lambda: netlink_sysctl.write(self._sysctl, netlink_sysctl.NODE))

    async def create(self, link: PodLink, namespace: int) -> None:
        """The pair of interfaces, down, with the node's parameters. `namespace`: an open file of the pod's network
        namespace. A pair left by an earlier attempt is replaced."""
        await self._links.do(lambda: self._create(link, namespace))

    async def activate(self, link: PodLink, namespace: int) -> None:
        """Both ends up, with the pod's addresses and their routes: from now on packets pass."""
        await self._links.do(lambda: self._activate(link, namespace), last=True)

    async def delete(self, interface: str) -> None:
        """With its routes and the pod's end; one that is not there is no error."""
        await self._do(lambda: _send(netlink_messages.delete_link(interface)))

    async def flush_conntrack(self, address: str) -> None:
        """Forget every connection of the address."""
        await self._connections.do(lambda: netlink_conntrack.flush(address))

    async def present(self) -> frozenset[str]:
        """The interfaces of this node that carry our prefix."""
        return await self._do(present)

    async def addresses_behind(self, interfaces: Iterable[str]) -> frozenset[str]:
        """To which addresses our routes go through these interfaces."""
        return await self._do(lambda: addresses_behind(interfaces))

    async def problems_of(self, link: PodLink, namespace: int) -> tuple[str, ...]:
        """What of an active link is not as `create` and `activate` made it, one sentence each."""
        return await self._do(lambda: self._problems_of(link, namespace))

    async def mend(self, ends: Collection[NodeEnd]) -> tuple[str, ...]:
        """Repair the node's ends of active links; says what was wrong. A link that is down or gone is left alone:
        nobody knows whether its pod's policy was in place."""
        return await self._do(lambda: self._mend(ends))

    async def interfaces(self) -> tuple[Interface, ...]:
        """The node's own interfaces that have global IPv4 or IPv6 addresses, for autodetection."""
        return await self._do(_interfaces)

    async def mtu_of(self, address: str) -> int:
        """Bytes of the interface that has this address of the node; 1500 if none has."""
        return await self._do(lambda: _mtu_of(address))

    async def _do(self, work: Callable[[], T]) -> T:
        async with self._slots:
            return await in_thread(work)

    # --- in threads ---------------------------------------------------------------------------------------------------

    def _create(self, link: PodLink, namespace: int) -> None:
        _check_sandbox(namespace)
        parameters = _parameters(link)
        pair = netlink_messages.create_pair(link, namespace)
        configured = netlink_messages.set_parameters(link.interface, netlink_sysctl.by_netlink(parameters))
        try:
            _send(pair, configured)
        except NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
            _send(netlink_messages.delete_link(link.interface))
            _send(pair, configured)
        netlink_sysctl.write(self._sysctl, netlink_sysctl.by_file(parameters))
        if _has_ipv6(link):
            netlink_sysctl.forward_ipv6(self._sysctl)

    def _activate(self, link: PodLink, namespace: int) -> None:
        index = index_of(link.interface)
        _send(
            netlink_messages.set_proxy_delay(link.interface, index, netlink_sysctl.PROXY_DELAY),
            netlink_messages.set_up(link.interface, index),
            *netlink_messages.endpoint_routes_of(link, index),
        )
        with inside(namespace):
            if _has_ipv6(link):
                netlink_sysctl.write(self._sysctl, netlink_sysctl.of_pod_interface(link.pod_interface))
            index = index_of(link.pod_interface)
            up = netlink_messages.set_up(link.pod_interface, index)
            _send(up, *_addresses(link, index), *_ways_out(link, index))

    def _problems_of(self, link: PodLink, namespace: int) -> tuple[str, ...]:
        try:
            found = self._node_problems(link, index_of(link.interface))
            with inside(namespace), Reader() as reader:
                found += reader.problems_in_pod(link, index_of(link.pod_interface))
        except NetlinkError as error:
            return (str(error),)
        return tuple(found)

    def _node_problems(self, link: PodLink, index: int) -> list[str]:
        found = [] if is_up(link.interface) else [f"{link.interface} is down"]
        routes = endpoint_routes(link.addresses)
        lost = [address for address in link.addresses if routes.get(address) != index]
        found += [f"no route to {address} through {link.interface}" for address in lost]
        wrong = netlink_sysctl.differing(self._sysctl, _parameters(link))
        return found + [f"{name} is {value!r}" for name, value in wrong.items()]

    def _mend(self, ends: Collection[NodeEnd]) -> tuple[str, ...]:
        seen, routes = states(), endpoint_routes([address for end in ends for address in end.addresses])
        sound: dict[str, _Sound] = {}
        repaired: list[str] = []
        for end in ends:
            state = end, seen.get(end.interface, b""), tuple(map(routes.get, end.addresses))
            found = [] if self._sound.get(end.interface) == state else self._mend_one(end, routes)
            repaired += found
            if not found:
                sound[end.interface] = state
        self._sound = sound
        return tuple(repaired)

    def _mend_one(self, end: NodeEnd, routes: dict[str, int]) -> list[str]:
        if not is_up(end.interface):
            return []
        try:
            index = index_of(end.interface)
            wanted = _parameters(end)
            wrong = netlink_sysctl.differing(self._sysctl, wanted)
            netlink_sysctl.write(self._sysctl, {name: wanted[name] for name in wrong})
            lost = [address for address in end.addresses if routes.get(address) != index]
            if lost:
                _send(*netlink_messages.endpoint_routes_of(end, index))
        except NetlinkError:
            if is_up(end.interface):
                raise
            return []  # deleted meanwhile
        found = [f"{name} was {value!r}" for name, value in wrong.items()]
        return found + [f"the route to {address} through {end.interface} was gone" for address in lost]


def _send(*messages: Message) -> None:
    with Wire() as wire:
        wire.send(messages)


def _check_sandbox(namespace: int) -> None:
    """Before anything is made in it: it is a network namespace, and not the node's own."""
    try:
        kind = fcntl.ioctl(namespace, NS_GET_NSTYPE)
        own = os.stat("/proc/thread-self/ns/net").st_ino == os.fstat(namespace).st_ino
    except OSError as error:
        raise SandboxError(f"CNI_NETNS is no namespace: {error.strerror}", error.errno or 0) from error
    if kind != CLONE_NEWNET:
        raise SandboxError("CNI_NETNS is no network namespace")
    if own:
        raise SandboxError("CNI_NETNS is the node's own network namespace")


def _has_ipv6(end: NodeEnd) -> bool:
    return any(map(is_ipv6, end.addresses))


def _parameters(end: NodeEnd) -> dict[str, str]:
    return netlink_sysctl.of_interface(end.interface, ipv6=_has_ipv6(end))


def _addresses(link: PodLink, index: int) -> list[Message]:
    """Those that the pod has already are no error."""
    return [netlink_messages.add_address(address, link.pod_interface, index) for address in link.addresses]


def _ways_out(link: PodLink, index: int) -> Iterator[Message]:
    for gateway in map(gateway_of, link.addresses):
        yield netlink_messages.gateway_neighbour(gateway, index)
        yield from netlink_messages.pod_routes(gateway, index)


def _interfaces() -> tuple[Interface, ...]:
    with Reader() as reader:
        return reader.interfaces()


def _mtu_of(address: str) -> int:
    with Reader() as reader:
        return reader.mtu_of(address)
