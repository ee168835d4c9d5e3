"""Owns the figure "policy created → its rule in the kernel of every node concerned", on a running lab.

It must not believe a report: a rule is there when nf_tables says so. The floor is iptables-restore of that very rule,
as iptables-save prints it, in the same nodes' namespaces, in all of them at once.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from bench.figures import Figure
from bench.measures import Given
from bench.namespaces import entered
from bench.nft_events import NftEvents
from lab.cluster import Cluster
from lab.run import LabError
from manx_agent.render.names import program_ingress
from manx_core.api.v1alpha1 import AddressGroup, NodeState, PolicyClass, PolicyProgram
from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig
from manx_kube.informer import Batch, Informer
from manx_kube.resources import ADDRESS_GROUPS, NETWORK_POLICIES, NODE_STATES, POLICY_CLASSES, POLICY_PROGRAMS, Resource

NAMESPACE, POLICY = "manx-bench", "bench"
CHAIN = program_ingress(f"knp.{NAMESPACE}.{POLICY}")
FLOOR_CHAIN = "bench-floor"
PATIENCE = 60.0
STEPS: dict[Resource, type[Any]] = {
    ADDRESS_GROUPS: AddressGroup,
    POLICY_PROGRAMS: PolicyProgram,
    POLICY_CLASSES: PolicyClass,
    NODE_STATES: NodeState,
}
"""What the operator writes of a policy: groups first, and the NodeState last. A node has this policy in its class, with
which its program's own object is written at the same time."""


@dataclass
class Round:
    """Seconds since just before the policy was sent."""

    accepted: float = 0.0
    """When the API server answered."""
    heard: dict[str, float] = field(default_factory=dict)
    """By kind, when a watch heard the last object of it that this policy led to."""
    nodes: tuple[float, ...] = ()
    """When the rule was in each node's kernel."""


ROUNDS = 30


def measure(given: Given) -> list[Figure]:
    """On the shared lab."""
    with given.lab() as cluster:
        time.sleep(30)  # what its start began shall be over
        return asyncio.run(measured(cluster, ROUNDS))


async def measured(cluster: Cluster, rounds: int) -> list[Figure]:
    """The figure, and its steps. Raises LabError where the lab cannot be measured."""
    prepare(cluster)
    try:
        async with Bench(cluster) as bench:
            await bench.round(0)  # whatever is only done once
            done = [await bench.round(number) for number in range(1, rounds + 1)]
            floors = await bench.floors(rounds)
    finally:
        cluster.delete("namespace", NAMESPACE, "--wait=false")
    return figures(done, floors)


def prepare(cluster: Cluster) -> None:
    """A pod on every node that the policy selects, and one that it lets in."""
    reports = cluster.kubectl.items("nodereports.manx.dev")
    others = [r["metadata"]["name"] for r in reports if r.get("status", {}).get("backend") != "nft"]
    if others:
        raise LabError(f"{', '.join(others)}: only the nft back end tells when a rule is there")
    cluster.kubectl("create", "namespace", NAMESPACE)
    pods = {f"web-{node}": (node, "web") for node in cluster.nodes} | {"friend": (cluster.nodes[0], "friend")}
    for name, (node, app) in pods.items():
        cluster.run_pod(name, node=node, namespace=NAMESPACE, labels={"app": app})
    for name in pods:
        cluster.wait_pod(name, namespace=NAMESPACE, timeout=120)


def policy(port: int) -> dict[str, Any]:
    """Selects the pods on all nodes and lets one client reach a port."""
    peer = {"podSelector": {"matchLabels": {"app": "friend"}}}
    rule = {"from": [peer], "ports": [{"protocol": "TCP", "port": port}]}
    return {
        "metadata": {"name": POLICY, "namespace": NAMESPACE},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [rule]},
    }


