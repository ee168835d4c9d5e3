"""The loop that gives BGP what is wanted.

Owns: when the driver gets a view, and the retry after an error. Must not: know what a session or a route is; sessions,
learned routes and the kernel's are the driver's, which reconciles them by itself.

Why apart from policy: a session that flaps must not delay a policy, nor a burst of policies a withdrawn route.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from manx_agent.model import AgentError, BgpOutcome, BgpView
from manx_agent.state.share import Share

log = logging.getLogger(__name__)

COALESCE = 0.02
RETRY = 2.0


class Bgp(Protocol):
    """The speaker and the kernel's routes."""

    async def apply(self, view: BgpView) -> BgpOutcome: ...


class BgpLoop:
    """Applies when woken, if the view is another."""

    def __init__(self, share: Share, bgp: Bgp, *, changed: Callable[[], None]) -> None:
        self._share, self._bgp, self._changed = share, bgp, changed
        self._wake = asyncio.Event()
        self._applied: BgpView | None = None
        self.error = ""

    def wake(self) -> None:
        """Something may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Applies for ever. Only to be started once the share is complete."""
        self.wake()
        while True:
            await self._wake.wait()
            await asyncio.sleep(COALESCE)
            self._wake.clear()
            view = self._share.bgp_view()
            if view is not None and view != self._applied:
                await self._apply(view)

    async def _apply(self, view: BgpView) -> None:
        try:
            await self._bgp.apply(view)
            self._applied, self.error = view, ""
        except AgentError as error:
            log.error("BGP not applied, trying again in %.0f s: %s", RETRY, error)
            self.error = str(error)
            self._wake.set()
            await asyncio.sleep(RETRY)
        self._changed()
