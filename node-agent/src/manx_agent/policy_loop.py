"""The loop that brings policy into the kernel, and lets pods in once theirs is there.

Owns: when to apply, one apply at a time, the retry after an error, the poll for drift, and the waiters of CNI ADD.
Must not: render, or touch the kernel but through the `PolicyDataplane` given.

Why one loop: everything that changes policy (watch events, pods coming and going, time running out for what is held)
marks the share dirty and wakes it; what arrives during an apply is taken up together by the next one. So a burst costs
one apply, and an endpoint is let in only by an apply that began after it was put into the share.

What comes alone is applied at once. In a stream of changes each apply is followed by a rest, which grows with the
stream, so that many of them cost one apply. That is for members of groups, which come and go at any time; for anything
else it is a moment, and for a pod that waits to start, or to end, there is no rest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

from manx_agent.model import AgentError, Dirty, LocalEndpoint, PolicyDataplane, PolicyOutcome
from manx_agent.state.share import Share
from manx_core.api.v1alpha1 import Applied

log = logging.getLogger(__name__)

REST, LONGEST_REST = 0.005, 0.1
"""Seconds after an apply until the next. Doubled each time as long as changes come in a stream."""
MOMENT = 0.01
"""The longest rest, in seconds, where something else than members of groups has changed. A new policy is heard of in
three or four events, some milliseconds apart."""
STREAM = 0.2
"""Changes that are further apart, in seconds, are no stream."""
RETRY = 1.0
DRIFT_POLL = 5.0
"""How often the kernel is compared with what it should be, where the settings say nothing else."""
HELD_POLL = 1.0
"""How often an apply is tried while something is missing, so that what is held is denied in time."""


@dataclass(slots=True)
class PolicyStatus:
    """What the loop last came to, for the report."""

    outcome: PolicyOutcome | None = None
    applied: Applied = field(default_factory=Applied)
    lag_seconds: float = 0.0
    error: str = ""
    drift_count: int = 0
    drift_last: str = ""
    drift_time: float = 0.0


class PolicyLoop:
    """Implements `EndpointAdmission`. `progress` tells how far the watches are, `changed` is called after an apply."""

    def __init__(
        self,
        share: Share,
        dataplane: PolicyDataplane,
        *,
        progress: Callable[[], Applied],
        changed: Callable[[], None],
    ) -> None:
        self._share, self._dataplane = share, dataplane
        self._progress, self._changed = progress, changed
        self._wake = asyncio.Event()
        self._woken_at = 0.0
        self._pressing = asyncio.Event()
        self._rest, self._applied_at = REST, 0.0
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self.status = PolicyStatus()
        self.done_once = asyncio.Event()

    # --- EndpointAdmission ---------------------------------------------------------------------------------------

    async def admit(self, endpoint: LocalEndpoint) -> None:
        """Returns once the endpoint's policy is in the kernel; the caller sets the deadline."""
        self._share.put_endpoint(endpoint)
        await self._applied(endpoint.container_id)

    async def withdraw(self, container_id: str) -> None:
        """The endpoint leaves the kernel with the next apply, which this waits for."""
        if container_id not in self._share.endpoints:
            return
        self._share.drop_endpoint(container_id)
        await self._applied(container_id)

    async def _applied(self, container_id: str) -> None:
        """Until an apply has taken the endpoint up as it now is; without a rest before it."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[container_id] = waiter
        self.wake()
        try:
            await waiter
        finally:
            self._waiting.pop(container_id, None)

    def is_expected(self, namespace: str, name: str, uid: str) -> bool:
        """Whether the operator listed this pod."""
        return self._share.is_expected((namespace, name, uid))

    # --- the loop ------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may have changed."""
        if self._waiting or self._share.dirty.beyond_groups:
            self._pressing.set()
        if not self._wake.is_set():
            self._woken_at = time.monotonic()
            self._wake.set()

    async def run(self) -> None:
        """Applies for ever. Only to be started once the share is complete."""
        self.wake()
        last_drift = time.monotonic()
        while True:
            next_drift = last_drift + self._drift_poll()
            await self._wait_until(min(next_drift, time.monotonic() + self._patience()))
            if self._share.dirty or self._held() or self.status.error:
                await self._apply_and_rest()
            else:
                self._note_progress()
            if time.monotonic() >= next_drift:
                await self._look_for_drift()
                last_drift = time.monotonic()

    def _drift_poll(self) -> float:
        settings = self._share.settings
        return (settings.policy.refresh_interval if settings else 0.0) or DRIFT_POLL

    def _held(self) -> bool:
        outcome = self.status.outcome
        return outcome is not None and bool(outcome.missing)

    def _patience(self) -> float:
        return HELD_POLL if self._held() or self.status.error else DRIFT_POLL

    async def _wait_until(self, deadline: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._wake.wait()
                await self._rested()
        self._wake.clear()
        self._pressing.clear()

    async def _rested(self) -> None:
        """At least one turn of the loop: what the watches deliver in it goes together."""
        await asyncio.sleep(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._left_of(self._rest)):
                await self._pressing.wait()
        if not self._waiting:
            await asyncio.sleep(self._left_of(min(self._rest, MOMENT)))

    def _left_of(self, rest: float) -> float:
        """Seconds of a rest after the last apply."""
        return max(0.0, self._applied_at + rest - time.monotonic())

    async def _apply_and_rest(self) -> None:
        streaming = time.monotonic() - self._applied_at - self._rest < STREAM
        self._rest = min(self._rest * 2, LONGEST_REST) if streaming else REST
        await self._apply()
        self._applied_at = time.monotonic()

    async def _apply(self) -> None:
        started = self._woken_at or time.monotonic()
        progress, dirty = self._progress(), self._share.dirty.take()
        view = self._share.policy_view()
        try:
            outcome = await self._dataplane.apply(view, dirty)
        except AgentError as error:
            await self._failed(str(error), dirty)
            return
        self._note(outcome, progress, time.monotonic() - started)
        if not outcome.errors:
            self._release(outcome, view.endpoints)
        self._changed()

    def _note_progress(self) -> None:
        """What was heard and changes nothing here is in the kernel, too."""
        outcome, progress = self.status.outcome, self._progress()
        if outcome is not None and not outcome.errors and progress != self.status.applied:
            self.status.applied = progress
            self._changed()

    def _note(self, outcome: PolicyOutcome, progress: Applied, lag: float) -> None:
        if outcome.errors:
            log.warning("policy not wholly applied: %s", "; ".join(outcome.errors))
        self.status.outcome = outcome
        self.status.error = "; ".join(outcome.errors)
        self.status.lag_seconds = lag
        if not outcome.errors and not outcome.missing:
            self.status.applied = progress
        self.note_drift(outcome.drift)
        self.done_once.set()

    def _release(self, outcome: PolicyOutcome, present: Collection[str]) -> None:
        """Answers those whose endpoint this apply brought into the kernel, or took out."""
        for container_id, waiter in self._waiting.items():
            wanted = container_id in self._share.endpoints
            settled = container_id in present and container_id not in outcome.closed if wanted else (
                container_id not in present
            )  # fmt: skip
            if settled and not waiter.done():
                waiter.set_result(None)

    async def _failed(self, message: str, dirty: Dirty) -> None:
        """The next apply compares with the kernel itself, whatever this one did."""
        log.error("policy not applied, trying again in %.0f s: %s", RETRY, message)
        self.status.error = message
        self._share.dirty.everything = True
        self._changed()
        await asyncio.sleep(RETRY)

    async def _look_for_drift(self) -> None:
        try:
            self.note_drift(await self._dataplane.check_drift())
        except AgentError as error:
            log.error("could not compare with the kernel: %s", error)
            self._share.dirty.everything = True

    def note_drift(self, found: tuple[str, ...]) -> None:
        """Sentences about what was altered behind our back and repaired, whoever found it."""
        if not found:
            return
        for sentence in found:
            log.warning("repaired: %s", sentence)
        self.status.drift_count += len(found)
        self.status.drift_last, self.status.drift_time = found[-1], time.time()
        self._changed()
