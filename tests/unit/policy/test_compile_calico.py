"""Each part of a Calico policy becomes what it means, as libcalico-go and Felix read it."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from manx_core.api.calico_policy import GlobalNetworkPolicy, NetworkPolicy
from manx_core.api.v1alpha1 import IcmpMatch, PolicySource, Rule, RuleEnd
from manx_core.policy import (
    CompiledPolicy,
    GroupDef,
    InvalidPolicy,
    ServiceRef,
    closed_calico_policy,
    compile_calico_policy,
    compile_network_policy,
)
from manx_core.policy.scope import ALL_PODS, network_set_item, pod_item
from manx_core.selectors import EVERYTHING, NOTHING, Selects, normalize
from manx_core.selectors.calico import parse
from manx_core.selectors.expression import rewrite
from policy_cases import ingress, peer, policy, select
from policy_objects import gnp, np


def compiled(policy: NetworkPolicy | GlobalNetworkPolicy) -> CompiledPolicy:
    result = compile_calico_policy(policy)
    assert isinstance(result, CompiledPolicy)
    return result


def flat(text: str) -> Selects:
    """A selector over flat labels, in Calico's grammar with `~` for the colon, which it lacks."""
    readable = parse(text.replace("~", "..")).expression
    return normalize(rewrite(readable, lambda label: label.replace("..", ":")))


def rule_of(spec: dict[str, Any], namespace: str = "", direction: str = "ingress") -> tuple[Rule, list[GroupDef]]:
    """What one rule becomes, with its groups."""
    rules: dict[str, Any] = {direction: [{"action": "Allow", **spec}]}
    result = compiled(np(namespace, "p", selector="app == 'a'", **rules) if namespace else gnp("p", **rules))
    found = result.ingress if direction == "ingress" else result.egress
    assert len(found) == 1
    return found[0], list(result.groups)


# --- whom a policy concerns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "~namespace == 'web'"),
        ({"selector": "all()"}, "~namespace == 'web'"),
        ({"selector": "a == 'x' || b == 'y'"}, "~namespace == 'web' && (a == 'x' || b == 'y')"),
        ({"serviceAccountSelector": "role == 'w'"}, "~namespace == 'web' && ~serviceaccount~role == 'w'"),
        (
            {"selector": "projectcalico.org/serviceaccount == 's' && projectcalico.org/orchestrator == 'k8s'"},
            "~namespace == 'web' && ~serviceaccount == 's' && ~orchestrator == 'k8s'",
        ),
        ({"selector": "projectcalico.org/namespace == 'ops'"}, "!all()"),
    ],
)
def test_a_network_policy_concerns_pods_of_its_namespace(spec: dict[str, Any], expected: str) -> None:
    assert compiled(np("web", "p", **spec)).applies_to == flat(expected)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "all()"),
        ({"selector": "has(a)"}, "has(a)"),
        ({"namespaceSelector": "all()"}, "has(~namespace)"),
        ({"namespaceSelector": "team == 'a'"}, "has(~known) && ~namespace~team == 'a'"),
        ({"namespaceSelector": "projectcalico.org/name == 'web'"}, "has(~known) && ~namespace == 'web'"),
        (
            {"selector": "a == 'x'", "namespaceSelector": "!has(b)", "serviceAccountSelector": "has(c)"},
            "a == 'x' && has(~known) && !has(~namespace~b) && has(~serviceaccount~c)",
        ),
        ({"doNotTrack": True, "applyOnForward": True}, "!all()"),
        ({"preDNAT": True, "applyOnForward": True}, "!all()"),
        ({"applyOnForward": True}, "all()"),
    ],
)
def test_a_global_policy_concerns_pods_anywhere(spec: dict[str, Any], expected: str) -> None:
    assert compiled(gnp("p", **spec)).applies_to == flat(expected)


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ("Ingress",)),
        ({"ingress": [{"action": "Allow"}]}, ("Ingress",)),
        ({"egress": [{"action": "Allow"}]}, ("Egress",)),
        ({"ingress": [{"action": "Allow"}], "egress": [{"action": "Deny"}]}, ("Ingress", "Egress")),
        ({"types": ["Egress", "Ingress"]}, ("Ingress", "Egress")),
        ({"types": ["Ingress"], "egress": [{"action": "Allow"}]}, ("Ingress",)),
    ],
)
def test_types(spec: dict[str, Any], types: tuple[str, ...]) -> None:
    result = compiled(gnp("p", **spec))
    assert result.types == types
    assert bool(result.ingress) == ("Ingress" in types and "ingress" in spec)
    assert bool(result.egress) == ("Egress" in types and "egress" in spec)


