"""Which addresses of this node's blocks are in use, which may not be given yet, and which is next.

Owns: the meaning of records and of IPAMBlocks. Must not: do I/O or wait; `allocator` does.

Three sources say that an address is taken: the journal (the truth), the API's status (honoured for what the journal
knows nothing of: a journal that was lost), and interfaces in the kernel that neither knows (`held`). An address is
free only where all three are silent. Freed ones stay in quarantine until the operator's `forgotten` reaches their
sequence.

A pod gets an address of each family of which the node has active blocks: all of them, or none yet. An allocation
without a container is reserved for a pod that has no sandbox so far; the pod's first sandbox takes it over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network

import msgspec

from manx_agent.ipam.block import Block
from manx_agent.ipam.records import Allocated, Freed, Header, Record, Sequence
from manx_core.api.v1alpha1 import Allocation, FreedAddress, IPAMBlock, IPAMBlockStatus

Key = tuple[str, str]
"""(container ID, the interface's name in the pod); ("", the pod's UID) of what is reserved for a pod."""
Held = tuple[Allocation, ...]
"""What a key has: at most one address of each family, IPv4 first. Empty: nothing."""
Choice = tuple[str, str]
"""(block, address)"""
NO_SANDBOX = ""
"""No runtime gives a container this ID."""


def key_of(allocation: Allocation) -> Key:
    if allocation.container_id == NO_SANDBOX:
        return reservation_key(allocation.uid)
    return allocation.container_id, allocation.interface


def reservation_key(uid: str) -> Key:
    return NO_SANDBOX, uid


def version_of(address: str) -> int:
    """4 or 6, of an address that is one."""
    return 6 if ":" in address else 4


class Table:
    """Changes come in as records, whether just decided or read from the journal: the same code for both."""

    def __init__(self) -> None:
        self._blocks: dict[str, Block] = {}
        self._by_key: dict[Key, dict[int, Choice]] = {}
        self._seen: set[str] = set()
        self.held: frozenset[str] = frozenset()
        self.supported: frozenset[int] = frozenset({4, 6})
        """The families that the kernel has."""
        self.problems: tuple[str, ...] = ()

    # --- records ------------------------------------------------------------------------------------------------------

    def apply(self, record: Record) -> None:
        match record:
            case Allocated(block, allocation):
                self._take(self._block(block), block, allocation)
            case Freed(block, address, sequence):
                self._give(self._block(block), address, sequence)
            case Sequence(block, sequence):
                self._block(block).sequence = max(self._block(block).sequence, sequence)
            case Header():
                pass

    def _take(self, block: Block, name: str, allocation: Allocation) -> None:
        before = block.allocations.get(allocation.address)
        if before is not None:
            self._forget_key(before)
        block.allocations[allocation.address] = allocation
        block.freed.pop(allocation.address, None)
        taken = self._by_key.setdefault(key_of(allocation), {})
        taken[version_of(allocation.address)] = name, allocation.address

    def _give(self, block: Block, address: str, sequence: int) -> None:
        allocation = block.allocations.pop(address, None)
        if allocation is not None:
            self._forget_key(allocation)
        block.freed[address] = sequence
        block.sequence = max(block.sequence, sequence)

    def _forget_key(self, allocation: Allocation) -> None:
        key, version = key_of(allocation), version_of(allocation.address)
        taken = self._by_key.get(key, {})
        if version in taken and taken[version][1] == allocation.address:
            del taken[version]
        if not taken:
            self._by_key.pop(key, None)

    def records(self) -> list[Record]:
        """The shortest journal that makes an equal table."""
        found: list[Record] = [Header()]
        for name, block in self._blocks.items():
            found.append(Sequence(name, block.sequence))
            found += [Freed(name, address, number) for address, number in block.freed.items()]
            found += [Allocated(name, allocation) for allocation in block.allocations.values()]
        return found

    # --- decisions ----------------------------------------------------------------------------------------------------

    def find(self, key: Key) -> Held:
        taken = self._by_key.get(key, {})
        return tuple(self._blocks[taken[v][0]].allocations[taken[v][1]] for v in sorted(taken))

    def of_container(self, container_id: str) -> dict[Key, Held]:
        """What a sandbox has."""
        return {key: self.find(key) for key in self._by_key if key[0] == container_id}

    def allocations(self) -> dict[Key, Held]:
        """What sandboxes have."""
        return {key: self.find(key) for key in self._by_key if key[0] != NO_SANDBOX}

    def reservations(self) -> dict[str, Held]:
        """What is reserved, by the pods' UIDs."""
        return {key[1]: self.find(key) for key in self._by_key if key[0] == NO_SANDBOX}

    def families(self) -> frozenset[int]:
        """Of which a new pod gets an address each."""
        networks = [block.network for _, block in self._active() if block.network]
        return frozenset(network.version for network in networks) & self.supported

    def choose(self, uid: str = "") -> tuple[Choice, ...] | None:
        """What to give the pod of this UID next: what is reserved for it, and of each other family the lowest free
        address of the first active block that has one. None where a family, or every one, has none."""
        reserved = self._by_key.get(reservation_key(uid), {})
        chosen = {v: choice for v, choice in reserved.items() if choice[1] not in self.held}
        for version in self.families() - chosen.keys():
            free = self._free(version)
            if free is None:
                return None
            chosen[version] = free
        return tuple(chosen[version] for version in sorted(chosen)) or None

    def _free(self, version: int) -> Choice | None:
        for name, block in self._active():
            address = self._first_free(block) if block.network and block.network.version == version else None
            if address is not None:
                return name, address
        return None

    def _active(self) -> list[tuple[str, Block]]:
        return sorted(item for item in self._blocks.items() if item[1].active)

    def _first_free(self, block: Block) -> str | None:
        network = block.network
        if network is None or len(block.allocations) + len(block.freed) >= network.num_addresses:
            return None
        for address in block.addresses():
            if address not in block.allocations and address not in block.freed and address not in self.held:
                return address
        return None

    def freeing(self, key: Key) -> list[Freed]:
        """The records that free what `key` has."""
        taken = self._by_key.get(key, {})
        return [Freed(block, address, self._blocks[block].sequence + 1) for block, address in taken.values()]

    def handing(self, key: Key, heir: Allocation) -> list[Allocated]:
        """The records that give what `key` has to another owner (`heir`'s address is ignored)."""
        taken = self._by_key.get(key, {})
        return [allocated(choice, heir) for choice in taken.values()]

    def shortage(self) -> str:
        """Why `choose` finds nothing, for people."""
        active = self._active()
        if not active:
            releasing = sum(1 for block in self._blocks.values() if block.desired is not None)
            return "this node has no address block" + (f" ({releasing} being released)" if releasing else "")
        if not self.families():
            return "this node's address blocks are all of IPv6, which its kernel does not have"
        full = {version for version in self.families() if self._free(version) is None} or self.families()
        active = [(name, block) for name, block in active if block.network and block.network.version in full]
        sizes = sum(block.network.num_addresses for _, block in active if block.network)
        used = [found for _, block in active for found in block.allocations.values()]
        reserved = sum(found.container_id == NO_SANDBOX for found in used)
        freed = sum(len(block.freed) for _, block in active)
        pools = ", ".join(sorted({block.desired.spec.pool for _, block in active if block.desired}))
        return (
            f"all {sizes} addresses of this node's {len(active)} blocks (pool {pools}) are taken: {len(used)} in use"
            + (f" ({reserved} of them reserved for pods that have not started)" if reserved else "")
            + f", {freed} freed and not yet forgotten by every node"
        )

    # --- the API's blocks ---------------------------------------------------------------------------------------------

    def set_blocks(self, blocks: Mapping[str, IPAMBlock]) -> list[Record]:
        """Take over the whole of this node's blocks. Returns the records (already applied) of what a block's status
        knows and this table does not, which must be journalled."""
        problems: list[str] = []
        for name, block in self._blocks.items():
            if name not in blocks:
                block.desired = None
        for name, wanted in blocks.items():
            self._desire(name, wanted, problems)
        self.problems = tuple(problems)
        adopted = [record for name in sorted(blocks) for record in self._adopt(name)]
        self._blocks = {name: block for name, block in self._blocks.items() if not block.is_blank}
        return adopted

    def _desire(self, name: str, wanted: IPAMBlock, problems: list[str]) -> None:
        block = self._block(name)
        block.desired = wanted
        before, block.network = block.network, None
        try:
            block.network = ip_network(wanted.spec.cidr)
        except ValueError as error:
            problems.append(f"IPAMBlock {name}: spec.cidr: {error}; nothing is allocated from it")
        if block.network != before:
            block.spelt.clear()
        block.forget()

    def _adopt(self, name: str) -> list[Record]:
        """Merge the status of a block seen for the first time: afterwards the API only knows what this agent wrote."""
        block = self._blocks[name]
        assert block.desired is not None
        identity = block.desired.metadata.uid or name
        if identity in self._seen:
            return []
        self._seen.add(identity)
        status = block.desired.status
        records: list[Record] = [Sequence(name, status.sequence)] if status.sequence > block.sequence else []
        records += [
            Freed(name, freed.address, freed.sequence)
            for freed in status.freed
            if self._is_news(block, freed.address) and freed.sequence > block.desired.spec.forgotten
        ]
        records += [
            Allocated(name, allocation)
            for allocation in status.allocations
            if self._is_news(block, allocation.address)
            and version_of(allocation.address) not in self._by_key.get(key_of(allocation), {})
        ]
        for record in records:
            self.apply(record)
        return records

    @staticmethod
    def _is_news(block: Block, address: str) -> bool:
        try:
            inside = block.network is not None and ip_address(address) in block.network
        except ValueError:
            return False
        return inside and address not in block.allocations and address not in block.freed

    def desired(self) -> dict[str, IPAMBlock]:
        return {name: block.desired for name, block in self._blocks.items() if block.desired is not None}

    def status(self, name: str) -> IPAMBlockStatus:
        """What the API should say of a block. Raises KeyError."""
        block = self._blocks[name]
        return IPAMBlockStatus(
            allocations=tuple(block.allocations[address] for address in _in_order(block.allocations)),
            freed=tuple(FreedAddress(address=a, sequence=block.freed[a]) for a in _in_order(block.freed)),
            sequence=block.sequence,
            released=self._is_released(block),
        )

    def _is_released(self, block: Block) -> bool:
        """Quarantine counts: whoever gets the block next must not give an address that some group still holds."""
        if block.desired is None or block.desired.spec.state != "Releasing" or block.allocations or block.freed:
            return False
        return not any(block.network and ip_address(address) in block.network for address in self.held)

    def _block(self, name: str) -> Block:
        return self._blocks.setdefault(name, Block())


def _in_order(addresses: Iterable[str]) -> list[str]:
    return sorted(addresses, key=lambda address: int(ip_address(address)))


def allocated(choice: Choice, owner: Allocation) -> Allocated:
    """The record that gives `owner` this address."""
    return Allocated(choice[0], msgspec.structs.replace(owner, address=choice[1]))
