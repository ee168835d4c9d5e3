"""What is legal in a compiled policy, and hardly meant.

Owns: the finding of rules that match nothing, are never reached, or name what nothing has now.
Must not: refuse anything, or know pods; whoever knows the groups' members says which have none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator

from manx_core.api.v1alpha1 import Rule, RuleEnd
from manx_core.policy.compiled import CompiledPolicy
from manx_core.policy.evaluate import Direction
from manx_core.policy.scope import GroupDef

_FIELDS = {
    "Ingress": {"peer": "source", "peer ports": "source", "subject": "destination", "subject ports": "destination"},
    "Egress": {"peer": "destination", "peer ports": "destination", "subject": "source", "subject ports": "source"},
}
_KUBERNETES_FIELDS = {
    "Ingress": {"peer": "from", "subject ports": "ports"},
    "Egress": {"peer": "to", "peer ports": "ports"},
}
"""What users call the parts of rules."""


def remarks(policy: CompiledPolicy, empty_groups: Collection[str] = ()) -> Iterator[str]:
    """Sentences for people, each beginning with the field that it is about. `empty_groups`: ids of groups
    that have no members now."""
    yield from (f"{field} can match no packet" for field in policy.left_out)
    yield from _never_reached("Ingress", policy.ingress)
    yield from _never_reached("Egress", policy.egress)
    empty = {group.id: group for group in (*policy.groups, *policy.own_ports()) if group.id in empty_groups}
    if empty:
        yield from _of_empty(policy, "Ingress", policy.ingress, empty)
        yield from _of_empty(policy, "Egress", policy.egress, empty)


def _never_reached(direction: Direction, rules: tuple[Rule, ...]) -> Iterator[str]:
    """One of Kubernetes' rules may have become several: it is reached if any of them is."""
    field = f"spec.{direction.lower()}"
    for index in sorted({rule.index for rule in rules}):
        before = [rule for rule in rules if rule.index < index and rule.action != "Log"]
        covering = [next((one for one in before if _covers(one, rule)), None) for rule in rules if rule.index == index]
        if all(covering):
            found = sorted({one.index for one in covering if one is not None})
            matching = " and ".join(f"{field}[{number}]" for number in found)
            yield f"{field}[{index}] is never reached: {matching} before it matches all that it would"


def _of_empty(
    policy: CompiledPolicy, direction: Direction, rules: tuple[Rule, ...], empty: dict[str, GroupDef]
) -> Iterator[str]:
    """A notSelector that selects nothing, or a port that nobody has among notPorts, asks for nothing: no remark."""
    fields = (_KUBERNETES_FIELDS if policy.name.startswith("knp.") else _FIELDS)[direction]
    said: dict[str, None] = {}
    for rule in rules:
        own = tuple(policy.own_port(rule, name).id for name in rule.subject.named_ports)
        named = {"peer": rule.peer.groups, "peer ports": rule.peer.port_groups}
        named |= {"subject": rule.subject.groups, "subject ports": (*rule.subject.port_groups, *own)}
        for part, groups in named.items():
            for group in filter(empty.__contains__, groups):
                said[f"spec.{direction.lower()}[{rule.index}].{fields[part]} {_lacking(empty[group])}"] = None
    yield from said


def _lacking(group: GroupDef) -> str:
    if group.service:
        return f"names the service {group.service.namespace}/{group.service.name}, which has no endpoints"
    return f"names a {group.selector}, which nothing has" if group.port else f"selects nothing: {group.selector}"


# --- which rule matches all that another does -----------------------------------------------------------------------


def _covers(one: Rule, other: Rule) -> bool:
    """As far as can be told without groups' members."""
    pairs = (
        (one.ip_version, other.ip_version),
        (one.protocol, other.protocol),
        (one.not_protocol, other.not_protocol),
        (one.icmp, other.icmp),
        (one.not_icmp, other.not_icmp),
    )
    if any(wanted and wanted != found for wanted, found in pairs):
        return False
    return _end_covers(one.peer, other.peer) and _end_covers(one.subject, other.subject)


def _end_covers(one: RuleEnd, other: RuleEnd) -> bool:
    asked = (
        (one.groups, other.groups),
        (one.not_groups, other.not_groups),
        (one.not_nets, other.not_nets),
        (one.not_ports, other.not_ports),
        (one.not_port_groups, other.not_port_groups),
        (one.not_named_ports, other.not_named_ports),
    )
    if not all(set(wanted) <= set(found) for wanted, found in asked):
        return False
    return _nets_cover(one.nets, other.nets) and _ports_cover(one, other)


def _nets_cover(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return not one or (bool(other) and all(any(_within(net, wide) for wide in one) for net in other))


def _within(inner: str, outer: str) -> bool:
    one, other = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    if isinstance(one, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and one.subnet_of(other)
    return isinstance(other, ipaddress.IPv6Network) and one.subnet_of(other)


def _ports_cover(one: RuleEnd, other: RuleEnd) -> bool:
    pairs = [(one.ports, other.ports), (one.port_groups, other.port_groups), (one.named_ports, other.named_ports)]
    if not any(wide for wide, _ in pairs):
        return True
    return any(narrow for _, narrow in pairs) and all(set(narrow) <= set(wide) for wide, narrow in pairs)
