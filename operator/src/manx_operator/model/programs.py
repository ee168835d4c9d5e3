"""Policy programs: one for each policy, each with its audience.

Owns: every PolicyProgram object, and who uses which group. Must not: know pods.

An audience is all pods that one selector applies to. Policies that apply by equal selectors have the same one, and with
it the same span: a node that comes to need ten thousand of them costs one entry.

The programs of an audience that is one class alone, and small, are written inside that class, and come to nodes in it;
their own objects are then for no node (docs/decisions/0010).
"""

from __future__ import annotations

from collections.abc import Iterable

from manx_core.api.inside import ClassProgram, line_of
from manx_core.policy import CompiledPolicy, GroupDef
from manx_core.policy.remarks import remarks
from manx_operator.model.groups import Group, GroupTable
from manx_operator.model.policies import InForce
from manx_operator.model.types import DesiredObject, Key, Span

NOWHERE: frozenset[str] = frozenset()
FEW = 4
"""Programs; an audience that has more is crowded."""
SMALL = 2048
"""Characters of the line of a program that may be inside a class."""


class Program:
    """A policy in force."""

    __slots__ = ("_line", "audience", "groups", "in_force", "own_ports")

    def __init__(self, in_force: InForce, groups: tuple[Group, ...], own_ports: tuple[Group, ...]) -> None:
        self.in_force = in_force
        self.groups = groups
        """Those that its nodes need."""
        self.own_ports = own_ports
        """Those that are kept to know whether anybody is in them; nodes know their own pods' ports by themselves."""
        self.audience: Audience
        self._line: str | None = None

    @property
    def used(self) -> tuple[Group, ...]:
        return self.groups + self.own_ports

    @property
    def compiled(self) -> CompiledPolicy:
        return self.in_force.compiled

    @property
    def inside(self) -> bool:
        """Whether it comes to nodes inside the one class that it applies to."""
        return bool(self.audience.home) and self.small

    @property
    def small(self) -> bool:
        """Whether it may be inside a class."""
        return bool(self.line)

    @property
    def line(self) -> str:
        """Its line inside a class; empty where it is not small."""
        if self._line is None:
            line = line_of(ClassProgram(self.compiled.name, self.compiled.program()))
            self._line = line if len(line) <= SMALL else ""
        return self._line


class Audience:
    """The programs of one selector, the groups that they use, and the nodes that need them."""

    __slots__ = ("_groups", "classes", "home", "programs", "span", "spread")

    def __init__(self) -> None:
        self.programs: dict[str, Program] = {}
        self.span = Span()
        self.classes = 0
        """How many classes belong to it."""
        self.home = ""
        """The class that has its programs inside, if these are small."""
        self.spread = False
        """Whether small programs' own objects were for some nodes when that was last asked for."""
        self._groups: dict[Group, int] | None = None
        """Each with the number of programs; None where there is none."""

    @property
    def crowded(self) -> bool:
        """Whether its programs, and those of its classes' other audiences with them, are too many to be inside."""
        return len(self.programs) > FEW

    def put(self, program: Program, groups: GroupTable) -> None:
        """The program of that name is this now; what both use is not given up in between."""
        program.audience, name = self, program.compiled.name
        old = self.programs.get(name)
        self.programs[name] = program
        self._use(program.groups, groups)
        if old is not None:
            self._disuse(old.groups, groups)

    def remove(self, program: Program, groups: GroupTable) -> None:
        del self.programs[program.compiled.name]
        self._disuse(program.groups, groups)

    def need(self, node: str, groups: GroupTable) -> bool:
        """One class more on that node; whether the programs come there by it."""
        first = self.span.add(node)
        if first:
            for group in self._groups or ():
                groups.need(group, node)
        return first

    def unneed(self, node: str, groups: GroupTable) -> bool:
        """One class less on that node; whether the programs leave it by that."""
        last = self.span.drop(node)
        if last:
            for group in self._groups or ():
                groups.unneed(group, node)
        return last

    def _use(self, used: tuple[Group, ...], groups: GroupTable) -> None:
        if used and self._groups is None:
            self._groups = {}
        for group in used:
            assert self._groups is not None
            uses = self._groups.get(group, 0)
            self._groups[group] = uses + 1
            for node in () if uses else self.span:
                groups.need(group, node)

    def _disuse(self, used: tuple[Group, ...], groups: GroupTable) -> None:
        for group in used:
            assert self._groups is not None
            self._groups[group] -= 1
            if not self._groups[group]:
                del self._groups[group]
                for node in self.span:
                    groups.unneed(group, node)


class ProgramTable:
    """All programs, by name. A program's groups are needed wherever it is."""

    def __init__(self, groups: GroupTable) -> None:
        self._groups = groups
        self._programs: dict[str, Program] = {}
        self._dirty: dict[str, None] = {}

    def get(self, name: str) -> Program | None:
        return self._programs.get(name)

    def put(self, in_force: InForce) -> Program:
        """The policy is this now. What was there before keeps its groups until `release`."""
        compiled, name = in_force.compiled, in_force.compiled.name
        groups, own_ports = self._acquired(compiled.groups, name), self._acquired(compiled.own_ports(), name)
        program = self._programs[name] = Program(in_force, groups, own_ports)
        self._dirty[name] = None
        return program

    def _acquired(self, definitions: tuple[GroupDef, ...], name: str) -> tuple[Group, ...]:
        return tuple([self._groups.acquire(found, name) for found in definitions]) if definitions else ()

    def remove(self, program: Program) -> None:
        """The policy is gone; no class names it any more."""
        del self._programs[program.compiled.name]
        self._dirty[program.compiled.name] = None
        self.release(program)

    def release(self, program: Program) -> None:
        """This is not the policy any more."""
        now = self._programs.get(program.compiled.name)
        for group in program.used:
            if now is None or group not in now.used:
                self._groups.release(group, program.compiled.name)

    def drain(self) -> list[Key]:
        """The programs of which something but the span may have changed since the last drain."""
        changed: list[Key] = [("PolicyProgram", name) for name in self._dirty]
        self._dirty.clear()
        return changed

    def desired(self, name: str) -> DesiredObject | None:
        found = self._programs.get(name)
        if found is None:
            return None
        in_force = found.in_force
        nodes = NOWHERE if found.inside else found.audience.span.nodes
        return DesiredObject("PolicyProgram", name, in_force.compiled.program(), nodes, in_force.declared())

    def nodes(self, name: str) -> frozenset[str]:
        """The nodes that need the program now; none where there is no such program."""
        found = self._programs.get(name)
        return found.audience.span.nodes if found is not None else frozenset()

    def remarks(self, name: str) -> tuple[str, ...]:
        """What is hardly meant of that program's policy; nothing where there is no such program."""
        found = self._programs.get(name)
        if found is None:
            return ()
        return tuple(remarks(found.compiled, [group.id for group in found.used if group.chunks.empty]))

    def users(self, groups: Iterable[str]) -> frozenset[str]:
        """The programs that use any of these groups."""
        return frozenset(name for group_id in groups for name in self._groups.users(group_id))

    def keys(self) -> set[Key]:
        return {("PolicyProgram", name) for name in self._programs}
