"""The frame: what was found stays, what fails or hangs keeps nothing else away, and what is owed is given."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from types import ModuleType
from typing import get_args

import pytest

from bench import counts, measures, promised
from bench.__main__ import Run, SharedLab
from bench.figures import Figure
from bench.limit import Overdue, within
from bench.measures import MEASURES, Given, Measure, SizeName, streamed

SIZES = get_args(SizeName)
ONE = Figure("a.one", "one", "ms", (1.0,), "bare", (1.0,))


def no_lab() -> contextlib.AbstractContextManager[None]:
    raise AssertionError("no lab here")


async def two(then: Callable[[], object]) -> AsyncGenerator[Figure]:
    yield ONE
    await asyncio.sleep(0)
    then()
    yield Figure("a.two", "two", "ms", (2.0,))


def fails() -> None:
    raise RuntimeError("broken")


def waits() -> None:
    time.sleep(3600)


def run_of(monkeypatch: pytest.MonkeyPatch, limit: float = 60.0, **works: Callable[[Given], Iterator[Figure]]) -> Run:
    """A run, over, of measures of these names."""
    table = {}
    for name, work in works.items():
        module = ModuleType(f"bench_played_{name}")
        module.measure = work  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        table[name] = Measure(name, module.__name__)
    monkeypatch.setattr("bench.__main__.MEASURES", table)
    run = Run(Given("quick", no_lab), SharedLab(None, 1), 0.0, limit)  # type: ignore[arg-type]
    run.all([*works])
    return run


def test_figures_found_before_a_failure_stay_and_the_next_measure_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(monkeypatch, first=lambda _: streamed(two(fails)), second=lambda _: iter([ONE]))
    assert run.found["first"] == [ONE]
    assert run.found["second"] == [ONE]
    assert "first: RuntimeError('broken')" in run.failures
    assert "a.one: measured 2 times" in run.failures


@pytest.mark.parametrize("how", ["waits in the loop", "waits by itself"])
def test_a_measure_that_hangs_is_ended_and_cleans_up(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    ended = []

    async def hangs() -> AsyncGenerator[Figure]:
        try:
            yield ONE
            if how == "waits by itself":
                waits()
            await asyncio.sleep(3600)
        finally:
            ended.append(how)

    run = run_of(monkeypatch, limit=0.1, first=lambda _: streamed(hangs()), second=lambda _: iter([]))
    assert ended == [how]
    assert run.found["first"] == [ONE]
    assert [line for line in run.failures if "Overdue" in line and line.startswith("first")]
    assert [*run.took] == ["first", "second"]


def test_nothing_rings_after_the_work_is_over() -> None:
    with within(0.05):
        pass
    time.sleep(0.1)
    with pytest.raises(Overdue), within(0.05):
        time.sleep(3600)


@pytest.mark.parametrize("size", SIZES)
def test_promises_are_of_measures_that_there_are_each_key_once(size: SizeName) -> None:
    owed = promised.promises(size)
    assert {promise.measure for promise in owed} <= MEASURES.keys()
    often = Counter(key for promise in owed for key in promise.keys)
    assert [key for key, count in often.items() if count > 1] == []


def test_every_measure_of_a_full_run_owes_something_unless_it_needs_a_lab_or_is_smaller_elsewhere() -> None:
    owing = {promise.measure for promise in promised.promises("full")}
    others = {name for name, measure in MEASURES.items() if not measure.lab and not measure.asked} - owing
    assert others == {"cni", "bgp"}


def test_counts_that_are_owed_in_the_quick_size_are_held() -> None:
    held = counts.read()
    counted = ("writes", "written", "heard", "octets", "share")
    keys = [key for promise in promised.promises("quick") for key in promise.keys]
    keys = [key for key in keys if key.startswith(("cost.", "kernel.walked", "operator.start")) and "*" not in key]
    missing = [key for key in keys if key.rpartition(".")[2] in counted and key not in held]
    assert len(keys) > 50
    assert missing == []


def test_what_is_owed_and_was_not_given_is_said() -> None:
    given = [Figure("floor.loop", "a loop", "s", (1.0,)), Figure("agent.policy", "a policy", "ms", (1.0,))]
    lines = promised.broken(["agent"], given, "full")
    assert "agent: agent.policy has no floor" in lines
    assert "agent: no agent.idle.cpu (agent CPU, 100 pods a second relabelled; idle)" in lines
    assert not [line for line in lines if "floor.loop" in line or line.startswith("operator")]


def test_a_figure_without_a_floor_says_why_in_the_json() -> None:
    assert promised.as_json(Figure("floor.loop", "a loop", "s", (1.0,)))["floor"] == "is a floor itself"
    assert promised.as_json(Figure("cni.start", "a start", "s", (1.0,)))["floor"] is None
    assert promised.as_json(ONE)["floor"]["median"] == 1.0


def test_modules_of_measures_are_there() -> None:
    for measure in measures.MEASURES.values():
        assert hasattr(__import__(measure.module, fromlist=["measure"]), "measure")
