"""How often something is done that is asked for often: at once after a pause, else no sooner than a gap after the last.

Owns: when. Must not: know what is done.

Why not a window that begins with the first request: a change that comes alone would wait for company that never comes,
and that wait was most of the way of a policy into a kernel. Changes that come in a stream are taken up together all the
same, one gap's worth each time; the first of them costs one turn more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pace:
    """`gap()`: seconds between the last turn and one that is asked for now, at least. To be used on a running loop."""

    def __init__(self, gap: Callable[[], float], work: Callable[[], None]) -> None:
        self._gap = gap
        self._work = work
        self._last = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> bool:
        """Whether a turn was asked for and has not come."""
        return self._timer is not None

    def soon(self) -> None:
        """Asks for a turn. It never comes within this call: what is heard in the same turn of the loop goes with it."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._last + self._gap()), self._due)

    def now(self) -> None:
        """A turn now."""
        self.stop()
        self._due()

    def stop(self) -> None:
        """Forgets what was asked for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._last = asyncio.get_running_loop().time()
        self._work()
