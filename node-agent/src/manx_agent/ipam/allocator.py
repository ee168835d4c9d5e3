"""Addresses for this node's pods: waits where there is none yet, answers only what is journalled.

Owns: the order "decide, journal, answer", and waiting. Must not: touch the kernel or the API server.

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
from manx_agent.ipam.records import Allocated
from manx_agent.ipam.table import Key, Table, key_of
from manx_core.api.v1alpha1 import Allocation, IPAMBlock, IPAMBlockStatus

log = logging.getLogger(__name__)


class Ipam:
    """`on_change` is called on the loop after every change that some block's status should show."""

    def __init__(self, journal: Path, *, on_change: Callable[[], None] = lambda: None) -> None:
        self._table = Table()
        self._journal = Journal(journal, self._table.records)
        self._on_change = on_change
        self._more = asyncio.Event()
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

    async def allocate(self, wanted: Allocation) -> str:
        """An address for `wanted` (its `address` is ignored), for ever the same by container ID and interface. Waits as
        long as there is none to give. After a cancellation an address may have been taken: `find` tells. Raises
        JournalError."""
        while (found := self._table.find(key_of(wanted))) is None:
            choice = self._table.choose()
            if choice is not None:
                return await self._take(*choice, wanted)
            self._more.clear()
            await self._more.wait()
        return found.address

    async def _take(self, block: str, address: str, wanted: Allocation) -> str:
        allocation = Allocation(
            address=address,
            namespace=wanted.namespace,
            name=wanted.name,
            uid=wanted.uid,
            container_id=wanted.container_id,
            interface=wanted.interface,
        )
        record = Allocated(block, allocation)
        self._table.apply(record)
        try:
            await asyncio.shield(self._journal.submit(record))
        except JournalError:
            await self._give_back(key_of(wanted))
            raise
        self._on_change()
        return address

    async def _give_back(self, key: Key) -> None:
        """Nobody was told of the address; but what the disk holds of it is unknown, so it goes through quarantine."""
        try:
            await self.free(key)
        except JournalError:
            log.warning("address of %s freed in memory only; the journal is rewritten as soon as that is possible", key)

    async def free(self, key: Key) -> Allocation | None:
        """Free what `key` has, and return that; None if it has nothing. Raises JournalError: then it is freed in
        memory, and on the disk as soon as a write succeeds."""
        record = self._table.freeing(key)
        if record is None:
            return None
        found = self._table.find(key)
        self._table.apply(record)
        self._on_change()
        await asyncio.shield(self._journal.submit(record))
        return found

    def find(self, key: Key) -> Allocation | None:
        return self._table.find(key)

    def allocations(self) -> dict[Key, Allocation]:
        return self._table.allocations()

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
