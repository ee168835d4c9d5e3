"""When a freed address may be given again: once no node can have it in a group any more.

Owns: the barriers that freed addresses wait behind. Must not: write (blocks.py raises `spec.forgotten`).

An address that users list in network sets is in groups for as long as they do, whoever has it: that holds up nothing.

Why it is not enough that no group holds the address at the API server: an agent may lag behind, and a pod that is given
the address would be let through where its predecessor was. So, for addresses that no chunk holds:
1. What each node was sent last of AddressGroups is noted: the version of the last change of any chunk that the node's
   label, or the label for every node, was on. That is the barrier.
2. When every node's report says that it has applied its part of the barrier, the addresses behind it are clear. A node
   that is gone, or that was sent nothing, is waited for no longer.
One barrier at a time: what is freed meanwhile waits for the next. A process that has just started does not know which
chunks were deleted before (of those that are there it knows the last change), so it waits a while before its first one:
longer than an agent takes to notice that its watch is dead. A node that is cut off for all of that time, and had such a
chunk, is the one case that is not covered; its policies are of that time as well. Reports are compared watch by watch,
because the two watches of an agent (its own label; every node's) progress apart.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from manx_core.api.lines import lines_of
from manx_core.api.v1alpha1 import AddressGroup, NodeReport
from manx_core.span import EVERYWHERE, span_label
from manx_kube.informer import Batch

Key = tuple[str, str]


class Item(NamedTuple):
    """A freed address of a block. `sequence` -1: the block's node is gone, and with it whatever had the address."""

    block: str
    block_uid: str
    address: str
    sequence: int


class SpanVersions:
    """For each span label the version of the last change of a chunk that it was on, before or after the change."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._latest = 0

    def heard(self, batch: Batch[AddressGroup]) -> None:
        for event in batch.events:
            version = event.new.metadata.resource_version if event.new is not None else event.deleted_at
            number = as_number(version or batch.resource_version)
            labels = dict.fromkeys((*_labels(event.old), *_labels(event.new)), number)
            if number < self._latest:  # of a list, which is in no order
                labels = {label: max(number, self._versions.get(label, 0)) for label in labels}
            self._versions.update(labels)
            self._latest = max(number, self._latest)

    def of_node(self, node: str) -> tuple[int, int]:
        """(by its own label, by the label for every node)."""
        return self._versions.get(span_label(node), 0), self._versions.get(EVERYWHERE, 0)


class HeldAddresses:
    """Which addresses chunks hold, and how many chunks each."""

    def __init__(self, chunks: Iterable[AddressGroup]) -> None:
        self._counts: dict[str, int] = {}
        for chunk in chunks:
            self._add(_members(chunk), 1)

    def heard(self, batch: Batch[AddressGroup]) -> None:
        for event in batch.events:
            old, new = _members(event.old), _members(event.new)
            self._add(new - old, 1)
            self._add(old - new, -1)

    def __contains__(self, address: str) -> bool:
        return address in self._counts

    def _add(self, members: Iterable[str], sign: int) -> None:
        for address in map(_address, members):
            count = self._counts.get(address, 0) + sign
            if count:
                self._counts[address] = count
            else:
                self._counts.pop(address, None)


def any_holds(chunks: Iterable[AddressGroup], address: str, declared: Callable[[str, str], bool]) -> bool:
    """Whether one of the chunks holds the address for another reason than `declared(group, address)`: that a user
    listed it, whoever has it."""
    return any(address in addresses_of(chunk) and not declared(chunk.spec.group, address) for chunk in chunks)


@dataclass(frozen=True, slots=True)
class _Barrier:
    items: frozenset[Item]
    nodes: dict[str, tuple[int, int]]
    taken: float


class Forgetter:
    """`nodes`, `reports`: the informers' caches; `held`: whether any chunk has, or is being given, an address; `ready`:
    the time from which barriers are taken; `grace`: seconds for which a node without a report is waited for (an agent
    that starts meanwhile hears of no group that is older)."""

    def __init__(
        self,
        versions: SpanVersions,
        held: Callable[[str], bool],
        nodes: Mapping[Key, object],
        reports: Mapping[Key, NodeReport],
        *,
        clock: Callable[[], float],
        ready: float,
        grace: float,
    ) -> None:
        self._versions = versions
        self._held = held
        self._nodes = nodes
        self._reports = reports
        self._clock = clock
        self._ready = ready
        self._grace = grace
        self._barrier: _Barrier | None = None
        self._clear: set[Item] = set()

    def look(self, items: Collection[Item]) -> set[Item]:
        """Those of these items, all that there are, that are clear."""
        self._clear.intersection_update(items)
        if self._barrier is not None and self._passed(self._barrier):
            behind = self._barrier.items.intersection(items)
            self._clear |= {item for item in behind if not self._held(item.address)}
            self._barrier = None
        if self._barrier is None:
            self._take(item for item in items if item not in self._clear and not self._held(item.address))
        return set(self._clear)

    def _take(self, items: Iterator[Item]) -> None:
        now = self._clock()
        behind = frozenset(items) if now >= self._ready else frozenset()
        if behind:
            sent = {name: self._versions.of_node(name) for _, name in self._nodes}
            self._barrier = _Barrier(behind, sent, now)

    def _passed(self, barrier: _Barrier) -> bool:
        for name, sent in list(barrier.nodes.items()):
            if ("", name) in self._nodes and not self._has_applied(name, sent, barrier.taken):
                return False
            del barrier.nodes[name]  # gone, or far enough: not to be asked again
        return True

    def _has_applied(self, node: str, sent: tuple[int, int], taken: float) -> bool:
        if sent == (0, 0):
            return True
        report = self._reports.get(("", node))
        if report is None:
            return self._clock() >= taken + self._grace
        applied = report.status.applied
        everywhere = applied.addressgroups_everywhere
        return as_number(applied.addressgroups) >= sent[0] and as_number(everywhere) >= sent[1]


def addresses_of(chunk: AddressGroup) -> Iterator[str]:
    return map(_address, lines_of(chunk.spec.members))


def _address(member: str) -> str:
    """A member is an address, or an address, a comma and a port."""
    return member.partition(",")[0]


def _members(chunk: AddressGroup | None) -> frozenset[str]:
    return frozenset(lines_of(chunk.spec.members)) if chunk is not None else frozenset()


def _labels(chunk: AddressGroup | None) -> Iterable[str]:
    return chunk.metadata.labels if chunk is not None else ()


def as_number(version: str) -> int:
    """A resourceVersion as the number that it is (KEP-5504); 0 for none."""
    return int(version) if version.isdecimal() else 0
