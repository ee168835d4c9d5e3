"""CNI on this node, as the rest of the agent sees it.

Owns: what happens at start (journal against kernel), the dispatch of commands, garbage collection, drift of pods'
links. Must not: decide addresses (`ipam`), wire links (`drivers.netlink`) or enforce policy (`EndpointAdmission`).

What survives what: the journal says who has which address; the kernel says which interfaces exist. After any crash the
two are compared. An address whose interface is gone is freed (it goes through quarantine, so being wrong about that is
safe). An interface that nobody knows is left alone: it may be a running pod's, whose journal was lost; its address is
held, policy lets none of its packets pass, and DEL or GC removes it by its name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from manx_agent.cni.attachments import Attachments, OnFound
from manx_agent.cni.exclusion import Exclusion, Preempted
from manx_agent.cni.protocol import INTERNAL, INVALID_NETNS, NOT_AVAILABLE, TRY_AGAIN, CniError, Request
from manx_agent.cni.reservations import Reservations
from manx_agent.cni.server import CniServer
from manx_agent.cni.wiring import endpoint_of, node_end_of
from manx_agent.drivers.netlink import Netlink
from manx_agent.drivers.netlink_messages import interface_name
from manx_agent.ipam import Ipam
from manx_agent.ipam.table import Key, key_of
from manx_agent.model import EndpointAdmission, LocalEndpoint
from manx_core.api.v1alpha1 import IPAMBlock, NodeStateSpec

log = logging.getLogger(__name__)
T = TypeVar("T")

GC_GRACE = 120.0
"""Seconds for which GC leaves a new attachment alone: the runtime's list may be older than it."""


