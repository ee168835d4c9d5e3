"""Kubernetes NetworkPolicy → compiled rules, and the groups that they refer to.

Owns: what each part of a NetworkPolicy becomes in the one rule model (`v1alpha1.Rule`), with as few rules as say it.
Must not: know pods, nodes or objects' spans.

A rule of the API is a set of peers times a set of ports. Peers become: any; one rule's nets (all ipBlocks without
except); nets and not_nets (each ipBlock with except); a group (each pair of selectors). Ports become: any; a protocol;
one rule's ports (all numbers of a protocol); a group of address and port (each named port). All rules allow, so their
order means nothing. Networks of both address families stay in `nets`: a rule whose nets are all of the other family
matches nothing, it does not match everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from manx_core.api.core_v1 import LabelSelector, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec
from manx_core.api.v1alpha1 import PolicyProgramSpec, PolicySource, Rule
from manx_core.policy.cluster import Direction
from manx_core.policy.scope import ALL_PODS, GroupDef, Scope, hash20
from manx_core.policy.validate import PROTOCOLS, TYPES, Network, Problem, check_network_policy, parse_network
from manx_core.selectors import EVERYTHING, InvalidSelector, Selector, parse_label_selector

Protocol = Literal["", "TCP", "UDP", "SCTP"]
_LONGEST_NAME = 253


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """A policy as rules: which pods it applies to, and what it says of them."""

    name: str
    """The PolicyProgram's."""
    source: PolicySource
    applies_to: Scope
    types: tuple[Direction, ...]
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    groups: tuple[GroupDef, ...] = ()
    """Every group that a rule refers to, once."""

    def program(self) -> PolicyProgramSpec:
        """The object's spec, with the epoch left 0."""
        return PolicyProgramSpec(
            epoch=0, source=self.source, types=self.types, ingress=self.ingress, egress=self.egress
        )


@dataclass(frozen=True, slots=True)
class InvalidPolicy:
    """A policy that cannot be compiled."""

    problems: tuple[Problem, ...]
    closed: CompiledPolicy
    """What is in force where no valid version was known before: the pods that it selects (all of its namespace's, where
    not even that is valid) are isolated in its types' directions (in both, where these are not valid)."""


def compile_network_policy(policy: NetworkPolicy) -> CompiledPolicy | InvalidPolicy:
    """networking.k8s.io/v1 NetworkPolicy; never raises on what a user may write."""
    problems = check_network_policy(policy)
    if problems:
        return InvalidPolicy(problems, _closed(policy))
    scope = _applies_to(policy)
    types = _types(policy.spec)
    ingress = _Rules("Ingress", scope)
    egress = _Rules("Egress", scope)
    if "Ingress" in types:
        for rule in policy.spec.ingress:
            ingress.add(rule.from_, rule.ports)
    if "Egress" in types:
        for out in policy.spec.egress:
            egress.add(out.to, out.ports)
    groups = {**ingress.groups(), **egress.groups()}
    return CompiledPolicy(
        name=program_name(policy.metadata.namespace, policy.metadata.name),
        source=_source(policy),
        applies_to=scope,
        types=types,
        ingress=ingress.all(),
        egress=egress.all(),
        groups=tuple(groups.values()),
    )


def program_name(namespace: str, name: str) -> str:
    """The PolicyProgram of a NetworkPolicy: `knp.<namespace>.<name>`, with a hash at its end where it would be longer
    than an object's name may be (253). Namespaces have no dots, so no two policies share a name."""
    full = f"knp.{namespace}.{name}"
    if len(full) <= _LONGEST_NAME:
        return full
    return f"{full[: _LONGEST_NAME - 21].rstrip('.-')}-{hash20([namespace, name])}"


# --- parts of a policy ------------------------------------------------------------------------------------------------


def _source(policy: NetworkPolicy) -> PolicySource:
    meta = policy.metadata
    return PolicySource(
        kind="NetworkPolicy", name=meta.name, namespace=meta.namespace, uid=meta.uid, generation=meta.generation
    )


def _types(spec: NetworkPolicySpec) -> tuple[Direction, ...]:
    """ "If this field is not specified, it will default based on the existence of ingress or egress rules; policies
    that contain an egress section are assumed to affect egress, and all policies (whether or not they contain an
    ingress section) are assumed to affect ingress." """
    declared = spec.policy_types or (("Ingress", "Egress") if spec.egress else ("Ingress",))
    return cast("tuple[Direction, ...]", tuple(kind for kind in TYPES if kind in declared))


def _applies_to(policy: NetworkPolicy) -> Scope:
    """ "An empty selector matches all pods in the policy's namespace." """
    return Scope(parse_label_selector(policy.spec.pod_selector), policy.metadata.namespace)


def _closed(policy: NetworkPolicy) -> CompiledPolicy:
    """The policy's isolation without its rules; the widest reading of what is not valid."""
    try:
        scope = _applies_to(policy)
    except InvalidSelector:
        scope = Scope(EVERYTHING, policy.metadata.namespace)
    known = all(kind in TYPES for kind in policy.spec.policy_types)
    return CompiledPolicy(
        name=program_name(policy.metadata.namespace, policy.metadata.name),
        source=_source(policy),
        applies_to=scope,
        types=_types(policy.spec) if known else ("Ingress", "Egress"),
    )


