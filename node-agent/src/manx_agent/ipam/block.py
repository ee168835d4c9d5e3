"""One block's addresses: in use, in quarantine, and all that there are.

Owns: these facts of one block. Must not: know who may have which (`table` does).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from manx_core.api.v1alpha1 import Allocation, IPAMBlock


@dataclass(slots=True)
class Block:
    """`allocations` by address; `freed`: those in quarantine, by their sequences. `desired` is the API's object, None
    while the block is not this node's."""

    allocations: dict[str, Allocation] = field(default_factory=dict)
    freed: dict[str, int] = field(default_factory=dict)
    sequence: int = 0
    desired: IPAMBlock | None = None
    network: IPv4Network | IPv6Network | None = None
    spelt: list[str] = field(default_factory=list)
    """The network's first addresses, as far as they were needed."""

    def addresses(self) -> Iterator[str]:
        """All of the network's, and so its own and the broadcast address: pods' are /32s and /128s, there is no
        subnet."""
        yield from self.spelt
        while self.network is not None and len(self.spelt) < self.network.num_addresses:
            self.spelt.append(str(self.network[len(self.spelt)]))
            yield self.spelt[-1]

    @property
    def is_blank(self) -> bool:
        return self.desired is None and not self.allocations and not self.freed

    @property
    def active(self) -> bool:
        return self.desired is not None and self.desired.spec.state == "Active" and self.network is not None

    def forget(self) -> None:
        """Drop from quarantine what the operator says is forgotten."""
        forgotten = self.desired.spec.forgotten if self.desired else 0
        self.freed = {address: number for address, number in self.freed.items() if number > forgotten}
