"""projectcalico.org/v3 NetworkPolicy and GlobalNetworkPolicy: whom they concern, and which rules match. Part of the
reference semantics.

Owns: the sentences of Calico's resource reference, each beside its branch; where these leave something open, what
Calico's code does (libcalico-go's updateprocessors/rules.go; Felix's calc/rule_scanner.go and rules/policy.go).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from manx_core.api.calico_policy import (
    EntityRule,
    GlobalNetworkPolicy,
    IcmpFields,
    NetworkPolicy,
    PolicyRule,
    ServiceMatch,
    check,
)
from manx_core.api.core_v1 import EndpointSlice
from manx_core.policy.reference.connection import ICMP, ICMPV6, Connection, End, Item, protocol_number, within
from manx_core.selectors import calico

CalicoPolicy = NetworkPolicy | GlobalNetworkPolicy
BOTH = ("Ingress", "Egress")


def is_valid(policy: CalicoPolicy) -> bool:
    return not check(policy)


def types_of(policy: CalicoPolicy) -> tuple[str, ...]:
    """The directions in which the policy applies."""
    if policy.spec.types:
        return policy.spec.types
    # "If types has no value, Calico defaults as follows": ingress rules present, egress rules present → types.
    table = {
        (False, False): ("Ingress",),
        (True, False): ("Ingress",),
        (False, True): ("Egress",),
        (True, True): ("Ingress", "Egress"),
    }
    return table[bool(policy.spec.ingress), bool(policy.spec.egress)]


def applies(policy: CalicoPolicy, pod: Item) -> bool:
    """Whether the policy selects the pod."""
    spec = policy.spec
    if isinstance(policy, NetworkPolicy):
        # "NetworkPolicy in a specific namespace only applies to workload endpoint resources in that namespace."
        if pod.namespace != policy.metadata.namespace:
            return False
    elif spec.do_not_track or spec.pre_dnat:
        # "The doNotTrack and preDNAT and applyOnForward fields are meaningful only when applying policy to a host
        # endpoint." Such a policy has nothing to say to a pod.
        return False
    elif spec.namespace_selector and not _in_namespaces(spec.namespace_selector, pod):
        # "Selects the namespace(s) to which this policy applies."
        return False
    # "Selects the endpoints to which this policy applies." Default: all().
    # "Selects the service account(s) to which this policy applies." Default: all().
    selected = _selects(spec.selector, pod.labels)
    return selected and _selects(spec.service_account_selector, pod.service_account_labels)


def asks_for_namespaces(policy: GlobalNetworkPolicy) -> bool:
    """Whether its namespaceSelector reads labels, and so needs namespaces that are known."""
    concerns_pods = not (policy.spec.do_not_track or policy.spec.pre_dnat)
    return concerns_pods and policy.spec.namespace_selector.strip() not in ("", "all()")


def matching_rules(policy: CalicoPolicy, asked: Connection) -> Iterator[tuple[int, str]]:
    """The number and action of each rule that matches."""
    rules = policy.spec.ingress if asked.direction == "Ingress" else policy.spec.egress
    # "When multiple rules are specified, they are executed in order."
    for number, rule in enumerate(rules):
        if _matches(rule, policy, asked):
            yield number, rule.action


def _matches(rule: PolicyRule, policy: CalicoPolicy, asked: Connection) -> bool:
    """ "If the rule contains multiple match criteria … then all match criteria must match." """
    if rule.ip_version not in (None, asked.version):  # "Positive IP version match."
        return False
    if rule.protocol is not None and protocol_number(rule.protocol) != asked.protocol:  # "Positive protocol match."
        return False
    if rule.not_protocol is not None and protocol_number(rule.not_protocol) == asked.protocol:  # "Negative …"
        return False
    if rule.icmp is not None and not _icmp(rule.icmp, asked):  # "ICMP match criteria."
        return False
    # "Negative match on ICMP." An empty one asks for nothing.
    if rule.not_icmp is not None and rule.not_icmp != IcmpFields() and _icmp(rule.not_icmp, asked):
        return False
    return all(_end_matches(rule, at, end, policy, asked) for at, end in _ends(rule, asked))


def _ends(rule: PolicyRule, asked: Connection) -> tuple[tuple[EntityRule, End], tuple[EntityRule, End]]:
    return (rule.source, asked.source), (rule.destination, asked.destination)


def _icmp(icmp: IcmpFields, asked: Connection) -> bool:
    if icmp == IcmpFields():
        return True
    if asked.protocol not in (ICMP, ICMPV6):
        return False
    # "Match on ICMP type", "Match on ICMP code".
    return icmp.type in (None, asked.icmp_type) and icmp.code in (None, asked.icmp_code)


def _end_matches(rule: PolicyRule, at: EntityRule, end: End, policy: CalicoPolicy, asked: Connection) -> bool:
    if at.nets and not within(end.address, at.nets):
        # "Match packets with IP in any of the listed CIDRs."
        return False
    if at.not_nets and (not _same_family(at.not_nets, asked) or within(end.address, at.not_nets)):
        # "Match packets with IP not in any of the listed CIDRs." A rule with CIDRs of one family is a rule for that
        # family alone (Felix, FilterRuleToIPVersion).
        return False
    if at.services is not None and not _service(at.services, end, policy, asked):
        return False
    return _identity(at, end, policy) and _ports(rule, at, end, policy)


def _same_family(networks: tuple[str, ...], asked: Connection) -> bool:
    return any(ipaddress.ip_network(text).version == asked.version for text in networks)


# --- who is at that end -----------------------------------------------------------------------------------------------


def _identity(at: EntityRule, end: End, policy: CalicoPolicy) -> bool:
    if _asks_for_known(at, policy):
        # "Selectors only match (known) resources, but rules match packets": some pod or network set with the address.
        return any(_is_one(at, item, policy) for item in end.items)
    # "notSelector: has(foo) matches packets from/to anywhere (including outside the cluster), except traffic from/to
    # endpoints and network sets that have the label foo."
    return not at.not_selector or not any(_selects(at.not_selector, item.labels) for item in end.items)


def _asks_for_known(at: EntityRule, policy: CalicoPolicy) -> bool:
    """Whether only pods and network sets can match: there is a positive selector; or it is a NetworkPolicy's rule with
    any at all, for then "selectors apply to the NetworkPolicy's namespace" (as soon as any of the selector fields is
    used, notSelector too: GetEntityRuleSelector)."""
    accounts = at.service_accounts is not None and bool(at.service_accounts.names or at.service_accounts.selector)
    positive = bool(at.selector or at.namespace_selector or accounts)
    return positive or (isinstance(policy, NetworkPolicy) and bool(at.not_selector))


def _is_one(at: EntityRule, item: Item, policy: CalicoPolicy) -> bool:
    """Whether the item is what the selectors at that end, all together, select."""
    if at.namespace_selector:
        # "If a namespaceSelector is also defined, the set of endpoints this applies to is limited to the endpoints in
        # the selected namespaces."
        if not _in_namespaces(at.namespace_selector, item):
            return False
    elif isinstance(policy, NetworkPolicy) and item.namespace != policy.metadata.namespace:
        # "If not defined then selectors apply to the NetworkPolicy's namespace."
        return False
    if at.service_accounts is not None and not _runs_as(at, item):
        return False
    if at.selector and not _selects(at.selector, item.labels):
        return False
    return not at.not_selector or not _selects(at.not_selector, item.labels)


def _runs_as(at: EntityRule, item: Item) -> bool:
    """ "Match endpoints running under service accounts": by name, and by label."""
    assert at.service_accounts is not None
    names, selector = at.service_accounts.names, at.service_accounts.selector
    if names and item.labels.get("projectcalico.org/serviceaccount") not in names:
        return False
    return not selector or _selects(selector, item.service_account_labels)


def _in_namespaces(selector: str, item: Item) -> bool:
    """A namespaceSelector "selects over the labels on namespaces"."""
    if selector.strip() == "global()":
        # "Select the non-namespaced resources like GlobalNetworkSet(s) … by using global() selector."
        return not item.namespace
    if selector.strip() == "all()":
        # "We treat all() as select all namespaces": what is in a namespace (GetEntityRuleSelector).
        return bool(item.namespace)
    if item.namespace_labels is None:
        # Manx: what is in a namespace that is not known is in none that is asked for by labels, present or absent.
        return False
    # Beside other conditions, too, all() is what is in a namespace: it is replaced as text (GetEntityRuleSelector).
    place = {_SOMEWHERE: ""} if item.namespace else {}
    return _selects(selector.replace("all()", f"has({_SOMEWHERE})"), {**item.namespace_labels, **place})


_SOMEWHERE = "some//namespace"
"""A key that no label can have."""


def _selects(selector: str, labels: Mapping[str, str]) -> bool:
    """An empty selector asks for nothing."""
    return calico.parse(selector).matches(labels)


# --- services and ports -----------------------------------------------------------------------------------------------


def _service(wanted: ServiceMatch, end: End, policy: CalicoPolicy, asked: Connection) -> bool:
    """The end is one of the Service's endpoints, ready or not, as its EndpointSlices have them."""
    namespace = wanted.namespace or policy.metadata.namespace
    for slice_ in asked.cluster.endpoint_slices.values():
        of = slice_.metadata.labels.get("kubernetes.io/service-name")
        if (slice_.metadata.namespace, of) == (namespace, wanted.name) and _in_slice(slice_, end, asked):
            return True
    return False