class Bench:
    """A client, watches and the kernels' events, held open between rounds so that none has to be started in one."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client = KubeClient(ApiConfig.from_kubeconfig(cluster.settings.kubeconfig))
        self._holders = [cluster.machines.holder(node) for node in cluster.nodes]
        self._kernels: list[NftEvents] = []
        self._informers: list[Informer[Any]] = []
        self._heard: dict[str, float] = {}
        self._before: dict[Resource, frozenset[tuple[str, str]]] = {}
        self._changed = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._client)
        for resource, type_ in STEPS.items():
            informer: Informer[Any] = Informer(self._client, resource, type_)
            informer.add_handler(self._note(resource.kind))
            self._informers.append(await self._stack.enter_async_context(informer))
        for holder in self._holders:
            self._kernels.append(NftEvents(holder))
            self._stack.callback(self._kernels[-1].close)
        for informer in self._informers:
            await informer.wait_synced()
            self._before[informer.resource] = frozenset(informer.cache)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _note(self, kind: str) -> Any:
        def heard(_: Batch[Any]) -> None:
            self._heard[kind] = time.perf_counter()
            self._changed.set()

        return heard

    async def round(self, number: int) -> Round:
        """The policy created, waited for, deleted, and waited for again."""
        self._heard.clear()
        rules = [kernel.rule_in(CHAIN) for kernel in self._kernels]
        started = time.perf_counter()
        await self._client.create(NETWORK_POLICIES, policy(20000 + number))
        found = Round(accepted=time.perf_counter() - started)
        async with asyncio.timeout(PATIENCE):
            found.nodes = tuple([await rule - started for rule in rules])
        found.heard = {kind: at - started for kind, at in self._heard.items()}
        await self._remove()
        return found

    async def _remove(self) -> None:
        gone = [kernel.gone(CHAIN) for kernel in self._kernels]
        await self._client.delete(NETWORK_POLICIES, POLICY, namespace=NAMESPACE)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*gone)
            while self._remains():
                self._changed.clear()
                await self._changed.wait()

    def _remains(self) -> bool:
        """Whether anything is left that was not there before the first policy."""
        return any(informer.cache.keys() - self._before[informer.resource] for informer in self._informers)

    async def floors(self, rounds: int) -> list[float]:
        """Seconds of the bare programs, a number of times."""
        rules = [kernel.rule_in(CHAIN) for kernel in self._kernels]
        await self._client.create(NETWORK_POLICIES, policy(20000))
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*rules)
        texts = {holder: floor_text(saved(holder)) for holder in self._holders}
        found = [await asyncio.to_thread(restore, texts) for _ in range(rounds)]
        await self._remove()
        return found


def saved(holder: int) -> list[str]:
    """The policy's rules, as iptables-save prints them in the namespace of a process."""
    with entered(holder):
        text = subprocess.run(("iptables-nft-save", "-t", "filter"), check=True, capture_output=True, text=True).stdout
    rules = [line for line in text.splitlines() if line.startswith(f"-A {CHAIN} ")]
    if not rules:
        raise LabError(f"no rule of {CHAIN}, though nf_tables told of one")
    return rules


def floor_text(rules: list[str]) -> str:
    """The same rules for a chain of our own, which no packet ever meets."""
    mine = [rule.replace(CHAIN, FLOOR_CHAIN, 1) for rule in rules]
    return "\n".join(["*filter", f":{FLOOR_CHAIN} - [0:0]", *mine, "COMMIT", ""])


def restore(texts: Mapping[int, str]) -> float:
    """Seconds until every namespace has its rules, all programs started at once; then they are removed again."""
    started = time.perf_counter()
    _run(texts)
    took = time.perf_counter() - started
    _run(dict.fromkeys(texts, f"*filter\n-F {FLOOR_CHAIN}\n-X {FLOOR_CHAIN}\nCOMMIT\n"))
    return took


def _run(texts: Mapping[int, str]) -> None:
    processes = []
    for holder, text in texts.items():
        with entered(holder):
            command = ("iptables-nft-restore", "--noflush", "-w", "10")
            processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        assert processes[-1].stdin is not None
        processes[-1].stdin.write(text)
        processes[-1].stdin.close()
    for process in processes:
        if process.wait():
            assert process.stderr is not None
            raise LabError(f"iptables-nft-restore: {process.stderr.read()}")


def figures(rounds: list[Round], floors: list[float]) -> list[Figure]:
    """In milliseconds."""
    whole = tuple(max(one.nodes) * 1000 for one in rounds)
    floor = tuple(took * 1000 for took in floors)
    name = f"policy created, rule on all {len(rounds[0].nodes)} nodes"
    return [Figure("policy.kernel", name, "ms", whole, "iptables-restore of that rule", floor), *_steps(rounds)]


def _steps(rounds: list[Round]) -> Iterator[Figure]:
    yield Figure("policy.accepted", "  API server has accepted it", "ms", tuple(one.accepted * 1000 for one in rounds))
    for kind in (resource.kind for resource in STEPS):
        samples = tuple(one.heard[kind] * 1000 for one in rounds if kind in one.heard)
        if samples:
            yield Figure(f"policy.{kind.lower()}", f"  operator's last {kind} written and heard", "ms", samples)
    yield Figure("policy.first", "  rule on the first node", "ms", tuple(min(one.nodes) * 1000 for one in rounds))
