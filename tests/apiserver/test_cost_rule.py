"""The cost rule, counted: what is written is bounded by what changed and the nodes concerned, whatever the cluster's
size.

On a real kube-apiserver, objects only: 3 and 60 nodes whose agents are fakes that hear what real ones would, and
report. For every row of the design's table: which objects are written, how often, and how many events reach which
agents, exactly. The operator is the real one but for the election.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import apiserver
from apiserver import ApiServer
from counting import FakeAgent, Ledger, caught_up, ledger
from informing import eventually
from manx_kube.client import KubeClient, PatchType
from manx_kube.config import ApiConfig
from manx_kube.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    IP_POOLS,
    IPAM_BLOCKS,
    NAMESPACES,
    NETWORK_POLICIES,
    NODES,
    PODS,
    POLICY_PROGRAMS,
    SERVICE_ACCOUNTS,
)
from manx_operator.settings import Settings
from operating import Leader, leading_on, new_term

ROOT = Path(__file__).resolve().parents[2]
Obj = dict[str, Any]
TOLD = Settings(label_linger=6.0, forget_interval=0.5, forget_settle=0.0, node_gone_after=3600.0, kopf=False)
SETTINGS = replace(TOLD, status_coalesce=3600.0)
"""What policies' statuses cost is counted by itself."""
EVERY = "every"
SURELY = 4
"""How many agents are asked whether they have heard all: more would only be slow."""


