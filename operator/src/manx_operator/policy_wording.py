"""What the status of a policy shall say: whether it is valid, on how many nodes it is in force, and what is to remark.

Owns: the wording, and what of a change a user waits for. Must not: count (`in_force` does), judge
(`review.policy_verdicts` does) or write (`policy_statuses` does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from manx_core.api import v1alpha1
from manx_core.api.v1alpha1 import PolicyNodes, StoredProgram
from manx_kube import resources as r
from manx_kube.informer import Event
from manx_operator.conditions import Said, merged, some
from manx_operator.in_force import Standing
from manx_operator.inputs import Inputs
from manx_operator.model import PolicyId
from manx_operator.observed import Key, Observed
from manx_operator.review.policy_verdicts import policy_said
from manx_operator.user_kinds import declared

CALICO: dict[r.Resource, Literal["np", "gnp"]] = {r.CALICO_NETWORK_POLICIES: "np", r.GLOBAL_NETWORK_POLICIES: "gnp"}
OF_KIND = {kind: resource for resource, kind in CALICO.items()}
IN_FORCE = "InForce"
WAITING = (IN_FORCE, "False", "Waiting")
NOT_WRITTEN = (IN_FORCE, "False", "NotWritten")

Raw = Mapping[str, Any]


class Wanted(NamedTuple):
    """A status to write, and what else there is to say. `pressing`: somebody may wait for it; otherwise it tells of
    other numbers of nodes, as pods come and go, or that nodes are waited for."""

    resource: r.Resource
    obj: Any
    status: dict[str, Any]
    pressing: bool
    valid: Said | None = None
    before: Raw = {}  # noqa: RUF012 (never changed)


class PolicyWording:
    """`user_changed` for each of Calico's policies, from the first."""

    def __init__(
        self,
        inputs: Inputs,
        observed: Observed,
        remarks_of: Callable[[str], Iterable[str]],
        problems_of: Callable[[PolicyId], Iterable[Any]],
    ) -> None:
        self._inputs = inputs
        self._observed = observed
        self._remarks_of = remarks_of
        self._problems_of = problems_of
        self._users: dict[str, PolicyId] = {}
        self._read: dict[str, Said] = {}

    # --- what is heard ------------------------------------------------------------------------------------------------

    def adopt(self) -> Iterator[str]:
        """The programs of all policies of Calico's kinds in the caches."""
        for resource, kind in CALICO.items():
            for key in self._inputs.calico[resource].cache:
                policy = PolicyId(kind, *key)
                self._users[policy.program] = policy
                yield policy.program

    def user_changed(self, resource: r.Resource, event: Event[Any]) -> Iterator[str]:
        """A policy of Calico's came, went or is another; its program, if there is something to tell."""
        policy = PolicyId(CALICO[resource], *event.key)
        if declared(event.old) != declared(event.new):
            self.read_again(policy.program)
        if event.new is None:
            self._users.pop(policy.program, None)
        else:
            self._users[policy.program] = policy
            yield policy.program

    def tier_came_or_went(self, tier: str) -> Iterator[str]:
        """The programs of its policies."""
        for name, policy in self._users.items():
            spec = (self._raw(policy) or {}).get("spec")
            if isinstance(spec, Mapping) and spec.get("tier") == tier:
                self.read_again(name)
                yield name

    def read_again(self, name: str) -> None:
        """There may be something else to say of this program's policy."""
        self._read.pop(name, None)

    def _raw(self, policy: PolicyId) -> Raw | None:
        cache = self._inputs.calico[OF_KIND[policy.kind]].cache  # type: ignore[index]
        return cache.get((policy.namespace, policy.name))

    # --- what shall be said -------------------------------------------------------------------------------------------

    def wanted(self, name: str, standing: Standing | None) -> Wanted | None:
        """None where everything is said already, or there is nobody to tell."""
        if policy := self._users.get(name):
            return self._of_user(name, policy, standing)
        program = self._observed.get(Key(r.POLICY_PROGRAMS, name))
        if program is None or standing is None or not name.startswith("knp."):
            return None
        return self._of_program(program, standing)

    def _of_user(self, name: str, policy: PolicyId, standing: Standing | None) -> Wanted | None:
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
        return Wanted(resource, raw, status, _pressing(before, status), valid, old)

    def _of_program(self, program: StoredProgram, standing: Standing) -> Wanted | None:
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
        status = _full(after)
        return Wanted(r.POLICY_PROGRAMS, program, status, _pressing(before, status))

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

    def said_of(self, name: str, program: StoredProgram) -> PolicyNodes:
        """The counts that were written last."""
        policy = self._users.get(name)
        if policy is None:
            return program.status.nodes
        status = (self._raw(policy) or {}).get("status") or {}
        try:
            return msgspec.convert(status.get("nodes") or {}, PolicyNodes)
        except msgspec.ValidationError:
            return PolicyNodes()


def _pressing(before: Raw, after: Raw) -> bool:
    """Whether the change is of what the user declared, or answers it."""
    if before.get("observedGeneration", 0) != after["observedGeneration"]:
        return True
    said = _verdicts(before)
    can_wait = set() if NOT_WRITTEN in said else {WAITING}  # a user's change is answered; pods that came are not
    return bool(_verdicts(after) - said - can_wait)


def _verdicts(status: Raw) -> set[tuple[str, str, str]]:
    conditions = status.get("conditions") or ()
    return {(found.get("type", ""), found.get("status", ""), found.get("reason", "")) for found in conditions}


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
