"""What nodes have still to report before a policy is in force there: objects, each in a version.

Owns: those needs, and when each is met, or given up. Must not: know what makes a need (`in_force` does).

A need is met when the node reports to have applied that version by a watch that told of it: its own, or the one of what
concerns every node. Progress of one watch says nothing of the other (docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.v1alpha1 import Applied, NodeReport
from manx_core.span import EVERYWHERE, span_label
from manx_operator.carriers import PROGRAM
from manx_operator.forgetting import as_number


class Need(NamedTuple):
    """A version, and the watches by which the node is told of it."""

    version: int
    own: bool
    everywhere: bool
    until: float = 0.0
    """When to give up waiting (by the clock); 0: never."""


class Needs:
    """`reports`: by node; `clock`: monotonic; `changed(program)` is called where one may need more, or less."""

    def __init__(
        self,
        reports: Mapping[tuple[str, str], NodeReport],
        clock: Callable[[], float],
        changed: Callable[[str], None],
    ) -> None:
        self._reports = reports
        self._clock = clock
        self._changed = changed
        self._of: dict[str, dict[str, dict[str, Need]]] = {}
        """Program → node → object: PROGRAM, or a class's name."""
        self._waiting: dict[str, set[str]] = {}
        self._patient: dict[tuple[str, str], float] = {}
        """Programs, each with a node, of which some need may end by time, and when."""

    def __bool__(self) -> bool:
        return bool(self._of or self._waiting or self._patient)

    def nodes(self, program: str) -> Collection[str]:
        """Those that need something for it."""
        return self._of.get(program, {}).keys()

    def has(self, program: str, node: str, name: str) -> bool:
        return name in self._of.get(program, {}).get(node, ())

    def put(self, program: str, node: str, name: str, told: ObjectMeta, until: float = 0.0) -> None:
        """This version of the object of that name, which is, or was, labelled so."""
        own, everywhere = span_label(node) in told.labels, EVERYWHERE in told.labels
        need = Need(as_number(told.resource_version), own, everywhere, until)
        self._of.setdefault(program, {}).setdefault(node, {})[name] = need
        self._waiting.setdefault(node, set()).add(program)
        if until:
            self._patient[program, node] = until
        self._changed(program)
        self._look(program, node)

    def report(self, node: str) -> None:
        """A node's report is another, or gone."""
        for program in list(self._waiting.get(node, ())):
            self._look(program, node)

    def look_again(self) -> None:
        """Needs that were waited for long enough are given up."""
        now = self._clock()
        for key in [key for key, until in self._patient.items() if until <= now]:
            del self._patient[key]
            self._look(*key)

    def drop(self, program: str, node: str) -> None:
        """The node needs nothing more for it."""
        del self._of[program][node]
        self._patient.pop((program, node), None)
        if not self._of[program]:
            del self._of[program]
        self._waiting[node].discard(program)
        if not self._waiting[node]:
            del self._waiting[node]

    def _look(self, program: str, node: str) -> None:
        report, needs = self._reports.get(("", node)), self._of[program][node]
        for name, need in list(needs.items()):
            if (report is not None and _met(name, need, report.status.applied)) or 0 < need.until <= self._clock():
                del needs[name]
        if not needs:
            self.drop(program, node)
        if not needs or report is None:
            self._changed(program)


def _met(name: str, need: Need, applied: Applied) -> bool:
    if name == PROGRAM:
        own, everywhere = applied.policyprograms, applied.policyprograms_everywhere
    else:
        own, everywhere = applied.policyclasses, applied.policyclasses_everywhere
    by_own = need.own and as_number(own) >= need.version
    return by_own or (need.everywhere and as_number(everywhere) >= need.version)
