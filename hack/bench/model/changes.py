"""The process in which single changes are measured, on clusters of several sizes.

    python -m bench.model.changes <pods>

Owns: a cluster as Deployments and teams make it (twenty apps in each namespace of a hundred pods; policies that select
an app, and allow another one of the namespace, or of a team's namespaces, on a number or a named port), a namespace of
a thousand pods beside it, and the changes. Must not: compare, or print anything but JSON.

What counts as a change's cost is all of it: the input, the drain, and every object that then may differ, asked for as
the writer does.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from bench.model.computing import resident
from manx_core.api.core_v1 import (
    Container,
    ContainerPort,
    LabelSelector,
    Namespace,
    NetworkPolicy,
    NetworkPolicyIngressRule,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    NetworkPolicySpec,
    ObjectMeta,
    Pod,
    PodSpec,
    PodStatus,
)
from manx_operator import garbage
from manx_operator.model import PolicyId, PolicyModel

PER_NAMESPACE, PER_NODE, PER_POLICY = 100, 50, 10
APPS, TEAMS = 20, 10
BIG, BIG_PODS = "big", 1000
Key = tuple[str, str]
Step = Callable[[], object]


def namespace(name: str, number: int) -> Namespace:
    labels = {"kubernetes.io/metadata.name": name, "team": f"team-{number % TEAMS}"}
    return Namespace(metadata=ObjectMeta(name=name, labels=labels))


def pod(space: str, number: int, app: int, nodes: int) -> Pod:
    labels = {"app": f"app-{app}", "tier": ("web", "db")[number % 2], "pod-template-hash": f"h{app}"}
    ports = (ContainerPort(container_port=8080, name="http"),)
    spec = PodSpec(
        node_name=f"node-{number % nodes}",
        service_account_name="default",
        containers=(Container(name="c", ports=ports),),
    )
    meta = ObjectMeta(namespace=space, name=f"pod-{number}", uid=f"uid-{number}", labels=labels)
    return Pod(metadata=meta, spec=spec, status=PodStatus(phase="Running"))


def policy(space: str, number: int, team: int | None) -> NetworkPolicy:
    app = number % APPS
    spaces = None if team is None else LabelSelector(match_labels={"team": f"team-{team}"})
    peer = NetworkPolicyPeer(pod_selector=_app((app + 1) % APPS), namespace_selector=spaces)
    port = NetworkPolicyPort(port="http" if number % 5 == 0 else 8080)
    rule = NetworkPolicyIngressRule(from_=(peer,), ports=(port,))
    meta = ObjectMeta(namespace=space, name=f"policy-{number}", uid=f"uid-{number}", generation=1)
    return NetworkPolicy(metadata=meta, spec=NetworkPolicySpec(pod_selector=_app(app), ingress=(rule,)))


def _app(number: int) -> LabelSelector:
    return LabelSelector(match_labels={"app": f"app-{number}"})


def with_labels(found: Any, **labels: str) -> Any:
    """A pod or namespace with other labels."""
    meta = msgspec.structs.replace(found.metadata, labels={**found.metadata.labels, **labels})
    return msgspec.structs.replace(found, metadata=meta)


class World:
    """A model, and what it was fed."""

    def __init__(self, pods: int) -> None:
        self.model = PolicyModel()
        self.namespaces: dict[str, Namespace] = {}
        self.pods: dict[Key, Pod] = {}
        self.policies: dict[Key, NetworkPolicy] = {}
        self.nodes = max(10, pods // PER_NODE)
        count = pods // PER_NAMESPACE
        for number in range(count):
            self._add(f"ns-{number}", number, range(number, pods, count))
        self._add(BIG, 0, range(pods, pods + BIG_PODS))
        self._allow(pods)
        self.model.drain()

    def _add(self, name: str, number: int, pods: range) -> None:
        self.namespaces[name] = namespace(name, number)
        self.model.set_namespace(name, self.namespaces[name])
        for place, one in enumerate(pods):
            found = pod(name, one, place % APPS, self.nodes)
            self.pods[name, found.metadata.name] = found
            self.put(found, one)

    def _allow(self, pods: int) -> None:
        names = [name for name in self.namespaces if name != BIG]
        for number in range(pods // PER_POLICY):
            found = policy(names[number % len(names)], number, number % TEAMS if number % 4 == 0 else None)
            self.policies[found.metadata.namespace, found.metadata.name] = found
            self.set_policy(found)
        for number in range(APPS):
            self.set_policy(policy(BIG, number, 0))  # each pod of BIG is in a group as long as BIG is of that team

    def put(self, found: Pod, number: int) -> None:
        key = (found.metadata.namespace, found.metadata.name)
        self.model.set_pod(key, found)
        self.model.set_addresses(key, found.metadata.uid, (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",))

    def set_policy(self, found: NetworkPolicy) -> None:
        self.model.set_policy(PolicyId("knp", found.metadata.namespace, found.metadata.name), found)

    # --- changes, each of which leaves the cluster as it was ----------------------------------------------------------

    def relabelled(self, count: int) -> Iterator[Step]:
        """A pod to another app, and back."""
        for key, found in self._some(self.pods, count):
            for changed in (with_labels(found, app="app-7"), found):
                yield partial(self.model.set_pod, key, changed)

    def rescheduled(self, count: int) -> Iterator[Step]:
        """A pod goes; it is there again, and has its address back."""
        for number, (key, found) in enumerate(self._some(self.pods, count)):
            yield partial(self.model.set_pod, key, None)
            yield partial(self.put, found, number)

    def policies_replaced(self, count: int) -> Iterator[Step]:
        """A policy goes; it is there again."""
        for key, found in self._some(self.policies, count):
            yield partial(self.model.set_policy, PolicyId("knp", *key), None)
            yield partial(self.set_policy, found)

    def namespace_relabelled(self, count: int) -> Iterator[Step]:
        """The namespace of a thousand pods, to another team, and back."""
        for _ in range(count):
            for number in (1, 0):
                yield partial(self.model.set_namespace, BIG, namespace(BIG, number))

    def status_changed(self, count: int) -> Iterator[Step]:
        """A pod of which nothing changed that counts."""
        for key, found in self._some(self.pods, count):
            yield partial(self.model.set_pod, key, msgspec.structs.replace(found, status=PodStatus(phase="Pending")))

    @staticmethod
    def _some(table: dict[Key, Any], count: int) -> list[tuple[Key, Any]]:
        entries = list(table.items())
        return [entries[number * 7919 % len(entries)] for number in range(count)]


def settle(model: PolicyModel) -> int:
    """What comes of a change, asked for as the writer does; how many objects and nodes were named."""
    changes = model.drain()
    for kind, name in changes.objects:
        model.desired(kind, name)
    for node in changes.nodes:
        model.lines(node)
    return len(changes.objects) + len(changes.nodes)


def timed(model: PolicyModel, steps: Iterator[Step]) -> dict[str, float]:
    """Microseconds of the processor for each change, on average; and the objects named by all of them."""
    made, named = list(steps), 0
    gc.collect()
    start = time.process_time()
    for step in made:
        step()
        named += settle(model)
    return {"microseconds": (time.process_time() - start) / len(made) * 1e6, "named": named, "changes": len(made)}


def main() -> None:
    garbage.tune()
    before = resident()
    with garbage.building():
        world = World(int(sys.argv[1]))
    few, many = 5, 200
    found: dict[str, Any] = {
        "resident": resident() - before,
        "pod-status": timed(world.model, world.status_changed(many)),
        "pod-relabelled": timed(world.model, world.relabelled(many)),
        "pod-replaced": timed(world.model, world.rescheduled(many)),
        "policy-replaced": timed(world.model, world.policies_replaced(min(many, len(world.policies)))),
        "namespace-relabelled": timed(world.model, world.namespace_relabelled(few)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
