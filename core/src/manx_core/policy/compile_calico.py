"""Calico's NetworkPolicy and GlobalNetworkPolicy → compiled rules, and the groups that they refer to.

Owns: what each part of these policies becomes in the one rule model (`v1alpha1.Rule`): one rule at most for each.
Must not: know pods, nodes or objects' spans.

As in Calico: a rule whose CIDRs (of one list, also of notNets) are all of one family is a rule for that family alone. A
named port is a port of what the selectors at that end select; where there are none, of the pods that the policy applies
to, at their own end (whose ports their node knows), and of any pod at the other. A rule that can match nothing is left
out.
Source: Calico v3.30 API reference; Felix, calc/rule_scanner.go and rules/policy.go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Literal, cast

import msgspec

from manx_core.api.calico_policy import EntityRule, GlobalNetworkPolicy, IcmpFields, NetworkPolicy, PolicyRule, check
from manx_core.api.v1alpha1 import IcmpMatch, PolicySource, Rule, RuleEnd
from manx_core.policy.calico_scope import EntityScope, applies_to, entity_scope
from manx_core.policy.cluster import Direction
from manx_core.policy.compiled import TYPES, CompiledPolicy, InvalidPolicy, logs_denied, program_name
from manx_core.policy.ports import merge_ranges, sorted_networks
from manx_core.policy.protocols import canonical_protocol
from manx_core.policy.scope import ALL_PODS, GroupDef, ServiceRef
from manx_core.policy.validate import Problem
from manx_core.selectors import NOTHING, Selects

CalicoPolicy = NetworkPolicy | GlobalNetworkPolicy
Version = Literal[0, 4, 6]


def compile_calico_policy(policy: CalicoPolicy) -> CompiledPolicy | InvalidPolicy:
    """projectcalico.org/v3 NetworkPolicy or GlobalNetworkPolicy; never raises on what its model accepts."""
    problems = tuple(Problem(problem.field, problem.message) for problem in check(policy))
    if problems:
        return InvalidPolicy(problems, closed_calico_policy(policy))
    rules, types = _Rules(policy.metadata.namespace), policy.spec.effective_types
    ingress = rules.of("Ingress", policy.spec.ingress if "Ingress" in types else ())
    egress = rules.of("Egress", policy.spec.egress if "Egress" in types else ())
    groups = rules.groups_of((*ingress, *egress))
    return msgspec.structs.replace(_compiled(policy, ingress, egress), groups=groups, left_out=tuple(rules.left_out))


def closed_calico_policy(policy: CalicoPolicy) -> CompiledPolicy:
    """What is in force of a policy that never was valid: it denies all, for what it selects, in its types' directions.
    Nobody knows what it would have passed on, so that is not left to the tier's default action."""
    deny = (Rule(action="Deny", index=-1),)
    return _compiled(policy, deny, deny)


def calico_program_name(namespace: str, name: str) -> str:
    """Of a NetworkPolicy, or of a GlobalNetworkPolicy where the namespace is empty."""
    return program_name("np", namespace, name) if namespace else program_name("gnp", name)


def _compiled(policy: CalicoPolicy, ingress: tuple[Rule, ...], egress: tuple[Rule, ...]) -> CompiledPolicy:
    directions = tuple(kind for kind in TYPES if kind in policy.spec.effective_types)
    return CompiledPolicy(
        name=calico_program_name(policy.metadata.namespace, policy.metadata.name),
        source=_source(policy),
        applies_to=_applies_to(policy),
        types=directions,
        ingress=ingress if "Ingress" in directions else (),
        egress=egress if "Egress" in directions else (),
        order=policy.spec.order,
        log_denied=logs_denied(policy.metadata.annotations),
        asks_for_namespaces=_asks_for_namespaces(policy),
    )


def _source(policy: CalicoPolicy) -> PolicySource:
    meta = policy.metadata
    return PolicySource(
        kind="NetworkPolicy" if isinstance(policy, NetworkPolicy) else "GlobalNetworkPolicy",
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        generation=meta.generation,
        tier=policy.spec.tier,
    )


def _concerns_pods(policy: CalicoPolicy) -> bool:
    """Policies with doNotTrack or preDNAT concern host endpoints only."""
    return not (policy.spec.do_not_track or policy.spec.pre_dnat)


def _asks_for_namespaces(policy: CalicoPolicy) -> bool:
    return _concerns_pods(policy) and policy.spec.namespace_selector.strip() not in ("", "all()")


def _applies_to(policy: CalicoPolicy) -> Selects:
    spec = policy.spec
    if not _concerns_pods(policy):
        return NOTHING
    return applies_to(policy.metadata.namespace, spec.selector, spec.namespace_selector, spec.service_account_selector)


# --- rules ------------------------------------------------------------------------------------------------------------