class CniService:
    """`node_state` gives the NodeState as last heard (None: not yet). `on_change` gets the container IDs of endpoints
    that were found to exist already: after a start, or when only the API knew of them."""

    def __init__(
        self,
        socket: Path,
        ipam: Ipam,
        admission: EndpointAdmission,
        netlink: Netlink,
        node_state: Callable[[], NodeStateSpec | None],
        *,
        on_change: OnFound = lambda _: None,
        allowed_uids: frozenset[int] = frozenset({0}),
    ) -> None:
        self._ipam = ipam
        self._netlink = netlink
        self._attachments = Attachments(ipam, admission, netlink, node_state, on_change)
        self._reservations = Reservations(ipam, node_state)
        self._exclusion = Exclusion()
        self._server = CniServer(socket, self._handle, allowed_uids=allowed_uids)
        self._added: dict[Key, float] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._strangers: frozenset[str] = frozenset()
        self._unready = "the agent is starting"

    async def start(self) -> None:
        """Reads the journal, compares it with the kernel, then serves. Raises AgentError, OSError."""
        await self._netlink.prepare()
        await self._ipam.open()
        self._ipam.support(self._netlink.families)
        await self._compare(tuple(self._ipam.allocations()))
        self._in_background(self._reservations.run())
        await self._server.start()

    async def stop(self) -> None:
        """Undoes what is half done, finishes what is being deleted, and closes the journal."""
        await self._server.stop()
        await self._exclusion.drain()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._ipam.close()

    def endpoints(self) -> Mapping[str, LocalEndpoint]:
        """By container ID; live."""
        return self._attachments.endpoints

    def notify(self) -> None:
        """To be called when NodeState changed: a waiting ADD looks again at once, and pods to come get addresses."""
        self._attachments.notify()
        self._reservations.notify()

    def set_unready(self, reason: str) -> None:
        """What STATUS answers; "" for ready."""
        self._unready = reason

    def set_blocks(self, blocks: Mapping[str, IPAMBlock]) -> None:
        """The whole of this node's IPAMBlocks, by name."""
        adopted = self._ipam.set_blocks(blocks)
        self._reservations.notify()
        if adopted:
            log.warning("%d addresses were known to the API server only: the journal was lost", len(adopted))
            self._in_background(self._compare({key_of(allocation) for allocation in adopted}))

    async def resync(self) -> tuple[str, ...]:
        """Compare the kernel with what should be there, repair, and say what was found. Raises NetlinkError."""
        await self._hold_strangers()
        held = self._ipam.allocations()
        live = [key for key in held if key[0] in self._attachments.endpoints and not self._exclusion.is_busy(key)]
        return await self._netlink.mend([node_end_of(held[key]) for key in live])

    # --- journal and kernel -------------------------------------------------------------------------------------------

    async def _compare(self, keys: Collection[Key]) -> None:
        """Make endpoints of those attachments that have an interface, free the others' addresses."""
        present = await self._netlink.present()
        for key in keys:
            held = self._ipam.allocations().get(key)
            if held is None or self._exclusion.is_busy(key):
                continue  # deleted, or being worked on, meanwhile; or only reserved
            endpoint = endpoint_of(held)
            if endpoint.interface in present:
                self._attachments.found(endpoint)
            else:
                addresses = ", ".join(endpoint.addresses)
                log.warning("%s has no interface any more: its addresses %s are freed", endpoint.name, addresses)
                await self._ipam.free(key)
        await self._hold_strangers()

    async def _hold_strangers(self) -> None:
        known = {interface_name(*key) for key in self._ipam.allocations()}
        strangers = await self._netlink.present() - known
        if strangers - self._strangers:
            log.warning("interfaces that no journal knows, left alone: %s", ", ".join(sorted(strangers)))
        if strangers or self._strangers:
            self._ipam.hold(await self._netlink.addresses_behind(strangers))
        self._strangers = strangers

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("looking after addresses: %s", error, exc_info=error)

    # --- commands -----------------------------------------------------------------------------------------------------

    async def _handle(self, request: Request, namespace: int) -> dict[str, Any]:
        match request.command:
            case "ADD":
                return await self._add(request, namespace)
            case "DEL":
                await self._delete(request.key)
            case "CHECK":
                await self._check(request, namespace)
            case "GC":
                await self._collect(request)
            case "STATUS":
                if self._unready:
                    raise CniError(NOT_AVAILABLE, f"not ready: {self._unready}")
            case _:
                raise CniError(INTERNAL, f"no handler for {request.command}")
        return {}

    async def _add(self, request: Request, namespace: int) -> dict[str, Any]:
        result = await self._run(request, self._attachments.add(request, _sandbox(request, namespace)))
        self._added[request.key] = asyncio.get_running_loop().time()
        return result

    async def _run(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Work that ends with its client, since it uses the client's namespace."""
        try:
            return await self._exclusion.run(request.key, work, preemptible=True)
        except Preempted as error:
            raise CniError(TRY_AGAIN, f"container {request.container_id}: {error}") from error

    async def _delete(self, key: Key) -> None:
        await self._exclusion.run(key, self._attachments.delete(key), preemptible=False)
        self._added.pop(key, None)

    async def _check(self, request: Request, namespace: int) -> None:
        await self._run(request, self._attachments.check(request, _sandbox(request, namespace)))

    async def _collect(self, request: Request) -> None:
        """Remove what the runtime does not know (any more): attachments, and interfaces of which only the name is
        left."""
        present = await self._netlink.present()
        valid = {(found.container_id, found.interface) for found in request.config.valid_attachments}
        stale = [key for key in self._ipam.allocations() if key not in valid and not self._is_young(key)]
        for key in stale:
            log.info("GC: container %s, %s", *key)
            await self._delete(key)
        known = {interface_name(*key) for key in valid | set(self._ipam.allocations())}
        for interface in present - known:
            log.info("GC: interface %s", interface)
            await self._netlink.delete(interface)
        await self._hold_strangers()

    def _is_young(self, key: Key) -> bool:
        age = asyncio.get_running_loop().time() - self._added.get(key, float("-inf"))
        return self._exclusion.is_busy(key) or age < GC_GRACE


def _sandbox(request: Request, namespace: int) -> int:
    if namespace < 0:
        raise CniError(INVALID_NETNS, f"CNI_NETNS: {request.netns!r} cannot be opened: is the sandbox gone?")
    return namespace