@dataclass
class Counted:
    """A cluster of fake nodes under a real operator, and what it cost so far."""

    client: KubeClient
    leader: Leader
    ledger: Ledger
    agents: dict[str, FakeAgent]
    mistakes: list[str] = field(default_factory=list)

    async def row(
        self,
        what: str,
        change: Callable[[], Awaitable[object]],
        writes: dict[str, int],
        heard: Mapping[str, set[str] | str],
        *,
        settle: float = 0.0,
    ) -> None:
        """Do `change`; everything that follows from it must be `writes`, and `heard`: kind → the agents that hear of
        each of these writes ("every": all of them)."""
        await self.quiet()
        self.ledger.clear()
        for agent in self.agents.values():
            agent.heard.clear()
        before = self.leader.control.writer.written
        await change()
        await asyncio.sleep(settle)
        await self.until_written(writes)
        with suppress(AssertionError):
            await eventually(lambda: not self._heard_otherwise(what, writes, heard))
        await self.quiet()
        found = self.ledger.without_reports()
        if found != dict(sorted(writes.items())):
            self.mistakes.append(f"{what}: written {found}, not {writes}")
        elif self.leader.control.writer.written - before > sum(found.values()):
            self.mistakes.append(f"{what}: the operator wrote more than it changed")
        self.mistakes += self._heard_otherwise(what, writes, heard)
        self._compare_reports(what)

    async def until_written(self, writes: dict[str, int]) -> None:
        """Until as much is written as there should be; whether that is right is judged afterwards."""
        with suppress(AssertionError):
            await eventually(lambda: sum(self.ledger.without_reports().values()) >= sum(writes.values()))

    async def quiet(self) -> None:
        """Until everybody has heard of everything, and nobody has anything left to do. What a few agents have surely
        heard all of, the others' watches, which are fed by the same cache, have had time to hear."""
        agents = list(self.agents.values())
        while True:
            await eventually(lambda: self.leader.idle and all(agent.quiet for agent in agents))
            reports = sum(agent.reports for agent in agents)
            await caught_up([*self.ledger.informers, *self.leader.inputs])
            await caught_up([informer for agent in agents[:SURELY] for informer in agent.informers.values()])
            meanwhile = sum(agent.reports for agent in agents) - reports  # of which the ledger may not have heard
            if self.leader.idle and all(agent.quiet for agent in agents) and not meanwhile:
                return

    def _heard_otherwise(self, what: str, writes: dict[str, int], heard: Mapping[str, set[str] | str]) -> list[str]:
        """Which agents heard anything else than one event for each write that concerns them (of NodeStates: of their
        own)."""
        by_kind: Counter[str] = Counter()
        for write, count in writes.items():
            by_kind[write.split()[1]] += count
        by_kind["nodestates"] = min(1, by_kind["nodestates"])
        found = []
        for name, agent in self.agents.items():
            expected = {kind: by_kind[kind] for kind, who in heard.items() if who == EVERY or name in who}
            if +agent.heard != Counter(expected):
                found.append(f"{what}: {name} heard {dict(agent.heard)}, not {expected}")
        return found

    def _compare_reports(self, what: str) -> None:
        """Exactly the agents that heard of something to put in force report it, and no more often than they heard."""
        kinds = ("nodestates", "policyclasses", "policyprograms", "addressgroups")
        events = {name: sum(agent.heard[kind] for kind in kinds) for name, agent in self.agents.items()}
        concerned = {name for name, count in events.items() if count}
        reported = self.ledger.names.get("MODIFIED nodereports", set())
        count = self.ledger.writes["MODIFIED nodereports"]
        if reported != concerned or count > sum(events.values()):
            self.mistakes.append(f"{what}: {count} reports by {sorted(reported)}, not by {sorted(concerned)}")

    # --- what users, the scheduler and agents do ----------------------------------------------------------------------

    async def pod(self, name: str, node: str, **labels: str) -> Obj:
        spec = {"nodeName": node, "automountServiceAccountToken": False, "containers": [{"name": "c", "image": "none"}]}
        meta = {"name": name, "namespace": "d", "labels": labels}
        return await self.client.create(PODS, {"metadata": meta, "spec": spec})

    async def address(self, pod: str) -> None:
        """The agent of the pod's node gives it an address."""
        found = await self.client.get(PODS, dict[str, Any], pod, namespace="d")
        blocks = (await self.client.list_all(IPAM_BLOCKS, dict[str, Any])).items
        block = next(b for b in blocks if b["spec"]["node"] == found["spec"]["nodeName"])
        held = (block.get("status") or {}).get("allocations") or []
        first, last = block["spec"]["cidr"].split("/")[0].rsplit(".", 1)
        given = {"address": f"{first}.{int(last) + len(held) + 1}", "namespace": "d", "name": pod}
        given |= {"uid": found["metadata"]["uid"], "containerID": "c"}
        await self._status(block, {"allocations": [*held, given]})

    async def free(self, pod: str) -> None:
        """The agent of the pod's node has it back."""
        for block in (await self.client.list_all(IPAM_BLOCKS, dict[str, Any])).items:
            status = block.get("status") or {}
            held = status.get("allocations") or []
            mine = [given for given in held if given["name"] == pod]
            if mine:
                sequence = status.get("sequence", 0) + 1
                freed = [*(status.get("freed") or []), {"address": mine[0]["address"], "sequence": sequence}]
                rest = [given for given in held if given["name"] != pod]
                await self._status(block, {"allocations": rest, "freed": freed, "sequence": sequence})

    async def _status(self, block: Obj, status: Obj) -> None:
        name = block["metadata"]["name"]
        await self.client.patch(IPAM_BLOCKS, dict[str, Any], name, {"status": status}, subresource="status")

    async def delete_pod(self, name: str) -> None:
        """The pod, its address and its object go."""
        await self.free(name)
        path = PODS.path("d", name)
        await self.client.transport.request("DELETE", path, body=b'{"gracePeriodSeconds": 0}')

    async def label_pod(self, name: str, **labels: str | None) -> None:
        patch = {"metadata": {"labels": labels}}
        await self.client.patch(PODS, dict[str, Any], name, patch, how=PatchType.MERGE, namespace="d")

    async def label_namespace(self, name: str, **labels: str | None) -> None:
        await self.client.patch(NAMESPACES, dict[str, Any], name, {"metadata": {"labels": labels}})

    async def policy(self, name: str, selects: dict[str, str], peer: Obj, port: int = 80) -> None:
        spec = {
            "podSelector": {"matchLabels": selects},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [peer], "ports": [{"port": port, "protocol": "TCP"}]}],
        }
        obj = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": "d"},
        }
        await self.client.apply(NETWORK_POLICIES, {**obj, "spec": spec})

    async def node(self, number: int) -> None:
        await self.client.create(NODES, {"metadata": {"name": node_name(number)}})
        address = {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{number}"}]}
        name = node_name(number)
        await self.client.patch(NODES, dict[str, Any], name, {"status": address}, subresource="status")


def node_name(number: int) -> str:
    return f"n{number:02}"


def pods(**labels: str) -> Obj:
    return {"podSelector": {"matchLabels": labels}}


async def prepare(client: KubeClient) -> None:
    """Kinds, a namespace and a pool."""
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        await client.create(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()))
    await client.create(NAMESPACES, {"metadata": {"name": "d"}})
    await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": "d"}})
    pool = {"metadata": {"name": "pool"}, "spec": {"cidr": "10.1.0.0/16", "blockSize": 26}}
    await eventually_created(client, pool)


