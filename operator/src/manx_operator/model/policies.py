"""What each declared policy comes to.

Owns: which version of a policy is in force: the one declared, or the one last valid, or isolation without rules; and
the text by which the last valid one outlives a change of leader. Must not: know pods, or raise on what a user wrote.

A policy that becomes invalid stays as it last was valid, for as long as it is the same object (uid). One that never was
valid isolates the pods that it selects, as far as it can be read, and allows them nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from manx_core.api.calico_policy import GlobalNetworkPolicy
from manx_core.api.calico_policy import NetworkPolicy as CalicoNetworkPolicy
from manx_core.api.core_v1 import NetworkPolicy, ObjectMeta
from manx_core.api.fields import InvalidObject
from manx_core.policy import (
    CompiledPolicy,
    InvalidPolicy,
    Problem,
    closed_calico_policy,
    compile_calico_policy,
    compile_network_policy,
)
from manx_operator.last_valid import LONGEST_TEXT, our_annotations
from manx_operator.model.types import PolicyId

Raw = Mapping[str, Any]
Declared = NetworkPolicy | Raw
"""A policy as the API server sent it: a struct for Kubernetes' kind, a mapping for Calico's."""
Result = CompiledPolicy | InvalidPolicy
_CALICO: dict[str, type[CalicoNetworkPolicy] | type[GlobalNetworkPolicy]] = {
    "np": CalicoNetworkPolicy,
    "gnp": GlobalNetworkPolicy,
}
_APPLIES = ("tier", "order", "selector", "namespaceSelector", "serviceAccountSelector", "types", "applyOnForward",
            "doNotTrack", "preDNAT")  # fmt: skip
"""What of a Calico policy's spec says where it applies."""
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class InForce:
    """A policy as it is in force."""

    uid: str
    compiled: CompiledPolicy
    valid: Declared | None = field(compare=False)
    """What was compiled; None where nothing ever was valid."""
    problems: tuple[Problem, ...] = ()
    """Of what is declared now."""

    def declared(self) -> str:
        """The text of `valid`, from which another leader restores it. Empty where it would be so long that it endangers
        the object that carries it; what is as big as that does not outlive a leader."""
        text = "" if self.valid is None else _text(self.valid)
        return text if len(text) <= LONGEST_TEXT else ""

    def same_program(self, other: InForce) -> bool:
        """Whether both come to the same object."""
        if self.compiled != other.compiled or (self.valid is None) != (other.valid is None):
            return False
        return self.valid == other.valid or self.declared() == other.declared()


def judge(policy: PolicyId, declared: Declared, old: InForce | None, stored: str = "") -> InForce:
    """What a declaration comes to, after what was in force before. `stored`: the text that an earlier leader left."""
    uid, result = _uid(declared), _compile(policy, declared)
    if isinstance(result, CompiledPolicy):
        return InForce(uid, result, declared)
    kept = old if old is not None else _restored(policy, stored)
    if kept is not None and kept.uid == uid and kept.valid is not None:
        return InForce(uid, kept.compiled, kept.valid, result.problems)
    return InForce(uid, result.closed, None, result.problems)


# --- compiling --------------------------------------------------------------------------------------------------------


def _compile(policy: PolicyId, declared: Declared) -> Result:
    if isinstance(declared, NetworkPolicy):
        return compile_network_policy(declared)
    model = _CALICO[policy.kind]
    try:
        return compile_calico_policy(model.parse(declared))
    except InvalidObject as error:
        problems = tuple(Problem(problem.field, problem.message) for problem in error.problems)
        return InvalidPolicy(problems, _closed(policy, declared))


def _closed(policy: PolicyId, declared: Raw) -> CompiledPolicy:
    """The policy without its rules; what cannot be read of where it applies counts as if it was absent, which is the
    widest reading."""
    model = _CALICO[policy.kind]
    return closed_calico_policy(model.parse(_readable(model.parse, _skeleton(declared))))


def _skeleton(declared: Raw) -> dict[str, Any]:
    spec = declared.get("spec")
    spec = spec if isinstance(spec, Mapping) else {}
    kept = {key: spec[key] for key in _APPLIES if spec.get(key) is not None}
    kept.setdefault("types", _types(spec))
    return {"metadata": _metadata(declared), "spec": kept}


def _types(spec: Raw) -> list[str]:
    """As Calico has it where `types` is absent."""
    if not spec.get("egress"):
        return ["Ingress"]
    return ["Ingress", "Egress"] if spec.get("ingress") else ["Egress"]


def _readable(parse: Callable[[Raw], object], raw: dict[str, Any]) -> dict[str, Any]:
    """Without the fields of the spec that `parse` refuses."""
    try:
        parse(raw)
    except InvalidObject as error:
        wrong = {problem.field.removeprefix("spec.").partition(".")[0].partition("[")[0] for problem in error.problems}
        spec = {key: value for key, value in raw["spec"].items() if key not in wrong}
        if "types" in wrong:
            spec["types"] = ["Ingress", "Egress"]
        return {**raw, "spec": spec}
    return raw


# --- the text ---------------------------------------------------------------------------------------------------------


def _uid(declared: Declared) -> str:
    if isinstance(declared, NetworkPolicy):
        return declared.metadata.uid
    return str(declared["metadata"].get("uid") or "")


def _text(declared: Declared) -> str:
    if isinstance(declared, NetworkPolicy):
        meta = declared.metadata
        kept = ObjectMeta(
            name=meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
            generation=meta.generation,
            annotations=our_annotations(meta.annotations),
        )
        return _encode(NetworkPolicy(metadata=kept, spec=declared.spec)).decode()
    return json.dumps({"metadata": _metadata(declared), "spec": declared.get("spec")}, sort_keys=True)


def _restored(policy: PolicyId, text: str) -> InForce | None:
    """None where there is no such text, or it says nothing valid to this version of Manx."""
    if not text:
        return None
    try:
        declared = msgspec.json.decode(text, type=NetworkPolicy) if policy.kind == "knp" else json.loads(text)
        result = _compile(policy, declared)
    except (msgspec.MsgspecError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return InForce(_uid(declared), result, declared) if isinstance(result, CompiledPolicy) else None


def _metadata(declared: Raw) -> dict[str, Any]:
    meta = declared["metadata"]
    kept = {key: meta[key] for key in ("name", "namespace", "uid", "generation") if key in meta}
    ours = our_annotations(meta.get("annotations"))
    return kept | ({"annotations": ours} if ours else {})
