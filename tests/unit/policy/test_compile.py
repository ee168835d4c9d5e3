"""Each part of a NetworkPolicy becomes the rules that say it, and no more; what is not valid is named."""

from __future__ import annotations

import re

import pytest

from manx_core.api.core_v1 import LabelSelector, NetworkPolicy
from manx_core.api.v1alpha1 import PolicySource, Rule, RuleEnd
from manx_core.policy import (
    CompiledPolicy,
    GroupDef,
    InvalidPolicy,
    compile_network_policy,
    kubernetes_pods,
    program_name,
)
from manx_core.policy.compiled import LONGEST_NAME
from manx_core.selectors import EVERYTHING, Selector, parse_label_selector
from policy_cases import BROKEN, egress, ingress, peer, policy, requirement, select, to_port

DB = select(app="db")
OWN = kubernetes_pods(parse_label_selector(DB), "web")


def scope(selector: LabelSelector, namespace: str = "", namespaces: LabelSelector | None = None) -> Selector:
    where = parse_label_selector(namespaces) if namespaces else None
    return kubernetes_pods(parse_label_selector(selector), namespace, where)


def from_group(*definitions: GroupDef, **more: tuple[str, ...]) -> RuleEnd:
    return RuleEnd(groups=tuple(definition.id for definition in definitions), **more)


def own_port(name: str) -> RuleEnd:
    return RuleEnd(named_ports=(name,))


def port_of(*definitions: GroupDef, **more: tuple[str, ...]) -> RuleEnd:
    return RuleEnd(port_groups=tuple(definition.id for definition in definitions), **more)


def compiled(policy: NetworkPolicy) -> CompiledPolicy:
    result = compile_network_policy(policy)
    assert isinstance(result, CompiledPolicy)
    return result


PEER_APP = scope(select(app="web"), "web")
TEAM = scope(LabelSelector(), namespaces=select(team="a"))
BOTH = scope(select(app="web"), namespaces=select(team="a"))


@pytest.mark.parametrize(
    ("rule", "rules", "groups"),
    [
        pytest.param(ingress(), [Rule()], [], id="empty rule allows all"),
        pytest.param(
            ingress((peer(select(app="web")),)),
            [Rule(peer=from_group(GroupDef(PEER_APP)))],
            [GroupDef(PEER_APP)],
            id="podSelector means the policy's namespace",
        ),
        pytest.param(
            ingress((peer(namespaces=select(team="a")),)),
            [Rule(peer=from_group(GroupDef(TEAM)))],
            [GroupDef(TEAM)],
            id="namespaceSelector means all pods there",
        ),
        pytest.param(
            ingress((peer(select(app="web"), select(team="a")),)),
            [Rule(peer=from_group(GroupDef(BOTH)))],
            [GroupDef(BOTH)],
            id="both selectors together",
        ),
        pytest.param(
            ingress((peer(cidr="192.0.2.7/24"), peer(cidr="2001:db8::/32"), peer(cidr="192.0.2.0/24"))),
            [Rule(peer=RuleEnd(nets=("192.0.2.0/24", "2001:db8::/32")))],
            [],
            id="ipBlocks share a rule, canonical and once",
        ),
        pytest.param(
            ingress((peer(cidr="10.0.0.0/8"), peer(cidr="192.0.2.0/24", except_=("192.0.2.1/32",)))),
            [
                Rule(peer=RuleEnd(nets=("10.0.0.0/8",))),
                Rule(peer=RuleEnd(nets=("192.0.2.0/24",), not_nets=("192.0.2.1/32",))),
            ],
            [],
            id="except has a rule of its own",
        ),
        pytest.param(
            ingress((), to_port(443), to_port(80), to_port(80), to_port(8000, 8080), to_port(8080, 8090)),
            [Rule(protocol="TCP", subject=RuleEnd(ports=("80", "443", "8000-8090")))],
            [],
            id="numbers of a protocol share a rule",
        ),
        pytest.param(
            ingress(
                (), to_port(), to_port(80), to_port("http"), to_port(53, protocol="UDP"), to_port(9, protocol="SCTP")
            ),
            [
                Rule(protocol="TCP"),
                Rule(protocol="UDP", subject=RuleEnd(ports=("53",))),
                Rule(protocol="SCTP", subject=RuleEnd(ports=("9",))),
            ],
            [],
            id="no port means all of the protocol",
        ),
        pytest.param(
            ingress((), to_port("http"), to_port("dns", protocol="UDP")),
            [
                Rule(protocol="TCP", subject=own_port("http")),
                Rule(protocol="UDP", subject=own_port("dns")),
            ],
            [],
            id="a named port is that of the pods that the policy applies to, which their node knows",
        ),
        pytest.param(
            ingress((peer(select(app="web")), peer(select(app="web"))), to_port(80)),
            [Rule(protocol="TCP", peer=from_group(GroupDef(PEER_APP)), subject=RuleEnd(ports=("80",)))],
            [GroupDef(PEER_APP)],
            id="equal peers once",
        ),
    ],
)
def test_ingress_rule(rule: object, rules: list[Rule], groups: list[GroupDef]) -> None:
    result = compiled(policy("web", "p", DB, rules=(rule,)))  # type: ignore[arg-type]
    assert list(result.ingress) == rules
    assert list(result.groups) == groups
    assert result.egress == ()


