"""What users are told of each policy: whether it is valid, and on how many of the nodes concerned it is in force.

Owns: when that is looked at, and its one writer: the status of Calico's policies, and of Kubernetes' policies'
PolicyPrograms, whose own kind has no room for it. Must not: judge (`review.policy_verdicts` does), count (`in_force`
does) or word it (`policy_wording` does).

Changes are looked at together, a second after the first, so that a roll-out to a thousand nodes costs a few writes;
nothing is written that the object says already. What somebody may wait for (a verdict, a new version in force) is
written then, at a bounded rate. What only follows pods as they come and go waits until there is little else to write,
each policy in its turn: told of later, it is told of once for many changes. The operator's ceiling on writes counts for
all of these, too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import msgspec

from manx_core.api.v1alpha1 import StoredProgram
from manx_kube import resources as r
from manx_kube.client import KubeClient
from manx_kube.errors import Conflict, KubeError, NotFound
from manx_kube.events import EventRecorder, reference_to
from manx_kube.informer import Event
from manx_kube.lease import Term
from manx_operator.in_force import InForce
from manx_operator.inputs import Inputs
from manx_operator.limiter import Leisure, TokenBucket
from manx_operator.observed import Key, Observed
from manx_operator.policy_wording import CALICO, PolicyWording, Wanted

log = logging.getLogger(__name__)

COALESCE = 1.0
"""Seconds from the first change to its being looked at."""
PARALLEL = 8
RETRY = 5.0


class PolicyStatuses:
    """One for each term. `fill`, then `heard` and `touched`; `start` begins to write, `stop` ends at once."""

    def __init__(
        self,
        client: KubeClient,
        inputs: Inputs,
        observed: Observed,
        term: Term,
        recorder: EventRecorder,
        nodes_of: Callable[[str], frozenset[str]],
        wording: PolicyWording,
        *,
        buckets: Collection[TokenBucket],
        leisure: Leisure,
        coalesce: float = COALESCE,
    ) -> None:
        """`buckets`: a write takes from each; `leisure`: what can wait does, for that."""
        self._client = client
        self._observed = observed
        self._term = term
        self._recorder = recorder
        self._wording = wording
        self._coalesce = coalesce
        self.in_force = InForce(nodes_of, inputs.reports.cache, time.monotonic)
        self._classes = inputs.ours[r.POLICY_CLASSES].cache
        self._programs = inputs.ours[r.POLICY_PROGRAMS].cache
        self._changed: dict[str, None] = {}
        self._patient: dict[str, None] = {}
        """Whose change can wait: those that have waited longest first."""
        self._wake = asyncio.Event()
        self._some = asyncio.Event()
        self._buckets = buckets
        self._leisure = leisure
        self._running: asyncio.Task[None] | None = None
        self.written = 0

    # --- what is heard ------------------------------------------------------------------------------------------------

    def fill(self) -> None:
        """Everything that the caches hold."""
        self._changed |= dict.fromkeys(self._wording.adopt())
        for found in self._classes.values():
            self.in_force.adopt_class(found)
        for (_, name), program in self._programs.items():
            self.in_force.adopt(program, self._wording.said_of(name, program))

    def heard(self, resource: r.Resource, event: Event[Any]) -> None:
        """An object of a kind that matters here, or of any other."""
        if resource == r.NODE_REPORTS:
            self.in_force.report(event.key[1])
        elif resource == r.POLICY_PROGRAMS:
            self.in_force.program(event.key[1], event.new)
        elif resource == r.POLICY_CLASSES:
            self.in_force.policy_class(event.old, event.new)
        elif resource in CALICO:
            self._changed |= dict.fromkeys(self._wording.user_changed(resource, event))
        elif resource == r.TIERS and (event.old is None or event.new is None):
            self._changed |= dict.fromkeys(self._wording.tier_came_or_went(event.key[1]))
        else:
            return
        self._wake.set()

    def touched(self, programs: Iterable[str]) -> None:
        """The nodes that these policies concern may be others."""
        self.in_force.touch(programs)
        self._wake.set()

    def remarked(self, programs: Iterable[str]) -> None:
        """There may be something else to remark on these policies."""
        for name in programs:
            self._wording.read_again(name)
            self._changed[name] = None
            self._wake.set()

    # --- writing ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self._running is None:
            self._wake.set()
            self._running = asyncio.create_task(self._run())

    def pause(self) -> None:
        """Write nothing more until `start`."""
        if self._running is not None:
            self._running.cancel()
            self._running = None

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
            self._running = None

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._catch_up())

    async def _follow(self) -> None:
        """What changed is looked at, and what presses is written."""
        while True:
            await self._wait()
            self.in_force.look_again()
            self._changed |= dict.fromkeys(self.in_force.drain())
            names = self._take()
            await asyncio.gather(*(self._look_at_all(names) for _ in range(PARALLEL)))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(RETRY):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(self._coalesce)
        self._wake.clear()

    def _take(self) -> Iterator[str]:
        taken, self._changed = self._changed, {}
        return iter(taken)

    async def _look_at_all(self, names: Iterator[str]) -> None:
        for name in names:
            wanted = self._wanted(name)
            if wanted is None:
                await asyncio.sleep(0)
            elif wanted.pressing:
                await self._tell_of(name)
            else:
                self._patient[name] = None
                self._some.set()

    async def _catch_up(self) -> None:
        """What can wait, one after the other."""
        while True:
            await self._some.wait()
            if not self._patient:
                self._some.clear()
            elif (delay := self._leisure.delay()) > 0:
                await asyncio.sleep(delay)
            else:
                self._leisure.take()
                await self._tell_of(next(iter(self._patient)))

    def _wanted(self, name: str) -> Wanted | None:
        try:
            return self._wording.wanted(name, self.in_force.standing(name))
        except Exception:
            log.exception("cannot tell the status of %s", name)
            return None

    async def _tell_of(self, name: str) -> None:
        """Writes what is to be said when its turn comes, if there still is anything."""
        self._patient.pop(name, None)
        await self._turn()
        wanted = self._wanted(name)
        if wanted is None or not self._term.is_valid():
            return
        for bucket in self._buckets:
            bucket.take()
        try:
            await self._write(name, wanted)
        except (Conflict, NotFound):
            return  # it has changed since, and its change is heard, too
        except KubeError as error:
            log.info("status of %s: %s", name, error.message)
            self._changed[name] = None
        except Exception:
            log.exception("cannot write the status of %s", name)

    async def _turn(self) -> None:
        while True:
            delay = max(bucket.delay() for bucket in self._buckets)
            if not delay:
                return
            await asyncio.sleep(delay)

    async def _write(self, name: str, wanted: Wanted) -> None:
        meta = wanted.obj["metadata"] if isinstance(wanted.obj, dict) else msgspec.to_builtins(wanted.obj.metadata)
        patch = {
            "metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
            "status": wanted.status,
        }
        if wanted.resource == r.POLICY_PROGRAMS:
            stored = await self._client.patch(
                r.POLICY_PROGRAMS, StoredProgram, meta["name"], patch, subresource="status"
            )
            self._observed.written(Key(r.POLICY_PROGRAMS, name), stored)
        else:
            namespace = meta.get("namespace")
            await self._client.patch(
                wanted.resource, dict[str, Any], meta["name"], patch, namespace=namespace, subresource="status"
            )
        self.written += 1
        self._tell(wanted)

    def _tell(self, wanted: Wanted) -> None:
        """An Event where a policy became invalid, or valid again."""
        said = wanted.valid
        if said is None:
            return
        old = (wanted.before.get("status"), wanted.before.get("message"))
        about = reference_to(wanted.resource, wanted.obj)
        if said.status == "False" and old != ("False", said.message):
            self._recorder.emit(about, "Warning", reason=said.reason, note=said.message, action="Validate")
        elif said.status == "True" and old[0] == "False":
            self._recorder.emit(about, "Normal", reason="Valid", note="valid again", action="Validate")
