"""A pod's attachment to the node: made, undone, checked.

Owns: the order of steps, and that a failed ADD leaves nothing. Must not: run two operations on one attachment at once
(`exclusion` sees to that) or know about sockets.

ADD's goals, and how they are met:
 1. No address twice: it is journalled before anything is made with it (`ipam`).
 2. No packet before policy: the links stay down until the pod's policy is in the kernel.
 3. No inheritance: the connections of the address's former owner are forgotten before its new one is up.
 4. No traces: on any failure, and when the client goes away, everything is undone, the address last.
What does not depend on each other (links, connection tracking, policy) is done at the same time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from manx_agent.cni.exclusion import every, interruptible, together, uninterrupted
from manx_agent.cni.protocol import (
    CHECK_FAILED,
    INVALID_CONFIG,
    INVALID_ENVIRONMENT,
    INVALID_NETNS,
    TRY_AGAIN,
    UNKNOWN_CONTAINER,
    CniError,
    Pod,
    Request,
    addresses_in,
    pod_of,
    result_of,
)  # fmt: skip
from manx_agent.cni.wiring import allocation_of, endpoint_of, link_of
from manx_agent.drivers.netlink import Netlink
from manx_agent.drivers.netlink_codec import is_ipv6
from manx_agent.drivers.netlink_messages import interface_name
from manx_agent.drivers.netlink_threads import SandboxError
from manx_agent.ipam import Ipam
from manx_agent.ipam.table import Held, Key
from manx_agent.model import AgentError, EndpointAdmission, LocalEndpoint
from manx_core.api.v1alpha1 import Allocation, NodeStateSpec

log = logging.getLogger(__name__)
T = TypeVar("T")

WITHDRAW_TIMEOUT = 5.0
"""Seconds that DEL waits for policy to let go of an endpoint whose interface is already gone."""
FULL_TIMEOUT = 10.0
"""Seconds that ADD waits for an address where the operator says that the pools have none: long enough for one that was
just freed to be forgotten, short enough for a person who looks at the pod."""
FAMILIES_TIMEOUT = 3.0
"""Seconds after a node's first block for which the other family's, that a pool of it promises, is waited for: both are
made at the same time, and a pod keeps the addresses that it began with."""
POLL = 0.1
"""Seconds between looks at what nobody notifies of."""

OnFound = Callable[[frozenset[str]], None]


@dataclass(slots=True)
class Progress:
    """What an ADD is waiting for, for the message of its timeout."""

    waiting_for: Callable[[], str]


class Attachments:
    """`endpoints` by container ID: every pod interface that exists, from the moment its policy is asked for. `on_found`
    is told of those that exist already; of those that come and go here, policy hears by `admit` and `withdraw`."""

    def __init__(
        self,
        ipam: Ipam,
        admission: EndpointAdmission,
        netlink: Netlink,
        node_state: Callable[[], NodeStateSpec | None],
        on_found: OnFound,
    ) -> None:
        self._ipam = ipam
        self._admission = admission
        self._netlink = netlink
        self._node_state = node_state
        self._on_found = on_found
        self._news = asyncio.Event()
        self._first_block = 0.0
        self.endpoints: dict[str, LocalEndpoint] = {}

    def notify(self) -> None:
        """The operator told something: look again whether waiting pods are expected now."""
        self._news.set()
        self._news = asyncio.Event()

    def found(self, endpoint: LocalEndpoint) -> None:
        """An interface that an earlier agent made."""
        self.endpoints[endpoint.container_id] = endpoint
        self._on_found(frozenset({endpoint.container_id}))

    # --- ADD ----------------------------------------------------------------------------------------------------------

    async def add(self, request: Request, namespace: int) -> dict[str, Any]:
        """ADD's result. Raises CniError; then, and when cancelled, nothing is left of it."""
        pod = pod_of(request)
        self._refuse_contradictions(request, pod)
        progress = Progress(lambda: "")
        try:
            async with asyncio.timeout(request.config.timeout):
                return await self._attach(request, pod, namespace, progress)
        except TimeoutError as error:
            await self._undo(request.key)
            text = f"pod {pod}: gave up after {request.config.timeout:g} s: {progress.waiting_for()}"
            raise CniError(TRY_AGAIN, text) from error
        except AgentError as error:
            await self._undo(request.key)
            code = INVALID_NETNS if isinstance(error, SandboxError) else TRY_AGAIN
            raise CniError(code, f"pod {pod}: {error}") from error
        except BaseException:
            await self._undo(request.key)
            raise

    def _refuse_contradictions(self, request: Request, pod: Pod) -> None:
        for (container, interface), found in self._ipam.of_container(request.container_id).items():
            if interface != request.if_name:
                text = f"container {container} already has {interface}; Manx gives a pod one interface"
                raise CniError(INVALID_CONFIG, text)
            if found[0].uid != pod.uid:
                owner = Pod(found[0].namespace, found[0].name, found[0].uid)
                raise CniError(INVALID_ENVIRONMENT, f"container {container} belongs to pod {owner}, not to {pod}")

    async def _attach(self, request: Request, pod: Pod, namespace: int, progress: Progress) -> dict[str, Any]:
        progress.waiting_for = lambda: f"the operator has not yet told this node of pod {pod}"
        await self._until_expected(pod)
        return await self._while_expected(pod, self._wire(request, pod, namespace, progress))

    async def _wire(self, request: Request, pod: Pod, namespace: int, progress: Progress) -> dict[str, Any]:
        progress.waiting_for = self._shortage
        held, mtu = await self._addresses(allocation_of(request, pod)), await self._mtu()
        endpoint = endpoint_of(held)
        link = link_of(held, request, mtu)
        self.endpoints[endpoint.container_id] = endpoint
        progress.waiting_for = lambda: "its policy is not in the kernel yet"
        await together(
            self._netlink.create(link, namespace),
            *map(self._netlink.flush_conntrack, endpoint.addresses),
            self._admission.admit(endpoint),
        )
        progress.waiting_for = lambda: "its links are not up yet"
        await self._netlink.activate(link, namespace)
        return result_of(link, request.netns)

    async def _until_expected(self, pod: Pod) -> None:
        while not self._admission.is_expected(pod.namespace, pod.name, pod.uid):
            try:
                async with asyncio.timeout(POLL):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _while_expected(self, pod: Pod, work: Coroutine[Any, Any, T]) -> T:
        """The work's result. Raises AgentError as soon as the operator takes the pod back: it was deleted while it
        started, and its policy would be waited for in vain."""
        with interruptible() as interrupt, every(POLL, lambda: self._look_for(pod, interrupt)):
            return await work

    def _look_for(self, pod: Pod, interrupt: Callable[[BaseException], None]) -> None:
        if not self._admission.is_expected(pod.namespace, pod.name, pod.uid):
            interrupt(AgentError("the operator has taken it off this node again: it was deleted, or has ended"))

    async def _addresses(self, wanted: Allocation) -> Held:
        """Raises AgentError where there is none and the operator says that none will come by itself: the runtime tries
        again, and the pod's Events tell why. Otherwise it waits, for a block or for an operator."""
        await self._until_both_families()
        while True:
            try:
                async with asyncio.timeout(FULL_TIMEOUT):
                    return await self._ipam.allocate(wanted)
            except TimeoutError:
                if self._pools_problem():
                    raise AgentError(self._shortage()) from None

    async def _until_both_families(self) -> None:
        """Does not wait for a node's first block at all: `allocate` does."""
        now = asyncio.get_running_loop().time
        while self._lacks_family():
            self._first_block = self._first_block or now()
            if now() >= self._first_block + FAMILIES_TIMEOUT:
                return
            await asyncio.sleep(POLL)

    def _lacks_family(self) -> bool:
        """Whether the node has blocks, and none of a family that it takes part in and that a pool is of. (The pool may
        not be for this node: the operator knows.)"""
        state, families = self._node_state(), self._ipam.families()
        if state is None or not families:
            return False
        takes_part = ({4} if state.ipv4 else set()) | ({6} if state.ipv6 else set())
        pools = {6 if is_ipv6(pool.cidr) else 4 for pool in state.pools}
        return not (takes_part & pools & self._netlink.families) <= families

    def _shortage(self) -> str:
        """Our own account of it, and the operator's, who knows the pools."""
        problem = self._pools_problem()
        return f"no address: {self._ipam.shortage()}{problem and '; '}{problem}"

    def _pools_problem(self) -> str:
        state = self._node_state()
        return state.ipam_problem if state is not None else ""

    async def _mtu(self) -> int:
        state = self._node_state()
        if state is not None and state.mtu:
            return state.mtu
        return await self._netlink.mtu_of((state.ipv4 or state.ipv6) if state else "")

    async def _undo(self, key: Key) -> None:
        """Whatever happens meanwhile. What cannot be undone now stays in the journal, for the runtime's DEL."""
        try:
            await uninterrupted(self._detach(key, undoing=True))
        except AgentError as error:
            log.error("undoing ADD of container %s: %s; its addresses stay taken until DEL", key[0], error)

    # --- DEL ----------------------------------------------------------------------------------------------------------

    async def delete(self, key: Key) -> None:
        """Needs nothing but the kernel and the disk. Raises CniError (try again) where they refuse."""
        try:
            await self._detach(key)
        except AgentError as error:
            raise CniError(TRY_AGAIN, f"container {key[0]}: {error}") from error

    async def _detach(self, key: Key, *, undoing: bool = False) -> None:
        """The link first, then nothing can be sent any more; the addresses last, so that a crash leaves them taken."""
        await self._netlink.delete(interface_name(*key))
        held = self._ipam.find(key)
        if not held:
            return
        self.endpoints.pop(key[0], None)
        flushes = [self._netlink.flush_conntrack(allocation.address) for allocation in held]
        await together(self._withdraw(key[0]), *flushes)
        if undoing and self._admission.is_expected(held[0].namespace, held[0].name, held[0].uid):
            await self._ipam.give_up(key)
        else:
            await self._ipam.free(key)

    async def _withdraw(self, container_id: str) -> None:
        """An endpoint that policy does not let go of is reported, but does not keep the pod from being deleted: without
        its interface it passes nothing, and its address is not given again under the same interface name."""
        try:
            async with asyncio.timeout(WITHDRAW_TIMEOUT):
                await self._admission.withdraw(container_id)
        except (AgentError, TimeoutError) as error:
            log.error("policy of container %s is still in the kernel: %s", container_id, error or "timed out")

    # --- CHECK --------------------------------------------------------------------------------------------------------

    async def check(self, request: Request, namespace: int) -> None:
        """Raises CniError where the attachment is not as ADD left it."""
        held = self._ipam.find(request.key)
        if not held:
            text = f"container {request.container_id} has no interface {request.if_name} here"
            raise CniError(UNKNOWN_CONTAINER, text)
        listed, has = addresses_in(request.config.prev_result), [allocation.address for allocation in held]
        if listed and not listed.issuperset(has):
            text = f"prevResult.ips: {', '.join(sorted(listed))}; this container has {', '.join(has)}"
            raise CniError(CHECK_FAILED, text)
        link = link_of(held, request, await self._mtu())
        problems = await self._netlink.problems_of(link, namespace)
        if problems:
            raise CniError(CHECK_FAILED, "; ".join(problems))
