"""What is remembered of a spec serves every namespace, and none gets another's."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manx_core.api.core_v1 import LabelSelector, NetworkPolicy, ObjectMeta
from manx_core.policy import CompiledPolicy, GroupDef, InvalidPolicy, compile_network_policy
from manx_core.policy.compile import compile_anew
from manx_core.policy.compile_once import PLACE
from manx_core.selectors import Blank, Requirement, Selector, conjunction, equals
from policy_cases import ingress, peer, policy, select, to_port
from policy_random import Drawer

NAMESPACES = ("a", "b", "zz", "0", "kube-system", "")


def same(one: CompiledPolicy | InvalidPolicy, other: CompiledPolicy | InvalidPolicy) -> None:
    """Also in what selectors and groups remember of themselves, which their equality leaves out."""
    assert one == other
    if isinstance(one, CompiledPolicy) and isinstance(other, CompiledPolicy):
        assert one.applies_to.key == other.applies_to.key == written_anew(one).key
        assert [group.id for group in one.groups] == [group.id for group in other.groups]
        assert [group.selector for group in one.groups] == [group.selector for group in other.groups]


def written_anew(compiled: CompiledPolicy) -> Selector:
    assert isinstance(compiled.applies_to, Selector)
    return Selector(compiled.applies_to.requirements)


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.permutations(NAMESPACES))
def test_it_is_what_compiling_anew_gives(random: Random, namespaces: list[str]) -> None:
    spec = Drawer(random).kubernetes_policy("any", "p").spec
    for number, namespace in enumerate(namespaces):
        annotations = {"manx.dev/log-denied": "true"} if number % 2 else {}
        meta = ObjectMeta(
            namespace=namespace, name=f"p{number}", uid=f"u{number}", generation=number, annotations=annotations
        )
        declared = NetworkPolicy(metadata=meta, spec=spec)
        same(compile_network_policy(declared), compile_anew(declared))


@pytest.mark.parametrize("value", [PLACE, "a", ":namespace=" + PLACE, f'",{PLACE}', "\u00e9", ""])
def test_values_that_look_like_what_moves_stay(value: str) -> None:
    rule = ingress((peer(LabelSelector(match_labels={"app": value, "0": PLACE, "Zone": value})),), to_port("http"))
    for namespace in ("a", "b", "c"):
        declared = policy(namespace, "p", select(app=value), rules=(rule,))
        same(compile_network_policy(declared), compile_anew(declared))


def test_nothing_of_it_is_of_the_place_that_there_cannot_be() -> None:
    rules = (
        ingress((peer(select(app="web")), peer(select(app="web"), select(team="a"))), to_port("http"), to_port(80)),
    )
    for namespace in ("first", "second", "web"):
        compiled = compile_network_policy(policy(namespace, "p", select(app="db"), rules=rules))
    assert isinstance(compiled, CompiledPolicy)
    keys = [compiled.applies_to.key, *(group.selects.key for group in (*compiled.groups, *compiled.own_ports()))]
    assert len(keys) == 4
    assert not any(PLACE in key for key in keys)
    named = {group.id for group in compiled.groups}
    text = msgspec.json.encode(compiled.program()).decode()
    assert all(name in text for name in named)
    assert text.count('"ag-') == sum(text.count(name) for name in named)


def test_groups_of_other_namespaces_are_others() -> None:
    rule = ingress((peer(select(app="web")),))
    ids = [group_id(compile_network_policy(policy(name, "p", rules=(rule,)))) for name in ("a", "b", "a", "b")]
    assert ids[0] == ids[2] != ids[1] == ids[3]
    assert (
        ids[1]
        == GroupDef(conjunction([equals(":orchestrator", "k8s"), equals(":namespace", "b"), equals("app", "web")])).id
    )


def group_id(compiled: CompiledPolicy | InvalidPolicy) -> str:
    assert isinstance(compiled, CompiledPolicy)
    (rule,) = compiled.ingress
    (group,) = compiled.groups
    assert rule.peer.groups == (group.id,)
    return group.id


@pytest.mark.parametrize(
    "requirements",
    [[], [Requirement("k", "Exists")], [Requirement("k", "In", ("a", "b"))], [Requirement("k", "NotIn", ("a",))]],
)
def test_only_one_value_can_be_left_open(requirements: list[Requirement]) -> None:
    with pytest.raises(ValueError, match="one value of 'k'"):
        Blank(conjunction(requirements), "k")
