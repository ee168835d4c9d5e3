"""Ending processes: over is what is over, not what has begun to end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab.cgroups import kill_pids
from lab.machines import start_time

_LARGE = 300 << 20
_HOLDER = f"""
import mmap, sys, time
held = mmap.mmap(-1, {_LARGE})
for page in range(0, {_LARGE}, mmap.PAGESIZE):
    held[page] = 1
print("held", flush=True)
time.sleep(600)
"""
"""Touches each page, so that the kernel has them all to take back."""
_NOBODY = 1 << 22
"""The kernel's PID_MAX_LIMIT: all pids are lower."""


@pytest.fixture
def large() -> Iterator[int]:
    """A process with hundreds of MB; nobody waits for it, as nobody of the lab does for a container's."""
    with subprocess.Popen([sys.executable, "-c", _HOLDER], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process.pid
        process.kill()


def test_killed_processes_have_ended_and_let_go_of_what_they_held(large: int) -> None:
    assert start_time(large)
    kill_pids({large})
    assert start_time(large) == ""


def test_a_pid_that_does_not_exist_is_no_error(large: int) -> None:
    kill_pids({_NOBODY, large})
    assert start_time(large) == ""
