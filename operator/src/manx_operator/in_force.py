"""On which nodes a policy is in the kernel: what each node has still to report, policy by policy.

Owns: those needs, and when each is met. Must not: do I/O, or word anything (`policy_statuses` does).

How it is known. An agent reports, watch by watch, the resourceVersion up to which what it heard is in the kernel. So:
1. Where a PolicyProgram's spec changes, or it gets a node's span label, that node needs that version of the program;
   where a PolicyClass first names the program, or gets the label, the node needs that version of the class.
2. A need is met when the node reports to have applied that version by a watch that told of it: its own, or the one of
   what concerns every node. Progress of one watch says nothing of the other (docs/decisions/0002).
3. A policy is in force on a node that it concerns (some class with a pod there names it), that the program is labelled
   for, and that needs nothing more.
A change that tells an agent nothing new (another node's label, a status) leaves no need, for the agent need not report
it. So what is looked at on a report are the policies not yet in force on that node, and no others.

After a restart nothing is known of needs. What the status said to be in force everywhere, of the same generation of the
program, still is; else every node needs the program's version as it is found, or, if that never comes (it may be of a
change that tells nothing new), only `grace` seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from manx_core.api.v1alpha1 import Applied, NodeReport, PolicyClass, PolicyNodes, PolicyProgram
from manx_core.span import EVERYWHERE, span_label
from manx_operator.forgetting import as_number

PROGRAM = ""
"""The need of the program itself; other needs are named after classes, whose names are never empty."""

label_of = lru_cache(maxsize=20_000)(span_label)


class Need(NamedTuple):
    """A version, and the watches by which the node is told of it."""

    version: int
    own: bool
    everywhere: bool
    until: float = 0.0
    """When to give up waiting (by the tracker's clock); 0: never."""


class Standing(NamedTuple):
    """Where a policy is in force."""

    concerned: int
    lagging: tuple[str, ...]
    """Sorted."""
    nodes: PolicyNodes


class InForce:
    """`nodes_of(program)`: the nodes that it concerns, as the model has it; `reports`: by node; `clock`: monotonic."""

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
        self._programs: dict[str, PolicyProgram] = {}
        self._versions: dict[str, tuple[int, str]] = {}
        self._needs: dict[str, dict[str, dict[str, Need]]] = {}
        self._waiting: dict[str, set[str]] = {}
        self._patient: dict[tuple[str, str], float] = {}
        """Programs, each with a node, of which some need may end by time, and when."""
        self._dirty: set[str] = set()
        self._known: dict[str, str] = {}
        """Span label → node, of nodes that some policy concerns."""

    # --- what is heard ------------------------------------------------------------------------------------------------

    def adopt(self, program: PolicyProgram, said: PolicyNodes) -> None:
        """A program as it is found when the term begins, and what the policy's status says of it."""
        name, meta = program.metadata.name, program.metadata
        self._programs[name] = program
        same = said.program_generation == meta.generation
        self._versions[name] = (meta.generation, said.program_version if same else meta.resource_version)
        self.touch([name])
        nodes = self._nodes_of(name)
        if same and said.in_force == said.concerned == len(nodes):
            return
        for node in nodes:
            if _spans(program, node):
                self._need(name, node, PROGRAM, program, until=self._clock() + self._grace)

    def program(self, name: str, new: PolicyProgram | None) -> None:
        """A program was made, changed or deleted."""
        old = self._programs.get(name)
        self.touch([name])
        if new is None:
            self._forget(name)
            return
        self._programs[name] = new
        told = old is None or old.spec != new.spec
        version = new.metadata.resource_version if told else self._versions[name][1]
        self._versions[name] = (new.metadata.generation, version)
        for node in self._nodes_of(name):
            if _spans(new, node) and (told or old is None or not _spans(old, node)):
                self._need(name, node, PROGRAM, new)

    def policy_class(self, old: PolicyClass | None, new: PolicyClass | None) -> None:
        """A class was made, changed or deleted."""
        if new is None:
            return
        before = _programs(old) if old is not None else frozenset()
        reached = self._spanned(new)
        added = reached if old is None else {node for node in reached if not _spans(old, node)}
        for name in _programs(new) if added else _programs(new) - before:
            for node in self._nodes_of(name) & (added if name in before else reached):
                self._need(name, node, new.metadata.name, new)

    def report(self, node: str) -> None:
        """A node's report is another."""
        for name in list(self._waiting.get(node, ())):
            self._look(name, node)

    def touch(self, programs: Iterable[str]) -> None:
        """The nodes that these concern may be others."""
        for name in programs:
            self._dirty.add(name)
            self._known.update((label_of(node), node) for node in self._nodes_of(name))

    # --- what comes of it ---------------------------------------------------------------------------------------------

    def drain(self) -> set[str]:
        """Programs whose standing may be another than at the drain before."""
        dirty, self._dirty = self._dirty, set()
        return dirty

    def standing(self, name: str) -> Standing | None:
        """None where there is no such program."""
        program = self._programs.get(name)
        if program is None:
            return None
        nodes = self._nodes_of(name)
        lagging = tuple(sorted(node for node in nodes if not self._has(name, program, node)))
        generation, version = self._versions[name]
        counts = PolicyNodes(
            concerned=len(nodes),
            in_force=len(nodes) - len(lagging),
            program_generation=generation,
            program_version=version,
        )
        self._drop_strangers(name, nodes)
        return Standing(len(nodes), lagging, counts)

    def look_again(self) -> None:
        """Needs that were waited for long enough are given up."""
        now = self._clock()
        for key in [key for key, until in self._patient.items() if until <= now]:
            del self._patient[key]
            self._look(*key)

    # --- needs --------------------------------------------------------------------------------------------------------

    def _spanned(self, told: PolicyClass) -> set[str]:
        """The nodes that the object's labels are of."""
        labels = told.metadata.labels
        if EVERYWHERE in labels:
            return set(self._known.values())
        return {self._known[label] for label in labels if label in self._known}

    def _has(self, name: str, program: PolicyProgram, node: str) -> bool:
        needs_more = node in self._needs.get(name, ())
        return not needs_more and _spans(program, node) and ("", node) in self._reports

    def _need(self, name: str, node: str, what: str, told: PolicyProgram | PolicyClass, until: float = 0.0) -> None:
        labels = told.metadata.labels
        need = Need(as_number(told.metadata.resource_version), label_of(node) in labels, EVERYWHERE in labels, until)
        self._needs.setdefault(name, {}).setdefault(node, {})[what] = need
        self._waiting.setdefault(node, set()).add(name)
        if until:
            self._patient[name, node] = until
        self._dirty.add(name)
        self._look(name, node)

    def _look(self, name: str, node: str) -> None:
        """Take away the needs that are met."""
        report, needs = self._reports.get(("", node)), self._needs[name][node]
        for what, need in list(needs.items()):
            if (report is not None and _met(what, need, report.status.applied)) or 0 < need.until <= self._clock():
                del needs[what]
        if not needs:
            self._end(name, node)
            self._dirty.add(name)

    def _end(self, name: str, node: str) -> None:
        del self._needs[name][node]
        self._patient.pop((name, node), None)
        if not self._needs[name]:
            del self._needs[name]
        self._waiting[node].discard(name)
        if not self._waiting[node]:
            del self._waiting[node]

    def _drop_strangers(self, name: str, nodes: Collection[str]) -> None:
        """What concerns a node no more, it needs not."""
        for node in [node for node in self._needs.get(name, ()) if node not in nodes]:
            self._end(name, node)

    def _forget(self, name: str) -> None:
        self._drop_strangers(name, ())
        self._programs.pop(name, None)
        self._versions.pop(name, None)


def _met(what: str, need: Need, applied: Applied) -> bool:
    if what == PROGRAM:
        own, everywhere = applied.policyprograms, applied.policyprograms_everywhere
    else:
        own, everywhere = applied.policyclasses, applied.policyclasses_everywhere
    by_own = need.own and as_number(own) >= need.version
    return by_own or (need.everywhere and as_number(everywhere) >= need.version)


def _spans(told: PolicyProgram | PolicyClass, node: str) -> bool:
    labels = told.metadata.labels
    return EVERYWHERE in labels or label_of(node) in labels


def _programs(found: PolicyClass) -> frozenset[str]:
    return frozenset(_named(found))


def _named(found: PolicyClass) -> Iterator[str]:
    for tier in found.spec.tiers:
        yield from tier.policies
