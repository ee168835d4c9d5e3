"""Owns what a newcomer sees while the lab works: which stage it is in, how long that usually takes, how long it took.

It must not do any of the work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stages:
    """Numbered stages on standard output."""

    def __init__(self, total: int) -> None:
        self.total, self.number, self.begun = total, 0, time.monotonic()

    @contextmanager
    def stage(self, title: str, usually: str) -> Iterator[None]:
        """One stage: announced with its usual duration, closed with the real one."""
        self.number += 1
        begun = time.monotonic()
        print(f"[{self.number}/{self.total}] {title} (usually {usually}) ...", flush=True)
        try:
            yield
        except BaseException:
            print(f"      failed after {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
            raise
        print(f"      done in {time.monotonic() - begun:.1f} s", flush=True)

    def elapsed(self) -> float:
        """Seconds since the first stage could begin."""
        return time.monotonic() - self.begun
