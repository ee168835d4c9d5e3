"""When the installer runs, and how often answers are asked for anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from manx_kube.errors import Unavailable
from manx_operator.installer import wiring
from manx_operator.installer.loop import InstallerLoop
from manx_operator.installer.reconcile import Pass


class Passes:
    """An installer whose passes come to what a test says; None: the API server is away."""

    def __init__(self, *outcomes: bool | None) -> None:
        self.outcomes = list(outcomes)
        self.times: list[float] = []
        self.loop: InstallerLoop = InstallerLoop(self, soon=1.0, seldom=30.0)  # type: ignore[arg-type]

    async def reconcile(self) -> Pass:
        self.times.append(asyncio.get_running_loop().time())
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is None:
            raise Unavailable("away")
        return Pass(active=True, settled=outcome)

    async def gaps(self, seconds: float, trigger_at: float = 0) -> list[float]:
        loop = asyncio.get_running_loop()
        if trigger_at:
            loop.call_later(trigger_at, self.loop.trigger)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.loop.run()
        return [round(later - sooner, 2) for sooner, later in zip(self.times, self.times[1:], strict=False)]


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.looptime
class TestRhythm:
    async def test_seldom_while_nothing_is_awaited(self) -> None:
        assert await Passes(True).gaps(95) == [30, 30, 30]

    async def test_soon_and_ever_less_often_while_something_is(self) -> None:
        gaps = await Passes(False).gaps(400)
        assert gaps[:3] == [1, 1.3, 1.69]
        assert gaps == sorted(gaps)
        assert gaps[-1] == 30

    async def test_soon_again_once_it_was_settled(self) -> None:
        assert (await Passes(True, False, False, True).gaps(60))[:3] == [30, 1, 1.3]

    async def test_at_once_when_asked(self) -> None:
        assert (await Passes(True).gaps(40, trigger_at=5))[:2] == [5, 30]

    async def test_an_api_server_that_is_away_ends_nothing(self) -> None:
        assert (await Passes(None, None, True).gaps(40))[:3] == [1, 1.3, 30]


async def test_one_answer_serves_all_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = 100.0, 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        return asked

    monkeypatch.setattr(wiring.time, "monotonic", lambda: now)
    kept: Any = wiring.Kept(ask, seconds=10)
    assert await asyncio.gather(kept(), kept(), kept()) == [1, 1, 1]
    now = 109.0
    assert await kept() == 1
    now = 110.0
    assert await kept() == 2
