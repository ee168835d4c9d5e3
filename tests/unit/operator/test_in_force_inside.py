"""On which nodes a policy is in force that came to them inside a class, or that goes into one, or comes out."""

from __future__ import annotations

import pytest

from in_force_world import C, P, World, a_spec, in_force_apart, in_force_inside, nothing_left, restarted, said_of
from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.inside import ClassProgram, line_of
from manx_core.api.lines import text_of
from manx_core.api.v1alpha1 import PolicyClass, PolicyClassSpec, PolicyNodes


@pytest.fixture
def world() -> World:
    return in_force_apart()


@pytest.fixture
def inlined() -> World:
    return in_force_inside()


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
