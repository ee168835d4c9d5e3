"""A tracker of where policies are in force, fed as the operator feeds it, and the states that its tests begin with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.inside import ClassProgram, line_of
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


def in_force_apart() -> World:
    """P is an object of its own, in force on two nodes."""
    made = World({"n1", "n2"})
    made.program("n1", "n2")
    made.policy_class("n1", "n2")
    made.report("n1")
    made.report("n2")
    assert made.lagging == ()
    made.tracker.drain()
    return made


def in_force_inside() -> World:
    """P is inside its class, and its own object is labelled for no node."""
    made = World({"n1", "n2"})
    made.program()
    made.policy_class("n1", "n2", inside=0)
    assert made.lagging == ("n1", "n2")
    made.all_report()
    assert made.lagging == ()
    made.tracker.drain()
    return made


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


def nothing_left(it: World) -> bool:
    return not it.tracker._needs
