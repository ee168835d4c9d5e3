"""How many writes may be on their way at a time: fewer where the API server cannot keep up, more again when it can.

Owns: that number. Must not: send or wait.

Why: a server that is late with all of 32 requests is not helped by 32 more as soon as these were given up; it may well
have done what nobody waits for any longer. So, as TCP has it (additive increase, multiplicative decrease; RFC 5681):
what was not answered, or refused for being too much, halves the number, once for all that were on their way then; each
answer raises it by its part of one.
"""

from __future__ import annotations

from collections.abc import Callable

from manx_kube.errors import TooManyRequests, Unavailable

LEAST = 1.0


class Window:
    """`most`: the number while all is well; `clock`: seconds that never go back."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = float(most)
        self._clock = clock
        self._size = self._most
        self._halved = float("-inf")

    @property
    def size(self) -> int:
        return int(self._size)

    def answered(self) -> None:
        """A write was answered, whatever with."""
        self._size = min(self._most, self._size + 1.0 / self._size)

    def failed(self, error: Exception, sent: float) -> None:
        """A write that was sent at `sent` came to this."""
        if not isinstance(error, (TimeoutError, TooManyRequests, Unavailable)):
            self.answered()
        elif sent > self._halved:
            self._size = max(LEAST, self._size / 2)
            self._halved = self._clock()
