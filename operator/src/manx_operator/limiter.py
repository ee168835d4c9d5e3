"""A ceiling on how often something is done.

Owns: a token bucket. Must not: sleep; whoever asks decides what to do meanwhile.
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

    def take(self) -> None:
        self._tokens -= 1.0
