"""On which nodes a policy is in the kernel: what each node has still to report, policy by policy.

Owns: what makes such a need, and the counts that come of them. Must not: do I/O, keep needs (`needs` does), or word
anything (`policy_statuses` does).

A node is told of a policy's program by the PolicyProgram, if that is labelled for it, or by a PolicyClass that is, and
has the program inside (`carriers`). An agent reports, watch by watch, the resourceVersion up to which what it heard is
in the kernel. So:
1. Where a change of one of these objects, of its spec or labels, tells a node of another program than it was told of
   before, that node needs that version of the object; where a PolicyClass first names the program, or gets the node's
   span label, the node needs that version of the class.
2. Where a node loses one of them, and what tells it then is newer than that, it was told nothing in between: it needs
   that version, as after a restart. So it does where it was told something else by one of which we hear only after what
   is newer.
3. A policy is in force on a node that it concerns (some class with a pod there names it), that is told of the program
   as the PolicyProgram has it, and that needs nothing more. A class with another spec inside is of another generation,
   whichever of both was heard first.
A change that tells an agent nothing new (another node's label, a status, the same spec by another object) leaves no
need, for the agent need not report it. So what is looked at on a report are the policies not yet in force on that node,
and no others. A need stays while the policy does not concern the node: it may again, before the node has reported.

After a restart nothing is known of needs. What the status said to be in force everywhere, of the same generation of the
program, still is where a node is told of just that; else every node needs the version found of what tells it, or, if
that never comes (it may be of a change that tells nothing new), only `grace` seconds. It is the same where a class told
nodes of a program before there was the PolicyProgram. Not looked for is, then, whether nodes have heard of classes that
only name it, and what nodes need that it does not concern.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.v1alpha1 import NodeReport, PolicyClass, PolicyNodes, PolicyProgram
from manx_core.span import EVERYWHERE, span_label, spans
from manx_operator.carriers import PROGRAM, Carrier, Carriers, Change, told_by
from manx_operator.forgetting import as_number
from manx_operator.needs import Needs
from manx_operator.observed import programs_inside


class Standing(NamedTuple):
    """Where a policy is in force."""

    concerned: int
    lagging: tuple[str, ...]
    """Sorted."""
    nodes: PolicyNodes


class InForce:
    """`nodes_of(program)`: the nodes that it concerns, as the model has it; `reports`: by node; `clock`: monotonic.
    When a term begins: `adopt_class` for each class, then `adopt` for each program."""

    def __init__(
        self,
        nodes_of: Callable[[str], frozenset[str]],
        reports: Mapping[tuple[str, str], NodeReport],
        clock: Callable[[], float],
        grace: float = 60.0,
    ) -> None:
        self._nodes_of = nodes_of
        self._reports = reports
        self._clock = clock
        self._grace = grace
        self._carriers = Carriers()
        self._versions: dict[str, tuple[int, str]] = {}
        """Of each PolicyProgram: its generation, and the resourceVersion that began it."""
        self._needs = Needs(reports, clock, lambda program: self._dirty.add(program))
        self._dirty: set[str] = set()
        self._known = {span_label(node): node for _, node in reports}
        """Span label → node, of nodes that report, or that some policy concerns."""

    # --- what is heard ------------------------------------------------------------------------------------------------

    def adopt_class(self, found: PolicyClass) -> None:
        """A class as it is found when the term begins."""
        for name, carrier in _inside(found).items():
            self._carriers.change(name, carrier.name, carrier)

    def adopt(self, program: PolicyProgram, said: PolicyNodes) -> None:
        """A program as it is found when the term begins, and what the policy's status says of it."""
        name, meta = program.metadata.name, program.metadata
        self._carriers.change(name, PROGRAM, Carrier(PROGRAM, meta, program.spec))
        same = said.program_generation == meta.generation
        self._versions[name] = (meta.generation, said.program_version if same else meta.resource_version)
        self.touch([name])
        nodes = self._nodes_of(name)
        everywhere = same and said.in_force == said.concerned == len(nodes)
        self._need_as_found(name, nodes - self._right(name, nodes) if everywhere else nodes)

    def program(self, name: str, new: PolicyProgram | None) -> None:
        """A program was made, changed or deleted."""
        self.touch([name])
        if new is None:
            self._versions.pop(name, None)
            self._tell(name, self._carriers.change(name, PROGRAM, None), None)
            return
        change = self._carriers.change(name, PROGRAM, Carrier(PROGRAM, new.metadata, new.spec))
        self._tell(name, change, new.metadata)
        if name not in self._versions:  # nodes may have been told of it by a class, also before the term began
            self._need_as_found(name, self._nodes_of(name))
        version = new.metadata.resource_version if change.is_news else self._versions[name][1]
        self._versions[name] = (new.metadata.generation, version)

    def policy_class(self, old: PolicyClass | None, new: PolicyClass | None) -> None:
        """A class was made, changed or deleted."""
        if new is not None:
            self._name(old, new)
        before, after = _inside(old), _inside(new)
        for name in before | after:
            carrier = after.get(name)
            change = self._carriers.change(name, (carrier or before[name]).name, carrier)
            self._tell(name, change, new.metadata if new is not None else None)

    def report(self, node: str) -> None:
        """A node's report is another."""
        self._known[span_label(node)] = node
        self._needs.report(node)

    def touch(self, programs: Iterable[str]) -> None:
        """The nodes that these concern may be others."""
        for name in programs:
            self._dirty.add(name)
            self._known.update((span_label(node), node) for node in self._nodes_of(name))

    # --- what comes of it ---------------------------------------------------------------------------------------------

    def drain(self) -> set[str]:
        """Programs whose standing may be another than at the drain before."""
        dirty, self._dirty = self._dirty, set()
        return dirty

    def standing(self, name: str) -> Standing | None:
        """None where there is no such program."""
        nodes = self._nodes_of(name)
        self._drop_strangers(name, nodes)
        if name not in self._versions:
            return None
        there = {node for node in self._right(name, nodes) if ("", node) in self._reports}
        lagging = tuple(sorted(nodes - (there - {*self._needs.nodes(name)})))
        generation, version = self._versions[name]
        counts = PolicyNodes(
            concerned=len(nodes),
            in_force=len(nodes) - len(lagging),
            program_generation=generation,
            program_version=version,
        )
        return Standing(len(nodes), lagging, counts)

    def look_again(self) -> None:
        """Needs that were waited for long enough are given up."""
        self._needs.look_again()

    # --- what nodes are told ------------------------------------------------------------------------------------------

    def _name(self, old: PolicyClass | None, new: PolicyClass) -> None:
        """A class names programs: what is new of that."""
        named = _programs(new)
        first = named - _programs(old) if old is not None else named
        added = self._added(old.metadata if old is not None else None, new.metadata)
        reached = self._spanned(new.metadata.labels) if first else added
        for name in named if added else first:
            for node in reached if name in first else added:
                self._needs.put(name, node, new.metadata.name, new.metadata)

    def _tell(self, program: str, change: Change, heard: ObjectMeta | None) -> None:
        """An object tells of a program, or does no more; `heard`: the object as it is, if it is."""
        self._dirty.add(program)
        for node in self._reached(change):
            was, now = told_by(change.before, node), told_by(change.after, node)
            if now is not None and (was is None or was.spec is not now.spec):
                self._needs.put(program, node, now.name, now.meta)
                if now is not change.new and change.old is not None and heard is not None:
                    self._needs.put(program, node, change.name, _withdrawn(change.old.meta, heard))
            elif now is not None and change.new is not None and _overtook(now, change.new, node):
                self._need_as_found(program, (node,), change.new.version)
        if change.old is not None:  # what tells them now may be newer, and so was heard of too early
            lost = self._added(change.new and change.new.meta, change.old.meta)
            self._need_as_found(program, lost, as_number(heard.resource_version) if heard is not None else 0)

    def _reached(self, change: Change) -> set[str]:
        """The nodes that may be told of another program by it."""
        if not change.is_one:
            return self._spanned({label for found in (*change.before, *change.after) for label in found.meta.labels})
        return self._added(change.old and change.old.meta, change.new.meta) if change.new is not None else set()

    def _added(self, old: ObjectMeta | None, new: ObjectMeta) -> set[str]:
        """The nodes that an object comes to span."""
        had: Mapping[str, str] = old.labels if old is not None else {}
        if EVERYWHERE in had:
            return set()
        return {node for node in self._spanned(new.labels.keys() - had.keys()) if span_label(node) not in had}

    def _spanned(self, labels: Collection[str]) -> set[str]:
        """The nodes that these labels are of."""
        if EVERYWHERE in labels:
            return set(self._known.values())
        return {self._known[label] for label in labels if label in self._known}

    def _right(self, name: str, nodes: Iterable[str]) -> set[str]:
        """Those of the nodes that are told of the program as it is."""
        carriers = self._carriers.of(name)
        told = {node: told_by(carriers, node) for node in nodes}
        spec = next((found.spec for found in carriers if found.name == PROGRAM), None)
        return {node for node, found in told.items() if found is not None and found.spec is spec}

    def _need_as_found(self, program: str, nodes: Iterable[str], since: int = 0) -> None:
        """Nothing, or too little, is known of what these need, if what tells them is newer than `since`."""
        carriers, until = self._carriers.of(program), self._clock() + self._grace
        for node in nodes:
            found = told_by(carriers, node)
            if found is not None and found.version > since and not self._needs.has(program, node, found.name):
                self._needs.put(program, node, found.name, found.meta, until)

    def _drop_strangers(self, program: str, nodes: Collection[str]) -> None:
        """A node that it does not concern needs nothing if it does not report, or nothing tells of the program."""
        over = not self._carriers.of(program)
        for node in [node for node in self._needs.nodes(program) if node not in nodes]:
            if over or ("", node) not in self._reports:
                self._needs.drop(program, node)


def _overtook(now: Carrier, late: Carrier, node: str) -> bool:
    """Whether what tells a node is newer than what we heard later, which told it something else for a while."""
    return now.version > late.version and now.spec is not late.spec and spans(late.meta.labels, node)


def _withdrawn(old: ObjectMeta, new: ObjectMeta) -> ObjectMeta:
    """An object as those hear of it whom it tells no more: also by a label that it has lost."""
    return msgspec.structs.replace(new, labels=old.labels | new.labels)


def _programs(found: PolicyClass) -> frozenset[str]:
    return frozenset([name for tier in found.spec.tiers for name in tier.policies])


def _inside(found: PolicyClass | None) -> dict[str, Carrier]:
    """By program."""
    if found is None:
        return {}
    name, meta = found.metadata.name, found.metadata
    return {program.name: Carrier(name, meta, program.spec) for program in programs_inside(found.spec)}
