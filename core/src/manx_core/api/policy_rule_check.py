"""What is wrong with rules of Calico's policies beyond their fields' types.

Owns: the conditions that relate fields of a rule to each other, as Calico's own validation has them.
Must not: know policies.

Source: Calico v3.30, libcalico-go/lib/validator/v3: validateRule, validateEntityRule; and the CEL rules of its later
releases, which take ICMP by number, too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Literal

from manx_core.api.fields import Problem
from manx_core.api.policy_fields import ICMP, ICMPV6, WITH_PORTS, no_global
from manx_core.api.policy_rule import EntityRule, IcmpFields, PolicyRule, ServiceMatch

Direction = Literal["ingress", "egress"]
Problems = Iterator[Problem]
SERVICES_ALONE = "must not be set together with services"


def check_rules(direction: Direction, rules: Iterable[PolicyRule]) -> Problems:
    """What is wrong with the rules of one direction, in the order of their numbers."""
    for number, rule in enumerate(rules):
        yield from _rule(f"spec.{direction}[{number}]", direction, rule)


def _rule(path: str, direction: Direction, rule: PolicyRule) -> Problems:
    yield from _protocol(path, rule)
    yield from _families(path, rule)
    for name, end in (("source", rule.source), ("destination", rule.destination)):
        yield from _ports(f"{path}.{name}", rule, end)
        yield from _end(f"{path}.{name}", end)
    yield from _services_place(path, direction, rule)
    if rule.http is not None:
        yield Problem(f"{path}.http", "is not supported: Manx does not look into connections")


def _protocol(path: str, rule: PolicyRule) -> Problems:
    yield from _icmp(f"{path}.icmp", rule.icmp)
    yield from _icmp(f"{path}.notICMP", rule.not_icmp)
    if rule.icmp is not None and rule.protocol not in ICMP | ICMPV6:
        yield Problem(f"{path}.icmp", f"needs {path}.protocol ICMP or ICMPv6")
    for name, protocol in (("protocol", rule.protocol), ("notProtocol", rule.not_protocol)):
        for version, family in ((4, ICMP), (6, ICMPV6)):
            if protocol in family and rule.ip_version not in (None, version):
                yield Problem(f"{path}.ipVersion", f"must be {version} where {path}.{name} is {protocol}")


def _icmp(path: str, icmp: IcmpFields | None) -> Problems:
    if icmp is not None and icmp.code is not None and icmp.type is None:
        yield Problem(f"{path}.code", "needs a type")


def _families(path: str, rule: PolicyRule) -> Problems:
    """All CIDRs of a rule are of one family, and of the family that ipVersion names."""
    seen: set[int] = set()
    for name, nets in _nets(rule):
        here = {ipaddress.ip_network(net).version for net in nets}
        seen |= here
        if rule.ip_version is not None and here - {rule.ip_version}:
            yield Problem(f"{path}.{name}", f"must be of IPv{rule.ip_version}, as {path}.ipVersion says")
        elif here and len(seen) > 1:
            yield Problem(f"{path}.{name}", "IPv4 and IPv6 must not be in one rule; write a rule for each")


def _nets(rule: PolicyRule) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, end in (("source", rule.source), ("destination", rule.destination)):
        yield f"{name}.nets", end.nets
        yield f"{name}.notNets", end.not_nets


def _ports(path: str, rule: PolicyRule, end: EntityRule) -> Problems:
    for name, ports in (("ports", end.ports), ("notPorts", end.not_ports)):
        if ports and rule.protocol not in WITH_PORTS:
            yield Problem(f"{path}.{name}", "needs the rule's protocol to be TCP, UDP or SCTP")


def _end(path: str, end: EntityRule) -> Problems:
    yield from no_global(f"{path}.selector", end.selector)
    yield from no_global(f"{path}.notSelector", end.not_selector)
    if "global(" in end.namespace_selector and end.namespace_selector.strip() != "global()":
        yield Problem(f"{path}.namespaceSelector", "global() must not be combined with anything")
    if end.service_accounts is not None:
        yield from no_global(f"{path}.serviceAccounts.selector", end.service_accounts.selector)
    if end.services is not None:
        yield from _services_alone(path, end, end.services)


def _services_alone(path: str, end: EntityRule, services: ServiceMatch) -> Problems:
    if not services.name:
        yield Problem(f"{path}.services.name", "is missing; must be the name of a Service")
    beside = {
        "selector": end.selector,
        "notSelector": end.not_selector,
        "namespaceSelector": end.namespace_selector,
        "serviceAccounts": end.service_accounts,
        "nets": end.nets,
        "notNets": end.not_nets,
    }
    yield from (Problem(f"{path}.{name}", SERVICES_ALONE) for name, value in beside.items() if value)


def _services_place(path: str, direction: Direction, rule: PolicyRule) -> Problems:
    wrong, right = ("destination", "source") if direction == "ingress" else ("source", "destination")
    if getattr(rule, wrong).services is not None:
        yield Problem(f"{path}.{wrong}.services", f"is allowed only in {right} where rules are for {direction}")
    if rule.destination.services is not None:
        for name, ports in (("ports", rule.destination.ports), ("notPorts", rule.destination.not_ports)):
            if ports:
                yield Problem(f"{path}.destination.{name}", SERVICES_ALONE + ", whose ports count")