def test_who_has_a_port_of_the_policys_own_pods_can_be_told() -> None:
    out = egress((peer(DB, namespaces=None),), to_port("http"))
    result = compiled(policy("web", "p", DB, rules=(ingress((), to_port("http"), to_port("sql")),), out=(out,)))
    assert result.groups == (GroupDef(OWN, "http", "TCP"),), "the peers'"
    assert result.own_ports() == (GroupDef(OWN, "sql", "TCP"),)


ANY_HTTP = GroupDef(kubernetes_pods(EVERYTHING), "http", "TCP")


@pytest.mark.parametrize(
    ("rule", "rules", "groups"),
    [
        pytest.param(
            egress((peer(select(app="web")),), to_port("http")),
            [Rule(protocol="TCP", peer=port_of(GroupDef(PEER_APP, "http", "TCP")))],
            [GroupDef(PEER_APP, "http", "TCP")],
            id="a named port is the peers'; their port group says all",
        ),
        pytest.param(
            egress((), to_port("http")), [Rule(protocol="TCP", peer=port_of(ANY_HTTP))], [ANY_HTTP], id="of any pod"
        ),
        pytest.param(
            egress((peer(cidr="10.0.0.0/8"),), to_port("http")),
            [Rule(protocol="TCP", peer=port_of(ANY_HTTP, nets=("10.0.0.0/8",)))],
            [ANY_HTTP],
            id="of any pod in the block",
        ),
    ],
)
def test_egress_named_port(rule: object, rules: list[Rule], groups: list[GroupDef]) -> None:
    result = compiled(policy("web", "p", DB, out=(rule,)))  # type: ignore[arg-type]
    assert list(result.egress) == rules
    assert list(result.groups) == groups


@pytest.mark.parametrize(
    ("types", "with_egress", "expected"),
    [
        ((), False, ("Ingress",)),
        ((), True, ("Ingress", "Egress")),
        (("Egress",), False, ("Egress",)),
        (("Egress", "Ingress"), False, ("Ingress", "Egress")),
    ],
)
def test_policy_types(types: tuple[str, ...], with_egress: bool, expected: tuple[str, ...]) -> None:
    out = (egress(),) if with_egress else ()
    assert compiled(policy("web", "p", types=types, out=out)).types == expected


def test_rules_of_a_type_that_is_not_declared_are_ignored() -> None:
    result = compiled(policy("web", "p", types=("Egress",), rules=(ingress((peer(select(app="web")),)),)))
    assert (result.ingress, result.groups) == ((), ())


def test_a_rule_that_allows_all_makes_the_others_needless() -> None:
    result = compiled(policy("web", "p", rules=(ingress((peer(select(app="web")),)), ingress())))
    assert (result.ingress, result.groups) == ((Rule(index=1),), ())


def test_program_says_where_it_comes_from() -> None:
    spec = compiled(policy("web", "p", uid="u")).program()
    assert spec.source == PolicySource(kind="NetworkPolicy", name="p", namespace="web", uid="u")
    assert spec.epoch == 0


LONG = ["x" * 250 + "a", "x" * 250 + "b", "ab"]
CUT = program_name("gnp", LONG[0])


