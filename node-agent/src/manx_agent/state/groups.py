"""AddressGroups, put together from their chunks.

Owns: which groups are complete, and their members. Must not: do I/O, or use half a group.

Why: a group with a chunk missing would let a rule mean something else than was written. While a group that was complete
is incomplete for a moment (a chunk more than has arrived), its old members stay; one never complete does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping

from manx_agent.state.table import Table
from manx_agent.state.union import Union
from manx_core.api.lines import lines_of
from manx_core.api.v1alpha1 import AddressGroup, AddressGroupSpec


class Groups:
    """Chunks in, complete groups out."""

    def __init__(self) -> None:
        self._union: Union[AddressGroup] = Union()
        self._chunks: dict[str, dict[str, AddressGroupSpec]] = {}
        self._group_of: dict[str, str] = {}
        self._members: Table[frozenset[str]] = Table()
        self._types: Table[str] = Table()

    def put(self, side: int, name: str, obj: AddressGroup | None) -> set[str]:
        """Takes a chunk (None: gone from that watch); returns the ids of groups that changed by it."""
        self._union.put(side, name, obj)
        newest = self._union.get(name)
        if newest is None:
            return self._forget(name)
        group = newest.spec.group
        changed = self._forget(name) if self._group_of.get(name, group) != group else set()
        self._group_of[name] = group
        chunks = self._chunks.setdefault(group, {})
        if chunks.get(name) == newest.spec:
            return changed
        chunks[name] = newest.spec
        return changed | self._assemble(group)

    def complete(self) -> tuple[Mapping[str, frozenset[str]], Mapping[str, str]]:
        """(group id → members, group id → type) of the complete groups."""
        return self._members.copy(), self._types.copy()

    def _forget(self, name: str) -> set[str]:
        group = self._group_of.pop(name, None)
        if group is None:
            return set()
        chunks = self._chunks[group]
        del chunks[name]
        if chunks:
            return self._assemble(group)
        del self._chunks[group]
        self._types.drop(group)
        return {group} if self._members.drop(group) else set()

    def _assemble(self, group: str) -> set[str]:
        by_number = {spec.chunk: spec for spec in self._chunks[group].values()}
        wanted = by_number[0].chunks if 0 in by_number else 0
        if wanted < 1 or any(number not in by_number for number in range(wanted)):
            return set()
        members = frozenset().union(*(lines_of(by_number[number].members) for number in range(wanted)))
        type_ = by_number[0].type
        if self._members.now.get(group) == members and self._types.now.get(group) == type_:
            return set()
        self._members.put(group, members)
        if self._types.now.get(group) != type_:
            self._types.put(group, type_)
        return {group}