def _in_slice(slice_: EndpointSlice, end: End, asked: Connection) -> bool:
    if not any(_same_address(text, end.address) for found in slice_.endpoints for text in found.addresses):
        return False
    if asked.direction == "Ingress":
        return True  # "Service IP set with only its CIDR": an ingress rule's source.
    # An egress rule's destination: the endpoints' ports, too. One without a number is no port.
    ports = [(protocol_number(port.protocol), port.port) for port in slice_.ports]
    return (asked.protocol, end.port) in ports


def _same_address(text: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(text) == ipaddress.ip_address(address)
    except ValueError:
        return False  # addressType FQDN


def _ports(rule: PolicyRule, at: EntityRule, end: End, policy: CalicoPolicy) -> bool:
    # "Positive match on the specified ports", "Negative match on the specified ports".
    if at.ports and not any(_port(rule, at, port, end, policy) for port in at.ports):
        return False
    return not any(_port(rule, at, port, end, policy) for port in at.not_ports)


def _port(rule: PolicyRule, at: EntityRule, port: int | str, end: End, policy: CalicoPolicy) -> bool:
    if isinstance(port, int):
        return end.port == port  # "The exact (numeric) port specified"
    first, colon, last = port.partition(":")
    if colon:
        return int(first) <= end.port <= int(last)  # "All (numeric) ports within the range start ≤ x ≤ end"
    # "A named port, as defined in the ports list of one or more endpoints": those that the selectors at this end
    # select, any where there are none.
    among = [item for item in end.items if not _asks_for_known(at, policy) or _is_one(at, item, policy)]
    wanted = protocol_number(rule.protocol or "TCP")
    return any(
        (found.name, protocol_number(found.protocol), found.number) == (port, wanted, end.port)
        for item in among
        for found in item.ports
    )