async def eventually_created(client: KubeClient, pool: Obj) -> None:
    """A kind is served some time after its definition was taken."""
    async with asyncio.timeout(30):
        while True:
            try:
                await client.create(IP_POOLS, pool)
                return
            except Exception:
                await asyncio.sleep(0.1)


@asynccontextmanager
async def counted(server: ApiServer, nodes: int, settings: Settings = SETTINGS) -> AsyncIterator[Counted]:
    config = ApiConfig.from_kubeconfig(server.kubeconfig)
    async with KubeClient(config) as client:
        await prepare(client)
        async with leading_on(config, settings, new_term(1)) as leader, ledger(client) as book:
            leader.control.activate(True)
            found = Counted(client, leader, book, {})
            for number in range(1, nodes + 1):
                await found.node(number)
                found.agents[node_name(number)] = FakeAgent(client, node_name(number))
            await asyncio.gather(*(agent.start() for agent in found.agents.values()))
            try:
                yield found
            finally:
                await asyncio.gather(*(agent.stop() for agent in found.agents.values()))


@pytest.mark.parametrize("nodes", [3, 60])
async def test_every_row_of_the_cost_table(nodes: int, tmp_path: Path) -> None:
    with apiserver.running(tmp_path) as server:
        async with counted(server, nodes) as world:
            await pods_come_and_get_addresses(world, nodes)
            await policies_change(world, nodes)
            await labels_change(world)
            await spans_change(world)
            await pods_go(world)
            await nodes_come_and_go(world, nodes)
            assert not world.mistakes, "\n".join(world.mistakes)


async def test_a_policys_status_is_written_once_or_twice_however_many_nodes_it_is_for(tmp_path: Path) -> None:
    nodes = 12
    with apiserver.running(tmp_path) as server:
        async with counted(server, nodes, TOLD) as world:
            await pods_come_and_get_addresses(world, nodes)
            await world.quiet()
            world.ledger.clear()
            await world.policy("p", {"app": "web"}, pods(app="client"))
            await eventually(lambda: in_force(world) == (nodes, nodes))
            await world.quiet()
            assert 1 <= world.ledger.writes["MODIFIED policyprograms"] <= 2
            world.ledger.clear()
            await asyncio.sleep(3 * TOLD.status_coalesce)
            assert world.ledger.without_reports() == {}


def in_force(world: Counted) -> tuple[int, int]:
    """On how many of how many nodes the policy is, by its program's status."""
    program = world.leader.inputs.ours[POLICY_PROGRAMS].cache.get(("", "knp.d.p"))
    nodes = program.status.nodes if program is not None else None
    return (nodes.in_force, nodes.concerned) if nodes is not None else (0, 0)


async def pods_come_and_get_addresses(world: Counted, nodes: int) -> None:
    """Every node gets a web pod and n01 two more; the first is counted."""
    await world.row(
        "a pod is scheduled",
        lambda: world.pod("web01", "n01", app="web"),
        {"MODIFIED nodestates": 1},
        {"nodestates": {"n01"}},
    )
    await world.row(
        "a pod gets its address, and is in no group",
        lambda: world.address("web01"),
        {"MODIFIED ipamblocks": 1},
        {"ipamblocks": {"n01"}},
    )
    for number in range(2, nodes + 1):
        await world.pod(f"web{number:02}", node_name(number), app="web")
    await world.pod("client", "n02", app="client")
    await world.pod("solo", "n01", app="solo")
    await world.pod("stays", "n01", app="solo")
    for name in ("client", "solo"):
        await world.address(name)


async def policies_change(world: Counted, nodes: int) -> None:
    """The program of a policy that applies to one class is inside it: nobody hears of the program by itself."""
    everyone, heard = set(world.agents), ("policyclasses", "addressgroups")
    await world.row(
        "a policy is created, the first of its pods",
        lambda: world.policy("p", {"app": "web"}, pods(app="client")),
        {f"ADDED {kind}": 1 for kind in (*heard, "policyprograms")} | {"MODIFIED nodestates": nodes},
        dict.fromkeys((*heard, "nodestates"), everyone),
    )
    await world.row(
        "a policy is created, with the pods and the peers of another",
        lambda: world.policy("q", {"app": "web"}, pods(app="client"), port=81),
        {"ADDED policyprograms": 1, "MODIFIED policyclasses": 1},
        {"policyclasses": everyone},
    )
    await world.row(
        "a policy's rules change",
        lambda: world.policy("q", {"app": "web"}, pods(app="client"), port=82),
        {"MODIFIED policyprograms": 1, "MODIFIED policyclasses": 1},
        {"policyclasses": everyone},
    )
    await world.row(
        "a policy is deleted",
        lambda: world.client.delete(NETWORK_POLICIES, "q", namespace="d"),
        {"DELETED policyprograms": 1, "MODIFIED policyclasses": 1},
        {"policyclasses": everyone},
    )
    await world.policy("all", {}, pods(app="client"))
    await world.quiet()
    await world.row(
        "the rules of a policy change that applies to several classes",
        lambda: world.policy("all", {}, pods(app="client"), port=83),
        {"MODIFIED policyprograms": 1},
        {"policyprograms": everyone},
    )
    await world.client.delete(NETWORK_POLICIES, "all", namespace="d")
    await world.quiet()
    await world.pod("client2", "n02", app="client")
    await world.row(
        "a pod gets its address, and is in a group",
        lambda: world.address("client2"),
        {"MODIFIED ipamblocks": 1, "MODIFIED addressgroups": 1},
        {"ipamblocks": {"n02"}, "addressgroups": everyone},
    )


