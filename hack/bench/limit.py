"""Owns the end of what takes too long: one exception into the main thread, which nothing that means well swallows.

It must not kill: what the measure started is ended by the measure's own clean-up, through which the exception passes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Overdue(KeyboardInterrupt):
    """No Exception: asyncio hands this kind to whoever runs the loop, and keeps all others with the task."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises Overdue inside, wherever that is, once so much time is over. In the main thread only."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise Overdue(f"not over after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
