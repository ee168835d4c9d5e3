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
import errno
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from manx_agent.drivers import process
from manx_agent.drivers.netlink_codec import AF_INET, AF_INET6, RTM_GETROUTE
from manx_agent.drivers.netlink_reading import route_lookup
from manx_agent.drivers.netlink_threads import in_thread
from manx_agent.drivers.netlink_wire import NetlinkError, Wire
from manx_agent.drivers.route_messages import BLACKHOLE, Change, dump_of, gateway_towards, own_route, version_of
from manx_agent.model import AgentError

BATCH = 256
"""From this many changes on, `ip -batch` is used: twenty times as fast as one request for each."""

T = TypeVar("T")

NO_IPV6 = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT)


class RouteError(AgentError):
    """The kernel's routing table could not be read."""


@dataclass(frozen=True, slots=True)
class RouteOutcome:
    """`installed`: learned prefix → next hop as wanted, of those that are in the kernel."""

    installed: dict[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


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
        self._lock = asyncio.Lock()
        self._installed: dict[str, str] | None = None
        """What we wrote, prefix → gateway; None: not known, read it."""
        self._ipv6 = True
        """Whether there may be IPv6 routes of ours: before the first reading, what a former agent left is not known."""
        self._wanted: dict[str, str] = {}
        self._blackholes: frozenset[str] = frozenset()
        self._gateways: dict[str, str] = {}
        self._failed: dict[str, str] = {}

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
        if changes:
            self._note(changes, await self._in_thread(lambda: _write(changes)))

    async def _resolved(self) -> dict[str, str]:
        """Prefix → gateway, of what can be routed; the rest is noted as failed."""
        self._failed = {}
        want = dict.fromkeys(self._blackholes, BLACKHOLE)
        routed = {prefix: next_hop for prefix, next_hop in self._wanted.items() if prefix not in want}
        unknown = {hop for hop in routed.values() if hop not in self._gateways and "%" not in hop}
        answers = await self._in_thread(lambda: _look_up(unknown)) if unknown else {}
        failed: dict[str, str] = {}
        for next_hop, answer in answers.items():
            self._resolve(next_hop, answer, failed)
        for prefix, next_hop in routed.items():
            if next_hop in failed:
                self._failed[prefix] = failed[next_hop]
            else:  # with an interface it is a gateway itself, as it was found in the kernel
                want[prefix] = self._gateways.get(next_hop, next_hop)
        return want

    def _resolve(self, next_hop: str, answer: bytes | int, failed: dict[str, str]) -> None:
        if isinstance(answer, int):
            failed[next_hop] = f"no route to next hop {next_hop}: {os.strerror(answer)}"
            return
        try:
            self._gateways[next_hop] = gateway_towards(next_hop, answer)
        except ValueError as error:
            failed[next_hop] = str(error)

    def _note(self, changes: list[Change], codes: list[int]) -> None:
        """What became of each write (errno, 0 for done), so that `_installed` and `_failed` are true."""
        assert self._installed is not None
        for change, code in zip(changes, codes, strict=True):
            if change.verb == "del" and code in (0, errno.ESRCH):
                self._installed.pop(change.prefix, None)
            elif code == 0:
                self._installed[change.prefix] = change.gateway
            else:
                self._failed[change.prefix] = change.refusal(code)
                self._gateways.clear()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await in_thread(work)
        except NetlinkError as error:
            self._installed = None
            raise RouteError(f"cannot read or write the kernel's routes: {error}") from error

    async def _read(self) -> dict[str, str]:
        found = dict(await self._in_thread(lambda: _dump(AF_INET)))
        if self._ipv6:
            found6 = dict(await self._in_thread(_dump_ipv6))
            self._ipv6 = bool(found6) or self._wants_ipv6()
            found |= found6
        return found

    def _wants_ipv6(self) -> bool:
        return any(version_of(prefix) == 6 for prefixes in (self._wanted, self._blackholes) for prefix in prefixes)

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


def _dump(family: int) -> list[tuple[str, str]]:
    with Wire(strict=True) as wire:
        bodies = wire.table(RTM_GETROUTE, dump_of(family))
    return [route for body in bodies if (route := own_route(body)) is not None]


def _dump_ipv6() -> list[tuple[str, str]]:
    """Nothing where the kernel has no IPv6."""
    try:
        return _dump(AF_INET6)
    except NetlinkError as error:
        if error.errno in NO_IPV6:
            return []
        raise


def _look_up(next_hops: Iterable[str]) -> dict[str, bytes | int]:
    """The route to each, or the kernel's errno."""
    answers: dict[str, bytes | int] = {}
    with Wire() as wire:
        for next_hop in next_hops:
            try:
                answers[next_hop] = wire.ask(RTM_GETROUTE, route_lookup(next_hop))
            except NetlinkError as error:
                answers[next_hop] = error.errno
    return answers


def _write(changes: Iterable[Change]) -> list[int]:
    """What became of each: 0, or the kernel's errno."""
    codes = []
    with Wire() as wire:
        for change in changes:
            try:
                wire.send([change.message()])
                codes.append(0)
            except NetlinkError as error:
                codes.append(error.errno)
    return codes


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
