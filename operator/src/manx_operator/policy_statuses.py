"""What users are told of each policy: whether it is valid, and on how many of the nodes concerned it is in force.

Owns: when that is looked at, and its one writer: the status of Calico's policies, and of Kubernetes' policies'
PolicyPrograms, whose own kind has no room for it. Must not: judge (`review.policy_verdicts` does) or count
(`in_force` does).

Changes are looked at together, a second after the first, and written at a bounded rate, so that a roll-out to a
thousand nodes costs a few writes; nothing is written that the object says already. The operator's ceiling on writes
counts for these, too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from manx_core.api import v1alpha1
from manx_core.api.v1alpha1 import PolicyNodes, StoredProgram
from manx_kube import resources as r
from manx_kube.client import KubeClient
from manx_kube.errors import Conflict, KubeError, NotFound
from manx_kube.events import EventRecorder, reference_to
from manx_kube.informer import Event
from manx_kube.lease import LeaseLost, Term
from manx_operator.conditions import Said, merged, some
from manx_operator.in_force import InForce, Standing
from manx_operator.inputs import Inputs
from manx_operator.limiter import TokenBucket
from manx_operator.model import PolicyId
from manx_operator.observed import Key, Observed
from manx_operator.review.policy_verdicts import policy_said
from manx_operator.user_kinds import declared

log = logging.getLogger(__name__)

COALESCE = 1.0
"""Seconds from the first change to its being looked at."""
PARALLEL = 8
RETRY = 5.0
CALICO: dict[r.Resource, Literal["np", "gnp"]] = {r.CALICO_NETWORK_POLICIES: "np", r.GLOBAL_NETWORK_POLICIES: "gnp"}
OF_KIND = {kind: resource for resource, kind in CALICO.items()}
IN_FORCE = "InForce"

Raw = Mapping[str, Any]


class _Written(NamedTuple):
    """A status to write, and what else there is to say."""

    resource: r.Resource
    obj: Any
    status: dict[str, Any]
    valid: Said | None = None
    before: Raw = {}  # noqa: RUF012 (never changed)


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
        remarks_of: Callable[[str], Iterable[str]],
        problems_of: Callable[[PolicyId], Iterable[Any]],
        *,
        buckets: Collection[TokenBucket],
        coalesce: float = COALESCE,
    ) -> None:
        """`buckets`: a write takes from each."""
        self._client = client
        self._inputs = inputs
        self._observed = observed
        self._term = term
        self._recorder = recorder
        self._remarks_of = remarks_of
        self._problems_of = problems_of
        self._coalesce = coalesce
        self.in_force = InForce(nodes_of, inputs.reports.cache, time.monotonic)
        self._programs = inputs.ours[r.POLICY_PROGRAMS].cache
        self._changed: dict[str, None] = {}
        self._users: dict[str, PolicyId] = {}
        self._wake = asyncio.Event()
        self._buckets = buckets
        self._running: asyncio.Task[None] | None = None
        self._read: dict[str, Said] = {}
        self.written = 0

    # --- what is heard ------------------------------------------------------------------------------------------------

    def fill(self) -> None:
        """Everything that the caches hold."""
        for resource, kind in CALICO.items():
            for key in self._inputs.calico[resource].cache:
                self._mark_user(PolicyId(kind, *key))
        for (_, name), program in self._programs.items():
            self.in_force.adopt(program, self._said_of(name, program))

    def heard(self, resource: r.Resource, event: Event[Any]) -> None:
        """An object of a kind that matters here, or of any other."""
        if resource == r.NODE_REPORTS:
            self.in_force.report(event.key[1])
        elif resource == r.POLICY_PROGRAMS:
            self.in_force.program(event.key[1], event.new)
        elif resource == r.POLICY_CLASSES:
            self.in_force.policy_class(event.old, event.new)
        elif resource in CALICO:
            self._user_changed(PolicyId(CALICO[resource], *event.key), event)
        elif resource == r.TIERS and (event.old is None or event.new is None):
            self._tier_came_or_went(event.key[1])
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
            self._read.pop(name, None)
            self._changed[name] = None
            self._wake.set()

    def _user_changed(self, policy: PolicyId, event: Event[Any]) -> None:
        if declared(event.old) != declared(event.new):
            self._read.pop(policy.program, None)
        if event.new is None:
            self._users.pop(policy.program, None)
        else:
            self._mark_user(policy)

    def _mark_user(self, policy: PolicyId) -> None:
        self._users[policy.program] = policy
        self._changed[policy.program] = None

    def _tier_came_or_went(self, tier: str) -> None:
        for name, policy in self._users.items():
            spec = (self._raw(policy) or {}).get("spec")
            if isinstance(spec, Mapping) and spec.get("tier") == tier:
                self._read.pop(name, None)
                self._changed[name] = None

    def _raw(self, policy: PolicyId) -> Raw | None:
        cache = self._inputs.calico[OF_KIND[policy.kind]].cache  # type: ignore[index]
        return cache.get((policy.namespace, policy.name))

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
        while True:
            await self._wait()
            self.in_force.look_again()
            self._changed |= dict.fromkeys(self.in_force.drain())
            names = self._take()
            await asyncio.gather(*(self._look_at_all(names) for _ in range(PARALLEL)))

    async def _look_at_all(self, names: Iterator[str]) -> None:
        for name in names:
            try:
                await self._look_at(name)
            except LeaseLost:
                return
            except Exception:
                log.exception("cannot tell the status of %s", name)

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

    async def _look_at(self, name: str) -> None:
        wanted = self._wanted(name)
        if wanted is None:
            await asyncio.sleep(0)
            return
        await self._turn()
        self._term.require()
        try:
            await self._write(name, wanted)
        except (Conflict, NotFound):
            return  # it has changed since, and its change is heard, too
        except KubeError as error:
            log.info("status of %s: %s", name, error.message)
            self._changed[name] = None

    async def _turn(self) -> None:
        while True:
            delay = max(bucket.delay() for bucket in self._buckets)
            if not delay:
                break
            await asyncio.sleep(delay)
        for bucket in self._buckets:
            bucket.take()

    async def _write(self, name: str, wanted: _Written) -> None:
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

    def _tell(self, wanted: _Written) -> None:
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

    # --- what shall be said -------------------------------------------------------------------------------------------

    def _wanted(self, name: str) -> _Written | None:
        """None where everything is said already, or there is nobody to tell."""
        standing = self.in_force.standing(name)
        if policy := self._users.get(name):
            return self._of_user(name, policy, standing)
        program = self._observed.get(Key(r.POLICY_PROGRAMS, name))
        if program is None or standing is None or not name.startswith("knp."):
            return None
        return self._of_program(program, standing)

    def _of_user(self, name: str, policy: PolicyId, standing: Standing | None) -> _Written | None:
        resource, raw = OF_KIND[policy.kind], self._raw(policy)  # type: ignore[index]
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return None
        before = raw.get("status") or {}
        conditions = before.get("conditions") or []
        valid, generation = self._valid(name, policy, raw), raw["metadata"].get("generation", 0)
        said = [valid, _in_force(standing, valid)]
        status = self._status(name, standing) | {"conditions": merged(said, conditions, _now(), generation)}
        if all(before.get(key) == value for key, value in status.items()):
            return None
        old: Raw = next((found for found in conditions if found.get("type") == valid.type), {})
        return _Written(resource, raw, status, valid, old)

    def _of_program(self, program: StoredProgram, standing: Standing) -> _Written | None:
        before: dict[str, Any] = msgspec.to_builtins(program.status)
        conditions_before = before.get("conditions") or []
        valid = self._program_valid(program)
        said = [_remarks(self._remarks_of(program.metadata.name)), _in_force(standing, valid)]
        if valid.status == "False" or any(found["type"] == valid.type for found in conditions_before):
            said.append(valid)
        made = merged(said, conditions_before, _now())
        conditions = tuple(msgspec.convert(condition, v1alpha1.Condition) for condition in made)
        source = program.spec.source
        after = v1alpha1.PolicyProgramStatus(
            observed_generation=source.generation, nodes=standing.nodes, conditions=conditions
        )
        if after == program.status:
            return None
        return _Written(r.POLICY_PROGRAMS, program, _full(after))

    def _program_valid(self, program: StoredProgram) -> Said:
        """Of the Kubernetes NetworkPolicy that the program is of; said where it is not, or was not."""
        source = program.spec.source
        wrong = self._problems_of(PolicyId("knp", source.namespace, source.name))
        text = some((f"{problem.field}: {problem.message}" for problem in wrong), shown=10)
        return Said("Valid", "False", "Invalid", text) if text else Said("Valid", "True", "Valid")

    def _status(self, name: str, standing: Standing | None) -> dict[str, Any]:
        program = self._observed.get(Key(r.POLICY_PROGRAMS, name))
        generation = program.spec.source.generation if program is not None else 0
        return {
            "observedGeneration": generation,
            "nodes": _counts(standing.nodes if standing is not None else PolicyNodes()),
        }

    def _valid(self, name: str, policy: PolicyId, raw: Raw) -> Said:
        """Reading a policy again for each report would cost more than all else here."""
        if name not in self._read:
            tiers = {tier for _, tier in self._inputs.calico[r.TIERS].cache}
            is_global, more = policy.kind == "gnp", self._remarks_of(name)
            self._read[name] = policy_said(raw, is_global=is_global, tiers=tiers, more=more)
        return self._read[name]

    def _said_of(self, name: str, program: StoredProgram) -> PolicyNodes:
        """The counts that were written last."""
        policy = self._users.get(name)
        if policy is None:
            return program.status.nodes
        status = (self._raw(policy) or {}).get("status") or {}
        try:
            return msgspec.convert(status.get("nodes") or {}, PolicyNodes)
        except msgspec.ValidationError:
            return PolicyNodes()


def _in_force(standing: Standing | None, valid: Said | None) -> Said:
    """The condition InForce."""
    last_valid = valid is not None and valid.status == "False" and valid.reason == "Invalid"
    if standing is None:
        return Said(IN_FORCE, "False", "NotWritten", "no node was told of it yet")
    if not standing.concerned:
        return Said(IN_FORCE, "True", "NothingSelected", "it selects no pod on any node")
    everywhere = f"all {standing.concerned} nodes" if standing.concerned > 1 else "the one node"
    if standing.lagging:
        there = f"in force on {standing.concerned - len(standing.lagging)} of {standing.concerned} concerned"
        return Said(IN_FORCE, "False", "Waiting", f"{there}; not yet on: {some(standing.lagging, shown=5)}")
    if last_valid:
        what = "the version last valid, or else the denial of all, is on"
        return Said(IN_FORCE, "False", "Invalid", f"{what} {everywhere} concerned")
    return Said(IN_FORCE, "True", "InForce", f"on {everywhere} concerned")


def _remarks(found: Iterable[str]) -> Said:
    """The condition Remarks, of a kind that has no place for one: what is legal and hardly meant."""
    if text := some(found, shown=10):
        return Said("Remarks", "True", "Remarks", text)
    return Said("Remarks", "False", "None")


def _counts(nodes: PolicyNodes) -> dict[str, Any]:
    """All fields, also those that are 0: columns of `kubectl get` show them."""
    return {
        "concerned": nodes.concerned,
        "inForce": nodes.in_force,
        "programGeneration": nodes.program_generation,
        "programVersion": nodes.program_version,
    }


def _full(status: v1alpha1.PolicyProgramStatus) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(status)
    return found | {"observedGeneration": status.observed_generation, "nodes": _counts(status.nodes)}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
