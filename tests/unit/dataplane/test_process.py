"""Running programs: every way to fail is one of ours, and none is left running."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from manx_agent.drivers.process import ProcessFailed, ProcessTimeout, ProgramMissing, run


async def test_output_comes_back_and_input_goes_in() -> None:
    assert await run(("cat",), "some input\n") == "some input\n"


async def test_a_bad_end_says_what_the_program_said() -> None:
    with pytest.raises(ProcessFailed, match="exit status 3: no such rule") as failure:
        await run(("sh", "-c", "echo no such rule >&2; exit 3"))
    assert (failure.value.status, failure.value.stderr) == (3, "no such rule\n")
    with pytest.raises(ProcessFailed, match="ended by signal 9"):
        await run(("sh", "-c", "kill -9 $$"))


async def test_a_program_that_hangs_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(ProcessTimeout, match=r"not done after 0\.5 s, killed"):
        await run(("sh", "-c", f"echo $$ > {note}; exec sleep 600"), timeout=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


async def test_a_missing_program_is_told_apart() -> None:
    with pytest.raises(ProgramMissing, match="manx-no-such-program: cannot be started"):
        await run(("manx-no-such-program",))


async def test_cancelling_waits_for_the_end(tmp_path: Path) -> None:
    begun, done = tmp_path / "begun", tmp_path / "done"
    task = asyncio.create_task(run(("sh", "-c", f"touch {begun}; sleep 0.3; touch {done}")))
    while not begun.exists():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.exists()
