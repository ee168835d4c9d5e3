"""From what is wanted to what is there: the only place that writes manx.dev objects.

Owns: the queue of objects to look at, the writes in flight, their rate, and what becomes of refused ones.
Must not: know why an object shall be as it shall be.

How it works:
1. Objects are marked, not writes: an object's turn comes, it is compared as it is then, and what differs is written.
   However often it was marked meanwhile, that is one write.
2. One write in flight for each object, as many across objects as the server keeps up with (`congestion`), none once the
   term is over: that is asked before every one, and a write is given no longer than there is between our deadline and
   the earliest moment that another may lead.
3. A conflict says that the cache is behind: the object is looked at again when the informer has caught up (and, should
   it stay silent, after a while), never sent again as it was. Other errors are tried again, ever less often.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Protocol

from manx_kube.backoff import Backoff
from manx_kube.client import KubeClient
from manx_kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from manx_kube.lease import LeaseLost, Term
from manx_operator.congestion import Window
from manx_operator.decide import PATIENCE, Action, Decider, Wait
from manx_operator.limiter import TokenBucket
from manx_operator.observed import LEVELS, Key, Observed, same

DECISIONS_AT_ONCE = 200
"""Comparisons before other tasks get a turn."""
MIDDLE_LEVEL = 3

log = logging.getLogger(__name__)


class Refused(Protocol):
    """Told of every write that the server refused."""

    def __call__(self, key: Key, error: KubeError) -> None: ...


class Writer:
    """`start` begins, `stop` ends at once, cancelling what is in flight."""

    def __init__(
        self,
        client: KubeClient,
        term: Term,
        observed: Observed,
        *,
        bucket: TokenBucket,
        coalesce: float = 0.03,
        parallel: int = 32,
        limit: float = 5.0,
        refused: Refused = lambda key, error: None,
    ) -> None:
        self._client = client
        self._term = term
        self._observed = observed
        self._bucket = bucket
        self._coalesce = coalesce
        self._window = Window(parallel, time.monotonic)
        self._limit = limit
        self._refused = refused
        self._decider: Decider | None = None
        self._queue: OrderedDict[Key, None] = OrderedDict()
        self._in_flight: dict[Key, asyncio.Task[None]] = {}
        self.sending: dict[Key, Any] = {}
        """What is on its way to the server: it may be there before we hear of it."""
        self._again: set[Key] = set()
        self._soon: set[Key] = set()
        """What was changed by others and is looked at once `coalesce` is over."""
        self._waits: dict[Key, frozenset[Key]] = {}
        self._waiters: dict[Key, set[Key]] = {}
        self._parked: set[Key] = set()
        self._unparking: asyncio.TimerHandle | None = None
        self._backoffs: dict[Key, Backoff] = {}
        self._behind: dict[Key, tuple[str, float]] = {}
        """Of what was refused for being old: its resourceVersion, and until when it is not sent again as it was."""
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._pumping = False
        self._told = False
        self.written = 0

    def start(self, decider: Decider) -> None:
        self._decider, self._told = decider, False
        self._wake()

    def pause(self) -> None:
        """Send nothing more until `start`; what is in flight comes to its end."""
        self._decider = None

    async def stop(self) -> None:
        self._decider = None
        for timer in self._timers.values():
            timer.cancel()
        if self._unparking is not None:
            self._unparking.cancel()
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def idle(self) -> bool:
        """Whether nothing is marked or about to be, in flight, or waiting for others. What is to be looked at at some
        later date, as for labels that linger, is as it shall be until then."""
        return not (self._queue or self._soon or self._in_flight or self._waits or self._parked or self._backoffs)

    @property
    def queued(self) -> int:
        """How many objects are still to be looked at."""
        return len(self._queue)

    @property
    def waiting(self) -> int:
        """How many objects are still to be looked at or being written."""
        return len(self._queue) + len(self._in_flight)

    # --- marking ------------------------------------------------------------------------------------------------------

    def mark(self, keys: Iterable[Key]) -> None:
        """These may not be as they shall be. They are looked at in the order in which they refer to each other, after
        what was marked before: a stream of changes to groups shall not keep a NodeState from its turn."""
        self._queue |= dict.fromkeys(sorted(keys, key=_level))
        self._wake()

    def changed(self, key: Key) -> None:
        """The object is not at the server what we made it: look at those who waited for it, and, a little later so that
        changes go on being written together, at itself. (If it is what we are making it, its answer is still to come.)
        """
        self._look_for(key)
        if self._decider is not None and not self._is_arriving(key):
            self._soon.add(key)
            self.later(key, self._coalesce)

    def _is_arriving(self, key: Key) -> bool:
        sending, found = self.sending.get(key), self._observed.get(key)
        return sending is not None and found is not None and same(sending, found)

    def _look_for(self, key: Key) -> None:
        if waiters := self._waiters.get(key):
            self.mark(tuple(waiters))

    def released(self) -> None:
        """Some reference is gone: those who waited for that may go on."""
        if self._parked and self._decider is not None and self._unparking is None:
            self._unparking = asyncio.get_running_loop().call_later(self._coalesce, self._unpark_all)

    def _unpark_all(self) -> None:
        self._unparking = None
        self.mark(tuple(self._parked))

    def later(self, key: Key, seconds: float) -> None:
        """Look at the object in so many seconds, if not before."""
        loop, known = asyncio.get_running_loop(), self._timers.get(key)
        if known is not None:
            if known.when() <= loop.time() + seconds:
                return
            known.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def _due(self, key: Key) -> None:
        del self._timers[key]
        self.mark((key,))

    # --- the pump -----------------------------------------------------------------------------------------------------

    def _wake(self, delay: float = 0.0) -> None:
        if self._pumping or self._decider is None:
            return
        self._pumping = True
        loop = asyncio.get_running_loop()
        _ = loop.call_later(delay, self._pump) if delay else loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        for _ in range(DECISIONS_AT_ONCE):
            if self._decider is None or len(self._in_flight) >= self._window.size or not self._term.is_valid():
                return
            if (delay := self._bucket.delay()) > 0:
                self._wake(delay)
                return
            if (key := self._pop()) is None:
                self._tell()
                return
            self._look_at(key, self._decider)
        self._wake()

    def _pop(self) -> Key | None:
        return self._queue.popitem(last=False)[0] if self._queue else None

    def _tell(self) -> None:
        """Once, when for the first time nothing is left to be written."""
        if not self._told and self.idle:
            self._told = True
            log.info("everything is written, %d writes", self.written)

    def _look_at(self, key: Key, decider: Decider) -> None:
        if key in self._in_flight:
            self._again.add(key)
            return
        self._unpark(key)
        try:
            found = decider.decide(key)
        except Exception:
            log.exception("cannot decide on %s", key)
            return
        if found is None:
            self._backoffs.pop(key, None)
            self._look_for(key)
        elif isinstance(found, Wait):
            self._park(key, found)
        elif not self._is_behind(key, found):
            self._bucket.take()
            self._in_flight[key] = asyncio.create_task(self._write(key, found))

    def _is_behind(self, key: Key, action: Action) -> bool:
        """Whether the cache still has what the server refused for being old; then the object is looked at later."""
        version, until = self._behind.pop(key, (None, 0.0))
        remaining = until - asyncio.get_running_loop().time()
        if version != action.obj.metadata.resource_version or remaining <= 0:
            return False
        self._behind[key] = (action.obj.metadata.resource_version, until)
        self.later(key, remaining)
        return True

    def _park(self, key: Key, wait: Wait) -> None:
        if not wait.for_:
            self._parked.add(key)
            return
        self._waits[key] = wait.for_
        for other in wait.for_:
            self._waiters.setdefault(other, set()).add(key)
        self.later(key, PATIENCE)

    def _unpark(self, key: Key) -> None:
        """It is being looked at, and asks anew for whatever it shall be looked at later for."""
        self._soon.discard(key)
        self._parked.discard(key)
        waited = self._waits.pop(key, frozenset())
        if waited and (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        for other in waited:
            waiters = self._waiters[other]
            waiters.discard(key)
            if not waiters:
                del self._waiters[other]

    # --- one write ----------------------------------------------------------------------------------------------------

    async def _write(self, key: Key, action: Action) -> None:
        sent = time.monotonic()
        try:
            async with asyncio.timeout(self._limit):
                self._term.require()
                await self._send(key, action)
            self._backoffs.pop(key, None)
            self.written += 1
            self._window.answered()
        except LeaseLost:
            return
        except (KubeError, TimeoutError) as error:
            self._window.failed(error, sent)
            self._failed(key, action, error)
        except Exception:
            log.exception("cannot %s %s", action.verb, key)
            self._try_again(key)
        finally:
            self._in_flight.pop(key, None)
            if key in self._again:
                self._again.discard(key)
                self.mark((key,))
            self._wake()

    async def _send(self, key: Key, action: Action) -> None:
        if action.verb == "delete":
            meta = action.obj.metadata
            await self._client.delete(key.resource, key.name, uid=meta.uid, resource_version=meta.resource_version)
            self._observed.deleted(key, action.obj)
            return
        self.sending[key] = action.obj
        try:
            meta = await self._client.store(key.resource, action.obj, new=action.verb == "create")
        finally:
            del self.sending[key]
        self._observed.sent(key, action.obj, meta)
        self._look_for(key)

    def _failed(self, key: Key, action: Action, error: KubeError | TimeoutError) -> None:
        behind = isinstance(error, (Conflict, AlreadyExists, NotFound))
        known = key in self._backoffs
        level = logging.DEBUG if behind or known else logging.WARNING
        log.log(level, "%s of %s refused: %s", action.verb, key, str(error) or "no answer in time")
        delay = self._try_again(key)
        if behind:
            self._behind[key] = (action.obj.metadata.resource_version, asyncio.get_running_loop().time() + delay)
        if isinstance(error, KubeError):
            self._refused(key, error)

    def _try_again(self, key: Key) -> float:
        """After so many seconds, or as soon as the informer tells something new of it."""
        delay = self._backoffs.setdefault(key, Backoff(0.5, 30.0)).next()
        self.later(key, delay)
        return delay


def _level(key: Key) -> int:
    return LEVELS.get(key.resource, MIDDLE_LEVEL)
