"""The kernel's routes that BGP is responsible for: learned prefixes, and a blackhole for each of our own blocks.

Owns: routes of the main table with protocol 77 and our metric that have a gateway or are blackholes. Must not: touch
any other route (pods' own /32 and /128 routes carry protocol 77 too, but lead to a device, without the metric), nor
decide what is wanted.

The kernel is read at start, after every error and in `check`; in between, writes follow the difference from what was
written last. Why a metric of our own: an administrator's route (metric 0) for the same prefix wins, a connected one
above all; and replacing ours can never replace another's, since the kernel tells routes apart by prefix and metric.
IPv6 knows no metric 0: there, connected routes have 256 and an administrator's 1024, so ours is higher.
The kernel's IPv6 routes are read only where there are, or were, any of ours.
Why no route monitor: the kernel says nothing when a link that goes down takes its IPv4 routes with it, so the table has
to be read again and again all the same (35 microseconds a route).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from manx_agent.drivers import process
from manx_agent.model import AgentError
from manx_core.api.v1alpha1 import ROUTE_PROTOCOL

METRICS = {4: 77, 6: 1077}
"""By IP version."""
MAIN_TABLE = 254
BATCH = 256
"""From this many changes on, `ip -batch` is used: twenty times as fast as one request for each."""

AF_INET, AF_INET6 = 2, 10
RTN_UNICAST, RTN_LOCAL, RTN_BLACKHOLE = 1, 2, 6
RTM_F_FIB_MATCH = 0x2000
EEXIST, ESRCH = 17, 3
NO_IPV6 = (95, 97)
"""EOPNOTSUPP, EAFNOSUPPORT."""

FAMILIES = {4: AF_INET, 6: AF_INET6}
ANYWHERE = {4: "0.0.0.0", 6: "::"}
LINK_LOCAL = ("fe8", "fe9", "fea", "feb")
"""How addresses of fe80::/10 begin; no IPv4 address does."""

BLACKHOLE = "blackhole"
"""In place of a gateway."""


class RouteError(AgentError):
    """The kernel's routing table could not be read."""


