"""Address groups: which items are in which group, and the chunks that come of it.

Owns: every AddressGroup object. Must not: know policies; it is told which groups are used, and on which nodes.

An item is whatever is selected as one: all pods that are alike, or one network set. Its holders' addresses and named
ports are what it adds to the groups that select it; what a service's group holds comes of its slices. A member that
several holders have stays until the last of them has it no more.

A group that nothing uses any more goes only with the next drain, so that one that is used again in the same batch keeps
its chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from manx_core.api.lines import lines_of, text_of
from manx_core.api.v1alpha1 import AddressGroup, AddressGroupSpec
from manx_core.policy import GroupDef, NamedPort
from manx_core.selectors import Change, IncrementalIndex
from manx_operator.model.chunks import Chunks
from manx_operator.model.services import ServiceTable, SliceFacts
from manx_operator.model.types import DesiredObject, Key, ObjectKey, Span

Facts = tuple[tuple[str, ...], tuple[NamedPort, ...]]
"""What a holder adds to groups: its addresses or nets, and named ports."""
NOTHING: Facts = ((), ())


class Item(Protocol):
    """What selectors select as one. Compared by identity."""

    def __hash__(self) -> int: ...

    def holders(self) -> Iterable[Facts]: ...


class Group:
    """A group in use."""

    __slots__ = ("_more", "chunks", "definition", "id", "shown", "span", "users")

    def __init__(self, definition: GroupDef, placed: Mapping[int, Iterable[str]] | None) -> None:
        self.definition = definition
        self.id = definition.id
        self.users: dict[str, None] = {}
        """The programs that use it."""
        self.span = Span()
        self.shown = False
        """Whether there were objects of it at the last drain."""
        self.chunks = Chunks(placed)
        self._more: dict[str, int] | None = None
        """Members that more than one holder has → how many besides the first. None for none."""

    def gain(self, member: str) -> None:
        """One holder more has it."""
        if self.chunks.add(member):
            return
        if self._more is None:
            self._more = {}
        self._more[member] = self._more.get(member, 0) + 1

    def lose(self, member: str) -> None:
        """One holder less has it."""
        others = self._more.get(member, 0) if self._more else 0
        if not others:
            self.chunks.remove(member)
        elif others > 1:
            self._more[member] = others - 1  # type: ignore[index]
        else:
            del self._more[member]  # type: ignore[union-attr]


class GroupTable:
    """All groups. Items are known by their flat labels (`manx_core.policy.pod_item` and others)."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}
        self._index: IncrementalIndex[Item, Group] = IncrementalIndex()
        self._services = ServiceTable()
        self._of_service: dict[ObjectKey, dict[Group, None]] = {}
        """The groups in use of a service."""
        self._placed: dict[str, dict[int, tuple[str, ...]]] = {}
        self._dirty: dict[Group, None] = {}
        self._turned: set[str] = set()
        """Groups that came to have members, or to have none, since that was asked."""

    # --- what exists already

    def adopt(self, objects: Iterable[AddressGroup]) -> None:
        """Take over the placement of these chunks, for groups that come into use before the first drain."""
        for chunk in objects:
            if chunk.metadata.name == _chunk_name(chunk.spec.group, chunk.spec.chunk):
                self._placed.setdefault(chunk.spec.group, {})[chunk.spec.chunk] = lines_of(chunk.spec.members)

    # --- items

    def set_labels(self, item: Item, labels: Mapping[str, str]) -> None:
        """The item exists, with these flat labels."""
        self._move(self._index.set_item(item, labels))

    def remove_item(self, item: Item) -> None:
        """The item, which has no holders any more, exists no longer."""
        self._index.remove_item(item)

    def change(self, item: Item, old: Facts, new: Facts) -> None:
        """A holder of that item adds something else now. It comes or goes where either is NOTHING."""
        if old[0] or new[0]:
            for group in self._index.selecting(item):
                self._exchange(group, group.definition.members_of(*old), group.definition.members_of(*new))

    def transfer(self, one: Item, old: Facts, other: Item, new: Facts) -> None:
        """A holder goes from one item to the other; what both are in does not notice."""
        if not old[0] and not new[0]:
            return
        before = dict.fromkeys(self._index.selecting(one))
        for group in self._index.selecting(other):
            members = group.definition.members_of(*old) if group in before else ()
            before.pop(group, None)
            self._exchange(group, members, group.definition.members_of(*new))
        for group in before:
            self._exchange(group, group.definition.members_of(*old), ())

    def set_slice(self, key: ObjectKey, facts: SliceFacts | None) -> None:
        """What the slice adds to its service's groups; None where it is gone."""
        old = self._services.get(key)
        if old == facts:
            return
        self._services.put(key, facts)
        for service in {found.service for found in (old, facts) if found is not None}:
            before = old if old is not None and old.service == service else None
            after = facts if facts is not None and facts.service == service else None
            for group in self._of_service.get(service, ()):
                self._exchange(group, _from_slice(group, before), _from_slice(group, after))

    # --- use

    def acquire(self, definition: GroupDef, program: str) -> Group:
        """The program uses the group."""
        group = self._groups.get(definition.id)
        if group is None:
            placed = _without_gap(self._placed.get(definition.id, {})) if self._placed else None
            group = self._groups[definition.id] = Group(definition, placed)
            self._dirty[group] = None
            self._turned.add(group.id)
            self._follow(group)
        group.users[program] = None
        return group

    def release(self, group: Group, program: str) -> None:
        """The program uses the group no more."""
        del group.users[program]
        self._dirty[group] = None

    def users(self, group_id: str) -> Iterable[str]:
        """The programs that use the group; none where there is no such group."""
        group = self._groups.get(group_id)
        return group.users if group is not None else ()

    def need(self, group: Group, node: str) -> None:
        """One reason more for the group to be on the node."""
        if group.span.add(node):
            group.chunks.touch_all()
            self._dirty[group] = None

    def unneed(self, group: Group, node: str) -> None:
        """One reason less for the group to be on the node."""
        if group.span.drop(node):
            group.chunks.touch_all()
            self._dirty[group] = None

    # --- what comes of it

    def drain(self) -> list[Key]:
        """The chunks that may have changed since the last drain."""
        self._placed.clear()
        changed: list[Key] = []
        for group in self._dirty:
            touched = group.chunks.settle()
            if not group.users:
                del self._groups[group.id]
                self._unfollow(group)
                touched.update(range(len(group.chunks)))
            if group.span or group.shown:
                changed += [_key(group.id, number) for number in touched]
            group.shown = bool(group.span)
        self._dirty.clear()
        return changed

    def desired(self, name: str) -> DesiredObject | None:
        """None where no node needs the group, and for a chunk that there is not."""
        group_id, _, digits = name.rpartition("-")
        group, number = self._groups.get(group_id), int(digits) if digits.isdecimal() else -1
        if group is None or not group.span or name != _chunk_name(group_id, number) or number >= len(group.chunks):
            return None
        return DesiredObject("AddressGroup", name, _spec(group, number), group.span.nodes)

    def turned(self) -> set[str]:
        """The groups that came to have members, or to have none, since the last call. It may name more."""
        turned, self._turned = self._turned, set()
        return turned

    def selects_holder_of(self, group_id: str, member: str) -> bool:
        """Whether the group selects an item that has this member; never so of a service's group."""
        group = self._groups.get(group_id)
        return group is not None and group.definition.service is None and member in group.chunks

    def keys(self) -> set[Key]:
        return {
            _key(group_id, number)
            for group_id, group in self._groups.items()
            if group.span
            for number in range(len(group.chunks))
        }

    # --- members

    def _follow(self, group: Group) -> None:
        """All that is in it now, and comes into it from now on."""
        if group.definition.service is None:
            self._move(self._index.set_selector(group, group.definition.selects))
            return
        service = group.definition.service[:2]
        self._of_service.setdefault(service, {})[group] = None
        for found in self._services.slices(service):
            self._exchange(group, (), _from_slice(group, found))

    def _unfollow(self, group: Group) -> None:
        if group.definition.service is None:
            self._index.remove_selector(group)
            return
        service = group.definition.service[:2]
        del self._of_service[service][group]
        if not self._of_service[service]:
            del self._of_service[service]

    def _move(self, changes: list[Change[Group, Item]]) -> None:
        for group, item, joined in changes:
            for facts in item.holders():
                members = group.definition.members_of(*facts)
                self._exchange(group, () if joined else members, members if joined else ())

    def _exchange(self, group: Group, old: Iterable[str], new: Iterable[str]) -> None:
        """New ones first: what is in both does not move."""
        chunks = group.chunks
        was_empty = chunks.empty
        for member in new:
            group.gain(member)
        for member in old:
            group.lose(member)
        if chunks.touched:
            self._dirty[group] = None
        if was_empty != chunks.empty:
            self._turned.add(group.id)


def _from_slice(group: Group, found: SliceFacts | None) -> tuple[str, ...]:
    service = group.definition.service
    return found.members(service.with_ports) if found is not None and service is not None else ()


def _spec(group: Group, number: int) -> AddressGroupSpec:
    first = number == 0
    return AddressGroupSpec(
        epoch=0,
        group=group.id,
        chunk=number,
        chunks=len(group.chunks) if first else 0,
        type=group.definition.type,
        members=text_of(group.chunks.members(number)),
        selector=group.definition.selector if first else "",
    )


def _without_gap(placed: dict[int, tuple[str, ...]]) -> dict[int, tuple[str, ...]]:
    """The chunks up to the first that is missing: what lies beyond it was never complete."""
    kept: dict[int, tuple[str, ...]] = {}
    while len(kept) in placed:
        kept[len(kept)] = placed[len(kept)]
    return kept


def _key(group_id: str, number: int) -> Key:
    return ("AddressGroup", _chunk_name(group_id, number))


def _chunk_name(group_id: str, number: int) -> str:
    return f"{group_id}-{number}"