def test_where_a_policy_stands() -> None:
    meta = {
        "name": "p",
        "namespace": "web",
        "uid": "u",
        "generation": 3,
        "annotations": {"manx.dev/log-denied": "true"},
    }
    result = compiled(NetworkPolicy.parse({"metadata": meta, "spec": {"tier": "ops", "order": 10}}))
    assert (result.name, result.tier, result.namespace, result.order) == ("np.web.p", "ops", "web", 10.0)
    assert result.program().log_denied
    assert result.source == PolicySource(
        kind="NetworkPolicy", name="p", namespace="web", uid="u", generation=3, tier="ops"
    )
    other = compiled(gnp("p"))
    assert (other.name, other.source.kind, other.namespace, other.log_denied) == (
        "gnp.p",
        "GlobalNetworkPolicy",
        "",
        False,
    )


def test_policies_stand_by_order_then_by_name() -> None:
    kubernetes = compile_network_policy(policy("web", "m"))
    assert isinstance(kubernetes, CompiledPolicy)
    declared = [
        compiled(gnp("z", order=-1)),
        compiled(gnp("a-b", order=1000)),
        kubernetes,
        compiled(np("web", "m", order=1000)),
        compiled(gnp("n", order=1000)),
        compiled(gnp("a")),
        compiled(np("ops", "b")),
        compiled(np("web", "b")),
    ]
    mixed = Random(1).sample(declared, len(declared))
    assert sorted(mixed, key=lambda one: one.sort_key) == declared


# --- what the selectors of one end come to ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "namespaced", "everywhere"),
    [
        ({"selector": "a == 'x'"}, "~namespace == 'web' && a == 'x'", "a == 'x'"),
        ({"selector": "all()"}, "~namespace == 'web'", "all()"),
        ({"namespaceSelector": "all()"}, "has(~namespace)", "has(~namespace)"),
        ({"namespaceSelector": "!all()"}, "!has(~namespace)", "!has(~namespace)"),
        ({"namespaceSelector": "global()"}, "!has(~namespace)", "!has(~namespace)"),
        ({"namespaceSelector": " global() "}, "!has(~namespace)", "!has(~namespace)"),
        (
            {"namespaceSelector": "has(t) || all()"},
            "has(~known) && (has(~namespace~t) || has(~namespace))",
            "has(~known) && (has(~namespace~t) || has(~namespace))",
        ),
        (
            {"selector": "a == 'x'", "namespaceSelector": "t == 'y'"},
            "a == 'x' && has(~known) && ~namespace~t == 'y'",
            "a == 'x' && has(~known) && ~namespace~t == 'y'",
        ),
        (
            {"selector": "a == 'x'", "namespaceSelector": "global()"},
            "a == 'x' && !has(~namespace)",
            "a == 'x' && !has(~namespace)",
        ),
        (
            {"selector": "has(a)", "notSelector": "b == 'y'"},
            "~namespace == 'web' && has(a) && b != 'y'",
            "has(a) && b != 'y'",
        ),
        (
            {"serviceAccounts": {"names": ["s", "r"]}},
            "~namespace == 'web' && ~serviceaccount in {'r', 's'}",
            "~serviceaccount in {'r', 's'}",
        ),
        (
            {"serviceAccounts": {"names": ["s"], "selector": "has(k)"}, "selector": "has(a)"},
            "~namespace == 'web' && ~serviceaccount == 's' && has(~serviceaccount~k) && has(a)",
            "~serviceaccount == 's' && has(~serviceaccount~k) && has(a)",
        ),
    ],
)
def test_one_group_says_who_it_must_be(end: dict[str, Any], namespaced: str, everywhere: str) -> None:
    for namespace, expected in (("web", namespaced), ("", everywhere)):
        rule, groups = rule_of({"source": end}, namespace)
        assert groups == [GroupDef(flat(expected))]
        assert rule.peer == RuleEnd(groups=(groups[0].id,))


def test_what_it_must_not_be_alone_is_anything_else_at_all() -> None:
    rule, groups = rule_of({"source": {"notSelector": "a == 'x'"}})
    assert groups == [GroupDef(flat("a == 'x'"))]
    assert rule.peer == RuleEnd(not_groups=(groups[0].id,))


