"""What the tracker says is in force against what agents have in their kernels, whatever is heard when, and by whom.

The API server here is a log for each kind; the operator and each of an agent's watches follow it at their own pace. An
agent goes by the newest object of each name that its watches have, holds what it has while a program is missing, and
reports what it was told of up to when it applied that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.inside import ClassProgram, line_of, programs_in
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
from manx_operator.in_force import InForce, Standing

P = "np.d.p"
CLASSES = ("pc-1", "pc-2")
NODES = ("n1", "n2", "n3")
KINDS = ("programs", "classes")
SIDES = ("own", "everywhere")

Obj = PolicyProgram | PolicyClass
Event = tuple[int, str, Obj | None]
"""A version, and the object of that name as of then."""


def spec_of(rules: int, epoch: int = 0) -> PolicyProgramSpec:
    return PolicyProgramSpec(epoch=epoch, source=PolicySource(kind="k", name="p"), ingress=(Rule(index=rules),))


def rules_of(spec: PolicyProgramSpec) -> int:
    return spec.ingress[0].index


def carried(found: Obj) -> int | None:
    """The rules of P that the object tells of."""
    if isinstance(found, PolicyProgram):
        return rules_of(found.spec)
    return next((rules_of(inside.spec) for inside in programs_in(found.spec.programs)), None)


def names_it(found: Obj) -> bool:
    return isinstance(found, PolicyClass) and any(P in tier.policies for tier in found.spec.tiers)


def version_of(found: Obj) -> int:
    return int(found.metadata.resource_version)


@dataclass
class Watch:
    """Objects with one label of one kind, as far as they were heard."""

    label: str
    position: int = 0
    version: int = 0
    """Of the last event that it told of."""
    have: dict[str, Obj] = field(default_factory=dict)

    def hear(self, log: list[Event]) -> None:
        version, name, found = log[self.position]
        self.position += 1
        if found is not None and self.label in found.metadata.labels:
            self.have[name] = found
        elif self.have.pop(name, None) is None:
            return
        self.version = version


@dataclass
class Agent:
    watches: dict[tuple[str, str], Watch]
    kernel: tuple[int | None, frozenset[str]] = (None, frozenset())
    """P's rules, and the classes that name it."""

    def share(self, kind: str) -> Iterator[Obj]:
        sides = [self.watches[kind, side].have for side in SIDES]
        for name in {*sides[0], *sides[1]}:
            yield max((side[name] for side in sides if name in side), key=version_of)

    def view(self) -> tuple[int | None, frozenset[str]]:
        found = [*self.share("programs"), *self.share("classes")]
        carriers = [obj for obj in found if carried(obj) is not None]
        newest = max(carriers, key=version_of, default=None)
        naming = frozenset(obj.metadata.name for obj in found if names_it(obj))
        return (carried(newest) if newest is not None else None), naming

    def apply(self) -> Applied | None:
        """None while something is missing."""
        rules, naming = self.view()
        if naming and rules is None:
            return None
        self.kernel = rules, naming
        versions = {
            f"policy{kind}" + ("_everywhere" if side == "everywhere" else ""): str(watch.version)
            for (kind, side), watch in self.watches.items()
        }
        return Applied(**versions)


