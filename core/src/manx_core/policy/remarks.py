"""What is legal in a policy, and hardly meant.

Owns: the finding of policies that only log, select nothing, or have rules that never match or are never reached.
Must not: refuse anything, or know pods; whoever knows the groups' members says which have none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from typing import NamedTuple

from manx_core.api.v1alpha1 import Rule, RuleEnd
from manx_core.policy.cluster import Direction
from manx_core.policy.compiled import CompiledPolicy
from manx_core.policy.scope import GroupDef
from manx_core.selectors import NOTHING


class Remark(NamedTuple):
    """One word for machines, and a sentence for people."""

    reason: str
    """OnlyLogs, SelectsNothing, MatchesNothing, NeverReached, GroupEmpty or PortUnknown."""
    message: str


def remarks(policy: CompiledPolicy, empty_groups: Collection[str] = ()) -> tuple[Remark, ...]:
    """All that there is to say of a policy. `empty_groups`: ids of those of its groups that have no members now."""
    return (
        *_of_selection(policy),
        *(Remark("MatchesNothing", f"{field} can match no packet") for field in policy.left_out),
        *_of_rules("Ingress", policy.ingress),
        *_of_rules("Egress", policy.egress),
        *(_of_empty(group) for group in policy.groups if group.id in empty_groups),
    )


def _of_selection(policy: CompiledPolicy) -> Iterator[Remark]:
    if policy.applies_to == NOTHING:
        yield Remark("SelectsNothing", "the policy can select no pod")


def _of_rules(direction: Direction, rules: tuple[Rule, ...]) -> Iterator[Remark]:
    if rules and all(rule.action == "Log" for rule in rules):
        message = f"rules for {direction} only log: what no other policy decides, the tier's default action does"
        yield Remark("OnlyLogs", message)
    for number, rule in enumerate(rules):
        before = next((one for one in rules[:number] if one.action != "Log" and _covers(one, rule)), None)
        if before is not None and before.index != rule.index:
            field = f"spec.{direction.lower()}"
            message = f"{field}[{rule.index}] is never reached: {field}[{before.index}] matches all that it would"
            yield Remark("NeverReached", message)


def _of_empty(group: GroupDef) -> Remark:
    if group.port:
        return Remark("PortUnknown", f"nothing has a {group.selector}")
    return Remark("GroupEmpty", f"nothing is selected by {group.selector}")


def _covers(one: Rule, other: Rule) -> bool:
    """Whether all that the second matches the first does, as far as can be told without groups' members."""
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
