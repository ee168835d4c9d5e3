"""Files by which the kubelet tells that the operator lives, and is ready.

Owns: the two files. Must not: judge more than the event loop's turning and the informers' first lists: a probe that
fails because the API server is away would only make it worse.

Why files and not a port: replicas share a node's network where there is but one node, and would clash.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from manx_operator.settings import Settings

log = logging.getLogger(__name__)

EVERY = 2.0


class Health:
    def __init__(self, settings: Settings) -> None:
        self._alive = settings.alive_file
        self._ready = settings.ready_file

    async def beat(self) -> None:
        """Until cancelled; then neither file is left."""
        _remove(self._ready)
        try:
            while True:
                _touch(self._alive)
                await asyncio.sleep(EVERY)
        finally:
            _remove(self._alive)
            _remove(self._ready)

    def ready(self) -> None:
        _touch(self._ready)


def _touch(path: Path) -> None:
    try:
        path.touch()
    except OSError as error:
        log.error("cannot touch %s: %s", path, error)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