@dataclass(frozen=True, slots=True)
class RouteOutcome:
    """`installed`: learned prefix → next hop as wanted, of those that are in the kernel."""

    installed: dict[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One write. `gateway` is an address or BLACKHOLE; `verb` is "add", "replace" or "del". A link-local gateway has
    its interface's index behind it ("fe80::1%2")."""

    verb: str
    prefix: str
    gateway: str

    def batch_line(self) -> str:
        """For `ip -batch`."""
        own = f"proto {ROUTE_PROTOCOL} metric {METRICS[_version(self.prefix)]}"
        if self.gateway == BLACKHOLE:
            return f"route {self.verb} blackhole {self.prefix} {own}"
        gateway, _, index = self.gateway.partition("%")
        device = f" dev if{index}" if index else ""
        return f"route {self.verb} {self.prefix} via {gateway}{device} {own}"

    def request(self) -> dict[str, Any]:
        """For pyroute2."""
        version = _version(self.prefix)
        common = {
            "family": FAMILIES[version],
            "dst": self.prefix,
            "proto": ROUTE_PROTOCOL,
            "priority": METRICS[version],
        }
        if self.gateway == BLACKHOLE:
            return {**common, "type": "blackhole"}
        gateway, _, index = self.gateway.partition("%")
        return {**common, "gateway": gateway, **({"oif": int(index)} if index else {})}


def plan(have: Mapping[str, str], want: Mapping[str, str]) -> list[Change]:
    """What leads from one set of routes (prefix → gateway) to another, removals last. A blackhole and a route with a
    gateway do not replace each other: one is deleted, then the other added."""
    changes: list[Change] = []
    for prefix, gateway in sorted(want.items()):
        present = have.get(prefix)
        if present == gateway:
            continue
        if present is not None and BLACKHOLE in (present, gateway):
            changes += [Change("del", prefix, present), Change("add", prefix, gateway)]
        else:
            changes.append(Change("add" if present is None else "replace", prefix, gateway))
    changes += [Change("del", prefix, gateway) for prefix, gateway in sorted(have.items()) if prefix not in want]
    return changes


class KernelRoutes:
    """See the module. One operation at a time."""

    def __init__(self) -> None:
        self._netlink: AsyncIPRoute | None = None
        self._lock = asyncio.Lock()
        self._installed: dict[str, str] | None = None
        """What we wrote, prefix → gateway; None: not known, read it."""
        self._ipv6 = True
        """Whether there may be IPv6 routes of ours: before the first reading, what a former agent left is not known."""
        self._wanted: dict[str, str] = {}
        self._blackholes: frozenset[str] = frozenset()
        self._gateways: dict[str, str] = {}
        self._failed: dict[str, str] = {}

    def close(self) -> None:
        """Leaves the routes where they are."""
        if self._netlink is not None:
            self._netlink.close()
        self._netlink = None

    async def learned(self) -> dict[str, str]:
        """Our learned routes in the kernel now, prefix → gateway. Raises RouteError."""
        async with self._lock:
            return {prefix: gateway for prefix, gateway in (await self._read()).items() if gateway != BLACKHOLE}

    async def apply(self, routes: Mapping[str, str], blackholes: frozenset[str]) -> RouteOutcome:
        """Brings the kernel to: these routes (prefix → next hop), these blackholes, none else of ours. What the kernel
        refuses is in the outcome's errors. Raises RouteError."""
        async with self._lock:
            self._wanted, self._blackholes = dict(routes), blackholes
            self._ipv6 |= self._wants_ipv6()
            await self._converge()
            return self._outcome()

    async def check(self) -> tuple[str, ...]:
        """Reads the kernel, repairs it, and says what had been altered, a sentence each. Raises RouteError."""
        async with self._lock:
            expected, self._installed = self._installed, None
            self._gateways.clear()
            found = await self._read()
            await self._converge(found)
            return () if expected is None else _differences(expected, found)

    async def _converge(self, found: dict[str, str] | None = None) -> None:
        if found is None:
            found = await self._read() if self._installed is None else self._installed
        want = await self._resolved()
        changes = plan(found, want)
        if len(changes) >= BATCH:
            await _batch(changes)
            found = await self._read()
            changes = plan(found, want)
        self._installed = dict(found)
        for change in changes:
            await self._write(change)

    async def _resolved(self) -> dict[str, str]:
        """Prefix → gateway, of what can be routed; the rest is noted as failed."""
        self._failed = {}
        want = dict.fromkeys(self._blackholes, BLACKHOLE)
        for prefix, next_hop in self._wanted.items():
            if prefix in want:
                continue
            gateway = self._gateways.get(next_hop)
            try:
                want[prefix] = gateway or await self._resolve(next_hop)
            except NetlinkError as error:
                self._failed[prefix] = f"no route to next hop {next_hop}: {_words(error)}"
            except RouteError as error:
                self._failed[prefix] = str(error)
        return want

    async def _resolve(self, next_hop: str) -> str:
        """The gateway to use: the next hop itself where it is on a link of ours, else that of the route to it (RFC
        4271, 5.1.3). Raises NetlinkError, or RouteError where that route is one that BGP itself learned."""
        if "%" in next_hop:
            return next_hop  # a gateway itself, as it was found in the kernel
        family = FAMILIES[_version(next_hop)]
        for message in await self._request("get", family=family, dst=next_hop, flags=RTM_F_FIB_MATCH):
            if message["type"] == RTN_LOCAL:
                raise RouteError(f"next hop {next_hop} is an address of this node")
            if message["proto"] == ROUTE_PROTOCOL or message["type"] != RTN_UNICAST:
                raise RouteError(f"next hop {next_hop} can only be reached through a route that BGP learned")
            gateway = _gateway(message) or next_hop
            self._gateways[next_hop] = gateway
            return gateway
        raise RouteError(f"no route to next hop {next_hop}")

    async def _write(self, change: Change) -> None:
        """One request, after which `_installed` and `_failed` are true."""
        assert self._installed is not None
        try:
            await self._request(change.verb, **change.request())
        except NetlinkError as error:
            if change.verb == "del" and error.code == ESRCH:
                self._installed.pop(change.prefix, None)
                return
            reason = "another's route has its metric" if error.code == EEXIST else _words(error)
            self._failed[change.prefix] = f"cannot {change.verb} route {change.prefix} via {change.gateway}: {reason}"
            self._gateways.clear()
            return
        if change.verb == "del":
            self._installed.pop(change.prefix, None)
        else:
            self._installed[change.prefix] = change.gateway

    async def _request(self, verb: str, **arguments: Any) -> list[Any]:
        if self._netlink is None:
            self._netlink = AsyncIPRoute(strict_check=True)
        try:
            return list(await self._netlink.route(verb, **arguments))
        except OSError as error:
            self._installed = None
            raise RouteError(f"netlink: {error}") from error

    async def _read(self) -> dict[str, str]:
        try:
            found = {prefix: gateway async for prefix, gateway in self._dump(AF_INET)}
            if self._ipv6:
                found6 = await self._read_ipv6()
                self._ipv6 = bool(found6) or self._wants_ipv6()
                found |= found6
            return found
        except NetlinkError as error:
            raise RouteError(f"cannot read the kernel's routes: {_words(error)}") from error

    async def _read_ipv6(self) -> dict[str, str]:
        """Nothing where the kernel has no IPv6."""
        try:
            return {prefix: gateway async for prefix, gateway in self._dump(AF_INET6)}
        except NetlinkError as error:
            if error.code in NO_IPV6:
                return {}
            raise

    def _wants_ipv6(self) -> bool:
        return any(_version(prefix) == 6 for prefixes in (self._wanted, self._blackholes) for prefix in prefixes)

    async def _dump(self, family: int) -> AsyncIterator[tuple[str, str]]:
        if self._netlink is None:
            self._netlink = AsyncIPRoute(strict_check=True)
        async for message in await self._netlink.route("dump", family=family, proto=ROUTE_PROTOCOL):
            route = _own(message)
            if route is not None:
                yield route

    def _outcome(self) -> RouteOutcome:
        installed = self._installed or {}
        return RouteOutcome(
            {
                prefix: next_hop
                for prefix, next_hop in self._wanted.items()
                if installed.get(prefix, BLACKHOLE) != BLACKHOLE
            },
            tuple(self._failed[prefix] for prefix in sorted(self._failed)),
        )


def _own(message: Any) -> tuple[str, str] | None:
    """(prefix, gateway) of a route message that is ours; the kernel has filtered by protocol."""
    table = message.get_attr("RTA_TABLE") or message["table"]
    version = 6 if message["family"] == AF_INET6 else 4
    priority = message.get_attr("RTA_PRIORITY")
    if table != MAIN_TABLE or message["proto"] != ROUTE_PROTOCOL or priority != METRICS[version]:
        return None
    prefix = f"{message.get_attr('RTA_DST') or ANYWHERE[version]}/{message['dst_len']}"
    if message["type"] == RTN_BLACKHOLE:
        return prefix, BLACKHOLE
    gateway = _gateway(message)
    return (prefix, gateway) if gateway and message["type"] == RTN_UNICAST else None


def _gateway(message: Any) -> str:
    """A route message's next hop, with its interface where it is link-local; "" where it leads to a device."""
    gateway = str(message.get_attr("RTA_GATEWAY") or "")
    return f"{gateway}%{message.get_attr('RTA_OIF')}" if gateway.startswith(LINK_LOCAL) else gateway


def _version(prefix: str) -> int:
    return 6 if ":" in prefix else 4


def _differences(expected: Mapping[str, str], found: Mapping[str, str]) -> tuple[str, ...]:
    said = [
        f"route {prefix} via {gateway} was gone"
        if prefix not in found
        else f"route {prefix} via {gateway} had been changed to via {found[prefix]}"
        for prefix, gateway in sorted(expected.items())
        if found.get(prefix) != gateway
    ]
    said += [f"route {prefix} via {found[prefix]} had been added" for prefix in sorted(found) if prefix not in expected]
    return tuple(said)


async def _batch(changes: list[Change]) -> None:
    """Writes many routes; what failed is seen by reading the kernel afterwards."""
    lines = "".join(f"{change.batch_line()}\n" for change in changes)
    with contextlib.suppress(process.ProcessError):
        await process.run(("ip", "-force", "-batch", "-"), lines)


def _words(error: NetlinkError) -> str:
    return str(error.args[1] if len(error.args) > 1 else error)