class World:
    """Everything that happens, one step at a time."""

    def __init__(self) -> None:
        self.version = 100
        self.logs: dict[str, list[Event]] = {kind: [] for kind in KINDS}
        self.now: dict[str, dict[str, Obj]] = {kind: {} for kind in KINDS}
        self.cache: dict[str, dict[str, Obj]] = {kind: {} for kind in KINDS}
        self.heard = dict.fromkeys(KINDS, 0)
        self.nodes = frozenset(NODES)
        self.agents = {node: self._agent(node) for node in NODES}
        self.reports = {("", node): NodeReport(metadata=ObjectMeta(name=node)) for node in NODES}
        self.generation = self.rules = 0
        self.restarted = False
        self.tracker = self._tracker()
        self.standing: Standing | None = None

    def _agent(self, node: str) -> Agent:
        label = {"own": span_label(node), "everywhere": EVERYWHERE}
        return Agent({(kind, side): Watch(label[side]) for kind in KINDS for side in SIDES})

    def _tracker(self) -> InForce:
        return InForce(lambda _: self.nodes, self.reports, lambda: 0.0)

    # --- the API server

    def _put(self, kind: str, name: str, made: Obj | None) -> None:
        before = self.now[kind].get(name)
        if made is not None and before is not None and self._swaps(before, made):
            made = self._overlap(kind, before, made)
        self._log(kind, name, made)

    def _log(self, kind: str, name: str, made: Obj | None) -> None:
        if self.now[kind].pop(name, None) is None and made is None:
            return
        if made is not None:
            self.now[kind][name] = made
        self.logs[kind].append((self.version, name, made))

    def _swaps(self, before: Obj, made: Obj) -> bool:
        """Whether some node that goes on hearing of it does so no more by one of its watches."""
        dropped = before.metadata.labels.keys() - made.metadata.labels.keys()
        staying = (node for node in NODES if self._spans(before, node) and self._spans(made, node))
        return any(dropped & {span_label(node), EVERYWHERE} for node in staying)

    def _overlap(self, kind: str, before: Obj, made: Obj) -> Obj:
        """New labels come first, and old ones linger until agents have heard of it by the other watch."""
        meta = made.metadata
        both = msgspec.structs.replace(meta, labels=before.metadata.labels | meta.labels)
        self._log(kind, meta.name, msgspec.structs.replace(made, metadata=both))
        for node in NODES:
            for side in SIDES:
                self.told(node, kind, side)
        self.version += 1
        version = msgspec.structs.replace(meta, resource_version=str(self.version))
        return msgspec.structs.replace(made, metadata=version)

    def _meta(self, name: str, spans: set[str], generation: int = 1) -> ObjectMeta:
        labels = {EVERYWHERE if node == "all" else span_label(node): "" for node in spans}
        return ObjectMeta(name=name, resource_version=str(self.version), labels=labels, generation=generation)

    def program(self, spans: set[str] | None, rules: int = 0, epoch: int = 0) -> None:
        self.version += 1
        if spans is None:
            self._put("programs", P, None)
            return
        before = self.now["programs"].get(P)
        if before is None or carried(before) != rules:
            self.generation += 1
        meta = self._meta(P, spans, self.generation)
        self._put("programs", P, PolicyProgram(metadata=meta, spec=spec_of(rules, epoch)))

    def policy_class(self, name: str, spans: set[str] | None, inside: int | None = None, named: bool = True) -> None:
        self.version += 1
        if spans is None:
            self._no_class(name)
            return
        tiers = (ClassTier(name="default", policies=(P,)),) if named else ()
        programs = "" if inside is None or not named else line_of(ClassProgram(name=P, spec=spec_of(inside)))
        spec = PolicyClassSpec(epoch=0, tiers=tiers, programs=programs)
        self._put("classes", name, PolicyClass(metadata=self._meta(name, spans), spec=spec))

    def _no_class(self, name: str) -> None:
        """A deletion's version is not told; so what may hide another carrier's program has none inside before."""
        before = self.now["classes"].get(name)
        if isinstance(before, PolicyClass) and carried(before) is not None:
            meta = msgspec.structs.replace(before.metadata, resource_version=str(self.version))
            spec = msgspec.structs.replace(before.spec, programs="")
            self._put("classes", name, PolicyClass(metadata=meta, spec=spec))
            self.version += 1
        self._put("classes", name, None)

    def concern(self, nodes: set[str]) -> None:
        self.nodes = frozenset(nodes)
        self.tracker.touch([P])

    def edit(self) -> None:
        self.rules += 1

    def write_program(self, spans: set[str] | None) -> None:
        self.program(spans, self.rules)

    def write_class(self, name: str, spans: set[str] | None, inside: bool) -> None:
        """A node that loses what is newest finds the program as new."""
        program, before = self.now["programs"].get(P), self.now["classes"].get(name)
        if program is not None and before is not None and carried(program) != self.rules:
            lost = {node for node in NODES if self._spans(before, node)} - (spans or set())
            if lost or not inside:
                self.program({node for node in NODES if self._spans(program, node)}, self.rules)
        self.policy_class(name, spans, self.rules if inside else None)

    # --- the operator

    def hear(self, kind: str, *, all_: bool = True) -> None:
        log = self.logs[kind]
        while self.heard[kind] < len(log):
            _, name, found = log[self.heard[kind]]
            self.heard[kind] += 1
            before = self.cache[kind].pop(name, None)
            if found is not None:
                self.cache[kind][name] = found
            if kind == "programs":
                self.tracker.program(name, found)  # type: ignore[arg-type]
            else:
                self.tracker.policy_class(before, found)  # type: ignore[arg-type]
            if not all_:
                return

    def restart(self) -> None:
        """What a new term does not look for: a node that P does not concern then, and is not up to date; a class that
        names P, and a node has not heard of. Here, the first is not so, and of the second too much may be said."""
        for kind in KINDS:
            self.hear(kind)
        for node in set(NODES) - self.nodes:
            self.catch_up(node)
        standing = self.tracker.standing(P)
        self.tracker, self.standing, self.restarted = self._tracker(), None, True
        for found in self.cache["classes"].values():
            self.tracker.adopt_class(found)  # type: ignore[arg-type]
        for program in self.cache["programs"].values():
            self.tracker.adopt(program, standing.nodes if standing is not None else PolicyNodes())  # type: ignore[arg-type]

    # --- agents

    def told(self, node: str, kind: str, side: str, *, all_: bool = True) -> None:
        watch = self.agents[node].watches[kind, side]
        while watch.position < len(self.logs[kind]):
            watch.hear(self.logs[kind])
            if not all_:
                return

    def report(self, node: str) -> None:
        applied = self.agents[node].apply()
        if applied is not None:
            status = NodeReportStatus(applied=applied)
            self.reports["", node] = NodeReport(metadata=ObjectMeta(name=node), status=status)
            self.tracker.report(node)

    def catch_up(self, node: str) -> None:
        for kind in KINDS:
            for side in SIDES:
                self.told(node, kind, side)
        self.report(node)

    def settle(self) -> None:
        """Everything is heard, and reported."""
        for kind in KINDS:
            self.hear(kind)
        for node in NODES:
            self.catch_up(node)

    # --- what shall be

    def said(self) -> set[str]:
        """The nodes where it is in force, if one believes the tracker, and asks only when that may have changed."""
        if P in self.tracker.drain():
            self.standing = self.tracker.standing(P)
        return set(self.nodes) - set(self.standing.lagging) if self.standing is not None else set()

    def check(self) -> None:
        """What is said to be in force is in the kernel, or was, as far as the operator has heard."""
        for node in self.said():
            if not any(names_it(found) and self._spans(found, node) for found in self.cache["classes"].values()):
                continue  # no pod there has a class that names it
            rules, naming = self.agents[node].kernel
            unheard = {kind: self.logs[kind][self.heard[kind] :] for kind in KINDS}
            events = [found for kind in KINDS for _, _, found in unheard[kind]]
            told = {carried(found) if found is not None and self._spans(found, node) else None for found in events}
            assert rules == carried(self.cache["programs"][P]) or rules in told or None in told
            changing = {name for _, name, _ in unheard["classes"]}
            for name, found in self.cache["classes"].items():
                if names_it(found) and self._spans(found, node) and not self.restarted:
                    assert name in naming or name in changing

    @staticmethod
    def _spans(found: Obj, node: str) -> bool:
        return EVERYWHERE in found.metadata.labels or span_label(node) in found.metadata.labels

    def told_right(self) -> set[str]:
        """The nodes that are told of P as it is."""
        program = self.now["programs"].get(P)
        if program is None:
            return set()
        objects = [program, *self.now["classes"].values()]
        right = set()
        for node in self.nodes:
            found = [obj for obj in objects if carried(obj) is not None and self._spans(obj, node)]
            if found and carried(max(found, key=version_of)) == carried(program):
                right.add(node)
        return right

    def nothing_left(self) -> bool:
        return not (self.tracker._needs or self.tracker._carriers.of(P))