def test_what_it_must_not_be_alone_is_of_the_own_namespace_in_a_namespaced_policy() -> None:
    rule, groups = rule_of({"source": {"notSelector": "a == 'x'"}}, "web")
    assert groups == [GroupDef(flat("~namespace == 'web' && a != 'x'"))]
    assert rule.peer == RuleEnd(groups=(groups[0].id,))


def test_empty_matches_ask_for_nothing() -> None:
    rule, groups = rule_of(
        {"source": {"serviceAccounts": {}, "selector": "", "nets": [], "ports": []}, "icmp": {}, "protocol": "ICMP"}
    )
    assert rule == Rule(protocol="ICMP")
    assert groups == []


def test_either_end_may_ask_for_anything() -> None:
    spec = {
        "protocol": "UDP",
        "source": {"ports": [53], "nets": ["10.0.0.0/8"]},
        "destination": {"selector": "has(a)", "notPorts": ["1000:2000", 80]},
    }
    rule, groups = rule_of(spec)
    here, there = (
        RuleEnd(groups=(groups[0].id,), not_ports=("80", "1000-2000")),
        RuleEnd(nets=("10.0.0.0/8",), ports=("53",)),
    )
    assert (rule.subject, rule.peer, rule.ip_version) == (here, there, 4)
    rule, groups = rule_of(spec, direction="egress")
    assert (rule.subject, rule.peer) == (there, here)


# --- ports ------------------------------------------------------------------------------------------------------------


def test_numbers_and_ranges_become_one_list() -> None:
    rule, _ = rule_of({"protocol": "TCP", "destination": {"ports": [8080, "80:90", 85, "443", "90:100"]}})
    assert rule.subject.ports == ("80-100", "443", "8080")


@pytest.mark.parametrize(
    ("direction", "end"),
    [("ingress", "destination"), ("ingress", "source"), ("egress", "source"), ("egress", "destination")],
)
def test_a_named_port_is_the_subjects_at_its_own_end_and_any_pods_at_the_other(direction: str, end: str) -> None:
    ports = {"ports": ["http", 80, "alt"], "notPorts": ["dns"]}
    rule, groups = rule_of({"protocol": "TCP", end: ports}, "web", direction)
    if (direction, end) in (("ingress", "destination"), ("egress", "source")):
        assert groups == []
        assert rule.subject == RuleEnd(ports=("80",), named_ports=("alt", "http"), not_named_ports=("dns",))
        return
    alt, http, dns = (GroupDef(ALL_PODS, name, "TCP") for name in ("alt", "http", "dns"))
    assert groups == [alt, http, dns]
    assert rule.peer == RuleEnd(ports=("80",), port_groups=(alt.id, http.id), not_port_groups=(dns.id,))


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_named_port_is_one_of_what_the_selectors_at_that_end_select(direction: str) -> None:
    """At the subject's end, too: its address may be of a network set that is selected, which has no ports."""
    end = {"selector": "has(b)", "ports": ["http", "dns"]}
    rule, groups = rule_of({"protocol": 17, "destination": end}, direction=direction)
    assert groups == [GroupDef(flat("has(b)"), "dns", "UDP"), GroupDef(flat("has(b)"), "http", "UDP")]
    at_end = rule.subject if direction == "ingress" else rule.peer
    assert at_end == RuleEnd(port_groups=tuple(group.id for group in groups))


def test_beside_numbers_the_group_itself_counts_too() -> None:
    end = {"selector": "has(b)", "ports": ["http", 80]}
    rule, groups = rule_of({"protocol": "TCP", "destination": end}, direction="egress")
    port, items = GroupDef(flat("has(b)"), "http", "TCP"), GroupDef(flat("has(b)"))
    assert groups == [items, port]
    assert rule.peer == RuleEnd(groups=(items.id,), port_groups=(port.id,), ports=("80",))


