"""Which tracked connections the policy that is in force now denies. Pure.

Owns: whose connections are to be looked at after a change, and the verdict on each. Must not: do I/O; what compiled
policy means is said in `manx_core.policy.evaluate`.

A connection is judged in its original direction alone, as its first packet would be now: at its source's egress if the
source is a pod in force here, at its destination's ingress if the destination is one. (The other node's agent judges
the other end.) What no policy ever judges stays: what the node itself opened to its pods, and a pod's way to itself.
Pods that are not in force are left alone: the kernel drops all of theirs, tracked or not. So is a pod with a policy
that has to do without an address group at the moment: what the policy says is not known yet.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from manx_agent.recheck.connection import Connection, packed
from manx_agent.render.needs import Policy
from manx_agent.render.settle import Settled
from manx_core.api.v1alpha1 import ClassTier, PolicyProgramSpec
from manx_core.policy.evaluate import Direction, Flow, Groups, evaluate


def changed(before: Settled | None, after: Settled) -> frozenset[str]:
    """The container IDs of endpoints whose policy is another than before (None: not known). An endpoint that is new has
    no connections; one that comes back into force may have kept some."""
    if before is None:
        return frozenset(after.endpoints)
    policies = {name for name in after.policies if _policy_changed(name, before, after)}
    moved = _moved(before, after)
    classes = {
        name for name, tiers in after.classes.items() if _class_changed(before.classes.get(name), tiers, policies)
    }
    return frozenset(
        identity
        for identity, (endpoint, name) in after.endpoints.items()
        if name in classes or _class_of(before, identity) != name or not moved.isdisjoint(endpoint.addresses)
        if identity in before.endpoints or identity in before.closed
    )


def _moved(before: Settled, after: Settled) -> frozenset[str]:
    """The addresses of endpoints whose named ports are others now, among those that policies still ask for."""
    both = before.own_ports.keys() & after.own_ports.keys()
    members = frozenset[str]().union(*(before.own_ports[port] ^ after.own_ports[port] for port in both))
    return frozenset(member.partition(",")[0] for member in members)


def _class_of(settled: Settled, identity: str) -> str:
    return settled.endpoints[identity][1] if identity in settled.endpoints else ""


def _class_changed(old: object, tiers: tuple[ClassTier, ...], policies: Container[str]) -> bool:
    return _differ(old, tiers) or any(policy in policies for tier in tiers for policy in tier.policies)


def _policy_changed(name: str, before: Settled, after: Settled) -> bool:
    old, new = before.policies.get(name), after.policies[name]
    if old is None or _differ(old.spec, new.spec) or old.lacking != new.lacking:
        return True
    return any(_differ(before.groups.get(group), after.groups.get(group)) for group in new.groups)


def _differ(one: object, other: object) -> bool:
    """Most are the very same object, which neither sets nor structs look for first."""
    return one is not other and one != other


@dataclass(frozen=True, slots=True)
class Court:
    """What it takes to judge the connections of some endpoints."""

    subjects: Mapping[bytes, tuple[ClassTier, ...]]
    """Address → the tiers of the endpoint that has it."""
    programs: Mapping[str, PolicyProgramSpec]
    groups: Groups
    own: Container[bytes] = frozenset()
    """The node's own addresses."""
    closed_node: bool = False
    """Whether pods do not get to their node at all (defaultEndpointToHostAction Drop)."""
    by_source_port: bool = True
    """Whether any rule asks for the source's port."""
    _known: dict[tuple[bytes, Direction, Flow], bool] = field(default_factory=dict)
    """Verdicts, since connections are often alike."""

    def denied(self, connections: Collection[Connection]) -> list[Connection]:
        """Those of these that would not come about any more. One that a helper announced goes with the one that did."""
        verdicts = {one.original: self._denies(one) for one in connections if one.master is None}
        return [one for one in connections if verdicts.get(one.master or one.original, False)]

    def _denies(self, connection: Connection) -> bool:
        source, destination = connection.original.source, connection.reply.source
        if source == destination:
            return False
        if source in self.subjects and not self._allows(source, "Egress", connection.flow):
            return True
        if source in self.subjects and destination in self.own:
            return self.closed_node
        if destination not in self.subjects or source in self.own:
            return False
        return not self._allows(destination, "Ingress", connection.flow)

    def _allows(self, subject: bytes, direction: Direction, flow: Flow) -> bool:
        key = subject, direction, flow if self.by_source_port else replace(flow, source_port=0)
        if key not in self._known:
            decision = evaluate(self.subjects[subject], self.programs, self.groups, direction, flow)
            self._known[key] = decision.allowed
        return self._known[key]


def court_of(
    settled: Settled, endpoints: Iterable[str], own: Container[bytes] = frozenset(), *, closed_node: bool = False
) -> Court:
    """For the connections of these endpoints (by container ID)."""
    subjects: dict[bytes, tuple[ClassTier, ...]] = {}
    needed: dict[str, Policy] = {}
    for endpoint, name in (settled.endpoints[identity] for identity in endpoints if identity in settled.endpoints):
        tiers = settled.classes.get(name, ())
        policies = {policy: settled.policies[policy] for tier in tiers for policy in tier.policies}
        if (tiers or closed_node) and not any(policy.lacking for policy in policies.values()):
            subjects |= dict.fromkeys(map(packed, endpoint.addresses), tiers)
            needed |= policies
    groups = {group: settled.groups[group] for policy in needed.values() for group in policy.groups}
    programs = {name: policy.spec for name, policy in needed.items()}
    by_source_port = any(map(_asks_for_source_port, programs.values()))
    return Court(subjects, programs, Groups(groups, settled.own_ports), own, closed_node, by_source_port)


def _asks_for_source_port(spec: PolicyProgramSpec) -> bool:
    sources = [rule.peer for rule in spec.ingress] + [rule.subject for rule in spec.egress]
    return any(
        end.ports or end.port_groups or end.named_ports or end.not_ports or end.not_port_groups or end.not_named_ports
        for end in sources
    )
