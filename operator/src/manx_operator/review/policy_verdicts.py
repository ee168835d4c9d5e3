"""What is said of policies, tiers, network sets and FelixConfigurations: valid or not, and what in them means nothing.

Owns: those words. Must not: do I/O, or refuse what is legal: what selects nothing, or can never match, is only told.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from manx_core.api import calico_policy, felix_configuration, network_set, tier
from manx_core.api.calico_policy import (
    EntityRule,
    GlobalNetworkPolicy,
    GlobalNetworkPolicySpec,
    NetworkPolicy,
    PolicyRule,
)
from manx_core.api.felix_configuration import FelixConfiguration
from manx_core.api.fields import ApiModel, InvalidObject, Problem
from manx_core.api.network_set import GlobalNetworkSet, NetworkSet
from manx_core.api.tier import Tier
from manx_operator.conditions import Said, some

Raw = Mapping[str, Any]
VALID = "Valid"
ACCEPTED = "Accepted"
_SHOWN = 10
LAST_VALID = "The version last valid stays in force"
NEVER_VALID = {
    "Tier": "It never was valid: it stands where its order says, if that can be read, else after all tiers; unless its"
    " defaultAction can be read, it denies what no rule decides",
    "NetworkSet": "It never was valid: those of spec.nets that can be read count, for rules that allow and such that"
    " deny, and no others",
    "FelixConfiguration": "It never was valid: fields that can be read count, all others are as if they were absent",
}
NO_TIER = "until there is, the policy comes after all tiers, and what it selects and does not allow is denied"


def policy_said(raw: Raw, *, is_global: bool, tiers: Collection[str], more: Iterable[str] = ()) -> Said:
    """Of a NetworkPolicy or GlobalNetworkPolicy of Calico's. `tiers`: names of those there are; `more`: what is to be
    remarked of it as compiled, each beginning with its field."""
    model = GlobalNetworkPolicy if is_global else NetworkPolicy
    found, wrong = _read(raw, model, calico_policy.check)
    if found is None or wrong:
        return Said(VALID, "False", "Invalid", some(map(str, wrong), shown=_SHOWN))
    if found.spec.tier not in tiers and found.spec.tier not in tier.BUILT_IN:
        return Said(VALID, "False", "NoSuchTier", f"spec.tier: there is no Tier {found.spec.tier}; {NO_TIER}")
    remarks = [*_ignored(found), *remarks_of(found)]
    said = {remark.partition(" ")[0] for remark in remarks}
    remarks += [remark for remark in more if remark.partition(" ")[0] not in said]
    return _with_remarks(VALID, "Valid", remarks)


def network_set_said(raw: Raw, *, is_global: bool, kept: bool = False) -> Said:
    """Of a NetworkSet or GlobalNetworkSet. `kept`, here and below: whether a version last valid is in force."""
    found, wrong = _read(raw, GlobalNetworkSet if is_global else NetworkSet, network_set.check)
    if found is None or wrong:
        return _invalid(VALID, wrong, "NetworkSet", kept=kept)
    remarks = [*_ignored(found), *([] if found.spec.nets else ["spec.nets is empty: the set holds no address"])]
    return _with_remarks(VALID, "Valid", remarks)


def tier_said(raw: Raw, *, kept: bool = False) -> Said:
    """Of a Tier."""
    found, wrong = _read(raw, Tier, tier.check)
    if found is None or wrong:
        return _invalid(VALID, wrong, "Tier", kept=kept)
    return _with_remarks(VALID, "Valid", [*_ignored(found)])


def felix_said(raw: Raw, nodes: Collection[str], *, kept: bool = False) -> Said:
    """Of a FelixConfiguration."""
    found, wrong = _read(raw, FelixConfiguration, felix_configuration.check)
    if found is None or wrong:
        return _invalid(ACCEPTED, wrong, "FelixConfiguration", kept=kept)
    node = found.metadata.name.removeprefix(felix_configuration.NODE_PREFIX)
    if found.metadata.name != felix_configuration.DEFAULT_NAME and node not in nodes:
        return Said(ACCEPTED, "False", "Invalid", f"metadata.name: there is no node {node}")
    if ignored := felix_configuration.without_effect(found):
        return Said(ACCEPTED, "True", "FieldsWithoutEffect", "without effect: " + some(ignored, shown=40))
    return Said(ACCEPTED, "True", "Accepted")


def _read(
    raw: Raw, model: type[ApiModel], check: Callable[[Any], tuple[Problem, ...]]
) -> tuple[Any, tuple[Problem, ...]]:
    try:
        found = model.parse(raw)
    except InvalidObject as error:
        return None, error.problems
    return found, check(found)


def _invalid(type_: str, wrong: Iterable[Problem], kind: str, *, kept: bool) -> Said:
    instead = LAST_VALID if kept else NEVER_VALID[kind]
    return Said(type_, "False", "Invalid", f"{some(map(str, wrong), shown=_SHOWN)}. {instead}")


def _ignored(found: ApiModel) -> Iterator[str]:
    yield from (f"{path} has no effect" for path in found.without_effect())


def _with_remarks(type_: str, reason: str, remarks: list[str]) -> Said:
    return Said(type_, "True", "Remarks" if remarks else reason, some(remarks, shown=_SHOWN))


# --- what is legal, and most likely not meant -------------------------------------------------------------------------


def remarks_of(policy: NetworkPolicy | GlobalNetworkPolicy) -> Iterator[str]:
    """What of a valid policy can have no effect, or not the one that its form suggests."""
    spec, annotations = policy.spec, policy.metadata.annotations
    if isinstance(spec, GlobalNetworkPolicySpec) and (spec.do_not_track or spec.pre_dnat):
        yield "it concerns host endpoints only, and selects no pod"
    for direction, kind, rules in (("ingress", "Ingress", spec.ingress), ("egress", "Egress", spec.egress)):
        if rules and kind not in spec.effective_types:
            yield f"spec.{direction} has no effect: spec.types does not hold {kind}"
        elif rules and all(rule.action == "Log" for rule in rules):
            yield f"spec.{direction} only logs, and allows nothing"
        yield from _dead(f"spec.{direction}", rules)
    value = annotations.get(calico_policy.LOG_DENIED)
    if value is not None and value.strip().lower() not in ("true", "false"):
        yield f"metadata.annotations[{calico_policy.LOG_DENIED}] {value!r} has no effect; must be true or false"


def _dead(path: str, rules: Iterable[PolicyRule]) -> Iterator[str]:
    """Rules that no packet ever meets, or that none can match."""
    decided = -1
    for number, rule in enumerate(rules):
        if decided >= 0:
            yield f"{path}[{number}] is never reached: {path}[{decided}] decides on every packet"
            return
        if why := _never(rule):
            yield f"{path}[{number}] can never match: {why}"
        elif rule.action != "Log" and _everything(rule):
            decided = number


def _everything(rule: PolicyRule) -> bool:
    """Whether nothing at all is asked of the packet."""
    asked = rule.model_copy(update={"action": "Allow", "metadata": None})
    return asked == PolicyRule(action="Allow")


def _never(rule: PolicyRule) -> str:
    if rule.protocol is not None and rule.protocol == rule.not_protocol:
        return "protocol and notProtocol are the same"
    if rule.icmp is not None and rule.icmp.type is not None and rule.icmp == rule.not_icmp:
        return "icmp and notICMP are the same"
    for name, end in (("source", rule.source), ("destination", rule.destination)):
        if why := _never_at(end):
            return f"{name}.{why}"
    return ""


def _never_at(end: EntityRule) -> str:
    if end.nets and end.not_nets and all(_covered(net, end.not_nets) for net in end.nets):
        return "notNets hold all of nets"
    if end.ports and set(end.ports) <= set(end.not_ports):
        return "notPorts hold all of ports"
    if end.selector and end.selector == end.not_selector:
        return "selector and notSelector are the same"
    return ""


def _covered(net: str, others: Iterable[str]) -> bool:
    inner = ipaddress.ip_network(net)
    outers = (ipaddress.ip_network(other) for other in others)
    return any(inner.version == outer.version and inner.subnet_of(outer) for outer in outers)  # type: ignore[arg-type]
