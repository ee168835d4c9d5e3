"""A bare watch: what came over it, and when, left as bytes until somebody asks.

Owns: the stream, and the time of each line. Must not: know what the lines say, or resume: a watch that ends while it is
listened to has lost what is measured, and says so.

Why bytes: who listens shares the machine with what is measured. A piece of the stream costs a note of the time; lines
are cut and decoded after the measured time is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Self

from manx_kube import watch
from manx_kube.client import KubeClient
from manx_kube.errors import KubeError
from manx_kube.resources import Resource

_HOUR = 3600


class Wire:
    """An async context manager. `version`: the collection's, from which on all is heard."""

    def __init__(self, client: KubeClient, resource: Resource, version: str, namespace: str | None = None) -> None:
        self._client, self._path, self._version = client, resource.path(namespace), version
        self._pieces: list[tuple[float, bytes]] = []
        self._buffer = watch.LineBuffer()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        params = {"watch": "true", "timeoutSeconds": str(_HOUR), "resourceVersion": self._version}
        async with self._client.transport.stream(self._path, params=params, idle_timeout=_HOUR) as pieces:
            async for piece in pieces:
                self._pieces.append((time.perf_counter(), piece))
        raise KubeError("the server ended a watch that is measured by", reason="WatchClosed")

    def take(self) -> Iterator[tuple[float, watch.WatchLine]]:
        """What came since the last time, and when (by time.perf_counter) the end of each line did. Raises KubeError
        where the watch ended before this was left, or says an error."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()
        pieces, self._pieces = self._pieces, []
        for at, piece in pieces:
            lines, error = watch.decode_lines(self._buffer.feed(piece))
            for line in lines:
                yield at, _sound(line)
            if error is not None:
                raise error


def _sound(line: watch.WatchLine) -> watch.WatchLine:
    if line.type == "ERROR":
        raise KubeError(f"a watch says {bytes(line.object)!r}", reason="WatchError")
    return line
