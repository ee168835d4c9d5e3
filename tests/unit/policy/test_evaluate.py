"""Compiled policy means what its contract says: tiers, actions, and each condition of a rule."""

from __future__ import annotations

import subprocess
import sys

import pytest

from manx_core import policy
from manx_core.api.v1alpha1 import ClassTier, IcmpMatch, PolicyProgramSpec, PolicySource, Rule, RuleEnd
from manx_core.policy.endpoint import NamedPort
from manx_core.policy.evaluate import Decision, Direction, Flow, Groups, evaluate, matches
from manx_core.policy.own_ports import OwnPort, asked_of, own_ports
from manx_core.policy.protocols import canonical_protocol

TCP = Flow("10.0.0.1", "10.0.0.2", "TCP", 80, 40000)
TCP6 = Flow("fd00::1", "fd00::2", "TCP", 80, 40000)
PING = Flow("10.0.0.1", "10.0.0.2", "ICMP", icmp_type=8, icmp_code=0)


def program(
    *ingress: Rule, types: tuple[Direction, ...] = ("Ingress",), egress: tuple[Rule, ...] = ()
) -> PolicyProgramSpec:
    return PolicyProgramSpec(
        epoch=0, source=PolicySource(kind="GlobalNetworkPolicy", name="p"), types=types, ingress=ingress, egress=egress
    )


ALLOW, DENY, PASS, LOG = (Rule(action=action, index=3) for action in ("Allow", "Deny", "Pass", "Log"))
NO_MATCH = Rule(action="Deny", protocol="UDP")
PROGRAMS = {
    "allow": program(ALLOW),
    "deny": program(DENY),
    "pass": program(PASS, DENY),
    "log": program(LOG),
    "log then allow": program(LOG, NO_MATCH, ALLOW, DENY),
    "nothing": program(),
    "no match": program(NO_MATCH),
    "egress": program(types=("Egress",), egress=(DENY,)),
    "egress, with rules": program(ALLOW, types=("Egress",)),
}


def tier(name: str, *policies: str, passing: bool = False) -> ClassTier:
    return ClassTier(name=name, policies=policies, default_action="Pass" if passing else "Deny")


@pytest.mark.parametrize(
    ("tiers", "expected"),
    [
        ([], Decision(True)),
        ([tier("a", "allow")], Decision(True, "a", "allow", 0, 3)),
        ([tier("a", "deny")], Decision(False, "a", "deny", 0, 3)),
        ([tier("a", "nothing")], Decision(False, "a")),
        ([tier("a", "log")], Decision(False, "a")),
        ([tier("a", "log then allow")], Decision(True, "a", "log then allow", 2, 3)),
        ([tier("a", "nothing", passing=True)], Decision(True)),
        ([tier("a", "no match", "allow", "deny")], Decision(True, "a", "allow", 0, 3)),
        ([tier("a", "egress")], Decision(True)),
        ([tier("a", "egress, with rules", "deny")], Decision(False, "a", "deny", 0, 3)),
        ([tier("a", "egress"), tier("b", "nothing")], Decision(False, "b")),
        ([tier("a", "pass", "deny"), tier("b", "allow")], Decision(True, "b", "allow", 0, 3)),
        ([tier("a", "pass", "deny")], Decision(True)),
        (
            [tier("a", "nothing", passing=True), tier("b", "deny"), tier("c", "allow")],
            Decision(False, "b", "deny", 0, 3),
        ),
        ([tier("a", "allow"), tier("b", "deny")], Decision(True, "a", "allow", 0, 3)),
    ],
)
def test_tiers_in_order_and_in_each_its_policies(tiers: list[ClassTier], expected: Decision) -> None:
    assert evaluate(tiers, PROGRAMS, Groups({}), "Ingress", TCP) == expected


def test_a_program_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError):
        evaluate([tier("a", "gone")], PROGRAMS, Groups({}), "Ingress", TCP)


