"""What the policy model must come to: computed afresh from its inputs, in the plainest way.

Nothing of the model's own tables is used, only the compiler and selectors' `matches`, which have tests of their own.
Chunk placement is left out: a group is one set of members here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from manx_core.api.core_v1 import Namespace, NetworkPolicy, Pod
from manx_core.api.v1alpha1 import AddressGroupSpec, Endpoint, PolicyClassSpec, PolicyProgramSpec
from manx_core.policy import (
    CompiledPolicy,
    GroupDef,
    PodKey,
    PolicyKey,
    compile_network_policy,
    is_endpoint,
    item_labels,
    named_ports,
)
from manx_core.policy.scope import hash20
from manx_operator.model import PolicyModel


@dataclass
class Inputs:
    """All that was fed to a model. `in_force` is kept by whoever feeds: it depends on what was valid before."""

    namespaces: dict[str, Namespace] = field(default_factory=dict)
    pods: dict[PodKey, Pod] = field(default_factory=dict)
    policies: dict[PolicyKey, NetworkPolicy] = field(default_factory=dict)
    addresses: dict[tuple[PodKey, str], tuple[str, ...]] = field(default_factory=dict)
    in_force: dict[PolicyKey, CompiledPolicy] = field(default_factory=dict)
    kept: set[PolicyKey] = field(default_factory=set)
    """Policies that are not valid, of which an older version is in force."""

    def set_policy(self, key: PolicyKey, policy: NetworkPolicy | None) -> None:
        before = self.policies.pop(key, None)
        if policy is None:
            self.in_force.pop(key, None)
            self.kept.discard(key)
            return
        self.policies[key] = policy
        result = compile_network_policy(policy)
        same = before is not None and before.metadata.uid == policy.metadata.uid
        was_valid = before is not None and isinstance(compile_network_policy(before), CompiledPolicy)
        if isinstance(result, CompiledPolicy):
            self.in_force[key] = result
            self.kept.discard(key)
        elif same and (was_valid or key in self.kept):
            self.kept.add(key)
        else:
            self.in_force[key] = result.closed
            self.kept.discard(key)

    def forget_history(self) -> None:
        """As after a restart: nothing is known of what was valid before."""
        for key, policy in list(self.policies.items()):
            self.set_policy(key, None)
            self.set_policy(key, policy)


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
    classes: dict[str, tuple[tuple[str, ...], frozenset[str]]]
    programs: dict[str, tuple[PolicyProgramSpec, frozenset[str]]]
    groups: dict[str, Group]


def outcome_of(model: PolicyModel) -> Outcome:
    classes, programs = {}, {}
    chunks: dict[str, dict[int, tuple[AddressGroupSpec, frozenset[str]]]] = {}
    for kind, name in model.all_keys():
        found = model.desired(kind, name)
        assert found is not None
        assert (found.kind, found.name, found.spec.epoch) == (kind, name, 0)
        if isinstance(found.spec, PolicyClassSpec):
            classes[name] = (found.spec.policies, found.nodes)
        elif isinstance(found.spec, PolicyProgramSpec):
            programs[name] = (found.spec, found.nodes)
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
    members = [member for part, _ in parts.values() for member in part.members]
    assert len(members) == len(set(members))
    return Group(frozenset(members), first.type, first.selector, nodes)


def expected(inputs: Inputs) -> Outcome:
    pods = {key: pod for key, pod in inputs.pods.items() if is_endpoint(pod)}
    applying = {key: _applying(key, pod, inputs) for key, pod in pods.items()}
    endpoints: dict[str, list[Endpoint]] = {}
    classes: dict[str, tuple[tuple[str, ...], frozenset[str]]] = {}
    for key, pod in sorted(pods.items()):
        name = _class_name(key, pod, inputs) if applying[key] else "open"
        node = pod.spec.node_name
        endpoint = Endpoint(namespace=key[0], name=key[1], uid=pod.metadata.uid, policy_class=name)
        endpoints.setdefault(node, []).append(endpoint)
        if applying[key]:
            policies, nodes = classes.get(name, (applying[key], frozenset()))
            assert policies == applying[key]
            classes[name] = (policies, nodes | {node})
    programs = {}
    for compiled in inputs.in_force.values():
        nodes = frozenset(pod.spec.node_name for key, pod in pods.items() if compiled.name in applying[key])
        programs[compiled.name] = (compiled.program(), nodes)
    return Outcome(
        {node: tuple(found) for node, found in endpoints.items()}, classes, programs, _groups(inputs, programs)
    )


def _applying(key: PodKey, pod: Pod, inputs: Inputs) -> tuple[str, ...]:
    labels = item_labels(key[0], None, pod.metadata.labels)
    return tuple(sorted(p.name for p in inputs.in_force.values() if p.applies_to.flat().matches(labels)))


def _class_name(key: PodKey, pod: Pod, inputs: Inputs) -> str:
    selectors = [p.applies_to.pod_selector for (ns, _), p in inputs.in_force.items() if ns == key[0]]
    read = {label for selector in selectors for label in selector.reads}
    return "pc-" + hash20((key[0], sorted((k, v) for k, v in pod.metadata.labels.items() if k in read)))


def _groups(inputs: Inputs, programs: dict[str, tuple[PolicyProgramSpec, frozenset[str]]]) -> dict[str, Group]:
    definitions: dict[str, GroupDef] = {}
    spans: dict[str, frozenset[str]] = {}
    for compiled in inputs.in_force.values():
        for group in compiled.groups:
            definitions[group.id] = group
            spans[group.id] = spans.get(group.id, frozenset()) | programs[compiled.name][1]
    return {
        group_id: Group(frozenset(_members(group, inputs)), group.type, group.selector, spans[group_id])
        for group_id, group in definitions.items()
        if spans[group_id]
    }


def _members(group: GroupDef, inputs: Inputs) -> Iterable[str]:
    for key, pod in inputs.pods.items():
        known = inputs.namespaces.get(key[0])
        labels = item_labels(key[0], known.metadata.labels if known else None, pod.metadata.labels)
        if is_endpoint(pod) and group.scope.flat().matches(labels):
            yield from group.members_of(inputs.addresses.get((key, pod.metadata.uid), ()), named_ports(pod))
