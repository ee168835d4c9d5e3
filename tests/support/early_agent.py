"""The part of an agent that gives pods their addresses, at work on an API server, without a kernel.

Owns: the same wiring of share, watches, addresses and statuses as in `manx_agent.agent`. Policy admits at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from manx_agent.cni.protocol import Request
from manx_agent.cni.service import CniService
from manx_agent.drivers.netlink import Netlink
from manx_agent.drivers.netlink_messages import NodeEnd, PodLink
from manx_agent.ipam import Ipam, StatusWriter
from manx_agent.model import LocalEndpoint
from manx_agent.state.share import Share
from manx_agent.watches import Watches
from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig


class NoKernel(Netlink):
    """Interfaces are a set of names."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()

    async def prepare(self) -> None: ...

    async def create(self, link: PodLink, namespace: int) -> None:
        self.links.add(link.interface)

    async def activate(self, link: PodLink, namespace: int) -> None: ...

    async def delete(self, interface: str) -> None:
        self.links.discard(interface)

    async def flush_conntrack(self, address: str) -> None: ...

    async def present(self) -> frozenset[str]:
        return frozenset(self.links)

    async def addresses_behind(self, interfaces: Iterable[str]) -> frozenset[str]:
        return frozenset()

    async def mend(self, ends: Collection[NodeEnd]) -> tuple[str, ...]:
        return ()

    async def mtu_of(self, address: str) -> int:
        return 1500


@dataclass
class Admitting:
    """Policy that lets in at once whom the operator lists."""

    share: Share

    async def admit(self, endpoint: LocalEndpoint) -> None: ...

    async def withdraw(self, container_id: str) -> None: ...

    def is_expected(self, namespace: str, name: str, uid: str) -> bool:
        return self.share.is_expected((namespace, name, uid))


@dataclass
class EarlyAgent:
    """`cni` answers requests without a socket: see `add` and `delete`."""

    ipam: Ipam
    cni: CniService
    share: Share

    async def add(self, container: str, pod: str, uid: str) -> str:
        """The pod's first address."""
        arguments = f"K8S_POD_NAMESPACE=d;K8S_POD_NAME={pod};K8S_POD_UID={uid}"
        request = Request(command="ADD", container_id=container, if_name="eth0", args=arguments)
        result = await self.cni._handle(request, 0)
        return str(result["ips"][0]["address"]).partition("/")[0]

    async def delete(self, container: str) -> None:
        await self.cni._handle(Request(command="DEL", container_id=container, if_name="eth0"), -1)


@asynccontextmanager
async def early_agent(
    config: ApiConfig, node: str, directory: Path, *, reserves: bool = True
) -> AsyncIterator[EarlyAgent]:
    """Until the block ends. `reserves`: False for an agent that knows no reservations."""
    async with KubeClient(config) as client:
        share = Share(node)
        ipam = Ipam(directory / "addresses")
        statuses = StatusWriter(client, ipam)
        ipam.set_on_change(statuses.poke)
        cni = CniService(directory / "cni.sock", ipam, Admitting(share), NoKernel(), lambda: share.settings)
        if not reserves:
            cni._reservations.notify = lambda: None  # type: ignore[method-assign]
        await cni.start()

        def blocks() -> None:
            cni.set_blocks(dict(share.blocks))

        watches = Watches(
            client, share, on_state=cni.notify, on_policy=lambda: None, on_bgp=lambda: None, on_blocks=blocks
        )
        async with watches:
            await watches.wait_synced()
            writing = asyncio.create_task(statuses.run())
            try:
                yield EarlyAgent(ipam, cni, share)
            finally:
                writing.cancel()
                await asyncio.wait({writing})
        await cni.stop()
