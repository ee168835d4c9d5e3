"""What tests of the operator share: a fake API server, one leadership on it, and agents that answer at once.

The operator's own parts run as they are; only the election is left out (a term that a test can end).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fakeapi import FakeApi, Request
from informing import eventually
from manx_core.api.lines import lines_of
from manx_core.policy.endpoint import Endpoint, endpoint_of
from manx_core.span import span_label
from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig
from manx_kube.events import EventRecorder
from manx_kube.lease import Term
from manx_kube.resources import (
    ADDRESS_GROUPS,
    IP_POOLS,
    IPAM_BLOCKS,
    NAMESPACES,
    NETWORK_POLICIES,
    NODE_REPORTS,
    NODE_STATES,
    NODES,
    PODS,
    Resource,
)
from manx_operator.announce import Announcer
from manx_operator.control import Control
from manx_operator.inputs import OURS, Inputs
from manx_operator.settings import Settings

Obj = dict[str, Any]
FAST = Settings(
    coalesce_ms=5,
    write_rate=1e6,
    write_burst=1e6,
    label_linger=0.2,
    forget_interval=0.02,
    forget_settle=0.0,
    node_gone_after=0.1,
    block_surplus_after=0.1,
    status_coalesce=3600.0,  # tests of what is written are not about statuses
    kopf=False,
)


@dataclass
class Clock:
    """For a Term: seconds that a test sets."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def new_term(epoch: int, clock: Clock | None = None) -> Term:
    """A term that lasts until its clock says 1000."""
    return Term(epoch, 1000.0, clock or Clock())


@dataclass
class Cluster:
    """A fake API server as its users and its nodes change it."""

    api: FakeApi
    uids: int = 0

    def put(self, resource: Resource, obj: Obj) -> Obj:
        return self.api.state.put(resource, obj)

    def node(self, name: str, number: int = 1, **meta: Any) -> None:
        address = {"type": "InternalIP", "address": f"192.0.2.{number}"}
        self.put(NODES, {"metadata": {"name": name, **meta}, "status": {"addresses": [address]}})

    def namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        self.put(NAMESPACES, {"metadata": {"name": name, "labels": labels or {}}})

    def pool(self, name: str = "pool", cidr: str = "10.1.0.0/16", **spec: Any) -> None:
        self.put(IP_POOLS, {"metadata": {"name": name}, "spec": {"cidr": cidr, **spec}})

    def pod(self, name: str, node: str = "n1", namespace: str = "d", labels: dict[str, str] | None = None) -> None:
        meta = {"name": name, "namespace": namespace, "labels": labels or {}}
        self.put(PODS, {"metadata": meta, "spec": {"nodeName": node}, "status": {}})

    def policy(self, name: str, selects: dict[str, str], allows: dict[str, str], namespace: str = "d") -> None:
        rule = {"from": [{"podSelector": {"matchLabels": allows}}]}
        spec = {"podSelector": {"matchLabels": selects}, "policyTypes": ["Ingress"], "ingress": [rule]}
        self.put(NETWORK_POLICIES, {"metadata": {"name": name, "namespace": namespace}, "spec": spec})

    def delete(self, resource: Resource, name: str, namespace: str = "") -> None:
        self.api.state.delete(resource, (namespace, name))

    def all(self, resource: Resource) -> dict[str, Obj]:
        return {key[1]: obj for key, obj in self.api.state.of(resource).items()}

    def block_of(self, node: str) -> Obj:
        return next(obj for obj in self.all(IPAM_BLOCKS).values() if obj["spec"]["node"] == node)

    # --- what agents do -----------------------------------------------------------------------------------------------

    def set_status(self, block: str, **status: Any) -> None:
        """The agent of the block's node says so."""
        obj = self.all(IPAM_BLOCKS)[block]
        self.api.state.replace(
            str(IPAM_BLOCKS), ("", block),
            {"metadata": {"name": block}, "status": {**obj.get("status", {}), **status}}, "status",
        )  # fmt: skip

    def allocate(self, pod: str, namespace: str = "d", last: int = 1) -> str:
        """The agent gives the pod its block's so-manieth address."""
        obj = self.api.state.of(PODS)[(namespace, pod)]
        block = self.block_of(obj["spec"]["nodeName"])
        first = block["spec"]["cidr"].split("/")[0].rsplit(".", 1)
        address = f"{first[0]}.{int(first[1]) + last}"
        allocation = {
            "address": address,
            "namespace": namespace,
            "name": pod,
            "uid": obj["metadata"]["uid"],
            "containerID": pod,
        }
        allocations = block.get("status", {}).get("allocations", [])
        self.set_status(block["metadata"]["name"], allocations=[*allocations, allocation])
        return address

    def free(self, pod: str, sequence: int) -> str:
        """The agent takes a pod's address back; it is quarantined under this sequence."""
        for name, block in self.all(IPAM_BLOCKS).items():
            status = block.get("status", {})
            mine = [a for a in status.get("allocations", []) if a["name"] == pod]
            if mine:
                freed = [*status.get("freed", []), {"address": mine[0]["address"], "sequence": sequence}]
                rest = [a for a in status["allocations"] if a["name"] != pod]
                self.set_status(name, allocations=rest, freed=freed, sequence=sequence)
                return str(mine[0]["address"])
        raise AssertionError(f"{pod} has no address")

    def report(self, node: str, version: int | None = None, everywhere: int | None = None) -> None:
        """The agent has applied AddressGroups up to these versions (all that there is, if not said)."""
        applied = {
            "addressgroups": str(self.api.state.version if version is None else version),
            "addressgroupsEverywhere": str(self.api.state.version if everywhere is None else everywhere),
        }
        self.put(NODE_REPORTS, {"metadata": {"name": node}, "status": {"applied": applied}})

    def members(self, address: str) -> list[str]:
        """The chunks that hold an address."""
        groups = self.all(ADDRESS_GROUPS).items()
        return [
            name
            for name, obj in groups
            if address in [line.split(",")[0] for line in lines_of(obj["spec"].get("members", ""))]
        ]

    def spans(self, resource: Resource, name: str, node: str) -> bool:
        return span_label(node) in self.all(resource)[name]["metadata"].get("labels", {})

    # --- what the operator did ----------------------------------------------------------------------------------------

    def writes(self) -> list[Request]:
        """Requests that change our own kinds, in the order they came."""
        ours = {str(resource) for resource in OURS}
        return [r for r in self.api.requests if r.method in ("POST", "PUT", "PATCH", "DELETE") and r.resource in ours]

    def forget_requests(self) -> None:
        self.api.requests.clear()


