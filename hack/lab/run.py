"""Owns running commands and waiting: every failure becomes a LabError that says what was run and what it answered.

It must not know what a lab is. One way to run commands keeps the errors readable for a newcomer whose machine lacks
something.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class LabError(Exception):
    """Something that the lab needs is not so. The message is for the person who typed the command."""


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> str:
    """Run a command to its end and return its standard output; LabError with its last words if it fails."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, input=stdin, env=env, cwd=cwd, timeout=timeout, capture_output=True, text=True)
    except FileNotFoundError:
        raise LabError(f"{words[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(words)}: no answer within {timeout} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"{' '.join(words)}: exit {done.returncode}: {said}")
    return done.stdout


def wait_for(what: str, probe: Callable[[], T | None], *, timeout: float = 60, every: float = 0.2) -> T:
    """Call ``probe`` until it returns something true, and return that; LabError names ``what`` after ``timeout``
    seconds.

    A LabError inside ``probe`` counts as "not yet"; the last one is quoted if the time runs out.
    """
    end, last = time.monotonic() + timeout, ""
    while time.monotonic() < end:
        try:
            answer = probe()
        except LabError as error:
            answer, last = None, f" (last: {error})"
        if answer:
            return answer
        time.sleep(every)
    raise LabError(f"waited {timeout:.0f} s in vain for {what}{last}")
