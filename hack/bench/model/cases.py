"""The clusters that Antrea's controller is measured on, as the JSON that an API server would list them in.

Owns: their shape, which is that of Antrea's own performance tests (names, labels, rules, a thousand nodes drawn at
random), and the pages. Must not: measure, or know the model.

Antrea takes pods' addresses from their status; Manx believes the agents' IPAMBlocks, which are thus part of the inputs.
Source: antrea-io/antrea, pkg/controller/networkpolicy/networkpolicy_controller_perf_test.go: the objects, and in its
comments the figures.
"""

from __future__ import annotations

import ipaddress
import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

Obj = dict[str, Any]
Labels = dict[str, str]
KINDS = ("namespaces", "networkpolicies", "pods", "ipamblocks")
PAGE = 500
NODES = 1000
PER_BLOCK = 64


@dataclass
class Cluster:
    """Objects of each kind, in the order in which they were made."""

    seed: int = 1
    namespaces: list[Obj] = field(default_factory=list)
    networkpolicies: list[Obj] = field(default_factory=list)
    pods: list[Obj] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def word(self) -> str:
        return "".join(self._random.choices(string.ascii_lowercase + string.digits, k=8))

    def namespace(self, name: str, labels: Labels | None = None) -> None:
        self.namespaces.append({"metadata": {"name": name, "labels": {"app": name} if labels is None else labels}})

    def policy(self, namespace: str, name: str, pods: Labels, peers: Labels, peers_of: Labels | None = None) -> None:
        """One that isolates in both directions; without `peers` it allows nothing."""
        spec: Obj = {"podSelector": {"matchLabels": pods} if pods else {}, "policyTypes": ["Ingress", "Egress"]}
        if peers:
            peer: Obj = {"podSelector": {"matchLabels": peers}}
            if peers_of is not None:
                peer["namespaceSelector"] = {"matchLabels": peers_of}
            spec["ingress"] = [{"from": [peer]}]
        self.networkpolicies.append({"metadata": self._metadata(namespace, name or f"np-{self.word()}"), "spec": spec})

    def pod(self, namespace: str, name: str, labels: Labels) -> None:
        metadata = {**self._metadata(namespace, name or f"pod-{self.word()}"), "labels": labels}
        spec = {"nodeName": f"Node-{self._random.randrange(NODES)}", "containers": []}
        self.pods.append({"metadata": metadata, "spec": spec, "status": {}})

    def objects(self, kind: str) -> Iterator[Obj]:
        yield from self._blocks() if kind == "ipamblocks" else getattr(self, kind)

    def _metadata(self, namespace: str, name: str) -> Obj:
        uid = f"{self._random.getrandbits(128):032x}"
        uid = "-".join((uid[:8], uid[8:12], uid[12:16], uid[16:20], uid[20:]))
        return {"namespace": namespace, "name": name, "uid": uid, "resourceVersion": "1", "generation": 1}

    def _blocks(self) -> Iterator[Obj]:
        """Blocks of 64, each node's filled one after the other."""
        by_node: dict[str, list[Obj]] = {}
        for pod in self.pods:
            by_node.setdefault(pod["spec"]["nodeName"], []).append(pod["metadata"])
        free = ipaddress.IPv4Network("10.0.0.0/8").subnets(new_prefix=26)
        for node, pods in by_node.items():
            for start in range(0, len(pods), PER_BLOCK):
                yield _block(next(free), node, pods[start : start + PER_BLOCK])


def _block(cidr: ipaddress.IPv4Network, node: str, pods: list[Obj]) -> Obj:
    allocations = [
        {"address": str(address), "namespace": pod["namespace"], "name": pod["name"], "uid": pod["uid"],
         "containerID": pod["uid"], "interface": "eth0"}
        for address, pod in zip(cidr, pods, strict=False)
    ]  # fmt: skip
    name = str(cidr).replace(".", "-").replace("/", "-")
    spec = {"epoch": 1, "cidr": str(cidr), "pool": "pods", "node": node}
    return {"metadata": {"name": name}, "spec": spec, "status": {"allocations": allocations}}


# --- the cases --------------------------------------------------------------------------------------------------------


