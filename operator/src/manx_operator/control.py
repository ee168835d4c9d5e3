"""One leadership: from every input to what shall be written.

Owns: building the model when the term begins, and feeding it what is heard.
Must not: do I/O (the writer does) or decide anything itself (the model, the planner of blocks, and speakers do).

Why anew for each term: what a model remembers beyond its inputs (which chunk a member is in) must be what is at the API
server now, where another may have led meanwhile. Building it takes about a second for ten thousand pods.
All of it is synchronous: a batch heard goes through to marks in one step, so that no decision is made on half of it.
A change that comes alone is looked at at once; those that come in a stream together, each `coalesce` seconds, and the
more seldom the more there is to write.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from manx_core.api.ip_pool import Network
from manx_kube import resources as r
from manx_kube.client import KubeClient
from manx_kube.errors import AlreadyExists, KubeError
from manx_kube.informer import Batch, Event
from manx_kube.lease import Term
from manx_operator.addresses import Addresses
from manx_operator.announce import Announcer
from manx_operator.awaited_accounts import AwaitedAccounts
from manx_operator.blocks import Blocks, Surplus, World
from manx_operator.decide import Decider
from manx_operator.desired import PER_NODE, POLICY_KINDS, DesiredState
from manx_operator.forgetting import Forgetter, HeldAddresses, any_holds
from manx_operator.inputs import Inputs
from manx_operator.last_valid import LastValid
from manx_operator.limiter import Leisure, TokenBucket
from manx_operator.model import PolicyId, PolicyModel
from manx_operator.observed import Key, Observed
from manx_operator.pace import Pace
from manx_operator.pods_by_node import PodsByNode
from manx_operator.policy_feed import PolicyFeed
from manx_operator.policy_statuses import PolicyStatuses
from manx_operator.policy_wording import PolicyWording
from manx_operator.pools import WAIT, Pools
from manx_operator.settings import Settings
from manx_operator.span_labels import SpanLabels
from manx_operator.speakers import Speakers
from manx_operator.user_kinds import UserKinds, declared
from manx_operator.writer import Writer

log = logging.getLogger(__name__)

RESOURCE_OF = {kind: resource for resource, kind in POLICY_KINDS.items()}
FEEDS_NOTHING = {*POLICY_KINDS, r.NODE_STATES, r.MESH_NODES}
"""What is ours alone: of most that is heard of these, we are the echo."""
LONGEST_GAP = 0.1
"""Seconds between two looks at what was heard, if there is much to write."""
STATUSES_AT_LEAST = 5.0
"""Statuses that can wait, a second, however much else there is to write."""


class Control:
    """Build it when the caches are consistent, in any thread as long as they are held; `start`, and `stop` before the
    term is another's."""

    def __init__(
        self,
        client: KubeClient,
        inputs: Inputs,
        term: Term,
        settings: Settings,
        announcer: Announcer,
        *,
        limit: float,
        ready: float,
        services: Collection[Network] = (),
    ) -> None:
        """`limit`: seconds for one write; `ready`: when (monotonic) this process has listened long enough to forget
        addresses; `services`: the services' networks."""
        self.inputs = inputs
        self._settings = settings
        self._announcer = announcer
        self._kinds = UserKinds()
        self._user_informers: dict[r.Resource, LastValid[str, Any]] = {
            r.IP_POOLS: self._kinds.pools,
            r.BGP_CONFIGURATIONS: self._kinds.bgp_configurations,
            r.BGP_PEERS: self._kinds.bgp_peers,
            r.FELIX_CONFIGURATIONS: self._kinds.felix_configurations,
            r.INSTALLATIONS: self._kinds.installations,
        }
        bucket = TokenBucket(settings.write_rate, settings.write_burst, time.monotonic)
        statuses = TokenBucket(settings.status_rate, settings.status_rate, time.monotonic)
        self.observed = Observed(inputs.ours, lambda key: self.writer.changed(key), lambda: self.writer.released())
        self.writer = Writer(
            client, term, self.observed, bucket=bucket, coalesce=settings.coalesce_ms / 1000,
            parallel=settings.write_parallel, limit=limit, refused=self._refused,
        )  # fmt: skip
        self.model = PolicyModel()
        self._feed = PolicyFeed(inputs, self.model, self._kinds)
        wording = PolicyWording(inputs, self.observed, self.model.remarks, self.model.problems)
        leisure = Leisure(
            settings.status_rate, STATUSES_AT_LEAST, lambda: self.writer.written, lambda: self.writer.queued,
            time.monotonic,
        )  # fmt: skip
        self._statuses = PolicyStatuses(
            client, inputs, self.observed, term, announcer.recorder, self.model.nodes_of, wording,
            buckets=(statuses, bucket), leisure=leisure, coalesce=settings.status_coalesce,
        )  # fmt: skip
        self.speakers = Speakers(inputs.nodes.cache, inputs.reports.cache, self._kinds)
        self.pools = Pools(self._kinds, services)
        self._addresses = Addresses(inputs.pods.cache, self.model.set_addresses)
        self._pods = PodsByNode(inputs.pods.cache, self._addresses.allocated)
        self.accounts = AwaitedAccounts(inputs.service_accounts, self._await_account)
        self._fill()
        self.blocks = Blocks(
            self.observed, self._world(), Surplus(settings.node_gone_after, settings.block_surplus_after)
        )
        self._held = HeldAddresses(inputs.groups.cache.values())
        self._forgetter = Forgetter(
            inputs.versions, self._is_held, inputs.nodes.cache, inputs.reports.cache,
            clock=time.monotonic, ready=ready, grace=settings.forget_settle,
        )  # fmt: skip
        self._flushing = Pace(self._gap, self._flush)
        self._timers: set[asyncio.TimerHandle] = set()
        gone = {key.name for key in [*self.observed.keys()] if key.resource in PER_NODE} - self._node_names()
        self._desired = DesiredState(self.model, self.blocks, self.pools, self.speakers, self._kinds, gone)
        spans = SpanLabels(settings.label_linger, time.monotonic, self.writer.later)
        self._decider = Decider(self._desired, self.observed, spans, term.epoch, time.monotonic)
        self._nodes_touched = True
        self._active = False
        self.users_changed: Callable[[], None] = lambda: None
        """Called when what users declare in Calico's kinds changed."""

    def start(self) -> None:
        """From now on: listen. Nothing is written before `activate`."""
        self.inputs.listener = self.heard
        self.blocks.touch_all()
        self.flush()
        self._every(self._settings.forget_interval, self.forget)

    def activate(self, active: bool) -> None:
        """Whether to write: an Installation is there, and no other network."""
        if active == self._active:
            return
        self._active = active
        log.info("writing %s", "begins" if active else "is suspended: no Installation, or another network")
        if not active:
            self.writer.pause()
            self._statuses.pause()
            return
        objects = (Key(RESOURCE_OF[kind], name) for kind, name in self.model.all_keys())
        nodes = self._keys_of_nodes(self._node_names())
        self.writer.mark({*self.observed.keys(), *objects, *nodes})
        self.blocks.touch_all()
        self._flush_soon()
        self.writer.start(self._decider)
        self._statuses.start()

    async def stop(self) -> None:
        self.inputs.listener = None
        self._flushing.stop()
        for timer in self._timers:
            timer.cancel()
        await self.accounts.stop()
        await self._statuses.stop()
        await self.writer.stop()

    # --- what the term begins with ------------------------------------------------------------------------------------

    def _fill(self) -> None:
        for resource in POLICY_KINDS:
            self.model.adopt(self.inputs.ours[resource].cache.values())
        for resource, kept in self._user_informers.items():
            for (_, name), raw in self.inputs.of(resource).cache.items():
                kept.put(name, raw)
        self._feed.fill()
        self._statuses.fill()
        for (_, name), block in self.inputs.blocks.cache.items():
            self._addresses.block_changed(name, block)

    def _world(self) -> World:
        return World(
            nodes=self.inputs.nodes.cache,
            waiting=self._pods.waiting,
            pods=self._pods.pods,
            usable=lambda: self.pools.accepted,
            valid=lambda: self._kinds.pools.valid,
            declared=lambda name: ("", name) in self.inputs.ip_pools.cache,
            clock=time.monotonic,
            later=self._plan_later,
        )

    # --- hearing ------------------------------------------------------------------------------------------------------

    def heard(self, resource: r.Resource, batch: Batch[Any]) -> None:
        """One informer's batch."""
        for event in batch.events:
            self._hear(resource, event)
            self._statuses.heard(resource, event)
        if resource == r.ADDRESS_GROUPS:
            self._held.heard(batch)
        if resource not in FEEDS_NOTHING:
            self._flush_soon()

    def _hear(self, resource: r.Resource, event: Event[Any]) -> None:
        name = event.key[1]
        if resource in self.inputs.ours:
            self._hear_ours(Key(resource, name), event)
        elif self._feed.hear(resource, event):
            if resource == r.PODS:
                self._pod_changed(event)
                self.accounts.pod_heard(event)
            elif resource == r.SERVICE_ACCOUNTS:
                self.accounts.account_heard(event.key)
        elif resource == r.NODES:
            (self._desired.gone.add if event.new is None else self._desired.gone.discard)(name)
            self._node_changed(name)
        elif declared(event.old) != declared(event.new):
            self._user_informers[resource].put(name, event.new)
            self._everything_changed()
            self.users_changed()

    def _pod_changed(self, event: Event[Any]) -> None:
        self._addresses.pod_changed(event.key)
        for node in self._pods.changed(event.key, event.old):
            self.blocks.touch(node)

    def _await_account(self, key: tuple[str, str], awaited: bool) -> None:
        self.model.await_service_account(key, awaited)
        self._flush_soon()

    def _hear_ours(self, key: Key, event: Event[Any]) -> None:
        self.observed.heard(key)
        if key.resource == r.IPAM_BLOCKS:
            self._addresses.block_changed(key.name, event.new)
            self.blocks.block_changed(key.name)
            self._nodes_touched |= event.old is None or event.new is None  # pools in use
        elif key.resource == r.NODE_REPORTS and _interfaces(event.old) != _interfaces(event.new):
            self._node_changed(key.name)

    def _node_changed(self, name: str) -> None:
        self.speakers.changed(name)
        self.blocks.touch(name)
        self._nodes_touched = True

    def last_valid(self, resource: r.Resource, raw: Any) -> str:
        """See `UserKinds.last_valid`."""
        return self._kinds.last_valid(resource, raw)

    def _everything_changed(self) -> None:
        self.speakers.changed()
        self.blocks.touch_all()
        self._nodes_touched = True

    # --- together -----------------------------------------------------------------------------------------------------

    def _gap(self) -> float:
        """Longer by what the writes that wait take at the ceiling: what would wait anyway is written once."""
        usual = self._settings.coalesce_ms / 1000
        return max(usual, min(usual + self.writer.waiting / self._settings.write_rate, LONGEST_GAP))

    def _flush_soon(self) -> None:
        self._flushing.soon()

    @property
    def flush_pending(self) -> bool:
        """Whether something was heard that has not become marks yet."""
        return self._flushing.pending

    def flush(self) -> None:
        """What was heard since the last time becomes marks."""
        self._flushing.now()

    def _flush(self) -> None:
        if self._nodes_touched:
            self._nodes_touched = False
            if self.pools.refresh(self.speakers, self.blocks.pools_in_use()):
                self.blocks.touch_all()
                self.writer.mark(self._keys_of_nodes(self._node_names()))
            if self.pools.waiting:
                self._later(WAIT, self._everything_changed)
        changes = self.model.drain()
        self.writer.mark(Key(RESOURCE_OF[kind], name) for kind, name in changes.objects)
        self._statuses.touched(changes.moved.union(name for kind, name in changes.objects if kind == "PolicyProgram"))
        self._statuses.remarked(changes.remarked | {policy.program for policy in changes.policies})
        self.writer.mark(Key(r.NODE_STATES, name) for name in changes.nodes)
        touched = self.blocks.plan()
        self.writer.mark(self.blocks.blocks_of(touched))
        self.writer.mark(self._keys_of_nodes(touched))
        self._announce(changes.policies, touched)

    def _announce(self, policies: Iterable[PolicyId], nodes: Iterable[str]) -> None:
        self._announcer.policies(policies, self.model.problems)
        for name in nodes:
            if (speaker := self.speakers.get(name)) is not None:
                self._announcer.node(speaker)
        if self._active:
            self._announcer.exhausted(self.blocks.exhausted())

    def _plan_later(self, node: str, seconds: float) -> None:
        self._later(seconds, lambda: self.blocks.touch(node))

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        def due() -> None:
            self._timers.discard(timer)
            action()
            self._flush_soon()

        timer = asyncio.get_running_loop().call_later(seconds, due)
        self._timers.add(timer)

    def _every(self, seconds: float, action: Callable[[], None]) -> None:
        def due() -> None:
            self._timers.discard(timer)
            action()
            self._every(seconds, action)

        timer = asyncio.get_running_loop().call_later(seconds, due)
        self._timers.add(timer)

    # --- nodes --------------------------------------------------------------------------------------------------------

    def _node_names(self) -> set[str]:
        return {name for _, name in self.inputs.nodes.cache}

    @staticmethod
    def _keys_of_nodes(names: Iterable[str]) -> set[Key]:
        return {Key(resource, name) for name in names for resource in PER_NODE}

    def _refused(self, key: Key, error: KubeError) -> None:
        if key.resource == r.IPAM_BLOCKS and isinstance(error, AlreadyExists):
            self.blocks.lost(key.name)
            self._flush_soon()

    # --- freed addresses ----------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """See which freed addresses may be given again."""
        items = self.blocks.quarantine.waiting()
        if items and self._active:
            self.writer.mark(self.blocks.quarantine.forget(self._forgetter.look(items)))

    def _is_held(self, address: str) -> bool:
        """Also what is being written this moment: it may be at the server before the informer tells."""
        sending = [obj for key, obj in self.writer.sending.items() if key.resource == r.ADDRESS_GROUPS]
        if address in self._held and self.model.lists(address):
            sending += self.inputs.groups.cache.values()
        elif address in self._held:
            return True
        return any_holds(sending, address, self.model.lists_in)


def _interfaces(report: Any) -> Any:
    return report.status.interfaces if report is not None else ()