# --- peers and ports --------------------------------------------------------------------------------------------------


class _Peer(NamedTuple):
    """One way for a peer to match: all that is present must."""

    scope: Scope | None = None
    nets: tuple[str, ...] = ()
    not_nets: tuple[str, ...] = ()


class _Ports(NamedTuple):
    """One way for a destination port to match."""

    protocol: Protocol = ""
    ports: tuple[str, ...] = ()
    name: str = ""


class _Rules:
    """Collects one direction's rules, and the definitions of the groups that they name."""

    def __init__(self, direction: Direction, applies_to: Scope) -> None:
        self._direction = direction
        self._applies_to = applies_to
        self._rules: dict[Rule, tuple[GroupDef, ...]] = {}

    def add(self, peers: tuple[NetworkPolicyPeer, ...], ports: tuple[NetworkPolicyPort, ...]) -> None:
        matches = list(_ports(ports))
        for peer in _peers(peers, self._applies_to.namespace):
            for match in matches:
                self._add(peer, match)

    def all(self) -> tuple[Rule, ...]:
        return (Rule(),) if Rule() in self._rules else tuple(self._rules)

    def groups(self) -> dict[str, GroupDef]:
        return {group.id: group for rule in self.all() for group in self._rules[rule]}

    def _add(self, peer: _Peer, match: _Ports) -> None:
        port_group = self._port_group(peer, match)
        # A port group of the peers themselves says all that their group would.
        redundant = port_group is not None and port_group.scope == peer.scope and self._direction == "Egress"
        peer_group = GroupDef(peer.scope) if peer.scope is not None and not redundant else None
        rule = Rule(
            protocol=match.protocol,
            ports=match.ports,
            port_group=port_group.id if port_group else "",
            peer_group=peer_group.id if peer_group else "",
            nets=peer.nets,
            not_nets=peer.not_nets,
        )
        self._rules[rule] = tuple(group for group in (port_group, peer_group) if group)

    def _port_group(self, peer: _Peer, match: _Ports) -> GroupDef | None:
        """A named port is the destination's: "this field … can be a … named port on a pod". In ingress rules the
        destinations are the pods that the policy applies to; in egress rules the peers, any pod where they are nets."""
        if not match.name:
            return None
        destinations = self._applies_to if self._direction == "Ingress" else peer.scope or ALL_PODS
        return GroupDef(destinations, match.name, match.protocol)


def _peers(peers: tuple[NetworkPolicyPeer, ...], namespace: str) -> Iterator[_Peer]:
    """ "If this field is empty or missing, this rule matches all sources (traffic not restricted by source)." """
    if not peers:
        yield _Peer()
    blocks = [peer.ip_block for peer in peers if peer.ip_block is not None]
    plain = [block.cidr for block in blocks if not block.except_]
    if plain:
        yield _Peer(nets=_networks(plain))
    yield from (_Peer(None, _networks([b.cidr]), _networks(b.except_)) for b in blocks if b.except_)
    yield from (_Peer(_scope(peer, namespace)) for peer in peers if peer.ip_block is None)


def _scope(peer: NetworkPolicyPeer, namespace: str) -> Scope:
    """ "podSelector … if namespaceSelector is also set, then the NetworkPolicyPeer as a whole selects the pods matching
    podSelector in the namespaces selected by namespaceSelector. Otherwise it selects the pods matching podSelector in
    the policy's own namespace"; "if present but empty, it selects all"; an absent podSelector: "all pods"."""
    pods = _selector(peer.pod_selector)
    if peer.namespace_selector is None:
        return Scope(pods, namespace)
    return Scope(pods, namespace_selector=_selector(peer.namespace_selector))


def _selector(selector: LabelSelector | None) -> Selector:
    return EVERYTHING if selector is None else parse_label_selector(selector)


def _networks(texts: Iterable[str]) -> tuple[str, ...]:
    """Canonical CIDRs, IPv4 first, each once."""
    return tuple(str(network) for network in sorted({parse_network(text) for text in texts}, key=_network_order))


def _network_order(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def _ports(ports: tuple[NetworkPolicyPort, ...]) -> Iterator[_Ports]:
    """ "If this field is empty or missing, this rule matches all ports"; of every protocol, then."""
    if not ports:
        yield _Ports()
    for protocol in PROTOCOLS:
        yield from _protocol_ports(cast(Protocol, protocol), [port for port in ports if port.protocol == protocol])


def _protocol_ports(protocol: Protocol, ports: list[NetworkPolicyPort]) -> Iterator[_Ports]:
    """ "If this field is not provided, this matches all port names and numbers" (of the protocol)."""
    if any(port.port is None for port in ports):
        yield _Ports(protocol)
        return
    numbers = _port_ranges(ports)
    if numbers:
        yield _Ports(protocol, numbers)
    for name in sorted({port.port for port in ports if isinstance(port.port, str)}):
        yield _Ports(protocol, name=name)


def _port_ranges(ports: list[NetworkPolicyPort]) -> tuple[str, ...]:
    """Numeric ports and ranges ("endPort … inclusive"), sorted; those that overlap become one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted((p.port, p.end_port or p.port) for p in ports if isinstance(p.port, int)):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(str(first) if first == last else f"{first}-{last}" for first, last in merged)
