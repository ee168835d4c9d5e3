"""When the installer runs: at once when something changed, soon while something is awaited, seldom else.

Owns: that rhythm, and going on after errors. Must not: reconcile (`reconcile` does).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from manx_kube.errors import KubeError
from manx_operator.installer.reconcile import Installer

log = logging.getLogger(__name__)
SOON, SELDOM = 1.0, 30.0
"""Seconds from one pass to the next while something is awaited, at first, and while nothing is."""
SLOWER = 1.3
"""What is awaited for long is looked at ever less often, down to every SELDOM seconds."""


class InstallerLoop:
    """`trigger()` asks for a pass; `run()` is one leader's term and ends only by cancellation or an error that is no
    KubeError (the Lease lost)."""

    def __init__(self, installer: Installer, *, soon: float = SOON, seldom: float = SELDOM) -> None:
        self._installer = installer
        self._wanted = asyncio.Event()
        self._soon, self._seldom = soon, seldom

    def trigger(self) -> None:
        """Something that the installer reads has changed."""
        self._wanted.set()

    async def run(self) -> None:
        """Passes, for ever."""
        awaited = self._soon
        while True:
            if self._wanted.is_set():
                awaited = self._soon
            self._wanted.clear()
            if await self._settled():
                awaited, pause = self._soon, self._seldom
            else:
                awaited, pause = min(awaited * SLOWER, self._seldom), awaited
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()

    async def _settled(self) -> bool:
        try:
            return (await self._installer.reconcile()).settled
        except KubeError as error:
            log.warning("the installation could not be looked after: %s", error.message)
            return False
