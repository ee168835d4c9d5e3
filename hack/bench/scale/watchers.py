"""Many agents on one API server: whether each hears in time, and what it costs the server beside watching everything.

Owns: these rows, by number of agents. Must not: run agents that do anything (`listening` only listens): what is
measured is the way to them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from bench.figures import Figure
from bench.measures import Given, streamed
from bench.scale import changes, fanout, load
from bench.scale.listener import Listener
from bench.scale.load import Size
from bench.scale.players import Players
from bench.scale.server import seen, swept
from bench.scale.world import World, world

RELABELS = 100
_CALM = 3.0


@dataclass(frozen=True)
class Plan:
    """`relabel`: seconds, for each number of listeners."""

    size: Size
    relabel: float
    agents: tuple[int, ...]
    everything: tuple[int, ...]


SMALL = Plan(load.QUICK, relabel=2, agents=(10,), everything=(2,))
FULL = Plan(load.FULL, relabel=20, agents=(25, 50, 100, 200), everything=(25, 50, 100, 200))


def measure(given: Given) -> Iterator[Figure]:
    """Raises AssertionError, RuntimeError, TimeoutError, KubeError where something does not come up."""
    yield from streamed(_collected(SMALL if given.quick else FULL))


async def _collected(plan: Plan) -> AsyncGenerator[Figure]:
    async with world(plan.size, players=False) as found:
        async for figure in fanout.rows(found):
            yield figure
        await found.stack.enter_async_context(Players(found.client, real=lambda _: False))
        operator = found.operator()
        await found.written(operator)
        async for figure in _rows(plan, found):
            found.say(f"{figure.name}: {statistics.median(figure.samples):.2f} {figure.unit}")
            yield figure


async def _rows(plan: Plan, found: World) -> AsyncIterator[Figure]:
    alone, idle = await _busy(plan, found), await swept(found.client)
    name = "API server, operator and players alone: processor time for each relabelling"
    yield Figure("watch.none.server.cpu", name, "ms", (alone.server,))
    yield Figure("watch.none.pace", "  it kept up with", "pods/s", (alone.pace,))
    yield Figure("watch.none.server.resident", "  resident", "MB", (alone.resident,))
    yield Figure("watch.none.server.live", "  in use when nothing happens", "MB", (idle.live,))
    for what, counts in (("agents", plan.agents), ("everything", plan.everything)):
        for count in counts:
            for figure in await _with(plan, found, what, count, alone):
                yield figure


@dataclass(frozen=True)
class Taken:
    """`server`: its processor time (ms) for each relabelling, until all that it led to was over. `writes`: of our
    objects, for each. `pace`: relabellings in a second. `resident`: MB. `behind`: watches that it ended because they
    were too slow."""

    server: float
    writes: float
    pace: float
    resident: float
    behind: int


async def _busy(plan: Plan, found: World) -> Taken:
    """While pods are relabelled, and until all has followed."""
    before, began = await seen(found.client), time.perf_counter()
    await changes.relabel(found.client, found.size, RELABELS, plan.relabel, seed=int(began))
    took, count = time.perf_counter() - began, RELABELS * plan.relabel
    await found.quiet(_CALM)
    after = (await seen(found.client)).since(before)
    writes = after.taken.total() / count
    return Taken(after.cpu / count * 1000, writes, count / took, after.resident, after.behind)


async def _with(plan: Plan, found: World, what: str, count: int, alone: Taken) -> list[Figure]:
    without = await swept(found.client)
    async with Listener(found, what, str(count)) as listening:
        await found.quiet(_CALM)
        idle = await swept(found.client)
        own = listening.process.usage().cpu
        taken = await _busy(plan, found)
        own = (listening.process.usage().cpu - own) / (RELABELS * plan.relabel) * 1000
        heard = listening.end()
        found.say(f"watches ended: {heard['why']}" if heard.get("why") else "no watch ended")
    key = f"watch.{what}.{count}"
    name = f"{count} agents" if what == "agents" else f"{count} clients that watch everything"
    return [
        Figure(f"{key}.server.cpu", f"API server with {name}: processor time for each relabelling", "ms",
               (taken.server,), "without", (alone.server,)),
        Figure(f"{key}.writes", "  writes for each", "writes", (taken.writes,), "without", (alone.writes,)),
        Figure(f"{key}.pace", "  it kept up with", "pods/s", (taken.pace,), "without", (alone.pace,)),
        Figure(f"{key}.server.resident", "  resident", "MB", (taken.resident,), "without", (alone.resident,)),
        Figure(f"{key}.server.live", "  in use when nothing happens", "MB", (idle.live,), "without", (without.live,)),
        Figure(f"{key}.cpu", "  they themselves, in one process, for each relabelling", "ms", (own,)),
        Figure(f"{key}.behind", "  watches that it ended for their slowness", "watches", (taken.behind,), "none", (0,)),
        *_of_events(key, heard),
        *(_of_agents(key, heard) if what == "agents" else _of_everything(key, heard)),
    ]  # fmt: skip


def _of_events(key: str, heard: dict[str, Any]) -> list[Figure]:
    missed = "  not heard once by each that they concern"
    return [
        Figure(f"{key}.events", "  events heard", "events", (heard["events"],), "due", (heard["due"],)),
        Figure(f"{key}.missed", missed, "events", (heard["missed"],), "none", (0,), exact=True),
        Figure(f"{key}.watches", "  watches", "watches", (heard["watches"],), exact=True),
    ]


def _of_agents(key: str, heard: dict[str, Any]) -> list[Figure]:
    lags, text = heard["lags"], "  heard after the first that heard it"
    return [
        Figure(f"{key}.lag", text, "ms", tuple(lags)),
        Figure(f"{key}.lag.p99", f"{text}: 99th percentile", "ms", (lags[99],)),
    ]


def _of_everything(key: str, heard: dict[str, Any]) -> list[Figure]:
    return [
        Figure(f"{key}.octets", "  delivered", "MB", (heard["octets"] / 1e6,)),
        Figure(f"{key}.ended", "  watches that the server ended", "watches", (heard["ended"],)),
    ]
