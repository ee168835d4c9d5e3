"""What the cluster is made of: namespaces, nodes, pods and policies, as objects, and how they get to the API server.

Owns: the shape of the load: pods of twenty apps in each namespace; policies that select an app, and allow one of the
same namespace on a number, or one of a team's namespaces on a named port. Must not: measure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from manx_kube.client import KubeClient
from manx_kube.resources import IP_POOLS, NAMESPACES, NETWORK_POLICIES, NODES, PODS, SERVICE_ACCOUNTS, Resource

Obj = dict[str, Any]
APPS, TEAMS = 20, 10
PARALLEL = 32
HERE = "node-0"
"""The node whose agent is real."""


@dataclass(frozen=True)
class Size:
    """How many of each. `here`: pods on the node that is measured."""

    pods: int = 10_000
    policies: int = 1_000
    namespaces: int = 100
    nodes: int = 200
    here: int = 100


FULL = Size()
"""What other projects were measured with."""
THOUSAND = Size(pods=1_000, policies=100, namespaces=10, nodes=20)
HUGE = Size(pods=50_000, policies=5_000, namespaces=500, nodes=1_000)
QUICK = Size(pods=200, policies=40, namespaces=4, nodes=10, here=20)


def namespace(number: int) -> Obj:
    return {"metadata": {"name": f"ns-{number}", "labels": {"team": f"team-{number % TEAMS}"}}}


def account(number: int) -> Obj:
    """What a controller would make, and without which the API server takes no pod."""
    return {"metadata": {"namespace": f"ns-{number}", "name": "default"}}


def node(number: int) -> Obj:
    return {"metadata": {"name": f"node-{number}"}}


def node_status(number: int) -> Obj:
    address = f"198.18.{number >> 8}.{number & 255}"
    return {"status": {"addresses": [{"type": "InternalIP", "address": address}]}}


def pod(number: int, size: Size) -> Obj:
    """The first `size.here` are on the node that is measured, the others on all others in turn."""
    place = 0 if number < size.here else 1 + number % (size.nodes - 1)
    kind = app(number, size)
    labels = {"app": f"app-{kind}", "pod-template-hash": f"hash{kind}"}
    ports = [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    spec = {
        "nodeName": f"node-{place}",
        "automountServiceAccountToken": False,
        "containers": [{"name": "c", "image": "none", "ports": ports}],
    }
    return {
        "metadata": {"namespace": f"ns-{number % size.namespaces}", "name": f"pod-{number}", "labels": labels},
        "spec": spec,
    }


def app(number: int, size: Size) -> int:
    """Of a pod; or which one a policy selects, which lets the next one in."""
    return number // size.namespaces % APPS


def policy(number: int, size: Size) -> Obj:
    kind = app(number, size)
    peer: Obj = {"podSelector": {"matchLabels": {"app": f"app-{(kind + 1) % APPS}"}}}
    abroad: Obj = {**peer, "namespaceSelector": {"matchLabels": {"team": f"team-{number % TEAMS}"}}}
    spec = {
        "podSelector": {"matchLabels": {"app": f"app-{kind}"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [peer], "ports": [{"port": 8080}]}, {"from": [abroad], "ports": [{"port": "http"}]}],
    }
    return {"metadata": {"namespace": f"ns-{number % size.namespaces}", "name": f"policy-{number}"}, "spec": spec}


def pool() -> Obj:
    """Room for a hundred thousand pods, in blocks of 64."""
    return {"metadata": {"name": "pods"}, "spec": {"cidr": "10.0.0.0/12", "blockSize": 26}}


async def create(client: KubeClient, size: Size, say: Callable[[str], None]) -> None:
    """All of it, as fast as the API server takes it. Raises KubeError."""
    await client.create(IP_POOLS, pool())
    for resource, objects in _objects(size).items():
        say(f"creating {resource.plural}")
        await together(client.create(resource, obj) for obj in objects)
    await together(
        client.patch(NODES, dict[str, Any], f"node-{n}", node_status(n), subresource="status")
        for n in range(size.nodes)
    )


def _objects(size: Size) -> dict[Resource, Iterator[Obj]]:
    """In an order in which each can be created."""
    return {
        NAMESPACES: map(namespace, range(size.namespaces)),
        SERVICE_ACCOUNTS: map(account, range(size.namespaces)),
        NODES: map(node, range(size.nodes)),
        NETWORK_POLICIES: (policy(n, size) for n in range(size.policies)),
        PODS: (pod(n, size) for n in range(size.pods)),
    }


async def together(calls: Iterable[Awaitable[object]]) -> None:
    """Some at a time. Raises a group of what those raise that fail."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call

    async with asyncio.TaskGroup() as tasks:
        for _ in range(PARALLEL):
            tasks.create_task(work())