GROUPS = Groups(
    {
        "one": ["10.0.0.1", "fd00::1"],
        "nets": ["10.0.0.0/31", "10.9.0.0/16", "fd00::/127"],
        "all": ["0.0.0.0/0"],
        "port": ["10.0.0.1,tcp:40000", "10.0.0.2,tcp:80", "fd00::2,tcp:80"],
        "udp": ["10.0.0.2,udp:80"],
        "empty": [],
    },
    own_ports(
        [
            (("10.0.0.2", "fd00::2"), (NamedPort("http", "TCP", 80), NamedPort("dns", "UDP", 80))),
            (("10.0.0.1",), (NamedPort("alt", "TCP", 80),)),
        ]
    ),
)


@pytest.mark.parametrize(
    ("rule", "in_ipv4", "in_ipv6"),
    [
        (Rule(), True, True),
        (Rule(ip_version=4), True, False),
        (Rule(ip_version=6), False, True),
        (Rule(protocol="TCP"), True, True),
        (Rule(protocol="UDP"), False, False),
        (Rule(not_protocol="TCP"), False, False),
        (Rule(not_protocol="89"), True, True),
        (Rule(icmp=IcmpMatch(type=8)), False, False),
        (Rule(not_icmp=IcmpMatch(type=8)), True, True),
        (Rule(peer=RuleEnd(groups=("one",))), True, True),
        (Rule(subject=RuleEnd(groups=("one",))), False, False),
        (Rule(peer=RuleEnd(groups=("one", "nets"))), True, True),
        (Rule(peer=RuleEnd(groups=("one", "empty"))), False, False),
        (Rule(peer=RuleEnd(groups=("gone",))), False, False),
        (Rule(peer=RuleEnd(groups=("all",))), True, False),
        (Rule(subject=RuleEnd(groups=("nets",))), False, False),
        (Rule(peer=RuleEnd(not_groups=("one",))), False, False),
        (Rule(subject=RuleEnd(not_groups=("one", "nets"))), True, True),
        (Rule(subject=RuleEnd(not_groups=("one", "all"))), False, True),
        (Rule(peer=RuleEnd(not_groups=("gone",))), True, True),
        (Rule(peer=RuleEnd(nets=("10.0.0.0/8",))), True, False),
        (Rule(peer=RuleEnd(nets=("10.0.0.0/8", "fd00::/16"))), True, True),
        (Rule(peer=RuleEnd(nets=("192.0.2.0/24", "::/0"))), False, True),
        (Rule(peer=RuleEnd(not_nets=("10.0.0.0/8",))), False, True),
        (Rule(peer=RuleEnd(nets=("0.0.0.0/0",), not_nets=("10.0.0.1/32",))), False, False),
        (Rule(subject=RuleEnd(ports=("80",))), True, True),
        (Rule(subject=RuleEnd(ports=("81-90", "70-80"))), True, True),
        (Rule(subject=RuleEnd(ports=("81-90",))), False, False),
        (Rule(subject=RuleEnd(ports=("81",), port_groups=("port",))), True, True),
        (Rule(subject=RuleEnd(port_groups=("udp",))), False, False),
        (Rule(subject=RuleEnd(port_groups=("udp", "port"))), True, True),
        (Rule(subject=RuleEnd(port_groups=("gone",))), False, False),
        (Rule(subject=RuleEnd(not_ports=("80",))), False, False),
        (Rule(subject=RuleEnd(not_ports=("81",), not_port_groups=("udp",))), True, True),
        (Rule(subject=RuleEnd(not_port_groups=("port",))), False, False),
        (Rule(protocol="TCP", subject=RuleEnd(named_ports=("http",))), True, True),
        (Rule(protocol="TCP", subject=RuleEnd(named_ports=("dns",))), False, False),
        (Rule(protocol="TCP", subject=RuleEnd(named_ports=("alt",))), False, False),
        (Rule(protocol="TCP", subject=RuleEnd(named_ports=("dns", "http"))), True, True),
        (Rule(protocol="TCP", subject=RuleEnd(ports=("81",), named_ports=("http",))), True, True),
        (Rule(protocol="TCP", subject=RuleEnd(ports=("80",), named_ports=("gone",))), True, True),
        (Rule(protocol="TCP", subject=RuleEnd(port_groups=("udp",), named_ports=("gone",))), False, False),
        (Rule(protocol="TCP", subject=RuleEnd(not_named_ports=("http",))), False, False),
        (Rule(protocol="TCP", subject=RuleEnd(not_named_ports=("dns", "alt", "gone"))), True, True),
        (Rule(peer=RuleEnd(ports=("40000",))), True, True),
        (Rule(peer=RuleEnd(ports=("80",))), False, False),
        (Rule(peer=RuleEnd(port_groups=("port",))), True, False),
        (Rule(peer=RuleEnd(groups=("one",)), subject=RuleEnd(ports=("443",))), False, False),
    ],
)
def test_all_that_a_rule_asks_for_must_hold(rule: Rule, in_ipv4: bool, in_ipv6: bool) -> None:
    assert matches(rule, GROUPS, "Ingress", TCP) == in_ipv4
    assert matches(rule, GROUPS, "Ingress", TCP6) == in_ipv6


