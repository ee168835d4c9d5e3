"""How long to wait before trying again.

Owns: exponential delays with jitter, so that a fleet of clients does not come back all at once. Must not: sleep.
"""

from __future__ import annotations

import random


class Backoff:
    """Seconds to wait before each further try: about `first`, then doubling to `cap`, each times 0.5 to 1 at random."""

    def __init__(self, first: float = 0.1, cap: float = 10.0) -> None:
        self._first = first
        self._cap = cap
        self.failures = 0

    def reset(self) -> None:
        self.failures = 0

    def next(self, cap: float | None = None) -> float:
        """The delay after one more failure; `cap` overrides the instance's for this one."""
        delay = min(cap or self._cap, self._first * 2.0 ** min(self.failures, 20))
        self.failures += 1
        return delay * random.uniform(0.5, 1.0)
