"""Running other programs: iptables-restore, ipset.

Owns: starting a program, feeding it, its time limit, and turning every way in which it can fail into our own errors.
Must not: know any program in particular, or retry.

Why a thread and `subprocess` rather than asyncio's own subprocesses: CPython's default child watcher starts a thread
for each child all the same, and `subprocess` can use vfork, which keeps a start at about a millisecond whatever the
agent's memory is. A program that writes to the kernel is never left running unattended: cancelling waits for its end.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from manx_agent.model import AgentError

T = TypeVar("T")

DEFAULT_TIMEOUT = 60.0
"""Seconds. Long enough for ten thousand rules on a busy machine; a program that takes longer hangs."""

_SHOWN = 2000


class ProcessError(AgentError):
    """A program could not be run to a good end. `stderr` is what it said."""

    def __init__(self, argv: Sequence[str], reason: str, stderr: str = "") -> None:
        self.argv = tuple(argv)
        self.reason = reason
        self.stderr = stderr
        said = f": {stderr.strip()[:_SHOWN]}" if stderr.strip() else ""
        super().__init__(f"{' '.join(argv)}: {reason}{said}")


class ProcessFailed(ProcessError):
    """The program ended with a status other than 0."""

    def __init__(self, argv: Sequence[str], status: int, stderr: str) -> None:
        self.status = status
        super().__init__(argv, f"exit status {status}" if status >= 0 else f"ended by signal {-status}", stderr)


class ProcessTimeout(ProcessError):
    """The program did not end in time, and was killed. What it did is unknown."""


class ProgramMissing(ProcessError):
    """The program is not installed, or may not be executed."""


async def run(argv: Sequence[str], stdin: str = "", timeout: float = DEFAULT_TIMEOUT) -> str:
    """Runs a program to its end and returns its standard output.

    `timeout` is in seconds. Raises ProcessFailed, ProcessTimeout or ProgramMissing; CancelledError only once the
    program has ended.
    """
    return await in_executor(partial(_run, tuple(argv), stdin, timeout))


async def in_executor(work: Callable[[], T]) -> T:
    """What `work` returns or raises, in one of the default executor's threads, which are in the network namespace that
    the kernel's policy is in. Cancelling waits for its end."""
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


def _run(argv: tuple[str, ...], stdin: str, timeout: float) -> str:
    try:
        done = subprocess.run(argv, input=stdin.encode(), capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as late:
        raise ProcessTimeout(argv, f"not done after {timeout:g} s, killed", _text(late.stderr)) from late
    except OSError as error:
        raise ProgramMissing(argv, f"cannot be started ({error.strerror})") from error
    if done.returncode != 0:
        raise ProcessFailed(argv, done.returncode, _text(done.stderr))
    return _text(done.stdout)


def _text(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace")
