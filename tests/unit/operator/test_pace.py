"""Turns: at once after a pause, together in a stream."""

from __future__ import annotations

import asyncio

import pytest

from manx_operator.pace import Pace

GAP = 0.1


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("asked", "turns"),
    [
        ([0.0], [0.0]),
        ([0.0, 0.0, 0.0], [0.0]),
        ([0.0, 0.01, 0.05], [0.0, 0.1]),
        ([0.0, 0.01, 0.11, 0.12], [0.0, 0.1, 0.2]),
        ([0.0, 0.1], [0.0, 0.1]),
        ([0.0, 5.0, 5.01], [0.0, 5.0, 5.1]),
    ],
)
async def test_turns(asked: list[float], turns: list[float]) -> None:
    loop = asyncio.get_running_loop()
    began, found = loop.time(), list[float]()
    pace = Pace(lambda: GAP, lambda: found.append(loop.time() - began))
    for at in asked:
        if (pause := began + at - loop.time()) > 0:
            await asyncio.sleep(pause)
        before = len(found)
        pace.soon()
        assert len(found) == before
        assert pace.pending
    await asyncio.sleep(1)
    assert found == pytest.approx(turns)
    assert not pace.pending


@pytest.mark.looptime
async def test_what_was_asked_for_is_forgotten_when_stopped_and_done_once_when_done_now() -> None:
    found: list[str] = []
    pace = Pace(lambda: GAP, lambda: found.append("turn"))
    pace.soon()
    pace.stop()
    await asyncio.sleep(1)
    assert not found
    pace.soon()
    pace.now()
    await asyncio.sleep(1)
    assert found == ["turn"]


@pytest.mark.looptime
async def test_the_gap_is_that_of_when_a_turn_is_asked_for() -> None:
    loop = asyncio.get_running_loop()
    began, found, gap = loop.time(), list[float](), GAP
    pace = Pace(lambda: gap, lambda: found.append(loop.time() - began))
    pace.now()
    pace.soon()
    gap = 3 * GAP
    await asyncio.sleep(1.5 * GAP)
    pace.soon()
    await asyncio.sleep(1)
    assert found == pytest.approx([0.0, GAP, 4 * GAP])
