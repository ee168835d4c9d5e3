"""Kubernetes NetworkPolicy → compiled rules, and the groups that they refer to.

Owns: what each part of a NetworkPolicy becomes in the one rule model (`v1alpha1.Rule`), with as few rules as say it.
Must not: know pods, nodes or objects' spans, or remember anything (compile_once.py does).

A rule of the API is a set of peers times a set of ports. Peers become: any; one rule's nets (all ipBlocks without
except); nets and not_nets (each ipBlock with except); a group (each pair of selectors). Ports become: any; a protocol;
one rule's ports (all numbers of a protocol); each named port: in ingress rules its name, for the node knows its pods'
ports, in egress rules a group of address and port. All rules allow, so their order means nothing, and one that allows
all makes the others needless. Networks of both address families stay in `nets`: a rule whose nets are all of the other
family matches nothing, it does not match everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, cast

import msgspec

from manx_core.api.core_v1 import LabelSelector, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec
from manx_core.api.v1alpha1 import PolicySource, Rule, RuleEnd
from manx_core.policy.cluster import Direction
from manx_core.policy.compiled import (
    KUBERNETES_ORDER,
    TYPES,
    CompiledPolicy,
    InvalidPolicy,
    logs_denied,
    program_name,
)
from manx_core.policy.ports import merge_ranges, sorted_networks
from manx_core.policy.scope import ALL_PODS, GroupDef, kubernetes_pods
from manx_core.policy.validate import PROTOCOLS, check_network_policy, parse_network
from manx_core.selectors import EVERYTHING, InvalidSelector, Selector, Selects, parse_label_selector

Protocol = Literal["", "TCP", "UDP", "SCTP"]
_ALL, _ANY = Rule(), RuleEnd()


def compile_anew(policy: NetworkPolicy) -> CompiledPolicy | InvalidPolicy:
    """networking.k8s.io/v1 NetworkPolicy; never raises on what a user may write."""
    problems = check_network_policy(policy)
    if problems:
        return InvalidPolicy(problems, _closed(policy))
    types, applies_to = _types(policy.spec), _applies_to(policy)
    ingress, egress = _Rules("Ingress", policy.metadata.namespace), _Rules("Egress", policy.metadata.namespace)
    if "Ingress" in types:
        for index, rule in enumerate(policy.spec.ingress):
            ingress.add(index, rule.from_, rule.ports)
    if "Egress" in types:
        for index, out in enumerate(policy.spec.egress):
            egress.add(index, out.to, out.ports)
    groups = {**ingress.groups(), **egress.groups()}
    return compiled_as(policy, applies_to, types, ingress.all(), egress.all(), tuple(groups.values()))


# --- parts of a policy ------------------------------------------------------------------------------------------------


def compiled_as(
    policy: NetworkPolicy,
    applies_to: Selects,
    types: tuple[Direction, ...],
    ingress: tuple[Rule, ...] = (),
    egress: tuple[Rule, ...] = (),
    groups: tuple[GroupDef, ...] = (),
) -> CompiledPolicy:
    """The policy as these rules."""
    return CompiledPolicy(
        name=program_name("knp", policy.metadata.namespace, policy.metadata.name),
        source=_source(policy),
        applies_to=applies_to,
        types=types,
        ingress=ingress,
        egress=egress,
        groups=groups,
        order=KUBERNETES_ORDER,
        log_denied=logs_denied(policy.metadata.annotations),
    )


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
    return tuple(kind for kind in TYPES if kind in declared)


def _applies_to(policy: NetworkPolicy) -> Selector:
    """ "An empty selector matches all pods in the policy's namespace." """
    return kubernetes_pods(parse_label_selector(policy.spec.pod_selector), policy.metadata.namespace)


def _closed(policy: NetworkPolicy) -> CompiledPolicy:
    """The policy's isolation without its rules; the widest reading of what is not valid."""
    try:
        applies_to = _applies_to(policy)
    except InvalidSelector:
        applies_to = kubernetes_pods(EVERYTHING, policy.metadata.namespace)
    known = all(kind in TYPES for kind in policy.spec.policy_types)
    return compiled_as(policy, applies_to, _types(policy.spec) if known else TYPES)


# --- peers and ports --------------------------------------------------------------------------------------------------


class _Peer(NamedTuple):
    """One way for a peer to match: all that is present must."""

    pods: Selector | None = None
    nets: tuple[str, ...] = ()
    not_nets: tuple[str, ...] = ()


class _Ports(NamedTuple):
    """One way for a destination port to match."""

    protocol: Protocol = ""
    ports: tuple[str, ...] = ()
    name: str = ""


