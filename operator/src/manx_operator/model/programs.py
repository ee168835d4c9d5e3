"""Policy programs: one for each policy, and the nodes that need it.

Owns: every PolicyProgram object, and the use of groups that comes of it. Must not: know pods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from manx_core.policy import CompiledPolicy
from manx_core.policy.remarks import remarks
from manx_operator.model.groups import GroupTable
from manx_operator.model.types import DesiredObject, Key, Span


class _Program:
    """A policy in force, and its span."""

    __slots__ = ("compiled", "declared", "groups", "span")

    def __init__(self, compiled: CompiledPolicy, declared: Callable[[], str]) -> None:
        self.compiled = compiled
        self.declared = declared
        self.groups = {group.id: group for group in compiled.groups}
        self.span = Span()


class ProgramTable:
    """All programs, by name. A program's groups are needed wherever it is."""

    def __init__(self, groups: GroupTable) -> None:
        self._groups = groups
        self._programs: dict[str, _Program] = {}
        self._users: dict[str, dict[str, None]] = {}
        """Group → the programs that use it."""
        self._dirty: set[str] = set()

    def __getitem__(self, name: str) -> CompiledPolicy:
        return self._programs[name].compiled

    def put(self, compiled: CompiledPolicy, declared: Callable[[], str]) -> None:
        """The policy is this now. Groups that it goes on using are not given up in between."""
        old, new = self._programs.get(compiled.name), _Program(compiled, declared)
        self._programs[compiled.name] = new
        self._dirty.add(compiled.name)
        for definition in new.groups.values():
            self._groups.acquire(definition)
        if old is not None:
            new.span = old.span
            self._follow(old, new)
            self._release(old)
        for group_id in new.groups:
            self._users.setdefault(group_id, {})[compiled.name] = None

    def remove(self, name: str) -> None:
        """The policy is gone; no class names it any more."""
        self._release(self._programs.pop(name))
        self._dirty.add(name)

    def need(self, name: str, node: str) -> None:
        """A class more names the program on that node."""
        program = self._programs[name]
        if program.span.add(node):
            self._dirty.add(name)
            for group_id in program.groups:
                self._groups.need(group_id, node)

    def unneed(self, name: str, node: str) -> None:
        """A class less names the program on that node."""
        program = self._programs[name]
        if program.span.drop(node):
            self._dirty.add(name)
            for group_id in program.groups:
                self._groups.unneed(group_id, node)

    def drain(self) -> set[Key]:
        """The programs that may have changed since the last drain."""
        changed: set[Key] = {("PolicyProgram", name) for name in self._dirty}
        self._dirty.clear()
        return changed

    def desired(self, name: str) -> DesiredObject | None:
        found = self._programs.get(name)
        if found is None:
            return None
        spec = found.compiled.program()
        return DesiredObject("PolicyProgram", name, spec, frozenset(found.span), found.declared())

    def nodes(self, name: str) -> frozenset[str]:
        """The nodes that need the program now; none where there is no such program."""
        found = self._programs.get(name)
        return frozenset(found.span) if found is not None else frozenset()

    def remarks(self, name: str) -> tuple[str, ...]:
        """What is hardly meant of that program's policy; nothing where there is no such program."""
        found = self._programs.get(name)
        if found is None:
            return ()
        return tuple(remarks(found.compiled, [group for group in found.groups if self._groups.is_empty(group)]))

    def users(self, groups: Iterable[str]) -> frozenset[str]:
        """The programs that use any of these groups."""
        return frozenset(name for group_id in groups for name in self._users.get(group_id, ()))

    def keys(self) -> set[Key]:
        return {("PolicyProgram", name) for name in self._programs}

    def _follow(self, old: _Program, new: _Program) -> None:
        """The groups' needs, from the old rules to the new."""
        for node in new.span:
            for group_id in new.groups.keys() - old.groups.keys():
                self._groups.need(group_id, node)
            for group_id in old.groups.keys() - new.groups.keys():
                self._groups.unneed(group_id, node)

    def _release(self, program: _Program) -> None:
        for group_id in program.groups:
            self._groups.release(group_id)
            users = self._users[group_id]
            del users[program.compiled.name]
            if not users:
                del self._users[group_id]
