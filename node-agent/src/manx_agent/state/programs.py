"""Programs as a node hears of them: as objects of their own, by either watch, and inside classes.

Owns: which of these counts. Must not: do I/O, or know what a program says.

Why the newest of them all counts: while a program goes from one place to another a node has it twice, and whoever of
the two was written later says what is wanted. All these are custom resources, which the API server keeps in one etcd
(--etcd-servers-overrides is for its own kinds alone), so their resourceVersions can be compared.
"""

from __future__ import annotations

import logging
from operator import itemgetter

import msgspec

from manx_agent.state.union import Union, version
from manx_core.api.inside import programs_in
from manx_core.api.v1alpha1 import PolicyClass, PolicyProgram, PolicyProgramSpec

log = logging.getLogger(__name__)

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
        """The class of that name is this; returns the programs that are inside, or were. Where what is inside cannot be
        read, what was stays."""
        try:
            inside = programs_in(now.spec.programs) if now is not None else ()
        except msgspec.MsgspecError as error:
            log.error("PolicyClass %s: spec.programs: %s: what was inside before stays in force", name, error)
            return _NONE
        before, names = self._names.pop(name, _NONE), frozenset([found.name for found in inside])
        for program in before:
            self._take_out(program, name)
        for found in inside:
            self._inside.setdefault(found.name, {})[name] = version(now) if now else 0, found.spec
        if names:
            self._names[name] = names
        return before | names

    def get(self, name: str) -> PolicyProgramSpec | None:
        """None: the node knows no such program."""
        found = [*self._inside.get(name, {}).values()]
        newest = self._objects.get(name)
        if newest is not None:
            found.append((version(newest), newest.spec))
        return max(found, key=itemgetter(0))[1] if found else None

    def _take_out(self, program: str, of: str) -> None:
        inside = self._inside[program]
        del inside[of]
        if not inside:
            del self._inside[program]