async def labels_change(world: Counted) -> None:
    everyone = set(world.agents)
    await world.policy("solo", {"app": "solo"}, pods(app="web"))
    await world.policy("named", {"app": "solo"}, {"namespaceSelector": {"matchLabels": {"team": "red"}}})
    await world.quiet()
    await world.row(
        "a pod is relabelled: it leaves one group, and no class",
        lambda: world.label_pod("client2", app="other"),
        {"MODIFIED addressgroups": 1},
        {"addressgroups": everyone},
    )
    await world.row(
        "a pod is relabelled: nothing reads the label",
        lambda: world.label_pod("client2", colour="blue"),
        {},
        {},
    )
    await world.row(
        "a pod is relabelled: its class changes, on a node that knows both",
        lambda: world.label_pod("solo", app="web"),
        {"MODIFIED nodestates": 1, "MODIFIED addressgroups": 1},
        {"nodestates": {"n01"}, "addressgroups": {"n01"}},
    )
    await world.label_pod("solo", app="solo")
    await world.quiet()
    await world.row(
        "a namespace is relabelled: its pods enter a group",
        lambda: world.label_namespace("d", team="red"),
        {"MODIFIED addressgroups": 1},
        {"addressgroups": {"n01"}},
    )
    await world.row(
        "a namespace is relabelled: they leave it",
        lambda: world.label_namespace("d", team=None),
        {"MODIFIED addressgroups": 1},
        {"addressgroups": {"n01"}},
    )


async def spans_change(world: Counted) -> None:
    await world.client.delete(NETWORK_POLICIES, "named", namespace="d")
    await world.quiet()
    shared = ("policyclasses", "addressgroups")
    await world.row(
        "a class is first needed on a node",
        lambda: world.pod("solo2", "n03", app="solo"),
        {f"MODIFIED {kind}": 1 for kind in (*shared, "nodestates")},
        {kind: {"n01", "n03"} for kind in shared} | {"nodestates": {"n03"}},
    )
    await world.row(
        "a class is needed on a node no longer: the node at once, the labels later",
        lambda: world.delete_pod("solo2"),
        {f"MODIFIED {kind}": 1 for kind in (*shared, "nodestates")},
        {kind: {"n01", "n03"} for kind in shared} | {"nodestates": {"n03"}},
        settle=SETTINGS.label_linger,
    )


async def pods_go(world: Counted) -> None:
    everyone = set(world.agents)
    await world.label_pod("client2", app="client")
    await world.row(
        "a pod goes: its node and its groups at once; its address when all nodes have forgotten it",
        lambda: world.delete_pod("client2"),
        {"MODIFIED nodestates": 1, "MODIFIED addressgroups": 1, "MODIFIED ipamblocks": 2},
        {"nodestates": {"n02"}, "addressgroups": everyone, "ipamblocks": {"n02"}},
    )


async def nodes_come_and_go(world: Counted, nodes: int) -> None:
    new = node_name(nodes + 1)

    async def joins() -> None:
        meta = {"metadata": {"name": new}}
        status = {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{nodes + 1}"}]}
        await world.client.create(NODES, {**meta, "status": status})

    await world.row(
        "a node joins",
        joins,
        {"ADDED nodestates": 1, "ADDED meshnodes": 1, "ADDED ipamblocks": 1},
        {"meshnodes": EVERY},
    )
    await world.row(
        "a node leaves",
        lambda: world.client.delete(NODES, new),
        {"DELETED nodestates": 1, "DELETED meshnodes": 1},
        {"meshnodes": EVERY},
    )
