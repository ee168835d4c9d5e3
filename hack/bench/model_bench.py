#!/usr/bin/env python3
"""How long the policy model takes, and how much memory, beside a floor measured in the same run.

The floor is a loop over the same inputs that does the least any model must: one dictionary entry for each input. Of a
single change it is one dictionary update. Prints a table; measures nothing but this process.

    .venv/bin/python hack/bench/model_bench.py [--pods 10000] [--policies 1000] [--namespaces 100] [--nodes 200]
"""

from __future__ import annotations

import argparse
import functools
import gc
import random
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

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
from manx_operator.model import PolicyId, PolicyModel


@dataclass(frozen=True)
class Size:
    pods: int
    policies: int
    namespaces: int
    nodes: int


@dataclass(frozen=True)
class Inputs:
    namespaces: dict[str, Namespace]
    pods: dict[tuple[str, str], Pod]
    policies: dict[tuple[str, str], NetworkPolicy]
    addresses: dict[tuple[str, str], str]


def make_inputs(size: Size) -> Inputs:
    """Pods as Deployments make them (twenty apps a namespace, a template hash each); policies that select an app and
    allow another one, of the namespace or of a team's namespaces, on a number or a named port."""
    names = [f"ns-{number}" for number in range(size.namespaces)]
    pods = dict(make_pod(number, names, size.nodes) for number in range(size.pods))
    addresses = {key: f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n, key in enumerate(pods)}
    policies = dict(make_policy(number, names) for number in range(size.policies))
    return Inputs({name: make_namespace(name, number) for number, name in enumerate(names)}, pods, policies, addresses)


def make_namespace(name: str, number: int) -> Namespace:
    labels = {"kubernetes.io/metadata.name": name, "team": f"team-{number % 10}"}
    return Namespace(metadata=ObjectMeta(name=name, labels=labels))


def make_pod(number: int, namespaces: list[str], nodes: int) -> tuple[tuple[str, str], Pod]:
    key = (namespaces[number % len(namespaces)], f"pod-{number}")
    app = f"app-{number // len(namespaces) % 20}"
    labels = {"app": app, "tier": ("web", "db")[number % 2], "pod-template-hash": f"h{app}"}
    ports = (ContainerPort(container_port=8080, name="http"),)
    return key, Pod(
        metadata=ObjectMeta(namespace=key[0], name=key[1], uid=f"uid-{number}", labels=labels),
        spec=PodSpec(node_name=f"node-{number % nodes}", containers=(Container(name="c", ports=ports),)),
        status=PodStatus(phase="Running"),
    )


def make_policy(number: int, namespaces: list[str]) -> tuple[tuple[str, str], NetworkPolicy]:
    key = (namespaces[number % len(namespaces)], f"policy-{number}")
    app = number // len(namespaces) % 20
    team = LabelSelector(match_labels={"team": f"team-{number % 10}"}) if number % 4 == 0 else None
    peer = NetworkPolicyPeer(pod_selector=app_selector((app + 1) % 20), namespace_selector=team)
    port = NetworkPolicyPort(port="http" if number % 5 == 0 else 8080)
    spec = NetworkPolicySpec(
        pod_selector=app_selector(app), ingress=(NetworkPolicyIngressRule(from_=(peer,), ports=(port,)),)
    )
    meta = ObjectMeta(namespace=key[0], name=key[1], uid=f"uid-{number}", generation=1)
    return key, NetworkPolicy(metadata=meta, spec=spec)


def app_selector(number: int) -> LabelSelector:
    return LabelSelector(match_labels={"app": f"app-{number}"})


# --- measuring --------------------------------------------------------------------------------------------------------


def timed(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def feed(model: PolicyModel, inputs: Inputs) -> None:
    for name, namespace in inputs.namespaces.items():
        model.set_namespace(name, namespace)
    for key, policy in inputs.policies.items():
        model.set_policy(PolicyId("knp", *key), policy)
    for key, pod in inputs.pods.items():
        model.set_pod(key, pod)
        model.set_addresses(key, pod.metadata.uid, (inputs.addresses[key],))


def floor_of(inputs: Inputs) -> None:
    table: dict[object, object] = {}
    for collection in (inputs.namespaces, inputs.policies, inputs.pods, inputs.addresses):
        for key, value in collection.items():
            table[id(collection), key] = value


def read_all(model: PolicyModel) -> None:
    for kind, name in model.all_keys():
        model.desired(kind, name)
    for node in model.nodes():
        model.endpoints(node)


def floor_reads(model: PolicyModel) -> None:
    for key in model.all_keys():
        hash(key)


def each(steps: Iterable[Callable[[], object]], model: PolicyModel) -> float:
    """Seconds for one change with its drain, on average."""
    steps = list(steps)

    def run() -> None:
        for step in steps:
            step()
            model.drain()

    return timed(run) / len(steps)


def relabel(model: PolicyModel, inputs: Inputs, count: int) -> list[Callable[[], object]]:
    chosen = random.Random(1).sample(sorted(inputs.pods), count)
    return [functools.partial(model.set_pod, key, _with_app(inputs.pods[key], "app-7")) for key in chosen]


def _with_app(pod: Pod, app: str) -> Pod:
    meta = pod.metadata
    labels = {**meta.labels, "app": app}
    return Pod(
        metadata=ObjectMeta(namespace=meta.namespace, name=meta.name, uid=meta.uid, labels=labels),
        spec=pod.spec,
        status=pod.status,
    )


def policy_changes(model: PolicyModel, inputs: Inputs, count: int) -> list[Callable[[], object]]:
    chosen = random.Random(2).sample(sorted(inputs.policies), count)
    gone = [functools.partial(model.set_policy, PolicyId("knp", *key), None) for key in chosen]
    back = [functools.partial(model.set_policy, PolicyId("knp", *key), inputs.policies[key]) for key in chosen]
    return [step for pair in zip(gone, back, strict=True) for step in pair]


def resident() -> float:
    """Resident memory of this process now, MB."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1e6


def floor_step() -> float:
    table = dict.fromkeys(range(10_000), 0)
    return timed(lambda: [table.update({number: 1}) for number in range(10_000)]) / 10_000


def measure(size: Size) -> None:
    inputs = make_inputs(size)
    before, model = resident(), PolicyModel()
    floor = timed(lambda: floor_of(inputs))
    rows = [("feed everything", timed(lambda: feed(model, inputs)), floor), ("first drain", timed(model.drain), floor)]
    held = resident() - before
    rows.append(("read every object", timed(lambda: read_all(model)), timed(lambda: floor_reads(model))))
    rows.append(("feed everything again", timed(lambda: feed(model, inputs)), floor))
    rows.append(("relabel a pod", each(relabel(model, inputs, 1000), model), floor_step()))
    count = min(200, size.policies)
    rows.append(("a policy goes or comes", each(policy_changes(model, inputs, count), model), floor_step()))
    report(size, model, rows, held, before)


def report(size: Size, model: PolicyModel, rows: list[tuple[str, float, float]], held: float, before: float) -> None:
    kinds = [kind for kind, _ in model.all_keys()]
    print(f"{size}: " + ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))))
    print(f"{'':24}{'time':>12}{'floor':>12}{'ratio':>8}")
    for name, taken, floor in rows:
        print(f"{name:24}{taken * 1e3:9.4f} ms{floor * 1e3:9.4f} ms{taken / floor:8.0f}")
    print(f"resident: {before:.0f} MB with the inputs, {held:.0f} MB more with the model (ratio {held / before:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else "")
    for name, default in (("pods", 10_000), ("policies", 1_000), ("namespaces", 100), ("nodes", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    measure(Size(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
