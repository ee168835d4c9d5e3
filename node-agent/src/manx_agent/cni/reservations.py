"""Addresses for pods that are coming: reserved when the operator lists them, long before their sandbox is there.

Owns: for whom something is reserved, and when that ends. Must not: choose addresses (`ipam`), or wait for anything on
behalf of a pod.

Why: a peer's policy lets a pod in by its address. The operator learns the address from the block's status and puts it
into groups on other nodes; begun at CNI ADD that races with the pod's first packets, begun when the pod is listed it is
over before the pod has an interface.

1. A pod is reserved for once, when it is first seen in the NodeState. After its sandbox went (DEL), it is most likely
   going itself; if not, its next sandbox gets an address at ADD.
2. What is reserved is the pod's by UID: whichever sandbox comes first takes it, and a failed ADD gives it back to it.
3. The pod is listed no more: what was reserved is freed, through quarantine like any address, since it is in groups.
4. Where there is nothing to reserve nothing happens; a block, or an address that is forgotten, is reason to look again.
5. A pod that does not come to its sandbox (a volume that cannot be mounted) does not keep one that has a sandbox
   waiting: while a sandbox waits for an address, the oldest reservations are given up for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from manx_agent.ipam import Ipam, JournalError
from manx_agent.ipam.allocator import reservation
from manx_agent.ipam.table import Held, reservation_key, version_of
from manx_agent.listed import listed
from manx_core.api.v1alpha1 import NodeStateSpec
from manx_core.policy.endpoint import Endpoint

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds for which a reservation is not given up for another pod."""
POLL = 1.0
"""Seconds between looks whether a sandbox waits for an address."""
RETRY = 5.0
"""Seconds until the next try after the disk refused."""


class Reservations:
    """One task: `run`. `node_state` gives the NodeState as last heard (None: not yet)."""

    def __init__(self, ipam: Ipam, node_state: Callable[[], NodeStateSpec | None]) -> None:
        self._ipam = ipam
        self._node_state = node_state
        self._news = asyncio.Event()
        self._since: dict[str, float] = {}
        """The pods that have, or had, an address: UID → since when that is known."""

    def notify(self) -> None:
        """NodeState or blocks changed."""
        self._news.set()

    async def run(self) -> None:
        """For ever, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._news.wait()
            if not self._news.is_set() and not self._ipam.waiting:
                continue
            self._news.clear()
            try:
                await self._look()
            except JournalError as error:
                log.error("addresses of pods to come: %s; trying again", error)
                await asyncio.sleep(RETRY)
                self._news.set()

    async def _look(self) -> None:
        state = self._node_state()
        if state is None:
            return
        expected = {endpoint.uid: endpoint for endpoint in listed(state)}
        attached = {held[0].uid for held in self._ipam.allocations().values()}
        reserved = self._ipam.reservations()
        self._remember(expected.keys(), attached | reserved.keys())
        await self._free(uid for uid in reserved if uid not in expected)
        if self._ipam.waiting:
            await self._free(self._idle(reserved))
        absent = (endpoint for uid, endpoint in expected.items() if uid not in attached)
        await self._reserve(endpoint for endpoint in absent if self._is_due(endpoint.uid, reserved.get(endpoint.uid)))

    def _remember(self, listed: Iterable[str], have: Iterable[str]) -> None:
        now = asyncio.get_running_loop().time()
        had = self._since.keys() | set(have)
        self._since = {uid: self._since.get(uid, now) for uid in listed if uid in had}

    def _is_due(self, uid: str, held: Held | None) -> bool:
        """Never seen with an address; or the node has begun to have another family meanwhile."""
        if held is None:
            return uid not in self._since
        return not self._ipam.families() <= {version_of(allocation.address) for allocation in held}

    def _idle(self, reserved: Iterable[str]) -> list[str]:
        """The oldest, as many as sandboxes wait."""
        late = asyncio.get_running_loop().time() - PATIENCE
        idle = sorted((self._since.get(uid, late), uid) for uid in reserved)
        return [uid for since, uid in idle if since <= late][: self._ipam.waiting]

    async def _free(self, uids: Iterable[str]) -> None:
        for uid in uids:
            await self._ipam.free(reservation_key(uid))

    async def _reserve(self, endpoints: Iterable[Endpoint]) -> None:
        await self._ipam.reserve([reservation(one.namespace, one.name, one.uid) for one in endpoints])