# --- protocols, families, nets, services ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"protocol": "TCP"}, Rule(protocol="TCP")),
        ({"protocol": 6}, Rule(protocol="TCP")),
        ({"protocol": "132"}, Rule(protocol="SCTP")),
        ({"protocol": 89}, Rule(protocol="89")),
        ({"notProtocol": "UDPLite"}, Rule(not_protocol="UDPLite")),
        ({"notProtocol": 58}, Rule(not_protocol="ICMPv6")),
        ({"protocol": "ICMP", "icmp": {"type": 8}}, Rule(protocol="ICMP", icmp=IcmpMatch(type=8))),
        (
            {"protocol": "ICMPv6", "icmp": {"type": 1, "code": 3}, "notICMP": {"type": 0}},
            Rule(protocol="ICMPv6", icmp=IcmpMatch(type=1, code=3), not_icmp=IcmpMatch(type=0)),
        ),
        ({"ipVersion": 6}, Rule(ip_version=6)),
        ({"action": "Log"}, Rule(action="Log")),
        ({"action": "Pass"}, Rule(action="Pass")),
    ],
)
def test_what_a_packet_is(spec: dict[str, Any], expected: Rule) -> None:
    assert rule_of(spec)[0] == expected


@pytest.mark.parametrize(
    ("source", "version", "end"),
    [
        (
            {"nets": ["10.0.0.0/8", "0.0.0.0/0", "10.0.0.0/8"]},
            4,
            RuleEnd(nets=("0.0.0.0/0", "10.0.0.0/8")),
        ),
        ({"nets": ["FD00::/16"]}, 6, RuleEnd(nets=("fd00::/16",))),
        ({"notNets": ["192.0.2.0/24"]}, 4, RuleEnd(not_nets=("192.0.2.0/24",))),
        ({"nets": ["::/0"], "notNets": ["fd00::/16"]}, 6, RuleEnd(nets=("::/0",), not_nets=("fd00::/16",))),
    ],
)
def test_a_rule_with_nets_is_for_their_family(source: dict[str, Any], version: int, end: RuleEnd) -> None:
    rule, _ = rule_of({"source": source})
    assert (rule.ip_version, rule.peer) == (version, end)


@pytest.mark.parametrize(
    "rule",
    [
        {"source": {"notNets": ["0.0.0.0/0"]}},
        {"destination": {"notNets": ["fd00::/16", "::/0"]}},
        {"source": {"selector": "!all()"}},
        {"source": {"selector": "a == 'x' && a == 'y'"}},
        {"destination": {"selector": "all()", "notSelector": "all()"}},
    ],
)
def test_a_rule_that_can_match_nothing_is_left_out_and_the_others_keep_their_index(rule: dict[str, Any]) -> None:
    result = compiled(gnp("p", ingress=[{"action": "Allow", **rule}, {"action": "Deny"}]))
    assert result.ingress == (Rule(action="Deny", index=1),)
    assert result.groups == ()


def test_a_service_is_addresses_as_a_source_and_ports_too_as_a_destination() -> None:
    rule, groups = rule_of({"source": {"services": {"name": "s"}}}, "web")
    assert groups == [GroupDef(service=ServiceRef("web", "s", with_ports=False))]
    assert rule.peer == RuleEnd(groups=(groups[0].id,))
    rule, groups = rule_of({"destination": {"services": {"name": "s", "namespace": "ops"}}}, direction="egress")
    assert groups == [GroupDef(service=ServiceRef("ops", "s", with_ports=True))]
    assert rule.peer == RuleEnd(port_groups=(groups[0].id,))
    assert [group.type for group in groups] == ["AddressPorts"]
    assert groups[0].selector == "addresses and ports of service ops/s"


def test_a_services_ports_may_be_narrowed_at_the_source_of_an_ingress_rule() -> None:
    spec = {"protocol": "TCP", "source": {"services": {"name": "s"}, "ports": ["1:1023"]}}
    rule, groups = rule_of(spec, "web")
    assert rule.peer == RuleEnd(groups=(groups[0].id,), ports=("1-1023",))


# --- what is shared ---------------------------------------------------------------------------------------------------


def test_kinds_share_groups_where_they_select_the_same() -> None:
    kubernetes = compile_network_policy(policy("web", "p", rules=(ingress((peer(select(app="a")),)),)))
    assert isinstance(kubernetes, CompiledPolicy)
    pods = "app == 'a' && projectcalico.org/orchestrator == 'k8s'"
    rules = [{"action": "Allow", "source": {"selector": pods, "namespaceSelector": "projectcalico.org/name == 'web'"}}]
    known = flat("app == 'a' && ~orchestrator == 'k8s' && ~namespace == 'web' && has(~known)")
    assert compiled(gnp("p", ingress=rules)).groups == (GroupDef(known),)
    own = compiled(np("web", "p", ingress=[{"action": "Allow", "source": {"selector": pods}}]))
    assert own.groups == kubernetes.groups


