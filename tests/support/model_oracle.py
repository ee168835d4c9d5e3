"""What the policy model must come to: computed afresh from its inputs, in the plainest way.

Nothing of the model's own tables is used, only the compiler and selectors' `matches`, which have tests of their own.
Chunk placement is left out: a group is one set of members here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from manx_core.api.core_v1 import EndpointSlice, Namespace, Pod, ServiceAccount
from manx_core.api.inside import ClassProgram, line_of
from manx_core.api.lines import lines_of, text_of
from manx_core.api.tier import BUILT_IN, Tier
from manx_core.api.v1alpha1 import AddressGroupSpec, ClassTier, PolicyClassSpec, PolicyProgramSpec
from manx_core.policy import (
    CompiledPolicy,
    GroupDef,
    PodKey,
    is_endpoint,
    named_ports,
    network_set_item,
    pod_item,
)
from manx_core.policy.endpoint import Endpoint
from manx_core.policy.scope import SERVICE_ACCOUNT, hash20
from manx_operator.model import NetworkSetFacts, PolicyId, PolicyModel
from manx_operator.model import classes as model_classes
from manx_operator.model import programs as model_programs
from manx_operator.model.policies import Declared, InForce, judge

ObjectKey = tuple[str, str]


@dataclass
class Inputs:
    """All that was fed to a model. What is in force is kept by whoever feeds: it depends on what was valid before."""

    namespaces: dict[str, Namespace] = field(default_factory=dict)
    service_accounts: dict[ObjectKey, ServiceAccount] = field(default_factory=dict)
    pods: dict[PodKey, Pod] = field(default_factory=dict)
    addresses: dict[tuple[PodKey, str], tuple[str, ...]] = field(default_factory=dict)
    network_sets: dict[ObjectKey, NetworkSetFacts] = field(default_factory=dict)
    slices: dict[ObjectKey, EndpointSlice] = field(default_factory=dict)
    tiers: dict[str, Tier] = field(default_factory=dict)
    policies: dict[PolicyId, Declared] = field(default_factory=dict)
    judged: dict[PolicyId, InForce] = field(default_factory=dict)

    @property
    def in_force(self) -> list[CompiledPolicy]:
        return [found.compiled for found in self.judged.values()]

    def set_policy(self, policy: PolicyId, declared: Declared | None) -> None:
        before = self.judged.pop(policy, None)
        self.policies.pop(policy, None)
        if declared is None:
            return
        self.policies[policy] = declared
        alone = judge(policy, declared, None)
        kept = alone.problems and before is not None and before.uid == alone.uid and before.valid is not None
        self.judged[policy] = before if kept and before is not None else alone

    def pod_item(self, key: PodKey, pod: Pod) -> dict[str, str]:
        space, account = self.namespaces.get(key[0]), self.service_accounts.get((key[0], pod.spec.service_account_name))
        return pod_item(
            key[0],
            space.metadata.labels if space else None,
            pod.metadata.labels,
            pod.spec.service_account_name,
            account.metadata.labels if account else None,
        )

    def set_item(self, key: ObjectKey) -> dict[str, str]:
        space = self.namespaces.get(key[0])
        return network_set_item(key[0], space.metadata.labels if space else None, self.network_sets[key].labels)


@dataclass(frozen=True)
class Group:
    members: frozenset[str]
    type: str
    selector: str
    nodes: frozenset[str]


@dataclass(frozen=True)
class Outcome:
    """Everything that a model says, groups made whole."""

    endpoints: dict[str, tuple[Endpoint, ...]]
    classes: dict[str, tuple[PolicyClassSpec, frozenset[str]]]
    programs: dict[str, tuple[PolicyProgramSpec, str, frozenset[str]]]
    groups: dict[str, Group]


def outcome_of(model: PolicyModel) -> Outcome:
    classes, programs = {}, {}
    chunks: dict[str, dict[int, tuple[AddressGroupSpec, frozenset[str]]]] = {}
    for kind, name in model.all_keys():
        found = model.desired(kind, name)
        assert found is not None
        assert (found.kind, found.name, found.spec.epoch) == (kind, name, 0)
        if isinstance(found.spec, PolicyClassSpec):
            classes[name] = (found.spec, found.nodes)
        elif isinstance(found.spec, PolicyProgramSpec):
            programs[name] = (found.spec, found.declared, found.nodes)
        else:
            assert name == f"{found.spec.group}-{found.spec.chunk}"
            chunks.setdefault(found.spec.group, {})[found.spec.chunk] = (found.spec, found.nodes)
    groups = {group: _whole(parts) for group, parts in chunks.items()}
    return Outcome({node: model.endpoints(node) for node in model.nodes()}, classes, programs, groups)


def _whole(parts: dict[int, tuple[AddressGroupSpec, frozenset[str]]]) -> Group:
    first, nodes = parts[0]
    assert sorted(parts) == list(range(first.chunks))
    assert parts[first.chunks - 1][0].members or first.chunks == 1
    assert all(part.type == first.type and its == nodes for part, its in parts.values())
    assert not any(part.chunks or part.selector for number, (part, _) in parts.items() if number)
    members = [member for part, _ in parts.values() for member in lines_of(part.members)]
    assert len(members) == len(set(members))
    return Group(frozenset(members), first.type, first.selector, nodes)


def expected(inputs: Inputs) -> Outcome:
    pods = {key: pod for key, pod in inputs.pods.items() if is_endpoint(pod)}
    applying = {key: _applying(inputs.pod_item(key, pod), inputs) for key, pod in pods.items()}
    endpoints: dict[str, list[Endpoint]] = {}
    classes: dict[str, tuple[list[CompiledPolicy], frozenset[str]]] = {}
    for key, pod in sorted(pods.items()):
        name, node = _class_name(key, pod, inputs), pod.spec.node_name
        effective = _effective(name, key[0], bool(applying[key]), inputs)
        endpoint = Endpoint(*key, pod.metadata.uid, effective, named_ports(pod))
        endpoints.setdefault(node, []).append(endpoint)
        if applying[key]:
            policies, nodes = classes.get(name, (applying[key], frozenset()))
            assert policies == applying[key]
            classes[name] = (policies, nodes | {node})
    spans = {
        compiled.name: frozenset(pod.spec.node_name for key, pod in pods.items() if compiled in applying[key])
        for compiled in inputs.in_force
    }
    inside = _inside({name: policies for name, (policies, _) in classes.items()}, inputs)
    programs = {
        found.compiled.name: (
            found.compiled.program(),
            found.declared(),
            frozenset[str]() if found.compiled.name in inside else spans[found.compiled.name],
        )
        for found in inputs.judged.values()
    }
    specs = {name: (_class_spec(policies, inside, inputs), nodes) for name, (policies, nodes) in classes.items()}
    return Outcome({node: tuple(found) for node, found in endpoints.items()}, specs, programs, _groups(inputs, spans))


def _class_spec(applying: list[CompiledPolicy], inside: set[str], inputs: Inputs) -> PolicyClassSpec:
    within = sorted((c for c in applying if c.name in inside), key=lambda c: c.name)
    programs = text_of(line_of(ClassProgram(found.name, found.program())) for found in within)
    return PolicyClassSpec(epoch=0, tiers=_tiers(applying, inputs), programs=programs)


def _inside(classes: dict[str, list[CompiledPolicy]], inputs: Inputs) -> set[str]:
    """The programs that the one class that they apply to has inside."""
    found = set()
    for applying in classes.values():
        for compiled in applying:
            alone = sum(compiled in others for others in classes.values()) == 1
            selectors = Counter(other.applies_to.key for other in applying)
            roomy = len(selectors) <= model_classes.ROOM and max(selectors.values()) <= model_programs.FEW
            line = line_of(ClassProgram(compiled.name, compiled.program()))
            if alone and roomy and len(line) <= model_programs.SMALL:
                found.add(compiled.name)
    return found


def _applying(item: dict[str, str], inputs: Inputs) -> list[CompiledPolicy]:
    return [compiled for compiled in inputs.in_force if compiled.applies_to.matches(item)]


def _effective(name: str, namespace: str, applies: bool, inputs: Inputs) -> str:
    asked = any(compiled.asks_for_namespaces for compiled in inputs.in_force)
    if asked and namespace not in inputs.namespaces:
        return ""
    return name if applies else "open"


def _class_name(key: PodKey, pod: Pod, inputs: Inputs) -> str:
    concerned = [compiled for compiled in inputs.in_force if compiled.namespace in ("", key[0])]
    read = {label for compiled in concerned for label in compiled.applies_to.reads}
    pairs = [(label, value) for label, value in pod.metadata.labels.items() if label in read]
    if any(label.startswith(SERVICE_ACCOUNT) for label in read):
        pairs.append((SERVICE_ACCOUNT, pod.spec.service_account_name))
    return "pc-" + hash20((key[0], sorted(pairs)))


def _tiers(applying: list[CompiledPolicy], inputs: Inputs) -> tuple[ClassTier, ...]:
    known = dict(BUILT_IN)
    for name, tier in inputs.tiers.items():
        known[name] = (math.inf if tier.spec.order is None else tier.spec.order, tier.default_action)
    names = {compiled.tier for compiled in applying}
    ordered = sorted(names & known.keys(), key=lambda name: (known[name][0], name)) + sorted(names - known.keys())
    return tuple(
        ClassTier(
            name=name,
            policies=tuple(c.name for c in sorted(applying, key=lambda c: c.sort_key) if c.tier == name),
            default_action=known[name][1] if name in known else "Deny",
        )
        for name in ordered
    )


def _groups(inputs: Inputs, spans: dict[str, frozenset[str]]) -> dict[str, Group]:
    definitions: dict[str, GroupDef] = {}
    needed: dict[str, frozenset[str]] = {}
    for compiled in inputs.in_force:
        for group in compiled.groups:
            definitions[group.id] = group
            needed[group.id] = needed.get(group.id, frozenset()) | spans[compiled.name]
    return {
        group_id: Group(frozenset(_members(group, inputs)), group.type, group.selector, needed[group_id])
        for group_id, group in definitions.items()
        if needed[group_id]
    }


def _members(group: GroupDef, inputs: Inputs) -> Iterable[str]:
    if group.service is not None:
        yield from _of_service(group, inputs)
        return
    for key, pod in inputs.pods.items():
        if is_endpoint(pod) and group.selects.matches(inputs.pod_item(key, pod)):
            yield from group.members_of(inputs.addresses.get((key, pod.metadata.uid), ()), named_ports(pod))
    for own, found in inputs.network_sets.items():
        if not group.port and group.selects.matches(inputs.set_item(own)):
            yield from found.nets


def _of_service(group: GroupDef, inputs: Inputs) -> Iterable[str]:
    assert group.service is not None
    for (namespace, _), found in inputs.slices.items():
        if (namespace, found.metadata.labels.get("kubernetes.io/service-name")) != group.service[:2]:
            continue
        addresses = [text for endpoint in found.endpoints for text in endpoint.addresses]
        if not group.service.with_ports:
            yield from addresses
            continue
        for port in found.ports:
            yield from (f"{text},{port.protocol.lower()}:{port.port}" for text in addresses if port.port is not None)