SPANS = st.sets(st.sampled_from((*NODES, "all")), max_size=3)
RULES = st.integers(0, 2)
A_CLASS = st.sampled_from(CLASSES)
HEARING = (
    st.tuples(st.just("catch_up"), st.sampled_from(NODES)),
    st.tuples(st.just("hear"), st.sampled_from(KINDS), st.just(True)),
    st.tuples(st.just("concern"), st.sets(st.sampled_from(NODES))),
    st.tuples(st.just("hear"), st.sampled_from(KINDS), st.booleans()),
    st.tuples(st.just("told"), st.sampled_from(NODES), st.sampled_from(KINDS), st.sampled_from(SIDES), st.booleans()),
    st.tuples(st.just("report"), st.sampled_from(NODES)),
    st.tuples(st.just("settle")),
)
ANY_WRITES = st.one_of(
    *HEARING,
    st.tuples(st.just("program"), st.none() | SPANS, RULES, st.integers(0, 1)),
    st.tuples(st.just("policy_class"), A_CLASS, st.none() | SPANS, st.none() | RULES, st.booleans()),
    st.tuples(st.just("policy_class"), A_CLASS, SPANS, RULES, st.just(True)),
)
OUR_WRITES = st.one_of(
    *HEARING,
    st.tuples(st.just("edit")),
    st.tuples(st.just("write_program"), st.none() | SPANS),
    st.tuples(st.just("write_class"), A_CLASS, st.none() | SPANS, st.booleans()),
    st.tuples(st.just("restart")),
)


