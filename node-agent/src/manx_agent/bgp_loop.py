"""The loop that keeps BGP as it is wanted.

Owns: when the driver applies, and the retry after an error. Must not: know what a session or a route is.

Why apart from policy: a session that flaps must not delay a policy, nor a burst of policies a withdrawn route.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from manx_agent.model import AgentError, BgpOutcome, BgpView
from manx_agent.state.share import Share

log = logging.getLogger(__name__)

COALESCE = 0.02
RETRY = 2.0
RESYNC = 5.0
"""Seconds between looks at the kernel's routes and at the speaker without anything having changed."""


class Bgp(Protocol):
    """The speaker and the kernel's routes."""

    async def apply(self, view: BgpView) -> BgpOutcome: ...


class BgpLoop:
    """Applies when woken, and every few seconds."""

    def __init__(self, share: Share, bgp: Bgp, *, changed: Callable[[], None]) -> None:
        self._share, self._bgp, self._changed = share, bgp, changed
        self._wake = asyncio.Event()
        self.outcome = BgpOutcome()

    def wake(self) -> None:
        """Something may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Applies for ever. Only to be started once the share is complete."""
        self.wake()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), RESYNC)
                await asyncio.sleep(COALESCE)
            self._wake.clear()
            view = self._share.bgp_view()
            if view is not None:
                await self._apply(view)

    async def _apply(self, view: BgpView) -> None:
        try:
            outcome = await self._bgp.apply(view)
        except AgentError as error:
            log.error("BGP not applied, trying again in %.0f s: %s", RETRY, error)
            outcome = BgpOutcome(self.outcome.peers, self.outcome.routes, (str(error),))
            await asyncio.sleep(RETRY)
            self._wake.set()
        if outcome != self.outcome:
            self.outcome = outcome
            self._changed()
