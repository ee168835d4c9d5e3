"""When the operator's kinds are written, to tell how many writes there are in a second at most.

Owns: bare watches that note the time of each event. Must not: look at what the events say.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Self

from bench.scale.world import OURS
from manx_kube import watch
from manx_kube.client import KubeClient
from manx_kube.resources import IPAM_BLOCKS, Resource

_HOUR = 3600


class Pulse:
    """An async context manager. Blocks are left out: agents write them, too."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._times: list[float] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.last = time.perf_counter()

    async def __aenter__(self) -> Self:
        for resource in OURS:
            if resource != IPAM_BLOCKS:
                version = await self._client.current_resource_version(resource)
                self._tasks.append(asyncio.create_task(self._listen(resource, version)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, resource: Resource, version: str) -> None:
        params = {"watch": "true", "timeoutSeconds": str(_HOUR), "resourceVersion": version}
        async with self._client.transport.stream(resource.path(), params=params, idle_timeout=_HOUR) as pieces:
            async for lines in watch.events(pieces):
                self.last = time.perf_counter()
                self._times += [self.last] * len(lines)

    def peak(self) -> int:
        """The most events that any span of one second had."""
        return most_in_a_second(self._times)


def most_in_a_second(times: Iterable[float]) -> int:
    most, window = 0, deque[float]()
    for at in sorted(times):
        window.append(at)
        while window[0] < at - 1.0:
            window.popleft()
        most = max(most, len(window))
    return most