@pytest.mark.parametrize("namespace", ["n" * 63, "a-" * 31 + "b", "shop"])
def test_long_names_are_cut_and_stay_apart(namespace: str) -> None:
    names = {program_name("knp", namespace, name) for name in LONG}
    assert len(names) == 3
    for name in names:
        assert len(name) <= LONGEST_NAME
        assert re.fullmatch(r"knp\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name)


@pytest.mark.parametrize("parts", [("knp", "web", "a.b"), ("gnp", "g" * (LONGEST_NAME - 4)), ("np", "a", "0" * 20)])
def test_short_names_are_the_policy_s(parts: tuple[str, ...]) -> None:
    assert program_name(*parts) == ".".join(parts)


def test_no_name_looks_as_if_it_had_been_cut() -> None:
    assert CUT.startswith("gnp.xxx")
    assert program_name("gnp", CUT.removeprefix("gnp.")) != CUT


DB_ITEMS = parse_label_selector(DB)


def test_group_ids_follow_the_meaning() -> None:
    same = [
        scope(select(app="web"), "web"),
        scope(LabelSelector(match_expressions=(requirement("app", "In", "web"),)), "web"),
    ]
    assert len({GroupDef(s).id for s in same}) == 1
    others = [
        OWN,
        scope(DB, "east"),
        scope(DB, namespaces=LabelSelector()),
        scope(DB, namespaces=DB),
        scope(DB),
        DB_ITEMS,
    ]
    ids = {GroupDef(s).id for s in others} | {GroupDef(OWN, "http", p).id for p in ("TCP", "UDP")}
    assert len(ids) == 8
    assert GroupDef(OWN, "http", "TCP").selector == "port http/TCP of :namespace=web,:orchestrator=k8s,app=db"


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (policy("web", "p", BROKEN), "spec.podSelector.matchExpressions[0].operator"),
        (policy("web", "p", types=("Ingress", "Sideways")), "spec.policyTypes[1]"),
        (policy("web", "p", rules=(ingress((peer(),)),)), "spec.ingress[0].from[0]"),
        (policy("web", "p", rules=(ingress(), ingress((peer(DB, cidr="10.0.0.0/8"),)))), "spec.ingress[1].from[0]"),
        (
            policy("web", "p", rules=(ingress((peer(DB, BROKEN),)),)),
            "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].operator",
        ),
        (policy("web", "p", out=(egress((peer(cidr="10.0.0.0"),)),)), "spec.egress[0].to[0].ipBlock.cidr"),
        (policy("web", "p", out=(egress((peer(cidr="10.0.0.0/33"),)),)), "spec.egress[0].to[0].ipBlock.cidr"),
        (policy("web", "p", out=(egress((peer(cidr="10.0.0/8"),)),)), "spec.egress[0].to[0].ipBlock.cidr"),
        (policy("web", "p", out=(egress((peer(cidr="fe80::%eth0/64"),)),)), "spec.egress[0].to[0].ipBlock.cidr"),
        (policy("web", "p", out=(egress((peer(cidr="::ffff:10.0.0.0/104"),)),)), "spec.egress[0].to[0].ipBlock.cidr"),
        (
            policy("web", "p", out=(egress((peer(cidr="10.0.0.0/8", except_=("10.0.0.0/8",)),)),)),
            "spec.egress[0].to[0].ipBlock.except[0]",
        ),
        (
            policy("web", "p", out=(egress((peer(cidr="10.0.0.0/8", except_=("10.1.0.0/16", "::/64")),)),)),
            "spec.egress[0].to[0].ipBlock.except[1]",
        ),
        (policy("web", "p", rules=(ingress((), to_port(80, protocol="ICMP")),)), "spec.ingress[0].ports[0].protocol"),
        (policy("web", "p", rules=(ingress((), to_port(0)),)), "spec.ingress[0].ports[0].port"),
        (policy("web", "p", rules=(ingress((), to_port(65536)),)), "spec.ingress[0].ports[0].port"),
        (policy("web", "p", rules=(ingress((), to_port("80")),)), "spec.ingress[0].ports[0].port"),
        (policy("web", "p", rules=(ingress((), to_port("sixteen-letters-")),)), "spec.ingress[0].ports[0].port"),
        (policy("web", "p", rules=(ingress((), to_port(80, 79)),)), "spec.ingress[0].ports[0].endPort"),
        (policy("web", "p", rules=(ingress((), to_port("http", 79)),)), "spec.ingress[0].ports[0].endPort"),
        (policy("web", "p", rules=(ingress((), to_port(None, 79)),)), "spec.ingress[0].ports[0].endPort"),
    ],
)
def test_invalid_policy_names_the_field_and_closes(policy: NetworkPolicy, field: str) -> None:
    result = compile_network_policy(policy)
    assert isinstance(result, InvalidPolicy)
    assert [problem.field for problem in result.problems] == [field]
    assert (result.closed.ingress, result.closed.egress, result.closed.groups) == ((), (), ())
    assert result.closed.types


def test_every_problem_is_named() -> None:
    result = compile_network_policy(policy("web", "p", BROKEN, rules=(ingress((peer(),), to_port(0)),)))
    assert isinstance(result, InvalidPolicy)
    assert len(result.problems) == 3


def test_what_is_not_valid_closes_as_widely_as_it_may_have_meant() -> None:
    broken_selector = compile_network_policy(policy("web", "p", BROKEN, types=("Egress",)))
    broken_types = compile_network_policy(policy("web", "p", DB, types=("Sideways",)))
    assert isinstance(broken_selector, InvalidPolicy)
    assert isinstance(broken_types, InvalidPolicy)
    assert (broken_selector.closed.applies_to, broken_selector.closed.types) == (
        kubernetes_pods(EVERYTHING, "web"),
        ("Egress",),
    )
    assert (broken_types.closed.applies_to, broken_types.closed.types) == (OWN, ("Ingress", "Egress"))


def test_octets_with_leading_zeros_are_decimal() -> None:
    result = compiled(policy("web", "p", rules=(ingress((peer(cidr="010.00.0.08/8"), peer(cidr="0.0.0.0/0"))),)))
    assert result.ingress == (Rule(peer=RuleEnd(nets=("0.0.0.0/0", "10.0.0.0/8"))),)
