"""Addresses for this node's pods: waits where there is none yet, answers only what is journalled.

Owns: the order "decide, journal, answer", and waiting. Must not: touch the kernel or the API server.

A pod's addresses are reserved as soon as the pod is known to be coming (`reserve`), so that its peers' groups can have
them before it has a sandbox; `allocate` takes what is reserved.

Why this way: decisions are made on the event loop in one step, so two requests never see the same free address; the
journal's fsync follows, for all requests of that moment together; a crash at any point leaves an address taken that
nobody was told of, never the reverse.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from manx_agent.ipam.journal import Journal, JournalError
from manx_agent.ipam.records import Allocated, Freed
from manx_agent.ipam.table import NO_SANDBOX, Held, Key, Table, allocated, key_of, reservation_key, version_of
from manx_core.api.v1alpha1 import Allocation, IPAMBlock, IPAMBlockStatus

log = logging.getLogger(__name__)


class Ipam:
    """`on_change` is called on the loop after every change that some block's status should show."""

    def __init__(self, journal: Path, *, on_change: Callable[[], None] = lambda: None) -> None:
        self._table = Table()
        self._journal = Journal(journal, self._table.records)
        self._on_change = on_change
        self._more = asyncio.Event()
        self.waiting = 0
        """How many `allocate` calls wait, because there is nothing to give."""
        self.damage = ""

    async def open(self) -> None:
        """Read the journal. Raises JournalError."""
        parsed = await self._journal.open()
        for record in parsed.records:
            self._table.apply(record)
        if parsed.bad_lines:
            self.damage = f"the address journal is damaged in lines {', '.join(map(str, parsed.bad_lines))}"
            log.error("%s: what they said is taken from the API server and the kernel instead", self.damage)

    async def close(self) -> None:
        await self._journal.close()

    def set_on_change(self, on_change: Callable[[], None]) -> None:
        """For a listener that itself needs this object."""
        self._on_change = on_change

    # --- pods ---------------------------------------------------------------------------------------------------------

    async def allocate(self, wanted: Allocation) -> Held:
        """Addresses for `wanted` (its own `address` is ignored): one of each family that the node has, for ever the
        same by container ID and interface. Waits as long as there is none to give. After a cancellation they may have
        been taken: `find` tells. Raises JournalError."""
        key = key_of(wanted)
        while not self._table.find(key):
            records = self._records(wanted)
            if records:
                await self._take(records, key)
                break
            await self._until_more()
        return self._table.find(key)

    async def _until_more(self) -> None:
        self._more.clear()
        self.waiting += 1
        try:
            await self._more.wait()
        finally:
            self.waiting -= 1

    async def reserve(self, pods: Iterable[Allocation]) -> None:
        """The same for pods that have no sandbox yet (`container_id` empty), in one write, without waiting: a pod for
        which there is nothing gets nothing. Raises JournalError."""
        taken = [(key_of(pod), self._apply(self._records(pod))) for pod in pods]
        await asyncio.gather(*(self._durable(records, key) for key, records in taken if records))

    def _records(self, wanted: Allocation) -> list[Allocated]:
        """What is to be written for this owner; what it has already is not."""
        has = {version_of(found.address) for found in self._table.find(key_of(wanted))}
        choices = self._table.choose(wanted.uid) or ()
        return [allocated(choice, wanted) for choice in choices if version_of(choice[1]) not in has]

    async def _take(self, records: list[Allocated], key: Key) -> None:
        await self._durable(self._apply(records), key)

    def _apply(self, records: list[Allocated]) -> list[Allocated]:
        for record in records:
            self._table.apply(record)
        return records

    async def _durable(self, records: list[Allocated], key: Key) -> None:
        try:
            await self._written(records)
        except JournalError:
            await self._give_back(key)
            raise
        self._on_change()

    async def _written(self, records: Iterable[Allocated | Freed]) -> None:
        """All of them go into one write: they are submitted at once."""
        written = [self._journal.submit(record) for record in records]
        for future in written:
            await asyncio.shield(future)

    async def _give_back(self, key: Key) -> None:
        """Nobody was told of the address; but what the disk holds of it is unknown, so it goes through quarantine."""
        try:
            await self.free(key)
        except JournalError:
            log.warning("address of %s freed in memory only; the journal is rewritten as soon as that is possible", key)

    async def free(self, key: Key) -> Held:
        """Free what `key` has, and return that. Raises JournalError: then it is freed in memory, and on the disk as
        soon as a write succeeds."""
        records = self._table.freeing(key)
        found = self._table.find(key)
        for record in records:
            self._table.apply(record)
        if records:
            self._on_change()
            await self._written(records)
        return found

    async def give_up(self, key: Key) -> None:
        """The sandbox failed, its pod is still to come: what it had is reserved for the pod's next one. Raises
        JournalError."""
        found = self._table.find(key)
        if not found or self._table.find(reservation_key(found[0].uid)):
            await self.free(key)
            return
        pod = reservation(found[0].namespace, found[0].name, found[0].uid)
        records = self._apply(self._table.handing(key, pod))
        self._on_change()
        await self._written(records)

    def find(self, key: Key) -> Held:
        return self._table.find(key)

    def of_container(self, container_id: str) -> dict[Key, Held]:
        """What a sandbox has."""
        return self._table.of_container(container_id)

    def allocations(self) -> dict[Key, Held]:
        """What sandboxes have."""
        return self._table.allocations()

    def reservations(self) -> dict[str, Held]:
        """What is reserved for pods without a sandbox, by their UIDs."""
        return self._table.reservations()

    def families(self) -> frozenset[int]:
        """Of which (4, 6) a new pod gets an address each: those that the node has blocks of."""
        return self._table.families()

    def support(self, families: frozenset[int]) -> None:
        """Give no addresses of others: the kernel does not have them."""
        self._table.supported = families

    def hold(self, addresses: Iterable[str]) -> None:
        """Never give these, whatever the journal says: all that the kernel has and the journal does not know."""
        self._table.held = frozenset(addresses)
        self._more.set()

    def shortage(self) -> str:
        """Why `allocate` waits, for people."""
        return self._table.shortage()

    # --- the API's blocks ---------------------------------------------------------------------------------------------

    def set_blocks(self, blocks: Mapping[str, IPAMBlock]) -> tuple[Allocation, ...]:
        """The whole of this node's IPAMBlocks, by name. Returns allocations that only the API knew (the journal was
        lost): they count as in use until `free` says otherwise."""
        adopted = self._table.set_blocks(blocks)
        for record in adopted:
            self._journal.submit(record)
        self._more.set()
        self._on_change()
        return tuple(record.allocation for record in adopted if isinstance(record, Allocated))

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with blocks or journal, for a condition."""
        return self._table.problems + ((self.damage,) if self.damage else ())

    def status(self, block: str) -> IPAMBlockStatus:
        """Raises KeyError where the block is not this node's any more."""
        return self._table.status(block)

    def dirty_blocks(self) -> dict[str, IPAMBlock]:
        """Blocks whose status in the API differs from what it should be."""
        return {name: block for name, block in self._table.desired().items() if self.status(name) != block.status}


def reservation(namespace: str, name: str, uid: str) -> Allocation:
    """What `reserve` wants to know of a pod."""
    return Allocation(address="", namespace=namespace, name=name, uid=uid, container_id=NO_SANDBOX)
