"""Owns which measures there are, in which order, and what each is given.

It must not know how anything is measured: each measure is a module (or package) of its own, which starts and ends all
that it needs. They are imported when they run, so that one whose needs are missing here keeps none of the others away.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, cast

from bench.figures import Figure
from lab.cluster import Cluster

SizeName = Literal["quick", "full"]


@dataclass(frozen=True)
class Given:
    """What a measure may know of the run. `lab` brings up the cluster that several measures share, once asked for."""

    size: SizeName
    lab: Callable[[], AbstractContextManager[Cluster]]

    @property
    def quick(self) -> bool:
        return self.size == "quick"


@dataclass(frozen=True)
class Measure:
    """`module` has `measure(given) -> Iterable[Figure]`. `quick`: whether it has a quick size (else that leaves it
    out). `asked`: whether it is only run where it is asked for by name. `lab`: whether it needs the shared one."""

    text: str
    module: str
    quick: bool = True
    asked: bool = False
    lab: bool = False

    def run(self, given: Given) -> Iterator[Figure]:
        """Figures as they are found. Raises what the measure raises: LabError, RuntimeError, OSError."""
        measure = cast(Callable[[Given], Iterable[Figure]], importlib.import_module(self.module).measure)
        yield from measure(given)


def streamed(figures: AsyncGenerator[Figure]) -> Iterator[Figure]:
    """Those of a measure that is asynchronous, as they are found: what was found stays where a later one fails."""
    with asyncio.Runner() as runner:
        while True:
            try:
                yield runner.run(_next(figures))
            except StopAsyncIteration:
                return


async def _next(figures: AsyncGenerator[Figure]) -> Figure:
    """A runner takes coroutines alone."""
    return await anext(figures)


MEASURES = {
    "policy": Measure("a policy into all nodes' kernels, on a lab", "bench.policy_to_kernel", quick=False, lab=True),
    "footprint": Measure("memory and idle CPU of every process, on a lab", "bench.footprint", quick=False, lab=True),
    "cni": Measure("CNI ADD and DEL", "bench.cni_bench"),
    "kernel": Measure("rules walked, traffic, writes to the kernel, 50 pods at once", "bench.kernel"),
    "bgp": Measure("a block into another node's kernel, by BGP", "bench.bgp_bench"),
    "speaker": Measure("a BGP speaker with many neighbors", "bench.speaker"),
    "operator": Measure("the operator on 10,000 pods: starts, lag, failover, bursts", "bench.scale.operator_rows"),
    "watchers": Measure(
        "200 agents on one API server, beside clients that watch everything", "bench.scale.watchers", quick=False
    ),
    "agent": Measure("the agent among 10,000 pods, and what each change costs", "bench.scale.agent_rows"),
    "sizes": Measure("the largest object of each kind, at 250 pods and 10,000 policies", "bench.scale.sizes"),
    "model": Measure("the operator's computing alone: Antrea's published cases, single changes", "bench.model.rows"),
    "huge": Measure("what each change costs at 50,000 pods", "bench.scale.huge", quick=False, asked=True),
}