@dataclass
class Leader:
    """One leadership in force."""

    control: Control
    inputs: Inputs
    term: Term
    stopped: bool = field(default=False)

    async def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            await self.control.stop()

    @property
    def idle(self) -> bool:
        return self.control.writer.idle and not self.control.flush_pending


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    async with FakeApi() as api:
        yield Cluster(api)


@asynccontextmanager
async def leading(
    world: Cluster, *, epoch: int = 1, settings: Settings = FAST, term: Term | None = None, active: bool = True
) -> AsyncIterator[Leader]:
    """The operator, leading on this cluster until the block ends."""
    async with leading_on(world.api.config(), settings, term or new_term(epoch)) as leader:
        leader.control.activate(active)
        yield leader


@asynccontextmanager
async def leading_on(config: ApiConfig, settings: Settings, term: Term) -> AsyncIterator[Leader]:
    """The operator, on whatever API server; not active yet."""
    async with KubeClient(config) as client:
        inputs = Inputs(client)
        inputs.start()
        for informer in inputs:
            await informer.wait_synced()
        async with EventRecorder(client, component="test", instance="test") as recorder:
            announcer = Announcer(client, recorder, inputs, term)
            control = Control(client, inputs, term, settings, announcer, limit=5.0, ready=0.0)
            leader = Leader(control, inputs, term)
            control.start()
            try:
                yield leader
            finally:
                await leader.stop()
                await announcer.stop()
                await inputs.stop()


async def settled(world: Cluster, leader: Leader, condition: Callable[[], object] = lambda: True) -> None:
    """Until the operator has heard everything, has nothing to do, and `condition` holds."""

    def quiet() -> bool:
        versions = {key: obj["metadata"]["resourceVersion"] for r in OURS for key, obj in _keyed(world, r)}
        heard = {
            (str(r), name): obj.metadata.resource_version
            for r in OURS
            for (_, name), obj in leader.inputs.ours[r].cache.items()
        }
        return leader.idle and versions == heard and bool(condition())

    await eventually(quiet)


def listed(world: Cluster, node: str) -> list[Endpoint]:
    """What the node's NodeState lists; nothing where there is none."""
    state = world.all(NODE_STATES).get(node, {"spec": {}})
    return [endpoint_of(line) for line in lines_of(state["spec"].get("pods", ""))]


def _keyed(world: Cluster, resource: Resource) -> list[tuple[tuple[str, str], Obj]]:
    return [((str(resource), name), obj) for name, obj in world.all(resource).items()]
