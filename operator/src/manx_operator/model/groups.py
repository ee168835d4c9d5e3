"""Address groups: their members from pods, network sets and services, their chunks, and the nodes that need them.

Owns: which items are in which group, and every AddressGroup object. Must not: know policies beyond "so many programs
use this group", or nodes beyond "so many reasons on this node".

Items are selected by their flat labels; what a service's group holds comes of its slices. A member that several items
have stays until the last of them has it no more.

A group that nothing uses any more goes only with the next drain, so that one that is used again in the same batch keeps
its chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from manx_core.api.v1alpha1 import AddressGroup, AddressGroupSpec
from manx_core.policy import GroupDef, NamedPort
from manx_core.selectors import Change, IncrementalIndex
from manx_operator.model.chunks import Chunks
from manx_operator.model.services import ServiceTable, SliceFacts
from manx_operator.model.types import DesiredObject, Key, ObjectKey, Span


class _Group:
    """A group in use."""

    __slots__ = ("chunks", "counts", "definition", "id", "span", "users")

    def __init__(self, definition: GroupDef, placed: Mapping[int, Iterable[str]] | None) -> None:
        self.definition = definition
        self.id = definition.id
        self.users = 0
        self.span = Span()
        self.counts: dict[str, int] = {}
        """Member → how many items have it."""
        self.chunks = Chunks(placed)


Item = tuple[str, ...]
"""A pod's namespace and name, or something longer for a network set."""
Facts = tuple[tuple[str, ...], tuple[NamedPort, ...]]
"""What an item adds to groups: its addresses or nets, and named ports."""