def test_the_subject_of_an_egress_rule_is_the_source() -> None:
    rule = Rule(subject=RuleEnd(groups=("one",), ports=("40000",)), peer=RuleEnd(ports=("80",)))
    assert matches(rule, GROUPS, "Egress", TCP)
    assert not matches(rule, GROUPS, "Ingress", TCP)


def test_a_name_that_an_endpoint_has_twice_is_both_numbers() -> None:
    twice = own_ports([(("10.0.0.2",), (NamedPort("http", "TCP", 80), NamedPort("http", "TCP", 8080)))])
    assert twice == {OwnPort("TCP", "http"): frozenset({"10.0.0.2,tcp:80", "10.0.0.2,tcp:8080"})}


def test_which_named_ports_rules_ask_for() -> None:
    rules = [
        Rule(protocol="TCP", subject=RuleEnd(named_ports=("http",), not_named_ports=("alt",))),
        Rule(protocol="UDP", subject=RuleEnd(named_ports=("http",))),
        Rule(subject=RuleEnd(named_ports=("of no protocol",))),
        Rule(protocol="47", subject=RuleEnd(named_ports=("of one without ports",))),
    ]
    assert asked_of(rules) == {OwnPort("TCP", "http"), OwnPort("TCP", "alt"), OwnPort("UDP", "http")}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(protocol="ICMP"), True),
        (Rule(protocol="ICMPv6"), False),
        (Rule(protocol="ICMP", icmp=IcmpMatch(type=8)), True),
        (Rule(protocol="ICMP", icmp=IcmpMatch(type=8, code=0)), True),
        (Rule(protocol="ICMP", icmp=IcmpMatch(type=8, code=1)), False),
        (Rule(protocol="ICMP", icmp=IcmpMatch(type=0)), False),
        (Rule(protocol="ICMP", not_icmp=IcmpMatch(type=8)), False),
        (Rule(protocol="ICMP", not_icmp=IcmpMatch(type=8, code=1)), True),
    ],
)
def test_icmp(rule: Rule, expected: bool) -> None:
    assert matches(rule, GROUPS, "Ingress", PING) == expected


@pytest.mark.parametrize(
    ("protocol", "canonical"),
    [
        (None, ""),
        ("TCP", "TCP"),
        (6, "TCP"),
        ("6", "TCP"),
        ("udplite", "UDPLite"),
        (58, "ICMPv6"),
        (89, "89"),
        ("089", "89"),
    ],
)
def test_protocols_have_one_name(protocol: str | int | None, canonical: str) -> None:
    assert canonical_protocol(protocol) == canonical


@pytest.mark.parametrize("protocol", ["", "GRE", 0, 256, "-1", "٦"])
def test_what_is_no_protocol_is_refused(protocol: str | int) -> None:
    with pytest.raises(ValueError, match="is none of ICMP, TCP"):
        canonical_protocol(protocol)


def test_agents_get_the_evaluation_without_the_models_of_users_kinds() -> None:
    asked = "import sys, manx_core.policy.evaluate; print(*(name for name in sys.modules if 'pydantic' in name))"
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_the_package_offers_what_it_names() -> None:
    for name in policy.__all__:
        assert getattr(policy, name) is not None
    with pytest.raises(AttributeError, match="nothing_such"):
        policy.nothing_such  # noqa: B018
