"""Programs as a node hears of them: as objects of their own, by either watch, and inside classes.

Owns: which of these counts. Must not: do I/O, or know what a program says.

Why what is inside a class counts before the object: the operator writes a program of one class into that class, and
nothing keeps the node hearing of the object then. Once more classes name it, the object is written, and labelled for
the node, before the class is written without it. Between classes the newest counts.
"""

from __future__ import annotations

from operator import itemgetter

from manx_agent.state.union import Union, version
from manx_core.api.v1alpha1 import PolicyClass, PolicyProgram, PolicyProgramSpec

_NONE: frozenset[str] = frozenset()


class Programs:
    """By name. Classes are told of as they count, each the newest of both watches."""

    def __init__(self) -> None:
        self._objects: Union[PolicyProgram] = Union()
        self._inside: dict[str, dict[str, tuple[int, PolicyProgramSpec]]] = {}
        """Program → class that has it inside → the class's version, and what it has."""
        self._names: dict[str, frozenset[str]] = {}
        """Class → the programs that it has inside; none with nothing inside."""

    def put(self, side: int, name: str, obj: PolicyProgram | None) -> None:
        """A PolicyProgram as watch `side` has it."""
        self._objects.put(side, name, obj)

    def put_class(self, name: str, now: PolicyClass | None) -> frozenset[str]:
        """The class of that name is this; returns the programs that are inside, or were."""
        before = self._names.pop(name, _NONE)
        for program in before:
            self._take_out(program, name)
        if now is None or not now.spec.programs:
            return before
        for found in now.spec.programs:
            self._inside.setdefault(found.name, {})[name] = version(now), found.spec
        self._names[name] = frozenset([found.name for found in now.spec.programs])
        return before | self._names[name]

    def get(self, name: str) -> PolicyProgramSpec | None:
        """None: the node knows no such program."""
        if inside := self._inside.get(name):
            return max(inside.values(), key=itemgetter(0))[1]
        newest = self._objects.get(name)
        return newest.spec if newest is not None else None

    def _take_out(self, program: str, of: str) -> None:
        inside = self._inside[program]
        del inside[of]
        if not inside:
            del self._inside[program]
