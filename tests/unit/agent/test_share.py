"""The agent's share: views must depend on what the watches have now, never on the order in which it came."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from manx_agent.model import LocalEndpoint
from manx_agent.state.groups import Groups
from manx_agent.state.share import Share
from manx_agent.state.union import Union
from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.inside import ClassProgram
from manx_core.api.inside import line_of as line_of_program
from manx_core.api.lines import text_of
from manx_core.api.v1alpha1 import (
    AddressGroup,
    AddressGroupSpec,
    ClassTier,
    IPAMBlock,
    IPAMBlockSpec,
    IPAMBlockStatus,
    MeshNode,
    MeshNodeSpec,
    NodeState,
    NodeStateSpec,
    PolicyClass,
    PolicyClassSpec,
    PolicyProgram,
    PolicyProgramSpec,
    PolicySource,
    PoolSettings,
    Rule,
    RuleEnd,
)
from manx_core.policy.endpoint import Endpoint, NamedPort, line_of


def policy_class(name: str, version: int, *policies: str) -> PolicyClass:
    meta = ObjectMeta(name=name, resource_version=str(version))
    tiers = (ClassTier(name="default", policies=policies),)
    return PolicyClass(metadata=meta, spec=PolicyClassSpec(epoch=1, tiers=tiers))


def chunk(group: str, number: int, chunks: int, *members: str, version: int = 1) -> AddressGroup:
    meta = ObjectMeta(name=f"{group}-{number}", resource_version=str(version))
    spec = AddressGroupSpec(epoch=1, group=group, chunk=number, chunks=chunks, members=text_of(members))
    return AddressGroup(metadata=meta, spec=spec)


def node_state(*endpoints: Endpoint, pools: tuple[PoolSettings, ...] = ()) -> NodeState:
    return NodeState(
        metadata=ObjectMeta(name="n1"), spec=NodeStateSpec(epoch=1, pods=text_of(map(line_of, endpoints)), pools=pools)
    )


def local(container_id: str, uid: str = "u1") -> LocalEndpoint:
    return LocalEndpoint("ns", "pod", uid, container_id, "mnx0", ("10.0.0.1",))


def test_the_newer_of_two_watches_wins_and_an_object_in_either_exists() -> None:
    union: Union[PolicyClass] = Union()
    old, new = policy_class("c", 5, "a"), policy_class("c", 9, "b")
    union.put(0, "c", new)
    union.put(1, "c", old)
    assert union.get("c") is new
    union.put(0, "c", None)
    assert union.get("c") is old
    union.put(1, "c", None)
    assert union.get("c") is None


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.none() | st.integers(1, 99)), max_size=30))
def test_union_equals_what_both_watches_have(steps: list[tuple[int, int, int | None]]) -> None:
    union: Union[PolicyClass] = Union()
    sides: tuple[dict[str, PolicyClass], dict[str, PolicyClass]] = ({}, {})
    for side, number, version in steps:
        name = f"c{number}"
        obj = None if version is None else policy_class(name, version)
        union.put(side, name, obj)
        if obj is None:
            sides[side].pop(name, None)
        else:
            sides[side][name] = obj
    for name in ("c0", "c1", "c2"):
        versions = [int(side[name].metadata.resource_version) for side in sides if name in side]
        found = union.get(name)
        assert (int(found.metadata.resource_version) if found else None) == max(versions, default=None)


def test_a_group_exists_once_all_its_chunks_are_there() -> None:
    groups = Groups()
    assert groups.put(0, "g-1", chunk("g", 1, 0, "10.0.0.2")) == set()
    assert groups.complete()[0] == {}
    assert groups.put(0, "g-0", chunk("g", 0, 2, "10.0.0.1")) == {"g"}
    assert groups.complete() == ({"g": frozenset({"10.0.0.1", "10.0.0.2"})}, {"g": "Addresses"})


def test_a_group_that_lacks_a_chunk_for_a_moment_keeps_its_members() -> None:
    groups = Groups()
    groups.put(0, "g-0", chunk("g", 0, 1, "10.0.0.1"))
    assert groups.put(0, "g-0", chunk("g", 0, 2, "10.0.0.9", version=2)) == set()
    assert groups.complete()[0] == {"g": frozenset({"10.0.0.1"})}
    assert groups.put(0, "g-1", chunk("g", 1, 0, "10.0.0.2")) == {"g"}
    assert groups.complete()[0] == {"g": frozenset({"10.0.0.9", "10.0.0.2"})}


def test_a_group_without_chunks_is_gone() -> None:
    groups = Groups()
    groups.put(0, "g-0", chunk("g", 0, 1, "10.0.0.1"))
    groups.put(1, "g-0", chunk("g", 0, 1, "10.0.0.1"))
    assert groups.put(0, "g-0", None) == set(), "the other watch still has it"
    assert groups.put(1, "g-0", None) == {"g"}
    assert groups.complete() == ({}, {})


@given(st.permutations(range(4)))
def test_chunks_may_come_in_any_order(order: list[int]) -> None:
    groups = Groups()
    for number in order:
        groups.put(0, f"g-{number}", chunk("g", number, 4 if number == 0 else 0, f"10.0.0.{number}"))
    assert groups.complete()[0] == {"g": frozenset(f"10.0.0.{number}" for number in range(4))}


def test_only_endpoints_whose_class_changed_are_dirty() -> None:
    share = Share("n1")
    share.put_endpoint(local("c1", "u1"))
    share.put_endpoint(local("c2", "u2"))
    share.dirty.take()
    first = Endpoint(namespace="ns", name="pod", uid="u1", policy_class="open")
    share.set_node_state(node_state(first))
    assert share.dirty.take().endpoints == {"c1"}
    share.set_node_state(node_state(first, Endpoint(namespace="ns", name="pod", uid="u2", policy_class="pc-x")))
    assert share.dirty.take().endpoints == {"c2"}


def test_a_listed_pods_named_ports_are_in_the_view() -> None:
    share = Share("n1")
    share.put_endpoint(local("c1"))
    http = NamedPort("http", "TCP", 8080)
    without = Endpoint(namespace="ns", name="pod", uid="u1", policy_class="open")
    share.set_node_state(node_state(without))
    share.dirty.take()
    share.set_node_state(node_state(without._replace(ports=(http,))))
    assert share.dirty.take().endpoints == {"c1"}
    first = share.policy_view()
    assert first.ports_of == {("ns", "pod", "u1"): (http,)}
    share.set_node_state(node_state(without._replace(ports=(http,), policy_class="pc-x")))
    assert share.policy_view().ports_of is first.ports_of
    share.set_node_state(node_state())
    assert share.policy_view().ports_of == {}


def test_without_a_node_state_the_kernel_stays_and_new_pods_wait() -> None:
    share = Share("n1")
    share.set_node_state(node_state(Endpoint(namespace="ns", name="pod", uid="u1", policy_class="open")))
    assert share.is_expected(("ns", "pod", "u1"))
    share.dirty.take()
    share.set_node_state(None)
    assert not share.is_expected(("ns", "pod", "u1"))
    assert share.policy_view().class_of == {("ns", "pod", "u1"): "open"}
    assert not share.dirty


def test_an_undecided_pod_is_not_expected() -> None:
    share = Share("n1")
    share.set_node_state(node_state(Endpoint(namespace="ns", name="pod", uid="u1")))
    assert not share.is_expected(("ns", "pod", "u1"))


def test_a_class_heard_again_unchanged_is_not_dirty() -> None:
    share = Share("n1")
    share.set_class(0, "c", policy_class("c", 1, "a"))
    share.dirty.take()
    share.set_class(1, "c", policy_class("c", 2, "a"))
    share.set_class(0, "c", None)
    assert not share.dirty
    share.set_class(1, "c", None)
    assert share.dirty.take().classes == {"c"}


def test_the_mesh_leaves_this_node_out_and_blocks_are_announced() -> None:
    share = Share("n1")
    assert share.bgp_view() is None
    share.set_node_state(node_state())
    for name in ("n1", "n2"):
        share.set_mesh_node(name, MeshNode(metadata=ObjectMeta(name=name), spec=MeshNodeSpec(epoch=1)))
    spec = IPAMBlockSpec(epoch=1, cidr="10.0.0.0/26", pool="p", node="n1")
    share.set_block("b", IPAMBlock(metadata=ObjectMeta(name="b"), spec=spec))
    view = share.bgp_view()
    assert view is not None
    assert (set(view.mesh), set(view.announced)) == ({"n2"}, {"10.0.0.0/26"})
    gone = IPAMBlock(metadata=ObjectMeta(name="b"), spec=spec, status=IPAMBlockStatus(released=True))
    share.set_block("b", gone)
    view = share.bgp_view()
    assert view is not None
    assert view.announced == frozenset()


def test_views_do_not_change_after_they_were_made() -> None:
    share = Share("n1")
    view = share.policy_view()
    share.put_endpoint(local("c1"))
    share.set_class(0, "c", policy_class("c", 1, "a"))
    assert not view.endpoints
    assert not view.classes


def test_the_next_view_has_the_same_mappings_of_what_has_not_changed() -> None:
    share = Share("n1")
    share.put_endpoint(local("c1"))
    share.set_class(0, "c", policy_class("c", 1, "a"))
    share.set_program(0, "a", program("a", 1))
    first = share.policy_view()
    share.set_group_chunk(0, "g-0", chunk("g", 0, 1, "10.0.0.1"))
    share.set_program(0, "a", program("a", 2))
    second = share.policy_view()
    assert second.groups != first.groups
    assert second.endpoints is first.endpoints
    assert second.classes is first.classes
    assert second.programs is first.programs
    assert second.class_of is first.class_of
    share.drop_endpoint("c1")
    share.set_class(0, "c", None)
    share.set_program(0, "a", None)
    third = share.policy_view()
    assert (third.endpoints, third.classes, third.programs) == ({}, {}, {})
    assert (len(second.endpoints), len(second.classes), len(second.programs)) == (1, 1, 1)


def program(name: str, version: int, *ports: str) -> PolicyProgram:
    rules = (Rule(subject=RuleEnd(ports=ports)),)
    spec = PolicyProgramSpec(epoch=1, source=PolicySource(kind="NetworkPolicy", name=name), ingress=rules)
    return PolicyProgram(metadata=ObjectMeta(name=name, resource_version=str(version)), spec=spec)


def test_a_policy_changes_something_once_a_class_lists_it() -> None:
    share = Share("n1")
    share.dirty.take()
    share.set_program(0, "p", program("p", 1))
    assert not share.dirty
    share.set_class(0, "c1", policy_class("c1", 2, "p"))
    share.set_class(1, "c1", policy_class("c1", 2, "p"))
    share.set_class(0, "c2", policy_class("c2", 3, "p", "q"))
    assert share.dirty.take().classes == {"c1", "c2"}
    share.set_program(0, "p", program("p", 4, "80"))
    assert share.dirty.take().programs == {"p"}
    for name in ("c1", "c2"):
        share.set_class(0, name, None)
    assert share.dirty.take().classes == {"c2"}
    share.set_program(0, "p", program("p", 5))
    assert share.dirty.take().programs == {"p"}
    share.set_class(1, "c1", None)
    share.dirty.take()
    share.set_program(0, "p", None)
    assert not share.dirty
    assert "p" not in share.policy_view().programs


def with_inside(name: str, version: int, *inside: PolicyProgram, epoch: int = 0) -> PolicyClass:
    found = [ClassProgram(p.metadata.name, msgspec.structs.replace(p.spec, epoch=epoch)) for p in inside]
    programs = text_of(map(line_of_program, found))
    bare = policy_class(name, version, *(p.metadata.name for p in inside))
    return msgspec.structs.replace(bare, spec=msgspec.structs.replace(bare.spec, programs=programs))


def ports_of(share: Share, name: str) -> tuple[str, ...]:
    (rule,) = share.policy_view().programs[name].ingress
    return rule.subject.ports


def test_a_program_comes_inside_its_class_changes_there_and_goes_with_it() -> None:
    share = Share("n1")
    share.dirty.take()
    share.set_class(0, "c", with_inside("c", 1, program("p", 1, "80")))
    taken = share.dirty.take()
    assert (taken.classes, taken.programs, ports_of(share, "p")) == (frozenset({"c"}), frozenset({"p"}), ("80",))
    share.set_class(0, "c", with_inside("c", 2, program("p", 1, "80")))
    assert not share.dirty
    share.set_class(0, "c", with_inside("c", 3, program("p", 1, "81")))
    taken = share.dirty.take()
    assert (taken.classes, taken.programs, ports_of(share, "p")) == (frozenset(), frozenset({"p"}), ("81",))
    share.set_class(0, "c", None)
    assert share.dirty.take().classes == {"c"}
    assert not share.policy_view().programs


def test_a_program_that_leaves_its_class_for_an_object_of_its_own_changes_nothing() -> None:
    share = Share("n1")
    share.set_class(0, "c", with_inside("c", 1, program("p", 1, "80")))
    share.dirty.take()
    share.set_program(0, "p", program("p", 2, "80"))
    share.set_class(0, "c", policy_class("c", 3, "p"))
    share.set_class(0, "c", with_inside("c", 4, program("p", 2, "80")))
    share.set_program(0, "p", None)
    assert not share.dirty
    assert ports_of(share, "p") == ("80",)


def test_what_cannot_be_read_leaves_what_was_inside() -> None:
    share = Share("n1")
    good = with_inside("c", 1, program("p", 1, "80"))
    share.set_class(0, "c", good)
    share.dirty.take()
    for version, text in enumerate(("{}", "{", '{"name": "p", "spec": 5}'), start=2):
        spec = msgspec.structs.replace(good.spec, programs=text)
        share.set_class(0, "c", PolicyClass(ObjectMeta(name="c", resource_version=str(version)), spec))
        assert ports_of(share, "p") == ("80",)
    assert not share.dirty


def test_the_newest_counts_of_objects_and_of_what_is_inside_classes() -> None:
    share = Share("n1")
    share.set_class(0, "c", with_inside("c", 1, program("p", 1, "80")))
    share.set_program(0, "p", program("p", 3, "90"))
    assert ports_of(share, "p") == ("90",)
    share.set_class(1, "d", with_inside("d", 4, program("p", 1, "81")))
    assert ports_of(share, "p") == ("81",)
    share.set_class(1, "d", None)
    assert ports_of(share, "p") == ("90",)
    share.set_program(0, "p", None)
    assert ports_of(share, "p") == ("80",)


_HEARD = st.tuples(st.sampled_from("pq"), st.sampled_from(["80", "81"]))
_CLASS = st.none() | st.lists(_HEARD, max_size=2, unique_by=lambda found: found[0])
_STEP = st.tuples(st.sampled_from("cd"), _CLASS) | st.tuples(st.sampled_from("pq"), st.none() | _HEARD)


@given(st.lists(_STEP, max_size=20))
def test_programs_depend_on_what_is_there_now(steps: list[tuple[str, Any]]) -> None:
    """And what changed of those that classes list was told."""
    share, there, seen = Share("n1"), dict[str, dict[str, str]](), dict[str, str]()
    for version, (name, found) in enumerate(steps, start=1):
        there.pop(name, None)
        if name in "cd":
            inside = [program(p, version, port) for p, port in found or ()]
            share.set_class(0, name, None if found is None else with_inside(name, version, *inside))
        else:
            share.set_program(0, name, None if found is None else program(name, version, found[1]))
        if found is not None:
            there[name] = dict(found) if name in "cd" else {name: found[1]}
        expected = {p: port for sources in there.values() for p, port in sources.items()}  # the newest comes last
        assert {p: ports_of(share, p) for p in share.policy_view().programs} == {p: (e,) for p, e in expected.items()}
        listed = {p for source, programs in there.items() if source in "cd" for p in programs}
        told = share.dirty.take().programs
        assert {p for p in listed if seen.get(p) not in (None, expected[p])} <= told
        seen = expected
