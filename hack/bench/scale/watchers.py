"""Many agents on one API server: whether each hears in time, and what it costs the server beside watching everything.

Owns: these rows, by number of agents. Must not: run agents that do anything (`listening` only listens): what is
measured is the way to them.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from bench.figures import Figure
from bench.measures import Given
from bench.scale import changes, load
from bench.scale.listening import LISTENING
from bench.scale.load import Size
from bench.scale.players import Players
from bench.scale.processes import Process, python, share, until
from bench.scale.server import seen
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
FULL = Plan(load.FULL, relabel=20, agents=(10, 50, 200), everything=(10, 50, 200))


def measure(given: Given) -> Iterator[Figure]:
    """Raises AssertionError, RuntimeError, TimeoutError, KubeError where something does not come up."""
    plan = SMALL if given.quick else FULL
    with asyncio.Runner() as runner:
        yield from runner.run(_collected(plan))


async def _collected(plan: Plan) -> list[Figure]:
    figures = []
    async with world(plan.size, players=False) as found:
        await found.stack.enter_async_context(Players(found.client, real=lambda _: False))
        operator = found.operator()
        await found.written(operator)
        async for figure in _rows(plan, found, operator):
            found.say(f"{figure.name}: {statistics.median(figure.samples):.2f} {figure.unit}")
            figures.append(figure)
    return figures


async def _rows(plan: Plan, found: World, operator: Process) -> AsyncIterator[Figure]:
    alone = await _busy(plan, found, operator)
    yield Figure("watch.none.server.cpu", "API server, operator and players alone", "% of a core", (alone.server,))
    yield Figure("watch.none.server.resident", "  resident", "MB", (alone.resident,))
    for what, counts in (("agents", plan.agents), ("everything", plan.everything)):
        for count in counts:
            for figure in await _with(plan, found, operator, what, count, alone):
                yield figure


@dataclass(frozen=True)
class Taken:
    """Per cent of a core; MB."""

    server: float
    operator: float
    resident: float


async def _busy(plan: Plan, found: World, operator: Process) -> Taken:
    """While pods are relabelled."""
    before, began = await seen(found.client), time.perf_counter()
    work = changes.relabel(found.client, found.size, RELABELS, plan.relabel, seed=int(began))
    taken = await share({"operator": operator.pid}, work)
    after, took = (await seen(found.client)).since(before), time.perf_counter() - began
    await found.quiet(_CALM)
    return Taken(after.cpu / took * 100, taken["operator"], after.resident)


async def _with(plan: Plan, found: World, operator: Process, what: str, count: int, alone: Taken) -> list[Figure]:
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(_Listening(found, what, count))
        await until(lambda: listening.process.says(LISTENING), "all to listen", every=0.1)
        await found.quiet(_CALM)
        taken = await _busy(plan, found, operator)
        heard = listening.end()
    key = f"watch.{what}.{count}"
    name = f"{count} agents" if what == "agents" else f"{count} clients that watch everything"
    figures = [
        Figure(f"{key}.server.cpu", f"API server with {name}", "% of a core", (taken.server,),
               "without", (alone.server,)),
        Figure(f"{key}.server.resident", "  resident", "MB", (taken.resident,), "without", (alone.resident,)),
        Figure(f"{key}.events", "  events delivered", "events", (heard["events"],)),
    ]  # fmt: skip
    return figures + (_of_agents(key, heard) if what == "agents" else _of_everything(key, heard))


def _of_agents(key: str, heard: dict[str, Any]) -> list[Figure]:
    lags = heard["lag"]
    return [
        Figure(f"{key}.missed", "  events not delivered once to each that they concern", "events", (heard["missed"],),
               exact=True),
        Figure(f"{key}.watches", "  watches", "watches", (heard["watches"],), exact=True),
        Figure(f"{key}.lag.p99", "  after the first that heard it, 99th percentile", "ms", (lags["p99"],)),
        Figure(f"{key}.lag.highest", "  the last of all", "ms", (lags["highest"],)),
    ]  # fmt: skip


def _of_everything(key: str, heard: dict[str, Any]) -> list[Figure]:
    return [
        Figure(f"{key}.octets", "  delivered", "MB", (heard["octets"] / 1e6,)),
        Figure(f"{key}.ended", "  watches that the server ended", "watches", (heard["ended"],)),
    ]


class _Listening:
    """The process with the listeners. A context manager."""

    def __init__(self, found: World, what: str, count: int) -> None:
        argv = python("-m", "bench.scale.listening", str(found.server.kubeconfig), what, str(count))
        self.process = Process(argv, {}, found.directory / "listening.log")

    def __enter__(self) -> _Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.end(kill=True)

    def end(self) -> dict[str, Any]:
        """What it heard."""
        self.process.end()
        said = [line for line in self.process.log.read_text().splitlines() if line.startswith("{")]
        found: dict[str, Any] = json.loads(said[-1])
        return found