class _Rules:
    """A policy's rules, and the definitions of the groups that they name."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._groups: dict[str, GroupDef] = {}
        self.left_out: list[str] = []

    def of(self, direction: Direction, rules: Iterable[PolicyRule]) -> tuple[Rule, ...]:
        compiled = [self._rule(direction, index, rule) for index, rule in enumerate(rules)]
        self.left_out += [f"spec.{direction.lower()}[{at}]" for at, rule in enumerate(compiled) if rule is None]
        return tuple(rule for rule in compiled if rule is not None)

    def groups_of(self, rules: Iterable[Rule]) -> tuple[GroupDef, ...]:
        """The definitions of the groups that these rules name, each once, in their order."""
        ends = (end for rule in rules for end in (rule.peer, rule.subject))
        named = (
            group for end in ends for group in (*end.groups, *end.not_groups, *end.port_groups, *end.not_port_groups)
        )
        return tuple(self._groups[group] for group in dict.fromkeys(named))

    def _rule(self, direction: Direction, index: int, rule: PolicyRule) -> Rule | None:
        """None where nothing can match."""
        version = _version(rule)
        scopes = [self._scope(end) for end in (rule.source, rule.destination)]
        if version is None or any(scope.known == NOTHING for scope in scopes):
            return None
        source = self._end(rule, rule.source, scopes[0], is_subject=direction == "Egress")
        destination = self._end(rule, rule.destination, scopes[1], is_subject=direction == "Ingress")
        return Rule(
            action=rule.action,
            index=index,
            ip_version=version,
            protocol=canonical_protocol(rule.protocol),
            not_protocol=canonical_protocol(rule.not_protocol),
            icmp=_icmp(rule.icmp),
            not_icmp=_icmp(rule.not_icmp),
            peer=source if direction == "Ingress" else destination,
            subject=destination if direction == "Ingress" else source,
        )

    def _scope(self, end: EntityRule) -> EntityScope:
        accounts = end.service_accounts
        return entity_scope(
            self._namespace,
            end.selector,
            end.not_selector,
            end.namespace_selector,
            accounts.names if accounts else (),
            accounts.selector if accounts else "",
        )

    def _end(self, rule: PolicyRule, end: EntityRule, scope: EntityScope, is_subject: bool) -> RuleEnd:
        numbers, names, not_names = _numbers(end.ports), _names(end.ports), _names(end.not_ports)
        own = is_subject and scope.known is None
        port_groups, not_port_groups = (
            [] if own else [GroupDef(scope.known or ALL_PODS, name, _ports_protocol(rule)) for name in asked]
            for asked in (names, not_names)
        )
        # Port groups of what is selected say all that its own group would, unless numbers are allowed beside them.
        redundant = bool(port_groups) and not numbers
        groups = [GroupDef(scope.known)] if scope.known is not None and not redundant else []
        service = self._service(end, with_ports=end is rule.destination)
        return RuleEnd(
            groups=self._ids([*groups, *(one for one in service if one.type == "Addresses")]),
            not_groups=self._ids([GroupDef(scope.unlike)] if scope.unlike is not None else []),
            nets=_networks(end.nets),
            not_nets=_networks(end.not_nets),
            ports=numbers,
            port_groups=self._ids([*port_groups, *(one for one in service if one.type == "AddressPorts")]),
            named_ports=names if own else (),
            not_ports=_numbers(end.not_ports),
            not_port_groups=self._ids(not_port_groups),
            not_named_ports=not_names if own else (),
        )

    def _service(self, end: EntityRule, with_ports: bool) -> list[GroupDef]:
        """Of a source the addresses count, of a destination their ports, too."""
        if end.services is None:
            return []
        namespace = end.services.namespace or self._namespace
        return [GroupDef(service=ServiceRef(namespace, end.services.name, with_ports))]

    def _ids(self, groups: Iterable[GroupDef]) -> tuple[str, ...]:
        named = {group.id: group for group in groups}
        self._groups.update(named)
        return tuple(named)


def _version(rule: PolicyRule) -> Version | None:
    """The family that the rule is for, 0 for both, None for none: every list of CIDRs, where there is any, must have
    some of it; and notNets may not hold all of it."""
    versions = {4, 6} if rule.ip_version is None else {rule.ip_version}
    for end in (rule.source, rule.destination):
        for nets in (end.nets, end.not_nets):
            versions &= {ipaddress.ip_network(net).version for net in nets} or versions
        versions -= {net.version for net in map(ipaddress.ip_network, end.not_nets) if net.prefixlen == 0}
    if len(versions) == 1:
        return cast(Version, versions.pop())
    return 0 if versions else None


def _icmp(icmp: IcmpFields | None) -> IcmpMatch | None:
    if icmp is None or icmp.type is None:
        return None
    return IcmpMatch(type=icmp.type, code=-1 if icmp.code is None else icmp.code)


def _ports_protocol(rule: PolicyRule) -> str:
    return canonical_protocol(rule.protocol) or "TCP"


def _names(ports: Iterable[int | str]) -> tuple[str, ...]:
    return tuple(sorted({port for port in ports if isinstance(port, str) and ":" not in port}))


def _numbers(ports: Iterable[int | str]) -> tuple[str, ...]:
    """80 and "1000:2000", in the form of `RuleEnd.ports`."""
    ranges = []
    for port in ports:
        first, colon, last = str(port).partition(":")
        if isinstance(port, int) or colon:
            ranges.append((int(first), int(last or first)))
    return merge_ranges(ranges)


def _networks(nets: Iterable[str]) -> tuple[str, ...]:
    return sorted_networks(map(ipaddress.ip_network, nets))
