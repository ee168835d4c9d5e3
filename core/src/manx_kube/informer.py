"""A cache that follows one collection of the API server, and tells what changes.

Owns: list, watch, resume, relist with a difference, and the errors of all these. Must not: know what objects mean, or
ever end by itself: whatever the server does, it goes on trying, and its cache stays as it last was (fail static).

How it stays right:
1. A list is paged and consistent; a watch resumes from the last version heard, bookmarks included.
2. Whenever resuming is impossible (410 as status or as event) or dubious (three watches in a row without a word heard)
   it lists again and delivers the difference, deletions included. So the cache is right after any sequence of faults.
3. A malformed line ends the watch before it, and resuming brings it again. An object that does not fit the type costs
   only itself: it is reported, and its last good version stays.
4. A silent watch (bookmarks come about every minute) is abandoned and resumed; with 2 this also heals a version from
   the future (etcd restored from a backup), from which the server takes a watch without ever answering.

`reach_consistent`: a watch on an idle collection says nothing for up to a minute, although the server's version moves
on with every write to any kind. So: read the collection's version consistently (one object; the server makes sure that
it is current), give the watch a moment to get there, and if it is idle list again. A list begun after the call is all
the proof there can be, and costs one list at a change of leader.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import Any, Generic, Self, TypeVar

import msgspec

from manx_core.api.core_v1 import ObjectMeta
from manx_kube import codec, watch
from manx_kube.backoff import Backoff
from manx_kube.client import PAGE_SIZE, BadItem, KubeClient, bad_item, selectors
from manx_kube.errors import DecodeError, Gone, KubeError, NotFound, Status, error_for
from manx_kube.resources import Resource
from manx_kube.store import Batch, Event, EventKind, Key, Store, reached

__all__ = ["Batch", "Event", "EventKind", "Informer", "Key"]

T = TypeVar("T")
Handler = Callable[[Batch[T]], None]

SERVER_TIMEOUT = (300, 600)  # seconds after which the server ends a watch, drawn at random so that not all end at once
IDLE_TIMEOUT = 90.0
MAX_SILENT = 3
CATCH_UP = 0.1

log = logging.getLogger(__name__)


class _OnlyMeta(msgspec.Struct, frozen=True, gc=False):
    metadata: ObjectMeta


class Informer(Generic[T]):
    """Async context manager (or `start`/`stop`) around one task.

    `type_`: a struct with `metadata: ObjectMeta`, dict or a TypedDict. Handlers run on the event loop, in the order
    added, and must be quick; one that raises is logged and counted in `handler_errors`, the others still get the batch.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        type_: type[T],
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = PAGE_SIZE,
        idle_timeout: float = IDLE_TIMEOUT,
        backoff: Backoff | None = None,
        on_bad: Callable[[BadItem], None] | None = None,
    ) -> None:
        self.resource = resource
        self.resource_version = ""
        self.last_error: KubeError | None = None
        self.last_contact: float | None = None
        self.handler_errors = 0
        self._client = client
        self._type = type_
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._page_size = page_size
        self._idle_timeout = idle_timeout
        self._backoff = backoff or Backoff()
        self._on_bad = on_bad
        self._store = Store(type_)
        self._handlers: list[Handler[T]] = []
        self._waiters: set[asyncio.Future[None]] = set()
        self._free = asyncio.Event()
        self._free.set()
        self._silent = True
        self._lists_wanted = 1
        self._lists_done = 0
        self._task: asyncio.Task[None] | None = None
        self._step: asyncio.Task[None] | None = None

    # --- what callers see ---------------------------------------------------------------------------------------------

    @property
    def cache(self) -> Mapping[Key, T]:
        """The objects, by (namespace, name): a live read-only view."""
        return MappingProxyType(self._store.objects)

    @property
    def bad(self) -> Mapping[Key, BadItem]:
        """The objects at the server that do not fit the type."""
        return MappingProxyType(self._store.bad)

    @property
    def synced(self) -> bool:
        """Whether a first list is complete."""
        return self._lists_done > 0

    def get(self, name: str, namespace: str = "") -> T | None:
        return self._store.objects.get((namespace, name))

    def add_handler(self, handler: Handler[T]) -> None:
        """From now on `handler` gets each batch; what is in the cache already, it gets now, as ADDED."""
        self._handlers.append(handler)
        if self._store.objects:
            known = [Event(EventKind.ADDED, key, None, obj) for key, obj in self._store.objects.items()]
            self._call(handler, Batch(known, self.resource_version))

    def hold(self) -> None:
        """The cache stays as it is until `release`: another thread may read it. What comes meanwhile waits."""
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self.run(), name=f"informer {self.resource}")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def wait_synced(self) -> None:
        """Until the first list is complete. For a limit, `asyncio.timeout()` around it."""
        await self._until(lambda: self.synced)

    async def wait_reached(self, resource_version: str) -> None:
        """Until the cache is at `resource_version` or later. An idle collection gets there only by a bookmark."""
        await self._until(lambda: reached(self.resource_version, resource_version))

    async def reach_consistent(self) -> None:
        """Until the cache holds everything that was written before this call. Retries for ever."""
        await self.wait_synced()
        wanted = self._lists_wanted + 1  # the first that anybody asks for from now on holds what this caller must see
        with suppress(KubeError, TimeoutError):
            current = await self._client.current_resource_version(
                self.resource,
                namespace=self._namespace,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
            )
            async with asyncio.timeout(CATCH_UP):
                await self.wait_reached(current)
                return
        self._lists_wanted = max(self._lists_wanted, wanted)
        if self._lists_done < wanted and self._step is not None:
            self._step.cancel()
        await self._until(lambda: self._lists_done >= wanted)

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            delay = 0.0
            try:
                while self._lists_done < self._lists_wanted:  # another may have been asked for during the first
                    await self._relist()
                await self._interruptible(self._watch())
            except KubeError as error:
                delay = self._delay_after(error)
            except Exception:
                log.exception("informer of %s: unexpected error, listing again", self.resource)
                self._lists_wanted += 1
                delay = self._backoff.next()
            if delay:
                await self._interruptible(asyncio.sleep(delay))

    def _delay_after(self, error: KubeError) -> float:
        """What a failure means for the next step, and how long to wait before it."""
        news = self.last_error is None or self.last_error.message != error.message
        log.log(logging.INFO if news else logging.DEBUG, "informer of %s: %s", self.resource, error.message)
        self.last_error = error
        # Only hearing something resets the count, a successful list does not: where lists work and watches do not,
        # lists must become as rare as the watches' retries.
        if isinstance(error, Gone) or self._backoff.failures % MAX_SILENT == MAX_SILENT - 1:
            self._request_list()
        # A CRD is established within seconds of its creation: do not sleep through that.
        delay = self._backoff.next(cap=2.0 if isinstance(error, NotFound) else None)
        return max(delay, min(error.retry_after or 0.0, 30.0))

    def _request_list(self) -> None:
        if self._lists_done >= self._lists_wanted:
            self._lists_wanted += 1

    async def _interruptible(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` so that `reach_consistent` can cut it short. Its awaits are its only points of interruption, and
        between them the cache is whole."""
        step = self._step = asyncio.create_task(work)
        try:
            await asyncio.wait({step})
        finally:
            self._step = None
            if step.cancel():
                await asyncio.wait({step})
        with suppress(asyncio.CancelledError):
            step.result()

    async def _relist(self) -> None:
        answering = self._lists_wanted
        listing = await self._client.list_all(
            self.resource,
            self._type,
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            page_size=self._page_size,
        )
        await self._free.wait()
        events, news = self._store.merge(listing.items, listing.bad)
        self.resource_version = listing.resource_version
        self._lists_done = answering
        self.last_contact = time.monotonic()
        for item in news:
            self._report_bad(item)
        self._deliver(events)

    async def _watch(self) -> None:
        params = selectors(self._label_selector, self._field_selector) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self.resource_version,
            "timeoutSeconds": str(random.randint(*SERVER_TIMEOUT)),
        }
        path = self.resource.path(self._namespace)
        self._silent = True
        async with self._client.transport.stream(path, params=params, idle_timeout=self._idle_timeout) as pieces:
            async for lines in watch.events(pieces):
                await self._free.wait()
                self._take(lines)
        if self._silent:
            raise KubeError("the server ended a watch without a word", reason="WatchClosed")

    # --- one piece of a watch -----------------------------------------------------------------------------------------

    def _take(self, lines: list[watch.WatchLine]) -> None:
        """Apply and deliver; raises KubeError for an ERROR event, after delivering what came before it."""
        events: list[Event[T]] = []
        try:
            for line in lines:
                events += self._apply(line)
        finally:
            self._deliver(events)

    def _apply(self, line: watch.WatchLine) -> list[Event[T]]:
        if line.type == "ERROR":
            status = codec.decode(line.object, Status)
            raise error_for(status.code, status)
        if line.type in ("ADDED", "MODIFIED"):
            changes = self._put(line.object)
        elif line.type in ("DELETED", "BOOKMARK"):
            meta = codec.decode(line.object, _OnlyMeta).metadata
            self.resource_version = meta.resource_version
            key = (meta.namespace, meta.name)
            changes = self._store.remove(key, meta.resource_version) if line.type == "DELETED" else []
        else:
            raise DecodeError(f"unknown watch event {line.type!r}", reason="MalformedWatch")
        self._heard()
        return changes

    def _put(self, raw: msgspec.Raw) -> list[Event[T]]:
        try:
            obj = codec.decode(raw, self._type)
        except DecodeError as error:
            self._put_bad(raw, error)
            return []
        self.resource_version = self._store.identify(obj).resource_version
        return self._store.put(obj)

    def _put_bad(self, raw: msgspec.Raw, error: DecodeError) -> None:
        item = bad_item(raw, error)
        if not item.resource_version:
            raise error  # not even metadata: nothing to resume after, so this is a malformed watch
        self.resource_version = item.resource_version
        if self._store.put_bad(item):
            self._report_bad(item)

    def _report_bad(self, item: BadItem) -> None:
        log.warning("%s %s/%s does not fit: %s", self.resource, item.namespace, item.name, item.error)
        if self._on_bad is not None:
            self._on_bad(item)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _heard(self) -> None:
        self.last_contact = time.monotonic()
        self.last_error = None
        self._silent = False
        self._backoff.reset()

    def _deliver(self, events: list[Event[T]]) -> None:
        if events:
            batch = Batch(events, self.resource_version)
            for handler in self._handlers:
                self._call(handler, batch)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _call(self, handler: Handler[T], batch: Batch[T]) -> None:
        try:
            handler(batch)
        except Exception:
            self.handler_errors += 1
            log.exception("a handler of %s failed on %d events", self.resource, len(batch.events))

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
