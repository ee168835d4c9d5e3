"""The kernel's routes that BGP is responsible for: learned prefixes, and a blackhole for each of our own blocks.

Owns: IPv4 routes of the main table with protocol 77 and metric 77 that have a gateway or are blackholes. Must not:
touch any other route (pods' own /32 routes carry protocol 77 too, but lead to a device, without the metric), nor decide
what is wanted.

The kernel is read at start, after every error and in `check`; in between, writes follow the difference from what was
written last. Why a metric of our own: an administrator's route (metric 0) for the same prefix wins, a connected one
above all; and replacing ours can never replace another's, since the kernel tells routes apart by prefix and metric.
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

METRIC = 77
MAIN_TABLE = 254
BATCH = 256
"""From this many changes on, `ip -batch` is used: twenty times as fast as one request for each."""

AF_INET = 2
RTN_UNICAST, RTN_LOCAL, RTN_BLACKHOLE = 1, 2, 6
RTM_F_FIB_MATCH = 0x2000
EEXIST, ESRCH = 17, 3

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
    """One write. `gateway` is an address or BLACKHOLE; `verb` is "add", "replace" or "del"."""

    verb: str
    prefix: str
    gateway: str

    def batch_line(self) -> str:
        """For `ip -batch`."""
        own = f"proto {ROUTE_PROTOCOL} metric {METRIC}"
        if self.gateway == BLACKHOLE:
            return f"route {self.verb} blackhole {self.prefix} {own}"
        return f"route {self.verb} {self.prefix} via {self.gateway} {own}"

    def request(self) -> dict[str, Any]:
        """For pyroute2."""
        common = {"dst": self.prefix, "proto": ROUTE_PROTOCOL, "priority": METRIC}
        if self.gateway == BLACKHOLE:
            return {**common, "type": "blackhole"}
        return {**common, "gateway": self.gateway}


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
        for message in await self._request("get", dst=next_hop, flags=RTM_F_FIB_MATCH):
            if message["type"] == RTN_LOCAL:
                raise RouteError(f"next hop {next_hop} is an address of this node")
            if message["proto"] == ROUTE_PROTOCOL or message["type"] != RTN_UNICAST:
                raise RouteError(f"next hop {next_hop} can only be reached through a route that BGP learned")
            gateway = str(message.get_attr("RTA_GATEWAY") or next_hop)
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
            return {prefix: gateway async for prefix, gateway in self._dump()}
        except NetlinkError as error:
            raise RouteError(f"cannot read the kernel's routes: {_words(error)}") from error

    async def _dump(self) -> AsyncIterator[tuple[str, str]]:
        if self._netlink is None:
            self._netlink = AsyncIPRoute(strict_check=True)
        async for message in await self._netlink.route("dump", family=AF_INET, proto=ROUTE_PROTOCOL):
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
    if table != MAIN_TABLE or message["proto"] != ROUTE_PROTOCOL or message.get_attr("RTA_PRIORITY") != METRIC:
        return None
    prefix = f"{message.get_attr('RTA_DST') or '0.0.0.0'}/{message['dst_len']}"
    if message["type"] == RTN_BLACKHOLE:
        return prefix, BLACKHOLE
    gateway = message.get_attr("RTA_GATEWAY")
    return (prefix, str(gateway)) if gateway and message["type"] == RTN_UNICAST else None


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
