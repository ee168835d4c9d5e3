"""When the operator's kinds are written, to tell how many writes there are in a second at most.

Owns: the times of all that is heard of them, and how they stand to a ceiling. Must not: look at what it says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Self

from bench.scale.wire import Wire
from bench.scale.world import OURS
from manx_kube.client import KubeClient
from manx_kube.resources import IPAM_BLOCKS


class Pulse:
    """An async context manager. Blocks are left out: agents write them, too."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._stack = AsyncExitStack()
        self._wires: list[Wire] = []

    async def __aenter__(self) -> Self:
        for resource in OURS:
            if resource != IPAM_BLOCKS:
                version = await self._client.current_resource_version(resource)
                wire = Wire(self._client, resource, version)
                self._wires.append(await self._stack.enter_async_context(wire))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def take(self) -> list[float]:
        """When each write was heard of since the last time, by time.perf_counter, in their order. Raises KubeError
        where a watch has ended."""
        return sorted(at for wire in self._wires for at, _ in wire.take())


def most_in_a_second(times: Iterable[float]) -> int:
    most, window = 0, deque[float]()
    for at in sorted(times):
        window.append(at)
        while window[0] < at - 1.0:
            window.popleft()
        most = max(most, len(window))
    return most


def most_beyond(times: Iterable[float], rate: float) -> float:
    """The burst, at least, that a token bucket of so many a second must have had to let these through."""
    most, level, last = 0.0, 0.0, float("-inf")
    for at in sorted(times):
        level = max(0.0, level - (at - last) * rate) + 1.0
        most, last = max(most, level), at
    return most
