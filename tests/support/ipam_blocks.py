"""IPAMBlocks and allocations for tests of the agent's addresses."""

from __future__ import annotations

from typing import Any, Literal

from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.v1alpha1 import Allocation, IPAMBlock, IPAMBlockSpec, IPAMBlockStatus


def block(
    cidr: str,
    *,
    forgotten: int = 0,
    state: Literal["Active", "Releasing"] = "Active",
    status: dict[str, Any] | IPAMBlockStatus | None = None,
    version: str = "1",
) -> IPAMBlock:
    """A block of this node, of pool p."""
    name = cidr.replace(".", "-").replace(":", "-").replace("/", "-")
    return IPAMBlock(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", resource_version=version),
        spec=IPAMBlockSpec(epoch=1, cidr=cidr, pool="p", node="n1", state=state, forgotten=forgotten),
        status=status if isinstance(status, IPAMBlockStatus) else IPAMBlockStatus(**(status or {})),
    )


def allocation(address: str, container: str, *, uid: str = "", interface: str = "eth0") -> Allocation:
    """An address of the pod default/<container>."""
    return Allocation(
        address=address,
        namespace="default",
        name=container,
        uid=uid or f"uid-{container}",
        container_id=container,
        interface=interface,
    )
