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

_ENDS = {"Ingress": ("source", "destination"), "Egress": ("destination", "source")}
"""What a rule's peer and subject are called by users."""


def remarks(policy: CompiledPolicy, empty_groups: Collection[str] = ()) -> Iterator[str]:
    """Sentences for people, each beginning with the field that it is about. `empty_groups`: ids of groups
    that have no members now."""
    yield from (f"{field} can match no packet" for field in policy.left_out)
    yield from _never_reached("Ingress", policy.ingress)
    yield from _never_reached("Egress", policy.egress)
    empty = {group.id: group for group in policy.groups if group.id in empty_groups}
    if empty:
        yield from _of_empty("Ingress", policy.ingress, empty)
        yield from _of_empty("Egress", policy.egress, empty)


def _never_reached(direction: Direction, rules: tuple[Rule, ...]) -> Iterator[str]:
    for number, rule in enumerate(rules):
        before = next((one for one in rules[:number] if one.action != "Log" and _covers(one, rule)), None)
        if before is not None and before.index != rule.index:
            field = f"spec.{direction.lower()}"
            yield f"{field}[{rule.index}] is never reached: {field}[{before.index}] matches all that it would"


def _of_empty(direction: Direction, rules: tuple[Rule, ...], empty: dict[str, GroupDef]) -> Iterator[str]:
    """A notSelector that selects nothing, or a port that nobody has among notPorts, asks for nothing: no remark."""
    for rule in rules:
        for name, end in zip(_ENDS[direction], (rule.peer, rule.subject), strict=True):
            for group in (*end.groups, *end.port_groups):
                if group in empty:
                    yield f"spec.{direction.lower()}[{rule.index}].{name} {_lacking(empty[group])}"


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
    if not one.ports and not one.port_groups:
        return True
    asked = bool(other.ports or other.port_groups)
    return asked and set(other.ports) <= set(one.ports) and set(other.port_groups) <= set(one.port_groups)
