"""Events: what users must know, told at the object it is about.

Owns: posting events.k8s.io/v1 Events from a background task, and making one series of what repeats. Must not: ever
block or fail its caller; an Event is a courtesy, the conditions are the truth.

Why this way: the same thing may go wrong a thousand times a minute. The first time is posted at once; repetitions only
raise a count, which is written at most every half minute. Both memory and requests are bounded.
Source: events.k8s.io/v1 Event, EventSeries; limits from its validation (note 1024, reason and action 128 characters).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

from manx_core.api.core_v1 import Event, ObjectMeta, ObjectReference
from manx_kube import codec
from manx_kube.client import KubeClient
from manx_kube.errors import AlreadyExists, KubeError, NotFound
from manx_kube.resources import EVENTS, Resource

log = logging.getLogger(__name__)

SERIES_EVERY = 30.0
MAX_SERIES = 500
FLUSH_LIMIT = 3.0


def reference_to(resource: Resource, obj: Any) -> ObjectReference:
    """What an Event about `obj` (a struct or dict of `resource`) refers to."""
    return ObjectReference(
        api_version=resource.api_version,
        kind=resource.kind,
        namespace=codec.metadata_of(obj, "namespace"),
        name=codec.metadata_of(obj, "name"),
        uid=codec.metadata_of(obj, "uid"),
        resource_version=codec.metadata_of(obj, "resource_version"),
    )


@dataclass(slots=True)
class _Series:
    """One thing that happens: its Event, how often it happened, and how often the server knows of."""

    event: Event
    count: int = 0
    posted: int = 0
    posted_at: float = float("-inf")


class EventRecorder:
    """Async context manager; posts what is left (for some seconds at most) when it ends.

    `component` is the reporting controller ("manx.dev/operator"), `instance` the pod or host.
    """

    def __init__(
        self, client: KubeClient, *, component: str, instance: str, series_every: float = SERIES_EVERY
    ) -> None:
        self.dropped = 0
        self._client = client
        self._component = component
        self._instance = instance[:128]
        self._series_every = series_every
        self._series: OrderedDict[tuple[str, ...], _Series] = OrderedDict()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="events")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_LIMIT):
                await self._post_all(closing=True)

    def emit(
        self,
        regarding: ObjectReference,
        type_: Literal["Normal", "Warning"],
        *,
        reason: str,
        note: str,
        action: str = "Reconcile",
        related: ObjectReference | None = None,
    ) -> None:
        """Say it; returns at once. `reason` and `action` are UpperCamelCase words, `note` a sentence for humans."""
        about = regarding.uid or f"{regarding.kind}/{regarding.namespace}/{regarding.name}"
        key = (about, type_, reason, action, note)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(self._event(regarding, type_, reason, note, action, related))
            self._forget_oldest()
        self._series.move_to_end(key)
        series.count += 1
        self._wake.set()

    def _event(
        self,
        regarding: ObjectReference,
        type_: str,
        reason: str,
        note: str,
        action: str,
        related: ObjectReference | None,
    ) -> Event:
        name = f"{regarding.name[:200].rstrip('.-') or 'manx'}.{secrets.token_hex(8)}"
        return Event(
            metadata=ObjectMeta(name=name, namespace=regarding.namespace or "default"),
            event_time=_now(),
            reporting_controller=self._component,
            reporting_instance=self._instance,
            action=action[:128],
            reason=reason[:128],
            regarding=regarding,
            related=related,
            note=note if len(note) <= 1024 else note[:1023] + "…",
            type=type_,
        )

    def _forget_oldest(self) -> None:
        while len(self._series) > MAX_SERIES:
            _, oldest = self._series.popitem(last=False)
            self.dropped += oldest.count - oldest.posted

    # --- posting ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._next_due()):
                    await self._wake.wait()
            self._wake.clear()
            await self._post_all()

    def _next_due(self) -> float | None:
        """Seconds until a count may be written again; None if none waits."""
        waiting = [series.posted_at for series in self._series.values() if series.posted < series.count]
        return max(0.0, min(waiting) + self._series_every - time.monotonic()) if waiting else None

    async def _post_all(self, closing: bool = False) -> None:
        now = time.monotonic()
        for series in list(self._series.values()):
            due = closing or now - series.posted_at >= self._series_every
            if series.posted < series.count and due:
                await self._post(series, closing)

    async def _post(self, series: _Series, closing: bool) -> None:
        series.posted_at = time.monotonic()
        try:
            if not series.posted:
                await self._create(series)
                if not closing:
                    return
            if series.posted < series.count:
                await self._patch_count(series)
        except NotFound:
            series.posted = 0  # it expired (an hour by default): the next time begins a new one
            series.event = self._renamed(series.event)
        except KubeError as error:
            log.info("event %s on %s not posted: %s", series.event.reason, series.event.regarding.name, error)

    async def _create(self, series: _Series) -> None:
        with suppress(AlreadyExists):  # its name is random: it is ours, and only the answer was lost
            await self._client.create(EVENTS, series.event)
        series.posted = 1

    async def _patch_count(self, series: _Series) -> None:
        meta, count = series.event.metadata, series.count
        patch = {"series": {"count": count, "lastObservedTime": _now()}}
        await self._client.patch(EVENTS, dict, meta.name, patch, namespace=meta.namespace)
        series.posted = count

    def _renamed(self, event: Event) -> Event:
        return self._event(event.regarding, event.type, event.reason, event.note, event.action, event.related)


def _now() -> str:
    """metav1.MicroTime."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
