"""Leader election on a Lease, with an epoch that fences old leaders.

Owns: acquiring, renewing and releasing one coordination.k8s.io Lease, and knowing, by a clock that also counts while
the machine sleeps, whether it is still ours. Must not: know what a leader does, or import `kubernetes`.

Why not `kubernetes.aio.leaderelection` (37.0): it never writes leaseTransitions, which is our epoch; it measures time
by the wall clock; a connection error leaves its loop without calling anybody; a request that hangs delays the loss of
leadership without bound; it does not release. So this is written on our own client, whose errors and limits we know.

How two leaders are kept apart:
1. A candidate takes a held Lease only after it has seen no renewal for the whole lease duration on its own clock. It
   first saw the last renewal after the leader had sent it, so the leader's own count from sending is always shorter.
2. A leader counts from when it sent the last successful renewal, and stops at the renew deadline, which is shorter than
   the lease duration: `Term.is_valid()` turns false by itself, whether or not any of our code has run in between (a
   process that was stopped and goes on). The time between is for requests already sent.
3. Each term has an epoch, greater than any before it, which every write carries and admission compares: an update's
   with the object's, a creation's with the Lease's (what was about to be sent when its process was stopped is sent when
   it goes on, whatever was asked before). It is leaseTransitions + 1, and more than `floor_epoch()`, so that a Lease
   deleted and made anew does not begin at 1.
4. A candidate that saw a live leader and finds the Lease deleted still waits as in 1; the leader makes it anew.
Source: client-go tools/leaderelection, for the meaning of the fields.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from manx_core.api.core_v1 import Lease, LeaseSpec, ObjectMeta
from manx_kube.client import KubeClient
from manx_kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from manx_kube.resources import LEASES

log = logging.getLogger(__name__)

RELEASE_LIMIT = 2.0

Clock = Callable[[], float]


def boottime() -> float:
    """Seconds since boot, suspended time included (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseLost(Exception):
    """The Lease is no longer ours: nothing may be written."""


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds. `duration`: how long others wait after the last renewal; `renew_deadline`: how long the leader goes on
    without one; `retry_period`: between tries. Raises ValueError unless each is greater than the next."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    def __post_init__(self) -> None:
        if not math.inf > self.duration > self.renew_deadline > self.retry_period > 0:
            raise ValueError(
                f"lease duration {self.duration} s must be greater than its renew deadline {self.renew_deadline} s,"
                f" and that greater than its retry period {self.retry_period} s, and that greater than 0; all finite"
            )


class Term:
    """One leadership. Ask `is_valid()`, or call `require()`, before every write."""

    def __init__(self, epoch: int, valid_until: float, clock: Clock) -> None:
        self.epoch = epoch
        self._valid_until = valid_until
        self._clock = clock
        self._ended = False

    def is_valid(self) -> bool:
        """Whether the Lease is surely ours now."""
        return not self._ended and self._clock() < self._valid_until

    def require(self) -> None:
        """Raises LeaseLost unless the Lease is surely ours now."""
        if not self.is_valid():
            raise LeaseLost(f"epoch {self.epoch} is over")

    def remaining(self) -> float:
        """Seconds until the term ends unless renewed; negative if it has."""
        return self._valid_until - self._clock()

    def _extend(self, until: float) -> None:
        self._valid_until = until

    def _end(self) -> None:
        self._ended = True


class LeaseElector:
    """One candidate. `identity` must be unique to this process; `floor_epoch` says the highest epoch seen anywhere (in
    objects), asked once at each acquisition."""

    def __init__(
        self,
        client: KubeClient,
        *,
        name: str,
        namespace: str,
        identity: str,
        timing: LeaseTiming | None = None,
        floor_epoch: Callable[[], int] = lambda: 0,
        clock: Clock = boottime,
    ) -> None:
        self.identity = identity
        self.timing = timing or LeaseTiming()
        self.term: Term | None = None
        self.holder = ""
        self._client = client
        self._name = name
        self._namespace = namespace
        self._floor_epoch = floor_epoch
        self._clock = clock
        self._lease: Lease | None = None  # as we last read or wrote it
        self._observed_at = 0.0  # when its present version was first seen
        self._highest_epoch = 0

    async def run(self, lead: Callable[[Term], Awaitable[None]]) -> None:
        """Wait for the Lease, then run `lead` until it returns or the Lease is lost, when it is cancelled.

        Returns after `lead` has ended, the Lease released if it was still ours. Raises what `lead` raised, and
        LeaseLost if the Lease was lost; cancelling it releases too.
        """
        term = self.term = await self._acquire()
        leading = asyncio.ensure_future(lead(term))
        renewing = asyncio.create_task(self._renew(term))
        try:
            await asyncio.wait({leading, renewing}, return_when=asyncio.FIRST_COMPLETED)
            lost = renewing.done() and not leading.done()
        finally:
            await _end(renewing)
            await _end(leading)
            await self._release(term)
        if lost:
            renewing.result()
            raise LeaseLost(f"epoch {term.epoch} is over")
        leading.result()

    # --- acquiring ----------------------------------------------------------------------------------------------------

    async def _acquire(self) -> Term:
        while True:
            try:
                async with asyncio.timeout(self.timing.renew_deadline):
                    term = await self._try_to_acquire()
            except (KubeError, TimeoutError) as error:
                log.info("lease %s/%s: %s", self._namespace, self._name, str(error) or "no answer in time")
                term = None
            if term is not None:
                log.info("lease %s/%s is ours, epoch %d", self._namespace, self._name, term.epoch)
                return term
            await asyncio.sleep(self.timing.retry_period * random.uniform(0.8, 1.2))

    async def _try_to_acquire(self) -> Term | None:
        """One look; None if another holds it, or was quicker."""
        lease = await self._read()
        if self._held_by_another():
            return None
        epoch = self._next_epoch()
        began = self._clock()
        try:
            self._lease = await self._write(lease, epoch, acquired=_now())
        except (Conflict, AlreadyExists, NotFound):
            return None
        self.holder = self.identity
        self._highest_epoch = epoch
        return Term(epoch, began + self.timing.renew_deadline, self._clock)

    async def _read(self) -> Lease | None:
        """The Lease, None if there is none; notes when its present version was first seen."""
        try:
            lease = await self._client.get(LEASES, Lease, self._name, namespace=self._namespace)
        except NotFound:
            return None
        seen = self._lease
        if seen is None or seen.metadata.resource_version != lease.metadata.resource_version:
            self._observed_at = self._clock()
        self._lease = lease
        self.holder = lease.spec.holder_identity or ""
        self._highest_epoch = max(self._highest_epoch, (lease.spec.lease_transitions or 0) + 1)
        return lease

    def _held_by_another(self) -> bool:
        """By what was last seen of it, even if it is deleted now."""
        if self._lease is None or self.holder in ("", self.identity):
            return False
        duration = max(self.timing.duration, float(self._lease.spec.lease_duration_seconds or 0))
        return self._clock() < self._observed_at + duration

    def _next_epoch(self) -> int:
        return max(self._highest_epoch, self._floor_epoch()) + 1

    # --- renewing -----------------------------------------------------------------------------------------------------

    async def _renew(self, term: Term) -> None:
        """Renew until that fails for so long that the term is over, or another holds the Lease."""
        while True:
            await asyncio.sleep(min(self.timing.retry_period, max(term.remaining(), 0.0)))
            if not term.is_valid():
                break
            try:
                async with asyncio.timeout(term.remaining()):
                    still_ours = await self._try_to_renew(term)
            except (KubeError, TimeoutError) as error:
                log.warning(
                    "lease %s/%s not renewed: %s", self._namespace, self._name, str(error) or "no answer in time"
                )
                continue
            if not still_ours:
                break
        term._end()
        log.warning("lease %s/%s lost, epoch %d is over", self._namespace, self._name, term.epoch)

    async def _try_to_renew(self, term: Term) -> bool:
        """False if another has it. Raises KubeError where nothing is known."""
        began = self._clock()
        try:
            self._lease = await self._write(self._lease, term.epoch)
        except (Conflict, AlreadyExists):
            lease = await self._read()  # our own write, whose answer was lost? or another's?
            return lease is None or self._is_ours(lease, term)
        except NotFound:
            self._lease = None  # deleted: the next try makes it anew, with this epoch, unless another was quicker
            return True
        # An answer that took longer than the term lasted proves nothing about the time between.
        if term.is_valid():
            term._extend(began + self.timing.renew_deadline)
        return True

    def _is_ours(self, lease: Lease, term: Term) -> bool:
        return lease.spec.holder_identity == self.identity and lease.spec.lease_transitions == term.epoch - 1

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _write(self, lease: Lease | None, epoch: int, acquired: str | None = None) -> Lease:
        """Create it, or replace exactly `lease`."""
        now = _now()
        spec = LeaseSpec(
            holder_identity=self.identity,
            lease_duration_seconds=max(1, round(self.timing.duration)),
            acquire_time=acquired or (lease.spec.acquire_time if lease else None) or now,
            renew_time=now,
            lease_transitions=epoch - 1,
        )
        if lease is None:
            meta = ObjectMeta(name=self._name, namespace=self._namespace)
            return await self._client.create(LEASES, Lease(metadata=meta, spec=spec))
        return await self._client.replace(LEASES, Lease(metadata=lease.metadata, spec=spec))

    async def _release(self, term: Term) -> None:
        """Let the next one have it at once; nothing to be done if that fails: it expires."""
        ours, self.term = term.is_valid(), None
        term._end()
        if not ours:
            return
        with suppress(KubeError, TimeoutError):
            async with asyncio.timeout(RELEASE_LIMIT):
                try:
                    await self._give_up(self._lease)
                except Conflict:  # a renewal was on its way when we stopped, or somebody edited it
                    lease = await self._read()
                    if lease is not None and self._is_ours(lease, term):
                        await self._give_up(lease)

    async def _give_up(self, lease: Lease | None) -> None:
        if lease is not None:
            spec = msgspec.structs.replace(lease.spec, holder_identity="", lease_duration_seconds=1, renew_time=_now())
            await self._client.replace(LEASES, Lease(metadata=lease.metadata, spec=spec))
            self.holder = ""


async def _end(task: asyncio.Future[None]) -> None:
    """Cancel and wait; what it raised is looked at elsewhere."""
    task.cancel()
    await asyncio.wait({task})


def _now() -> str:
    """metav1.MicroTime."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
