"""The agent, put together.

Owns: which part is given to which, the order in which they start, and what happens when one fails. Must not: do any of
their work.

Order: the CNI socket first (requests may come at any time, and wait), then the watches; when every first list is
complete, policy and BGP begin; when policy is in force, the CNI configuration is written and the node becomes Ready.
A task that ends ends the agent: kubelet starts it again, and the kernel stays as it is meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import time
from contextlib import AsyncExitStack, suppress

from manx_agent import VERSION, probes
from manx_agent.bgp.driver import BgpDriver
from manx_agent.bgp.files import SharedPaths
from manx_agent.bgp_loop import BgpLoop
from manx_agent.cni.install import Places, install
from manx_agent.cni.service import CniService
from manx_agent.config import Config
from manx_agent.dataplane.policy import KernelPolicy
from manx_agent.drivers.netlink import Netlink
from manx_agent.drivers.routes import KernelRoutes
from manx_agent.ipam import Ipam, StatusWriter
from manx_agent.model import AgentError, BgpOutcome
from manx_agent.policy_loop import PolicyLoop
from manx_agent.recheck import Recheck
from manx_agent.report import Inputs, node_report
from manx_agent.reporter import Reporter
from manx_agent.state.share import Share
from manx_agent.watches import Watches
from manx_core.api.v1alpha1 import Interface, NodeReportStatus, PolicySettings
from manx_kube.client import KubeClient

log = logging.getLogger(__name__)

RESYNC = 5.0
"""Seconds between looks at what nobody announces: pods' links, and (less often) the node's interfaces."""
INTERFACES_EVERY = 12


class Agent:
    """One agent. `places`: where the CNI files go, None to leave them alone."""

    def __init__(self, config: Config, client: KubeClient, places: Places | None) -> None:
        self._config, self._places = config, places
        self._started = time.time()
        self._interfaces: tuple[Interface, ...] = ()
        self._unready = "starting"
        share = self._share = Share(config.node)
        self._reporter = Reporter(client, config.node, self._report)
        wake = self._reporter.wake
        self._watches = Watches(
            client,
            share,
            on_state=self._heard_state,
            on_policy=self._heard_policy,
            on_bgp=self._heard_bgp,
            on_blocks=self._heard_blocks,
            on_bad=lambda item: wake(),
        )
        dataplane = KernelPolicy()
        self._recheck = Recheck(lambda: dataplane.in_force, self._policy_settings)
        self._policy = PolicyLoop(share, dataplane, progress=self._watches.progress, changed=self._applied)
        self._bgp = BgpDriver(SharedPaths(config.bgp_dir), KernelRoutes(), on_change=wake)
        self._bgp_loop = BgpLoop(share, self._bgp, changed=wake)
        self._ipam = Ipam(config.state_dir / "addresses.journal")
        self._statuses = StatusWriter(client, self._ipam)
        self._ipam.set_on_change(self._statuses.poke)
        self._netlink = Netlink(proc_sys_net=config.proc_sys_net)
        self._cni = CniService(
            config.cni_socket,
            self._ipam,
            self._policy,
            self._netlink,
            lambda: share.settings,
            on_change=self._endpoints_changed,
        )

    async def run(self) -> None:
        """Until cancelled, or until a part fails. Raises AgentError, OSError."""
        async with AsyncExitStack() as stack:
            await self._start(stack)
            async with asyncio.TaskGroup() as tasks:
                for work in (self._reporter.run(), self._statuses.run(), self._resync(), self._when_synced()):
                    tasks.create_task(work)

    async def _start(self, stack: AsyncExitStack) -> None:
        if self._config.probe_port:
            server = await probes.serve(self._config.probe_port, lambda: self._unready)
            stack.callback(server.close)
        for directory in (self._config.state_dir, self._config.bgp_dir, self._config.cni_socket.parent):
            directory.mkdir(parents=True, exist_ok=True)
        await self._cni.start()
        stack.push_async_callback(self._cni.stop)
        await self._bgp.start()
        stack.push_async_callback(self._bgp.stop)
        await stack.enter_async_context(self._watches)

    async def _when_synced(self) -> None:
        self._say_unready("waiting for the API server's first lists")
        await self._watches.wait_synced()
        log.info("this node's share is complete")
        gc.collect()
        gc.freeze()
        self._heard_blocks()
        self._say_unready("policy is not in the kernel yet")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._policy.run())
            tasks.create_task(self._recheck.run())
            tasks.create_task(self._bgp_loop.run())
            tasks.create_task(self._serve_pods())

    async def _serve_pods(self) -> None:
        """Lets the runtime know of us once a pod could be let in."""
        await self._policy.done_once.wait()
        if self._places is not None:
            await asyncio.to_thread(install, self._places)
        self._say_unready("")
        log.info("ready")

    def _say_unready(self, reason: str) -> None:
        self._unready = reason
        self._cni.set_unready(reason)

    def _applied(self) -> None:
        self._reporter.wake()
        self._recheck.notify()

    def _policy_settings(self) -> PolicySettings:
        return self._share.settings.policy if self._share.settings else PolicySettings()

    # --- what was heard --------------------------------------------------------------------------------------------

    def _heard_state(self) -> None:
        self._policy.wake()
        self._cni.notify()
        self._bgp_loop.wake()

    def _heard_policy(self) -> None:
        self._policy.wake()

    def _heard_bgp(self) -> None:
        self._bgp_loop.wake()

    def _heard_blocks(self) -> None:
        if self._watches.synced:
            self._cni.set_blocks(dict(self._share.blocks))
            self._bgp_loop.wake()
            self._reporter.wake()

    def _endpoints_changed(self, container_ids: frozenset[str]) -> None:
        """Endpoints found at start join the share here; those that go leave it by `PolicyLoop.withdraw`."""
        present = self._cni.endpoints()
        for container_id in container_ids & present.keys():
            self._share.put_endpoint(present[container_id])
        self._policy.wake()

    # --- what is looked at now and then ----------------------------------------------------------------------------

    async def _resync(self) -> None:
        turn, looked = 0, -math.inf
        while True:
            if turn % INTERFACES_EVERY == 0:
                await self._look_at_interfaces()
            turn += 1
            await asyncio.sleep(RESYNC)
            if time.monotonic() >= looked + self._route_refresh():
                with suppress(AgentError):
                    self._policy.note_drift(await self._cni.resync())
                looked = time.monotonic()
            self._policy.note_drift(self._bgp.take_drift())

    def _route_refresh(self) -> float:
        """Seconds; of pods' routes, as the BGP driver has it of the others."""
        settings = self._share.settings
        return settings.policy.route_refresh_interval if settings else 0.0

    async def _look_at_interfaces(self) -> None:
        try:
            found = await self._netlink.interfaces()
        except AgentError as error:
            log.warning("cannot list this node's interfaces: %s", error)
            return
        if found != self._interfaces:
            self._interfaces = found
            self._reporter.wake()

    def _report(self, before: NodeReportStatus) -> NodeReportStatus:
        bgp = self._bgp.outcome()
        if self._bgp_loop.error:
            bgp = BgpOutcome(bgp.peers, bgp.routes, (*bgp.errors, self._bgp_loop.error))
        inputs = Inputs(
            version=VERSION,
            started=self._started,
            share=self._share,
            policy=self._policy.status,
            bgp=bgp,
            ipam_problem=self._ipam_problem(),
            bad_objects=self._watches.bad(),
            interfaces=self._interfaces,
        )
        return node_report(inputs, before, time.time())

    def _ipam_problem(self) -> str:
        settings = self._share.settings
        problems = (settings.ipam_problem if settings else "", *self._ipam.problems)
        return "; ".join(problem for problem in problems if problem)
