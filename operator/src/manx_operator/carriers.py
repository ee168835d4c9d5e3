"""By which objects nodes are told of each policy's program, and by which of them an agent goes.

Owns: those objects as they were last heard: the PolicyProgram itself, and each PolicyClass that has the program inside,
most often one; two for the moment in which it moves. Must not: do I/O, or know nodes and what they report (`in_force`
does).

An agent takes a program from that object of those that span its node which has the highest resourceVersion
(`manx_agent.state.programs`), so this does, too. What says the same in two of them, apart from the epoch, is one value
here: it is compared when it is heard, not again for each node.
"""

from __future__ import annotations

from operator import attrgetter
from typing import NamedTuple

from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.v1alpha1 import PolicyProgramSpec
from manx_core.span import spans
from manx_operator.forgetting import as_number
from manx_operator.observed import same_spec

PROGRAM = ""
"""The name of the carrier that is the PolicyProgram; others are named after classes, whose names are never empty."""


class Carrier(NamedTuple):
    """An object that tells nodes of a program, and what it says."""

    name: str
    meta: ObjectMeta
    spec: PolicyProgramSpec

    @property
    def version(self) -> int:
        return as_number(self.meta.resource_version)


Told = tuple[Carrier, ...]
"""The carriers of one program, the newest first."""


class Change(NamedTuple):
    """One carrier's change."""

    name: str
    old: Carrier | None
    new: Carrier | None
    before: Told
    after: Told

    @property
    def is_one(self) -> bool:
        """Whether all carriers, before and after, say one and the same."""
        return len({id(carrier.spec) for carrier in (*self.before, *self.after)}) <= 1

    @property
    def is_news(self) -> bool:
        """Whether this one says something else than it did."""
        return self.old is None or self.new is None or self.old.spec is not self.new.spec


class Carriers:
    """Those of all programs."""

    def __init__(self) -> None:
        self._of: dict[str, Told] = {}

    def of(self, program: str) -> Told:
        return self._of.get(program, ())

    def change(self, program: str, name: str, new: Carrier | None) -> Change:
        """The carrier of that name is `new`, or is none any more."""
        before = self.of(program)
        if new is not None:
            before = tuple([_sharing(carrier, new.spec) for carrier in before])
        old = next((carrier for carrier in before if carrier.name == name), None)
        others = [carrier for carrier in before if carrier.name != name]
        after = tuple(sorted(others if new is None else [*others, new], key=attrgetter("version"), reverse=True))
        if after:
            self._of[program] = after
        else:
            self._of.pop(program, None)
        return Change(name, old, new, before, after)


def told_by(carriers: Told, node: str) -> Carrier | None:
    """The one by which the node's agent goes."""
    return next((carrier for carrier in carriers if spans(carrier.meta.labels, node)), None)


def _sharing(carrier: Carrier, spec: PolicyProgramSpec) -> Carrier:
    return carrier._replace(spec=spec) if same_spec(carrier.spec, spec) else carrier