def small_namespaces(cluster: Cluster, share: float) -> None:
    """25,000 namespaces of 4 pods and 3 policies."""
    for _ in range(round(25_000 * share)):
        name = cluster.word()
        cluster.namespace(name)
        cluster.policy(name, "default-deny-all", {}, {})
        for number in (1, 2):
            labels = {f"app-{number}": f"scale-{number}"}
            cluster.policy(name, f"np-{number}", labels, labels)
            for copy in (0, 1):
                cluster.pod(name, f"pod{2 * number - 1 + copy}", labels)


def one_namespace(cluster: Cluster, share: float) -> None:
    """One namespace, 10,000 pods, 10,000 policies, each of which selects all of them, and allows all of them."""
    name, labels = cluster.word(), {"app-1": "scale-1"}
    cluster.namespace(name)
    for _ in range(round(10_000 * share)):
        cluster.policy(name, "", labels, labels)
        cluster.pod(name, "", labels)


def large_namespaces(cluster: Cluster, share: float) -> None:
    """100 namespaces of 1,000 pods (100 labels of 10 each) and 101 policies."""
    for _ in range(round(100 * share)):
        name = cluster.word()
        cluster.namespace(name)
        cluster.policy(name, "default-deny-all", {}, {})
        for app in range(100):
            labels = {f"app-{app}": f"scale-{app}"}
            cluster.policy(name, f"np-{app}", labels, labels)
            for copy in range(10):
                cluster.pod(name, f"pod-{app}-{copy}", labels)


def policy_per_pod(cluster: Cluster, share: float) -> None:
    """One namespace, 10,000 pods, each with a label of its own, a policy of its own, and one other that may talk to
    it."""
    name = cluster.word()
    cluster.namespace(name)
    for _ in range(round(5_000 * share)):
        one, other = {"app": f"scale-{cluster.word()}"}, {"app": f"scale-{cluster.word()}"}
        for pods, peers in ((one, other), (other, one)):
            cluster.policy(name, "", pods, peers)
            cluster.pod(name, "", pods)


def namespaces_as_peers(cluster: Cluster, share: float) -> None:
    """1,000 namespaces of 100 pods and 10 policies, each of which allows 100 pods of ten namespaces."""
    for number in range(round(1_000 * share)):
        company = {"company": f"company-{number % 100}"}
        name = f"{company['company']}-{cluster.word()}"
        cluster.namespace(name, company)
        for app in range(10):
            labels = {"app": f"scale-{app}"}
            cluster.policy(name, f"np-{app}", labels, labels, company)
            for copy in range(10):
                cluster.pod(name, f"pod-{app}-{copy}", labels)


@dataclass(frozen=True)
class Case:
    """`seconds` and `megabytes` say what Antrea published."""

    make: Callable[[Cluster, float], None]
    text: str
    """For tables; `make` says all."""
    quick: float
    """Its share in the quick size."""
    seconds: str = ""
    megabytes: str = ""

    def cluster(self, share: float) -> Cluster:
        made = Cluster()
        self.make(made, share)
        return made


CASES = {
    "small-namespaces": Case(small_namespaces, "25,000 namespaces × 4 pods", 0.02, "5.84-6.42 s", "1,522-1,708 MB"),
    "one-namespace": Case(one_namespace, "10,000 policies × 10,000 pods", 0.05, "10.66 s", "1,157 MB"),
    "large-namespaces": Case(large_namespaces, "100 namespaces × 1,000 pods", 0.01, "held to at most 10 s"),
    "policy-per-pod": Case(policy_per_pod, "10,000 pods, a policy each", 0.05, "held to at most 300 s"),
    "namespaces-as-peers": Case(namespaces_as_peers, "1,000 namespaces × 100 pods", 0.02),
}


# --- pages ------------------------------------------------------------------------------------------------------------


def write(cluster: Cluster, directory: Path) -> dict[str, tuple[int, int]]:
    """A file for each kind, a page of a list in each line. Returns, for each kind, how many objects, and the bytes of
    their JSON."""
    encode, sizes = msgspec.json.Encoder().encode, {}
    for kind in KINDS:
        texts = [encode(found) for found in cluster.objects(kind)]
        with (directory / kind).open("wb") as file:
            for start in range(0, len(texts), PAGE):
                items = b",".join(texts[start : start + PAGE])
                file.write(b'{"metadata":{"resourceVersion":"1"},"items":[%s]}\n' % items)
        sizes[kind] = (len(texts), sum(map(len, texts)))
    return sizes
