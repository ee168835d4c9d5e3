"""What an object waits for: there, right and known to the nodes concerned; of a group not its members of the moment."""

from __future__ import annotations

from typing import Any

import pytest

from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.lines import text_of
from manx_core.api.v1alpha1 import (
    AddressGroup,
    AddressGroupSpec,
    ClassTier,
    NodeState,
    NodeStateSpec,
    PolicyClass,
    PolicyClassSpec,
    PolicyProgramSpec,
    PolicySource,
    Rule,
    RuleEnd,
    StoredProgram,
)
from manx_core.span import span_label
from manx_kube.resources import ADDRESS_GROUPS, NODE_STATES, POLICY_CLASSES, POLICY_PROGRAMS
from manx_operator.decide import Action, Decider, Wait, Wanted
from manx_operator.observed import Key
from manx_operator.span_labels import SpanLabels

GROUP, PROGRAM = Key(ADDRESS_GROUPS, "ag-1-0"), Key(POLICY_PROGRAMS, "knp.d.p")
NODE = frozenset({"n1"})
SOURCE = PolicySource(kind="NetworkPolicy", name="p", namespace="d")
RULES = PolicyProgramSpec(epoch=0, source=SOURCE, ingress=(Rule(peer=RuleEnd(groups=("ag-1",))),))


class Played:
    """Both what is wanted and what is there."""

    def __init__(self, wanted: dict[Key, Wanted], there: dict[Key, Any]) -> None:
        self.wanted_objects, self.there = wanted, there

    def wanted(self, key: Key) -> Wanted | None:
        return self.wanted_objects.get(key)

    def get(self, key: Key) -> Any:
        return self.there.get(key)

    def needed_by(self, key: Key, node: str = "") -> bool:
        return False

    def node_of(self, label: str) -> str | None:
        return None


def _members(*members: str, chunks: int = 1) -> AddressGroupSpec:
    return AddressGroupSpec(epoch=0, group="ag-1", chunks=chunks, members=text_of(members))


def _group(spec: AddressGroupSpec, *nodes: str) -> AddressGroup:
    return AddressGroup(ObjectMeta(name=GROUP.name, labels={span_label(node): "" for node in nodes}), spec)


def _decide(world: Played, key: Key) -> Any:
    spans = SpanLabels(30.0, lambda: 0.0, lambda key, seconds: None)
    return Decider(world, world, spans, 1, lambda: 0.0).decide(key)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("group", "waits"),
    [
        (None, True),
        (_group(_members("10.0.0.1")), True),
        (_group(_members("10.0.0.1"), "n2"), True),
        (_group(_members("10.0.0.1"), "n1"), False),
        (_group(_members("10.0.0.9"), "n1"), False),  # who waits until a busy group is right waits in vain
    ],
)
def test_a_program_waits_until_its_group_is_known_to_the_node_and_not_for_its_members(
    group: AddressGroup | None, waits: bool
) -> None:
    wanted = {PROGRAM: Wanted(RULES, NODE), GROUP: Wanted(_members("10.0.0.1"), NODE)}
    there = {} if group is None else {GROUP: group}
    found = _decide(Played(wanted, there), PROGRAM)
    assert (found == Wait(frozenset({GROUP}))) if waits else (isinstance(found, Action) and found.verb == "create")


def test_a_group_that_grows_by_a_chunk_waits_for_it() -> None:
    wanted = {
        GROUP: Wanted(_members("10.0.0.1", chunks=2), NODE),
        Key(ADDRESS_GROUPS, "ag-1-1"): Wanted(_members("10.0.0.2"), NODE),
    }
    there = {GROUP: _group(_members("10.0.0.1"), "n1")}
    assert _decide(Played(wanted, there), GROUP) == Wait(frozenset({Key(ADDRESS_GROUPS, "ag-1-1")}))


def test_a_class_waits_for_a_program_s_new_rules() -> None:
    key = Key(POLICY_CLASSES, "pc-1")
    tiers = (ClassTier(name="default", policies=(PROGRAM.name,)),)
    wanted = {key: Wanted(PolicyClassSpec(epoch=0, tiers=tiers), NODE), PROGRAM: Wanted(RULES, NODE)}
    old = StoredProgram(
        metadata=ObjectMeta(name=PROGRAM.name, labels={span_label("n1"): ""}),
        spec=PolicyProgramSpec(epoch=0, source=SOURCE),
    )
    assert _decide(Played(wanted, {PROGRAM: old}), key) == Wait(frozenset({PROGRAM}))


CLASS = Key(POLICY_CLASSES, "pc-1")
CLASS_SPEC = PolicyClassSpec(epoch=0, tiers=(ClassTier(name="default", policies=(PROGRAM.name,)),))


def _class(spec: PolicyClassSpec, *nodes: str) -> PolicyClass:
    return PolicyClass(metadata=ObjectMeta(name=CLASS.name, labels={span_label(node): "" for node in nodes}), spec=spec)


@pytest.mark.parametrize(("known_to", "waits"), [(("n1", "n2"), False), (("n1",), True)])
def test_what_a_class_named_already_is_waited_for_only_where_the_class_comes_to(
    known_to: tuple[str, ...], waits: bool
) -> None:
    others = Key(POLICY_PROGRAMS, "knp.d.q")
    tiers = (ClassTier(name="default", policies=(PROGRAM.name, others.name)),)
    program = StoredProgram(
        metadata=ObjectMeta(name=PROGRAM.name, labels={span_label(node): "" for node in known_to}), spec=RULES
    )
    both = frozenset({"n1", "n2"})
    wanted = {CLASS: Wanted(PolicyClassSpec(epoch=0, tiers=tiers), both), PROGRAM: Wanted(RULES, both)}
    found = _decide(Played(wanted, {CLASS: _class(CLASS_SPEC, "n1"), PROGRAM: program}), CLASS)
    assert (found == Wait(frozenset({PROGRAM}))) if waits else isinstance(found, Action)


def _state(*pods: str) -> NodeStateSpec:
    return NodeStateSpec(epoch=0, pods=text_of(pods))


@pytest.mark.parametrize(
    ("pods", "waits"), [(("d/a 1 open", "d/c 3 pc-1"), False), (("d/a 1 pc-1", "d/c 3 pc-1"), True)]
)
def test_a_node_waits_only_for_the_classes_of_pods_that_are_not_as_they_were(
    pods: tuple[str, ...], waits: bool
) -> None:
    key = Key(NODE_STATES, "n1")
    wanted = {key: Wanted(_state(*pods)), CLASS: Wanted(CLASS_SPEC, NODE)}
    have = NodeState(metadata=ObjectMeta(name="n1"), spec=_state("d/a 1 -", "d/c 3 pc-1"))
    found = _decide(Played(wanted, {key: have}), key)
    assert (found == Wait(frozenset({CLASS}))) if waits else isinstance(found, Action)
