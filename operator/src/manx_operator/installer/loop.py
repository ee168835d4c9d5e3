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
SOON, SELDOM = 2.0, 30.0
"""Seconds between passes while something is awaited, and while nothing is."""


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
        while True:
            self._wanted.clear()
            pause = await self._one()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()

    async def _one(self) -> float:
        try:
            return self._seldom if (await self._installer.reconcile()).settled else self._soon
        except KubeError as error:
            log.warning("the installation could not be looked after: %s", error.message)
            return self._soon