class GroupTable:
    """All groups. Items are known by their flat labels (`manx_core.policy.pod_item` and others)."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._index: IncrementalIndex[Item, str] = IncrementalIndex()
        self._facts: dict[Item, Facts] = {}
        self._services = ServiceTable()
        self._of_service: dict[ObjectKey, dict[str, None]] = {}
        """The groups in use of a service."""
        self._placed: dict[str, dict[int, tuple[str, ...]]] = {}
        self._dirty: set[str] = set()
        self._turned: set[str] = set()
        """Groups that came to have members, or to have none, since that was asked."""

    # --- what exists already

    def adopt(self, objects: Iterable[AddressGroup]) -> None:
        """Take over the placement of these chunks, for groups that come into use before the first drain."""
        for chunk in objects:
            if chunk.metadata.name == _chunk_name(chunk.spec.group, chunk.spec.chunk):
                self._placed.setdefault(chunk.spec.group, {})[chunk.spec.chunk] = chunk.spec.members

    # --- items

    def set_labels(self, item: Item, labels: Mapping[str, str]) -> None:
        """The item exists, with these flat labels."""
        self._move(self._index.set_item(item, labels))

    def set_facts(self, item: Item, addresses: tuple[str, ...], ports: tuple[NamedPort, ...] = ()) -> None:
        """What the item adds to each group that it is in."""
        old, new = self._facts.get(item, ((), ())), (addresses, ports)
        if old == new:
            return
        self._facts[item] = new
        for group in map(self._groups.__getitem__, self._index.selectors_of(item)):
            self._exchange(group, group.definition.members_of(*old), group.definition.members_of(*new))

    def remove_item(self, item: Item) -> None:
        """The item exists no longer. No error where it did not."""
        self._move(self._index.remove_item(item))
        self._facts.pop(item, None)

    def set_slice(self, key: ObjectKey, facts: SliceFacts | None) -> None:
        """What the slice adds to its service's groups; None where it is gone."""
        old = self._services.get(key)
        if old == facts:
            return
        self._services.put(key, facts)
        for service in {found.service for found in (old, facts) if found is not None}:
            before = old if old is not None and old.service == service else None
            after = facts if facts is not None and facts.service == service else None
            for group in map(self._groups.__getitem__, self._of_service.get(service, ())):
                self._exchange(group, _from_slice(group, before), _from_slice(group, after))

    # --- use

    def acquire(self, definition: GroupDef) -> None:
        """One program more uses the group."""
        group_id = definition.id
        group = self._groups.get(group_id)
        if group is None:
            group = _Group(definition, _without_gap(self._placed.get(group_id, {})))
            self._groups[group_id] = group
            self._dirty.add(group_id)
            self._turned.add(group_id)
            self._follow(group)
        group.users += 1

    def release(self, group_id: str) -> None:
        """One program less uses the group."""
        self._groups[group_id].users -= 1
        self._dirty.add(group_id)

    def need(self, group_id: str, node: str) -> None:
        """One reason more for the group to be on the node."""
        group = self._groups[group_id]
        if group.span.add(node):
            self._touch_all(group)

    def unneed(self, group_id: str, node: str) -> None:
        """One reason less for the group to be on the node."""
        group = self._groups[group_id]
        if group.span.drop(node):
            self._touch_all(group)

    # --- what comes of it

    def drain(self) -> set[Key]:
        """The chunks that may have changed since the last drain."""
        self._placed.clear()
        changed = {
            _key(group_id, number) for group_id in self._dirty for number in self._groups[group_id].chunks.settle()
        }
        for group_id in [group_id for group_id in self._dirty if not self._groups[group_id].users]:
            group = self._groups.pop(group_id)
            self._unfollow(group)
            changed.update(_key(group_id, number) for number in range(len(group.chunks)))
        self._dirty.clear()
        return changed

    def desired(self, name: str) -> DesiredObject | None:
        """None where no node needs the group, and for a chunk that there is not."""
        group_id, _, digits = name.rpartition("-")
        group, number = self._groups.get(group_id), int(digits) if digits.isdecimal() else -1
        if group is None or not group.span or name != _chunk_name(group_id, number) or number >= len(group.chunks):
            return None
        return DesiredObject("AddressGroup", name, _spec(group, number), frozenset(group.span))

    def turned(self) -> set[str]:
        """The groups that came to have members, or to have none, since the last call. It may name more."""
        turned, self._turned = self._turned, set()
        return turned

    def is_empty(self, group_id: str) -> bool:
        """Whether a group in use has no members."""
        return not self._groups[group_id].counts

    def selects_holder_of(self, group_id: str, member: str) -> bool:
        """Whether the group selects an item that has this member; never so of a service's group."""
        group = self._groups.get(group_id)
        return group is not None and group.definition.service is None and member in group.counts

    def keys(self) -> set[Key]:
        return {
            _key(group_id, number)
            for group_id, group in self._groups.items()
            if group.span
            for number in range(len(group.chunks))
        }

    # --- members

    def _follow(self, group: _Group) -> None:
        """All that is in it now, and comes into it from now on."""
        if group.definition.service is None:
            self._move(self._index.set_selector(group.id, group.definition.selects))
            return
        service = group.definition.service[:2]
        self._of_service.setdefault(service, {})[group.id] = None
        for found in self._services.slices(service):
            self._exchange(group, (), _from_slice(group, found))

    def _unfollow(self, group: _Group) -> None:
        if group.definition.service is None:
            self._index.remove_selector(group.id)
            return
        service = group.definition.service[:2]
        del self._of_service[service][group.id]
        if not self._of_service[service]:
            del self._of_service[service]

    def _move(self, changes: list[Change[str, Item]]) -> None:
        for group_id, item, joined in changes:
            facts = self._facts.get(item)
            if facts is None:
                continue
            group = self._groups[group_id]
            members = group.definition.members_of(*facts)
            self._exchange(group, () if joined else members, members if joined else ())

    def _exchange(self, group: _Group, old: Iterable[str], new: Iterable[str]) -> None:
        """New ones first: what is in both does not move."""
        was_empty = not group.counts
        for member in new:
            count = group.counts.get(member, 0)
            group.counts[member] = count + 1
            if not count:
                group.chunks.add(member)
        for member in old:
            self._drop(group, member)
        if group.chunks.touched:
            self._dirty.add(group.id)
        if was_empty != (not group.counts):
            self._turned.add(group.id)

    def _drop(self, group: _Group, member: str) -> None:
        group.counts[member] -= 1
        if not group.counts[member]:
            del group.counts[member]
            group.chunks.remove(member)

    def _touch_all(self, group: _Group) -> None:
        group.chunks.touched.update(range(len(group.chunks)))
        self._dirty.add(group.id)


def _from_slice(group: _Group, found: SliceFacts | None) -> tuple[str, ...]:
    service = group.definition.service
    return found.members(service.with_ports) if found is not None and service is not None else ()


def _spec(group: _Group, number: int) -> AddressGroupSpec:
    first = number == 0
    return AddressGroupSpec(
        epoch=0,
        group=group.id,
        chunk=number,
        chunks=len(group.chunks) if first else 0,
        type=group.definition.type,
        members=group.chunks.members(number),
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