def test_groups_of_selectors_written_differently_are_one() -> None:
    texts = ("a == 'x' || b == 'y'", "b in {'y'} || !(a != 'x')", "!(a != 'x' && b != 'y')")
    rules = [{"action": "Allow", "source": {"selector": text}} for text in texts]
    assert len(compiled(gnp("p", ingress=rules)).groups) == 1


# --- what is not valid ------------------------------------------------------------------------------------------------

DENY_ALL = (Rule(action="Deny", index=-1),)


def test_what_was_never_valid_denies_what_it_selects() -> None:
    declared = np(
        "web", "p", tier="ops", order=3, selector="has(a)", egress=[{"action": "Allow", "destination": {"ports": [80]}}]
    )
    result = compile_calico_policy(declared)
    assert isinstance(result, InvalidPolicy)
    assert [problem.field for problem in result.problems] == ["spec.egress[0].destination.ports"]
    closed = result.closed
    assert (closed.types, closed.ingress, closed.egress, closed.groups) == (("Egress",), (), DENY_ALL, ())
    assert (closed.tier, closed.order, closed.name) == ("ops", 3.0, "np.web.p")
    assert closed.applies_to == flat("~namespace == 'web' && has(a)")
    assert closed == closed_calico_policy(declared)


def test_an_invalid_policy_for_host_endpoints_concerns_no_pod() -> None:
    result = compile_calico_policy(gnp("p", doNotTrack=True))
    assert isinstance(result, InvalidPolicy)
    assert result.closed.applies_to == NOTHING


# --- items ------------------------------------------------------------------------------------------------------------


def test_users_labels_cannot_forge_what_comes_of_namespace_and_service_account() -> None:
    forged = {"projectcalico.org/namespace": "kube-system", "projectcalico.org/serviceaccount": "root"}
    item = pod_item("web", {"team": "a"}, forged, "s", {"k": "v", "projectcalico.org/name": "root"})
    by_name = "projectcalico.org/name == 'root'"
    for spec in (
        {"selector": "projectcalico.org/namespace == 'kube-system'"},
        {"selector": "projectcalico.org/serviceaccount == 'root'"},
        {"namespaceSelector": "projectcalico.org/name == 'kube-system'"},
        {"serviceAccountSelector": by_name},
    ):
        assert not compiled(gnp("p", **spec)).applies_to.matches(item)
    assert compiled(gnp("p", serviceAccountSelector="projectcalico.org/name == 's' && k == 'v'")).applies_to.matches(
        item
    )


@pytest.mark.parametrize(
    ("end", "matching"),
    [
        ({"namespaceSelector": "global()"}, {"global set"}),
        ({"namespaceSelector": "all()"}, {"pod", "set", "pod of an unknown namespace"}),
        ({"namespaceSelector": "!has(team)"}, {"global set"}),
        ({"namespaceSelector": "team == 'a'"}, {"pod", "set"}),
        ({"selector": "has(a)"}, {"pod", "set", "global set", "pod of an unknown namespace"}),
        ({"selector": "projectcalico.org/orchestrator == 'k8s'"}, {"pod", "pod of an unknown namespace"}),
        ({"selector": "!has(projectcalico.org/namespace)"}, {"global set"}),
        ({"serviceAccounts": {"selector": "!has(k)"}}, {"set", "global set", "pod of an unknown namespace"}),
    ],
)
def test_what_selectors_select_of_pods_and_network_sets(end: dict[str, Any], matching: set[str]) -> None:
    items = {
        "pod": pod_item("web", {"team": "a"}, {"a": "x"}, "s", {"k": "v"}),
        "pod of an unknown namespace": pod_item("ops", None, {"a": "x"}, "s"),
        "set": network_set_item("web", {"team": "a"}, {"a": "x"}),
        "global set": network_set_item("", None, {"a": "x"}),
    }
    _, groups = rule_of({"source": end})
    assert {name for name, item in items.items() if groups[0].selects.matches(item)} == matching


def test_everything_is_selected_by_an_empty_definition() -> None:
    assert GroupDef().selects == EVERYTHING
    assert GroupDef().members_of(["192.0.2.0/24"]) == ("192.0.2.0/24",)
