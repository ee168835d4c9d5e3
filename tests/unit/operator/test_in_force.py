"""On which nodes a policy is in force, as the tracker has it: needs, the watches that meet them, restarts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from in_force_world import NODES, C, P, World, in_force_apart, labels, restarted, said_of
from manx_core.api.v1alpha1 import PolicyProgram


@pytest.fixture
def world() -> World:
    return in_force_apart()


def test_nothing_is_in_force_before_it_is_reported() -> None:
    it = World({"n1", "n2"})
    it.program("n1", "n2")
    it.policy_class("n1", "n2")
    assert it.lagging == ("n1", "n2")
    it.report("n2")
    assert it.lagging == ("n1",)
    assert it.tracker.drain() == {P}


def test_a_node_without_label_or_report_lags(world: World) -> None:
    world.nodes.add("n3")
    assert world.lagging == ("n3",)
    world.program("n1", "n2", "n3")
    assert world.lagging == ("n3",)
    world.report("n3", policyprograms=world.version)
    assert world.lagging == ()
    del world.reports["", "n1"]
    assert world.lagging == ("n1",)


def test_a_report_leads_to_what_its_node_still_lacks_and_to_nothing_else(world: World) -> None:
    for number in range(100):
        world.tracker.program(f"np.d.other{number}", world.a_program("n1", "n2", name=f"np.d.other{number}"))
    world.report("n1")
    world.report("n2")
    world.tracker.drain()
    world.report("n1")
    assert world.tracker.drain() == set()
    world.program("n1", "n2", rules=1)
    world.tracker.drain()
    world.report("n1")
    assert world.tracker.drain() == {P}


def test_changed_rules_are_needed_everywhere(world: World) -> None:
    world.program("n1", "n2", rules=1, generation=2)
    assert world.lagging == ("n1", "n2")
    world.report("n1", policyprograms=world.version)
    world.report("n2", policyprograms=world.version - 1)
    assert world.lagging == ("n2",)


def test_the_other_watchs_progress_says_nothing(world: World) -> None:
    world.program("n1", "n2", rules=1)
    world.report("n1", policyprograms_everywhere=world.version + 100, policyclasses=world.version + 100)
    assert world.lagging == ("n1", "n2")


def test_what_tells_an_agent_nothing_new_is_not_waited_for(world: World) -> None:
    """Another node's label, a status: the agent need not report that it heard of it."""
    world.nodes.add("n3")
    world.program("n1", "n2", "n3")
    world.tracker.policy_class(world.classes[C], world.classes[C])
    assert world.lagging == ("n3",)


def test_the_label_for_every_node_replaces_single_ones(world: World) -> None:
    world.nodes.add("n3")
    world.program("n1", "n2", "all")
    world.policy_class("n1", "n2", "all")
    assert world.lagging == ("n3",)
    world.program("all")
    world.report("n3", policyprograms_everywhere=world.version, policyclasses_everywhere=world.version)
    assert world.lagging == ()
    world.program("all", "n1", "n2", "n3")
    world.program("n1", "n2", "n3")
    assert world.lagging == ()


def test_a_class_that_begins_to_name_the_policy_is_needed(world: World) -> None:
    world.policy_class("n1", policies=("other",), name="pc-2")
    world.report("n1")
    world.policy_class("n1", policies=("other", P), name="pc-2")
    assert world.lagging == ("n1",)
    world.report("n1", policyprograms=world.version, policyclasses=world.version - 1)
    assert world.lagging == ("n1",)
    world.report("n1")
    assert world.lagging == ()


def test_classes_that_name_it_already_may_change_otherwise(world: World) -> None:
    world.policy_class("n1", "n2", policies=("another", P))
    assert world.lagging == ()


def test_a_node_that_it_concerns_no_more_is_not_waited_for(world: World) -> None:
    world.program("n1", "n2", rules=1)
    world.nodes.discard("n2")
    world.tracker.touch([P])
    assert world.lagging == ("n1",)
    assert world.tracker.drain() == {P}


def test_deleted_programs_are_forgotten(world: World) -> None:
    world.program("n1", "n2", rules=1)
    world.tracker.program(P, None)
    assert world.tracker.standing(P) is None
    world.report("n1")
    assert world.tracker.drain() == {P}


def test_what_was_in_force_everywhere_is_so_after_a_restart(world: World) -> None:
    said = said_of(world)
    restarted(world, said)
    assert world.lagging == ()
    assert said_of(world) == said  # nothing to write


def test_what_was_not_is_waited_for_but_not_for_ever(world: World) -> None:
    world.program("n1", "n2", rules=1, generation=2)
    said = said_of(world)
    restarted(world, said)
    assert world.lagging == ("n1", "n2")
    world.report("n1")
    assert world.lagging == ("n2",)
    world.now = 61.0
    world.tracker.look_again()
    assert world.lagging == ()


def test_a_program_changed_while_nobody_looked_is_needed(world: World) -> None:
    said = said_of(world)
    world.a_program("n1", "n2", rules=1, generation=2)
    restarted(world, said)
    assert world.lagging == ("n1", "n2")


def test_a_changed_text_alone_is_a_new_generation_of_the_same_version(world: World) -> None:
    """What the program was compiled from is stored with it and is nothing to agents."""
    version = said_of(world).program_version
    program = world.programs[P]
    world.a_program("n1", "n2", generation=1)
    changed = PolicyProgram(metadata=world._meta(P, labels("n1", "n2"), 2), spec=program.spec)
    world.tracker.program(P, changed)
    assert world.lagging == ()
    assert said_of(world).program_version == version
    assert said_of(world).program_generation == 2


# --- in any order -----------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("nodes"), st.sets(st.sampled_from(NODES))),
        st.tuples(st.just("rules"), st.integers(0, 3)),
        st.tuples(st.just("labels"), st.sets(st.sampled_from((*NODES, "all")))),
        st.tuples(st.just("class"), st.sets(st.sampled_from((*NODES, "all")))),
        st.tuples(st.just("named"), st.booleans()),
        st.tuples(st.just("report"), st.sampled_from(NODES)),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=200)
@given(STEPS)
def test_once_every_node_has_applied_everything_all_that_is_labelled_is_in_force(steps: list[tuple[str, Any]]) -> None:
    """And never is it said of a node that has applied nothing since the rules changed."""
    it = World(set(NODES))
    spans, class_spans, rules, named = set(NODES), set(NODES), 0, True
    it.program(*spans)
    for what, value in steps:
        if what == "nodes":
            it.nodes.clear()
            it.nodes |= value
            it.tracker.touch([P])
        elif what == "report":
            it.report(value)
        elif what == "rules":
            fresh, rules = value != rules, value
            it.program(*spans, rules=rules)
            assert not fresh or set(it.lagging) == it.nodes
        elif what == "labels":
            spans = value
            it.program(*spans, rules=rules)
        else:
            class_spans, named = (value, named) if what == "class" else (class_spans, value)
            it.policy_class(*class_spans, policies=(P,) if named else ())
    for node in NODES:
        it.report(node)
    assert set(it.lagging) == (set() if "all" in spans else it.nodes - spans)
