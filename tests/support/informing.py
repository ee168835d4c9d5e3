"""What tests of informers share: a fake server with one informer on it, waiting, and replaying its batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fakeapi import FakeApi
from manx_core.api.core_v1 import Pod
from manx_kube.backoff import Backoff
from manx_kube.client import BadItem, KubeClient
from manx_kube.informer import Batch, EventKind, Informer, Key
from manx_kube.resources import PODS

LIMIT = 20.0  # seconds after which a test gives up; nothing is asserted about how fast things are


def pod(name: str, *, namespace: str = "d", labels: dict[str, str] | None = None, ip: str = "") -> dict[str, Any]:
    """A pod as a user's client would send it."""
    meta = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"metadata": meta, "spec": {"nodeName": "n1"}, "status": {"podIP": ip}}


async def eventually(condition: Callable[[], object]) -> None:
    """Until `condition` is true; AssertionError if it never is."""
    try:
        async with asyncio.timeout(LIMIT):
            while not condition():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError("it never became true") from None


@dataclass
class Watched:
    """A fake server, the informer on it, and what the informer told."""

    api: FakeApi
    client: KubeClient
    informer: Informer[Pod]
    batches: list[Batch[Pod]] = field(default_factory=list)
    bad: list[BadItem] = field(default_factory=list)

    @property
    def told(self) -> list[tuple[str, str]]:
        """(kind, name) of every event so far."""
        return [(event.kind.value, event.key[1]) for batch in self.batches for event in batch.events]

    def replayed(self) -> dict[Key, Pod]:
        """What somebody who knows only the batches believes; raises AssertionError if they contradict themselves."""
        known: dict[Key, Pod] = {}
        for batch in self.batches:
            for event in batch.events:
                assert known.get(event.key) == event.old
                assert (event.old is None) == (event.kind is EventKind.ADDED)
                assert (event.new is None) == (event.kind is EventKind.DELETED)
                if event.new is None:
                    del known[event.key]
                else:
                    known[event.key] = event.new
        return known

    def agrees(self) -> bool:
        """Whether the cache is what the server has, by names and versions."""
        return versions(self.informer.cache) == {
            key: obj["metadata"]["resourceVersion"] for key, obj in self.api.state.of(PODS).items()
        }

    async def in_agreement(self) -> None:
        await eventually(self.agrees)
        assert self.replayed() == dict(self.informer.cache)


def versions(cache: Any) -> dict[Key, str]:
    return {key: obj.metadata.resource_version for key, obj in cache.items()}


@asynccontextmanager
async def watching(*, start: bool = True, idle_timeout: float = 60.0, **selection: Any) -> AsyncIterator[Watched]:
    """A fake server with pods a, b and c in namespace d, and an informer of pods on it, synced if `start`."""
    bad: list[BadItem] = []
    async with FakeApi() as api, KubeClient(api.config(), timeout=LIMIT) as client:
        for name in "abc":
            api.state.put(PODS, pod(name))
        informer = Informer(
            client, PODS, Pod, idle_timeout=idle_timeout, backoff=Backoff(0.01, 0.05), on_bad=bad.append,
            **({"page_size": 2} | selection),
        )  # fmt: skip
        watched = Watched(api, client, informer, bad=bad)
        informer.add_handler(watched.batches.append)
        if start:
            informer.start()
            async with asyncio.timeout(LIMIT):
                await informer.wait_synced()
            await eventually(lambda: api.watches)
        try:
            yield watched
        finally:
            await informer.stop()
