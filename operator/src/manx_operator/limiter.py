"""A ceiling on how often something is done.

Owns: a token bucket, and turns for what can wait. Must not: sleep; whoever asks decides what to do meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable


class TokenBucket:
    """`rate` a second in the long run, `burst` at once."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = max(1.0, burst)
        self._clock = clock
        self._tokens = self._burst
        self._at = clock()

    def delay(self) -> float:
        """Seconds until `take` may be called; 0 if it may now."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def take(self, count: int = 1) -> None:
        """So many at once: also more than there are, but a whole burst is all that can be owed."""
        self._tokens = max(-self._burst, self._tokens - count)


class Leisure:
    """`rate` a second, less whatever else was done (`others` counts that), and none while something else has to wait
    (`waiting`: how much does), but never fewer than `least` a second."""

    def __init__(
        self,
        rate: float,
        least: float,
        others: Callable[[], int],
        waiting: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._left = TokenBucket(rate, rate, clock)
        self._least = TokenBucket(min(rate, least), 1.0, clock)
        self._others = others
        self._waiting = waiting
        self._seen = others()

    def delay(self) -> float:
        """Seconds until `take` may be called, if nothing else is done; 0 if it may now."""
        done = self._others()
        self._left.take(done - self._seen)
        self._seen = done
        least = self._least.delay()
        return least if self._waiting() else min(self._left.delay(), least)

    def take(self) -> None:
        self._left.take()
        self._least.take()