def run(it: World, steps: list[tuple[Any, ...]]) -> None:
    it.settle()
    for what, *args in steps:
        if what in ("hear", "told"):
            getattr(it, what)(*args[:-1], all_=args[-1])
        else:
            getattr(it, what)(*args)
        it.check()
    it.settle()
    assert it.said() == it.told_right()


def end(it: World) -> None:
    it.program(None)
    for name in CLASSES:
        it.policy_class(name, None)
    it.concern(set())
    it.settle()
    assert it.tracker.standing(P) is None
    assert it.nothing_left()


HEARD_LATE = [
    ("policy_class", "pc-1", {"all"}, 1, True),
    ("program", {"n1"}, 0, 0),
    ("hear", "programs", True),
    ("report", "n1"),
    ("hear", "classes", True),
]
"""What told a node of other rules is heard of after what is newer, and has told it of the old ones again."""


@settings(deadline=None, max_examples=400)
@given(st.lists(ANY_WRITES, max_size=20))
@example(HEARD_LATE)
def test_what_is_said_is_so_and_what_is_so_is_said(steps: list[tuple[Any, ...]]) -> None:
    """Also where a class is written from an older state than the program was."""
    it = World()
    it.program({"n1"})
    it.policy_class("pc-1", set(NODES), 0)
    run(it, steps)
    end(it)


@settings(deadline=None, max_examples=400)
@given(st.lists(OUR_WRITES, max_size=20))
def test_restarts_too(steps: list[tuple[Any, ...]]) -> None:
    it = World()
    it.write_program(set())
    it.write_class("pc-1", set(NODES), True)
    run(it, steps)
    end(it)