class _Rules:
    """Collects one direction's rules, and the definitions of the groups that they name."""

    def __init__(self, direction: Direction, namespace: str) -> None:
        self._direction = direction
        self._namespace = namespace
        self._rules: dict[Rule, tuple[int, tuple[GroupDef, ...]]] = {}
        """Each without its index → the first index that it has, and its groups."""

    def add(self, index: int, peers: tuple[NetworkPolicyPeer, ...], ports: tuple[NetworkPolicyPort, ...]) -> None:
        matches = list(_ports(ports))
        for peer in _peers(peers, self._namespace):
            for match in matches:
                self._add(index, peer, match)

    def all(self) -> tuple[Rule, ...]:
        return tuple(
            msgspec.structs.replace(rule, index=index) if index else rule for rule, (index, _) in self._needed().items()
        )

    def groups(self) -> dict[str, GroupDef]:
        return {group.id: group for _, groups in self._needed().values() for group in groups}

    def _needed(self) -> dict[Rule, tuple[int, tuple[GroupDef, ...]]]:
        return {_ALL: self._rules[_ALL]} if _ALL in self._rules else self._rules

    def _add(self, index: int, peer: _Peer, match: _Ports) -> None:
        port_group = self._port_group(peer, match)
        # A port group of the peers themselves says all that their group would.
        redundant = port_group is not None and port_group.selects == peer.pods
        peer_group = GroupDef(peer.pods) if peer.pods is not None and not redundant else None
        rule = self._rule(peer, match, port_group, peer_group)
        self._rules.setdefault(rule, (index, tuple(group for group in (port_group, peer_group) if group)))

    def _rule(self, peer: _Peer, match: _Ports, port_group: GroupDef | None, peer_group: GroupDef | None) -> Rule:
        groups = (peer_group.id,) if peer_group else ()
        if self._direction == "Ingress":
            at_peer = RuleEnd(groups=groups, nets=peer.nets, not_nets=peer.not_nets)
            return Rule(protocol=match.protocol, peer=at_peer, subject=_own(match))
        port_groups = (port_group.id,) if port_group else ()
        at_peer = RuleEnd(
            groups=groups, nets=peer.nets, not_nets=peer.not_nets, ports=match.ports, port_groups=port_groups
        )
        return Rule(protocol=match.protocol, peer=at_peer)

    def _port_group(self, peer: _Peer, match: _Ports) -> GroupDef | None:
        """A named port is the destination's: "this field … can be a … named port on a pod". In ingress rules these are
        the pods that the policy applies to; in egress rules the peers, any pod where they are nets."""
        if not match.name or self._direction == "Ingress":
            return None
        return GroupDef(peer.pods or ALL_PODS, match.name, match.protocol)


def _own(match: _Ports) -> RuleEnd:
    """That port of the pods that the policy applies to."""
    if not match.ports and not match.name:
        return _ANY
    return RuleEnd(ports=match.ports, named_ports=(match.name,) if match.name else ())


def _peers(peers: tuple[NetworkPolicyPeer, ...], namespace: str) -> Iterator[_Peer]:
    """ "If this field is empty or missing, this rule matches all sources (traffic not restricted by source)." """
    if not peers:
        yield _Peer()
    blocks = [peer.ip_block for peer in peers if peer.ip_block is not None]
    plain = [block.cidr for block in blocks if not block.except_]
    if plain:
        yield _Peer(nets=_networks(plain))
    yield from (_Peer(None, _networks([b.cidr]), _networks(b.except_)) for b in blocks if b.except_)
    yield from (_Peer(_pods(peer, namespace)) for peer in peers if peer.ip_block is None)


def _pods(peer: NetworkPolicyPeer, namespace: str) -> Selector:
    """ "podSelector … if namespaceSelector is also set, then the NetworkPolicyPeer as a whole selects the pods matching
    podSelector in the namespaces selected by namespaceSelector. Otherwise it selects the pods matching podSelector in
    the policy's own namespace"; "if present but empty, it selects all"; an absent podSelector: "all pods"."""
    pods = _selector(peer.pod_selector)
    if peer.namespace_selector is None:
        return kubernetes_pods(pods, namespace)
    return kubernetes_pods(pods, namespaces=_selector(peer.namespace_selector))


def _selector(selector: LabelSelector | None) -> Selector:
    return EVERYTHING if selector is None else parse_label_selector(selector)


def _networks(texts: Iterable[str]) -> tuple[str, ...]:
    return sorted_networks(map(parse_network, texts))


def _ports(ports: tuple[NetworkPolicyPort, ...]) -> Iterator[_Ports]:
    """ "If this field is empty or missing, this rule matches all ports"; of every protocol, then."""
    if not ports:
        yield _Ports()
        return
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
    """Numeric ports and ranges: "endPort … inclusive"."""
    return merge_ranges((p.port, p.end_port or p.port) for p in ports if isinstance(p.port, int))
