"""On which nodes a policy is in force, as the tracker has it: needs, the watches that meet them, restarts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.inside import ClassProgram, line_of
from manx_core.api.lines import text_of
from manx_core.api.v1alpha1 import (
    Applied,
    ClassTier,
    NodeReport,
    NodeReportStatus,
    PolicyClass,
    PolicyClassSpec,
    PolicyNodes,
    PolicyProgram,
    PolicyProgramSpec,
    PolicySource,
    Rule,
)
from manx_core.span import EVERYWHERE, span_label
from manx_operator.in_force import InForce

P, C = "np.d.p", "pc-1"
NODES = ("n1", "n2", "n3")


def labels(*nodes: str) -> dict[str, str]:
    return {EVERYWHERE if node == "all" else span_label(node): "" for node in nodes}


def a_spec(rules: int, epoch: int = 0) -> PolicyProgramSpec:
    return PolicyProgramSpec(
        epoch=epoch, source=PolicySource(kind="NetworkPolicy", name="p"), ingress=(Rule(index=rules),)
    )


@dataclass
class World:
    """The tracker, fed as the operator feeds it; objects get versions as the API server counts them."""

    nodes: set[str] = field(default_factory=set)
    reports: dict[tuple[str, str], NodeReport] = field(default_factory=dict)
    version: int = 100
    now: float = 0.0
    classes: dict[str, PolicyClass] = field(default_factory=dict)
    programs: dict[str, PolicyProgram] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tracker = InForce(lambda _: frozenset(self.nodes), self.reports, lambda: self.now, grace=60.0)

    def _meta(self, name: str, given: dict[str, str], generation: int) -> ObjectMeta:
        self.version += 1
        return ObjectMeta(name=name, resource_version=str(self.version), labels=given, generation=generation)

    def a_program(
        self, *spans: str, rules: int = 0, generation: int = 1, name: str = P, epoch: int = 0
    ) -> PolicyProgram:
        made = PolicyProgram(metadata=self._meta(name, labels(*spans), generation), spec=a_spec(rules, epoch))
        self.programs[name] = made
        return made

    def program(self, *spans: str, rules: int = 0, generation: int = 1, epoch: int = 0) -> None:
        made = self.a_program(*spans, rules=rules, generation=generation, epoch=epoch)
        self.tracker.program(P, made)

    def a_class(
        self, *spans: str, policies: tuple[str, ...] = (P,), name: str = C, inside: int | None = None
    ) -> PolicyClass:
        """`inside`: the rules of P that it has inside, if it has."""
        tiers = (ClassTier(name="default", policies=policies),) if policies else ()
        programs = "" if inside is None else line_of(ClassProgram(name=P, spec=a_spec(inside)))
        spec = PolicyClassSpec(epoch=0, tiers=tiers, programs=programs)
        made = PolicyClass(metadata=self._meta(name, labels(*spans), 1), spec=spec)
        self.classes[name] = made
        return made

    def policy_class(self, *spans: str, name: str = C, **what: Any) -> None:
        before = self.classes.get(name)
        self.tracker.policy_class(before, self.a_class(*spans, name=name, **what))

    def no_class(self, name: str = C) -> None:
        self.version += 1
        self.tracker.policy_class(self.classes.pop(name), None)

    def report(self, node: str, **applied: Any) -> None:
        """Without arguments: everything there is, by both watches."""
        fields = ("policyprograms", "policyclasses", "policyprograms_everywhere", "policyclasses_everywhere")
        said = {f: str(applied.get(f, self.version if not applied else 0)) for f in fields}
        status = NodeReportStatus(applied=Applied(**said))
        self.reports["", node] = NodeReport(metadata=ObjectMeta(name=node), status=status)
        self.tracker.report(node)

    def all_report(self) -> None:
        for node in NODES:
            self.report(node)

    @property
    def lagging(self) -> tuple[str, ...]:
        found = self.tracker.standing(P)
        assert found is not None
        assert (found.nodes.concerned, found.nodes.in_force) == (len(self.nodes), len(self.nodes) - len(found.lagging))
        return found.lagging


@pytest.fixture
def world() -> World:
    made = World({"n1", "n2"})
    made.program("n1", "n2")
    made.policy_class("n1", "n2")
    made.report("n1")
    made.report("n2")
    assert made.lagging == ()
    made.tracker.drain()
    return made


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


def restarted(world: World, said: PolicyNodes) -> None:
    world.tracker = InForce(lambda _: frozenset(world.nodes), world.reports, lambda: world.now, grace=60.0)
    for found in world.classes.values():
        world.tracker.adopt_class(found)
    for program in world.programs.values():
        world.tracker.adopt(program, said)


def said_of(world: World) -> PolicyNodes:
    found = world.tracker.standing(P)
    assert found is not None
    return found.nodes


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


# --- programs inside classes ------------------------------------------------------------------------------------------


@pytest.fixture
def inlined() -> World:
    """P is inside its class, and its own object is labelled for no node."""
    made = World({"n1", "n2"})
    made.program()
    made.policy_class("n1", "n2", inside=0)
    assert made.lagging == ("n1", "n2")
    made.all_report()
    assert made.lagging == ()
    made.tracker.drain()
    return made


def nothing_left(it: World) -> bool:
    return not it.tracker._needs


def test_a_node_needs_the_class_that_has_it_inside(inlined: World) -> None:
    inlined.nodes.add("n3")
    inlined.tracker.touch([P])
    assert inlined.lagging == ("n3",)
    inlined.report("n3")
    assert inlined.lagging == ("n3",)
    inlined.policy_class("n1", "n2", "n3", inside=0)
    inlined.report("n3", policyclasses=inlined.version - 1, policyprograms=inlined.version)
    assert inlined.lagging == ("n3",)
    inlined.report("n3", policyclasses=inlined.version)
    assert inlined.lagging == ()
    assert nothing_left(inlined)


@pytest.mark.parametrize("class_first", [False, True])
def test_an_edited_policy_is_in_force_once_the_class_with_the_new_program_is(inlined: World, class_first: bool) -> None:
    def program() -> None:
        inlined.program(rules=1, generation=2)

    def policy_class() -> None:
        inlined.policy_class("n1", "n2", inside=1)

    for write in (policy_class, program) if class_first else (program, policy_class):
        write()
        assert inlined.lagging == ("n1", "n2")
    inlined.report("n1")
    assert inlined.lagging == ("n2",)
    inlined.report("n2")
    assert inlined.lagging == ()
    assert said_of(inlined).program_generation == 2
    assert nothing_left(inlined)


def test_all_report_before_the_program_is_heard(inlined: World) -> None:
    """Their class is newer than the program that the operator knows: they are of another generation."""
    inlined.policy_class("n1", "n2", inside=1)
    inlined.all_report()
    assert inlined.lagging == ("n1", "n2")
    inlined.program(rules=1, generation=2)
    assert inlined.lagging == ()


@pytest.mark.parametrize("epoch", [0, 7])
def test_another_epoch_or_label_or_status_is_nothing_new(inlined: World, epoch: int) -> None:
    inlined.program(epoch=epoch)
    inlined.policy_class("n1", "n2", "n3", inside=0)
    assert inlined.lagging == ()
    inlined.policy_class("n1", "n2", inside=0)
    inlined.program(epoch=epoch + 1)
    assert inlined.lagging == ()


def test_another_program_inside_the_same_class_is_nothing_new(inlined: World) -> None:
    before = inlined.classes[C]
    other = line_of(ClassProgram(name="np.d.other", spec=a_spec(1)))
    spec = PolicyClassSpec(epoch=1, tiers=before.spec.tiers, programs=text_of((before.spec.programs, other)))
    inlined.version += 1
    meta = ObjectMeta(name=C, resource_version=str(inlined.version), labels=before.metadata.labels)
    inlined.tracker.policy_class(before, PolicyClass(metadata=meta, spec=spec))
    assert inlined.lagging == ()
    assert not inlined.tracker._needs.nodes(P)
    assert inlined.tracker._needs.nodes("np.d.other") == {"n1", "n2"}


def test_from_inside_to_an_object_of_its_own_and_back_tells_nodes_nothing_new(inlined: World) -> None:
    inlined.program("n1", "n2")
    inlined.policy_class("n1", "n2")
    assert inlined.lagging == ()
    inlined.policy_class("n1", "n2", inside=0)
    inlined.program()
    assert inlined.lagging == ()
    assert nothing_left(inlined)


def test_a_node_that_loses_it_on_the_way_has_it_no_more(inlined: World) -> None:
    inlined.policy_class("n1", "n2")
    assert inlined.lagging == ("n1", "n2")
    inlined.program("n1")
    assert inlined.lagging == ("n1", "n2")
    inlined.all_report()
    assert inlined.lagging == ("n2",)


def test_edited_and_moved_out_at_once(inlined: World) -> None:
    """It has grown too large: the object tells of it first, and what the class has still is older."""
    inlined.program("n1", "n2", rules=1, generation=2)
    assert inlined.lagging == ("n1", "n2")
    inlined.report("n1")
    assert inlined.lagging == ("n2",)
    inlined.policy_class("n1", "n2")
    assert inlined.lagging == ("n2",)
    inlined.report("n2", policyprograms=inlined.version)
    assert inlined.lagging == ()
    assert nothing_left(inlined)


def test_edited_and_moved_in_at_once(world: World) -> None:
    world.policy_class("n1", "n2", inside=1)
    assert world.lagging == ("n1", "n2")
    world.all_report()
    assert world.lagging == ("n1", "n2")  # of the generation that the operator knows
    world.program("n1", "n2", rules=1, generation=2)
    assert world.lagging == ()
    world.program(rules=1, generation=2)
    assert world.lagging == ()


def test_a_class_written_late_hides_the_newer_program_until_it_is_put_right(world: World) -> None:
    world.program("n1", "n2", rules=1, generation=2)
    world.all_report()
    world.policy_class("n1", "n2", inside=0)
    world.all_report()
    assert world.lagging == ("n1", "n2")
    world.policy_class("n1", "n2")
    assert world.lagging == ("n1", "n2")
    world.report("n1", policyprograms=world.version, policyclasses=world.version - 1)
    assert world.lagging == ("n1", "n2")
    world.all_report()
    assert world.lagging == ()
    assert nothing_left(world)


def test_taken_out_of_the_class_before_it_is_labelled_though_heard_of_after(inlined: World) -> None:
    """In between, nodes were told nothing."""
    before = inlined.classes[C]
    after = inlined.a_class("n1", "n2")
    inlined.report("n1", policyclasses=inlined.version)
    inlined.program("n1", "n2")
    inlined.tracker.policy_class(before, after)
    assert inlined.lagging == ("n1", "n2")
    inlined.report("n1", policyprograms=inlined.version, policyclasses=inlined.version)
    assert inlined.lagging == ("n2",)


def test_a_class_that_loses_a_node_is_looked_at_again(inlined: World) -> None:
    inlined.policy_class("n1", inside=0)
    assert inlined.tracker.drain() == {P}
    assert inlined.lagging == ("n2",)


def test_a_class_with_it_inside_that_is_made_anew_is_needed(inlined: World) -> None:
    inlined.no_class()
    assert inlined.lagging == ("n1", "n2")
    inlined.policy_class("n1", "n2", inside=0)
    assert inlined.lagging == ("n1", "n2")
    inlined.all_report()
    assert inlined.lagging == ()


def test_from_one_class_to_another(inlined: World) -> None:
    inlined.policy_class("n1", inside=0, name="pc-2")
    inlined.no_class()
    assert inlined.lagging == ("n1", "n2")
    inlined.all_report()
    assert inlined.lagging == ("n2",)
    assert nothing_left(inlined)


@pytest.mark.parametrize("class_first", [False, True])
def test_of_a_deleted_policy_nothing_is_left(inlined: World, class_first: bool) -> None:
    inlined.program(rules=1, generation=2)
    inlined.policy_class("n1", "n2", inside=1)
    inlined.nodes.clear()
    inlined.tracker.touch([P])
    if class_first:
        inlined.no_class()
    inlined.tracker.program(P, None)
    if not class_first:
        inlined.policy_class("n1", "n2", policies=())
    assert inlined.tracker.drain() == {P}
    assert inlined.tracker.standing(P) is None
    assert nothing_left(inlined)
    assert not inlined.tracker._carriers.of(P)


def test_a_program_that_somebody_deleted_and_we_make_again(inlined: World) -> None:
    inlined.policy_class("n1", "n2", "n3", inside=1)
    inlined.tracker.program(P, None)
    assert inlined.tracker.standing(P) is None
    inlined.program(rules=1)
    assert inlined.lagging == ("n1", "n2")
    inlined.all_report()
    assert inlined.lagging == ()
    assert nothing_left(inlined)


def test_a_node_that_it_concerns_again_still_needs_what_it_needed(inlined: World) -> None:
    inlined.nodes.discard("n2")
    inlined.tracker.touch([P])
    inlined.program(rules=1, generation=2)
    inlined.policy_class("n1", "n2", inside=1)
    assert inlined.lagging == ("n1",)
    inlined.nodes.add("n2")
    assert inlined.lagging == ("n1", "n2")
    inlined.all_report()
    assert inlined.lagging == ()


def test_a_node_that_is_gone_needs_nothing(inlined: World) -> None:
    inlined.program(rules=1, generation=2)
    inlined.policy_class("n1", "n2", inside=1)
    inlined.report("n1")
    inlined.nodes.discard("n2")
    assert inlined.lagging == ()
    assert not nothing_left(inlined)
    inlined.tracker.drain()
    del inlined.reports["", "n2"]
    inlined.tracker.report("n2")
    assert inlined.tracker.drain() == {P}
    assert inlined.lagging == ()
    assert nothing_left(inlined)


def test_what_was_in_force_inside_a_class_is_so_after_a_restart(inlined: World) -> None:
    said = said_of(inlined)
    restarted(inlined, said)
    assert inlined.lagging == ()
    assert said_of(inlined) == said


def test_what_was_not_in_force_inside_a_class_is_waited_for_but_not_for_ever(inlined: World) -> None:
    inlined.program(rules=1, generation=2)
    inlined.policy_class("n1", "n2", inside=1)
    restarted(inlined, said_of(inlined))
    assert inlined.lagging == ("n1", "n2")
    inlined.report("n1")
    assert inlined.lagging == ("n2",)
    inlined.now = 61.0
    inlined.tracker.look_again()
    assert inlined.lagging == ()
    assert nothing_left(inlined)


@pytest.mark.parametrize("heard_before", [False, True])
def test_a_term_that_begins_between_the_writes_of_class_and_program(inlined: World, heard_before: bool) -> None:
    """The status says that the old one is in force everywhere."""
    said = said_of(inlined)
    inlined.a_class("n1", "n2", inside=1)
    if heard_before:
        inlined.report("n2")
    restarted(inlined, said)
    assert inlined.lagging == ("n1", "n2")
    inlined.program(rules=1, generation=2)
    assert inlined.lagging == (("n1",) if heard_before else ("n1", "n2"))
    inlined.all_report()
    assert inlined.lagging == ()


def test_a_term_that_begins_before_the_program_is_written_first() -> None:
    it = World({"n1", "n2"})
    it.all_report()
    it.a_class("n1", "n2", inside=0)
    restarted(it, PolicyNodes())
    it.program()
    assert it.lagging == ("n1", "n2")
    it.report("n1")
    assert it.lagging == ("n2",)
    it.now = 61.0
    it.tracker.look_again()
    assert it.lagging == ()


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
