"""Owns the world of the policy tests: three namespaces of three pods each, spread over the nodes, an outside host and
the nodes themselves; every connection between them, what the API says of it, and what packets say.

It must not decide anything about policy: what is expected comes from `manx_core.policy.verdict`, read off the objects
as the API server has them, and what is seen from `lab_policy_probe`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import yaml

from lab import binaries
from lab.cluster import AGNHOST, Cluster
from lab.fabric import FABRIC
from lab.run import LabError
from lab.settings import OUTSIDE_ADDRESS
from lab_policy_netns import namespace_of, pid_in_pod
from lab_policy_probe import Outcome, Probe, Prober, Source
from manx_core import policy
from manx_core.policy.verdict import verdict
from manx_core.api.core_v1 import Namespace, NetworkPolicy, Node, Pod

NAMESPACES, NAMES = ("x", "y", "z"), ("a", "b", "c")
PREFIX = "np-"
REAL = tuple(PREFIX + ns for ns in NAMESPACES)
MARK = "manx-policy-test"
OUTSIDE = "outside"
PORTS = (80, 81)
PROTOCOLS = ("TCP", "UDP", "SCTP")
KUBELET_PORT = 10250
SERVERS = {port: ["netexec", f"--http-port={port}", f"--udp-port={port}"] for port in PORTS}


@dataclass(frozen=True)
class Member:
    """An end of connections. `key` is set for pods (real namespace and name), `node` for nodes."""

    name: str
    address: str
    ports: tuple[tuple[str, int], ...]
    key: policy.PodKey | None = None


@dataclass
class World:
    """All ends, and the rounds between them."""

    cluster: Cluster
    members: dict[str, Member] = field(default_factory=dict)
    prober: Prober = field(default_factory=Prober)
    rounds: int = 0
    _routed: list[dict[str, Any]] = field(default_factory=list)
    """The blocks that the outside host has routes to: a later one has none to take away."""

    # --- making and ending it -----------------------------------------------------------------------------------------

    def build(self) -> None:
        """Create everything, in place of what an interrupted run left, and wait until all pods run."""
        self.cluster.delete("namespace", *REAL)
        self._stop_outside()
        self.cluster.apply(*(_namespace(name) for name in NAMESPACES))
        self.cluster.apply(*(self._pod(ns, name) for ns in NAMESPACES for name in NAMES))
        for ns, name in itertools.product(NAMESPACES, NAMES):
            self.admit(f"{ns}/{name}")
        for node in self.cluster.nodes:
            self._admit_node(node)
        self._open_outside()

    def _pod(self, ns: str, name: str) -> dict[str, Any]:
        # A Latin square: neither a namespace nor a name is on one node.
        index = NAMESPACES.index(ns) + NAMES.index(name)
        return pod(ns, name, self.cluster.nodes[index % len(self.cluster.nodes)])

    def admit(self, name: str) -> None:
        """Wait until a pod ``x/a`` is Ready, and let it take part."""
        ns, _, short = name.partition("/")
        key = (PREFIX + ns, short)
        address = self.cluster.wait_pod(short, namespace=key[0], timeout=180)
        uid = self.cluster.kubectl.json("-n", key[0], "get", "pod", short)["metadata"]["uid"]
        pid = self.cluster.wait_for(f"a process in {name}", lambda: pid_in_pod(uid), timeout=30)
        self._add(Member(name, address, tuple(itertools.product(PROTOCOLS, PORTS)), key), pid)

    def _admit_node(self, node: str) -> None:
        address = self.cluster.settings.member(node).address
        self._add(Member(node, address, (("TCP", KUBELET_PORT),)), self.cluster.machines.holder(node))

    def _open_outside(self) -> None:
        # Over UDP, a server on all addresses would answer from the router's.
        only = f"--udp-listen-addresses={OUTSIDE_ADDRESS}"
        for port, words in SERVERS.items():
            self.cluster.machines.spawn(FABRIC, f"{MARK}-{port}", [binaries.path_of("agnhost"), *words, only])
        self._routed = [block["spec"] for block in self.cluster.kubectl.items("ipamblocks.manx.dev")]
        for block in self._routed:
            self._route("replace", block)
        ports = tuple(itertools.product(PROTOCOLS, PORTS))
        self._add(Member(OUTSIDE, OUTSIDE_ADDRESS, ports), self.cluster.machines.holder(FABRIC))

    def _stop_outside(self) -> None:
        for port in PORTS:
            with contextlib.suppress(LabError):  # none was ever started
                self.cluster.machines.stop(FABRIC, f"{MARK}-{port}")

    def _route(self, verb: str, block: dict[str, Any]) -> None:
        """The outside host's route to pods, which it has not got from Manx: the fabric takes no part in BGP."""
        via = self.cluster.settings.member(block["node"]).address
        self.cluster.node_exec(FABRIC, "ip", "route", verb, block["cidr"], "via", via)

    def _add(self, member: Member, pid: int) -> None:
        self.dismiss(member.name)
        self.members[member.name] = member
        self.prober.sources[member.name] = Source(namespace_of(pid), member.address)

    def dismiss(self, name: str) -> None:
        """Let a member take part no longer."""
        self.members.pop(name, None)
        self.prober.forget(name)

    def tear_down(self) -> None:
        """Remove all of it."""
        self.prober.close()
        self.cluster.delete("namespace", *REAL, "--wait=false")
        self._stop_outside()
        for block in self._routed:
            self._route("del", block)

    # --- what users do ------------------------------------------------------------------------------------------------

    def apply(self, policies: Mapping[str, str]) -> None:
        """Apply policies: ``x/name`` → its spec as YAML, in which ``<x/a>`` is that member's address."""
        self.cluster.apply(*(self._policy(name, spec) for name, spec in policies.items()))

    def _policy(self, name: str, spec: str) -> dict[str, Any]:
        for member in self.members.values():
            spec = spec.replace(f"<{member.name}>", member.address)
        ns, _, short = name.partition("/")
        metadata = {"namespace": PREFIX + ns, "name": short, "labels": {MARK: "yes"}}
        kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
        return {**kind, "metadata": metadata, "spec": yaml.safe_load(spec)}

    def clear(self) -> None:
        """Delete all policies of the tests."""
        self.cluster.kubectl("delete", "networkpolicies", "-A", "-l", MARK)

    def replace(self, policies: Mapping[str, str]) -> None:
        """Exactly these policies, changing what is there as a user would: deletions last."""
        self.apply(policies)
        wanted = {(PREFIX + ns, short) for ns, _, short in (name.partition("/") for name in policies)}
        for item in self.cluster.kubectl.items("networkpolicies", "-A", "-l", MARK):
            ns, short = item["metadata"]["namespace"], item["metadata"]["name"]
            if (ns, short) not in wanted:
                self.cluster.kubectl("-n", ns, "delete", "networkpolicy", short)

    # --- what is so ---------------------------------------------------------------------------------------------------

    def probes(self) -> list[Probe]:
        """Every connection that has a pod at one end at least."""
        return [
            Probe(source.name, target.name, target.address, protocol, port)
            for source, target in itertools.product(self.members.values(), repeat=2)
            if source.key or target.key
            for protocol, port in target.ports
        ]

    def read(self) -> policy.Cluster:
        """What policy depends on, as the API server has it."""
        kinds = "namespaces,pods,networkpolicies,nodes"
        items = json.loads(self.cluster.kubectl("get", kinds, "-A", "-o", "json"))["items"]
        return cluster_of(items)

    def table(self) -> dict[Probe, bool]:
        """Every probe, and whether the API says that it is allowed."""
        objects = self.read()
        return {probe: self._allowed(objects, probe) for probe in self.probes()}

    def _allowed(self, objects: policy.Cluster, probe: Probe) -> bool:
        source, target = self.members[probe.source], self.members[probe.target]
        ends = []
        if source.key:
            ends.append(verdict(objects, source.key, target.address, probe.port, probe.protocol, "Egress"))
        if target.key:
            ends.append(verdict(objects, target.key, source.address, probe.port, probe.protocol, "Ingress"))
        return all(end.allowed for end in ends)

    def settle(self, allows: str = "", denies: str = "", *, timeout: float = 90) -> None:
        """Probe everything until packets agree with the API. `allows`, `denies`: some of what the API says, by hand.

        AssertionError names what differs after ``timeout`` seconds.
        """
        table = self.table()
        _hold(table, allows, denies)
        self.agree(table, timeout=timeout)

    def agree(self, table: Mapping[Probe, bool], *, timeout: float = 90) -> None:
        """Probe until exactly those that are allowed answer; AssertionError as `settle`."""
        expected = [probe for probe, allowed in table.items() if allowed]
        end = time.monotonic() + timeout
        while True:
            seen = self.prober.round(list(table), expected)
            self.rounds += 1
            wrong = {p: o for p, o in seen.items() if o != ("answered" if table[p] else "silent")}
            if not wrong:
                return
            assert time.monotonic() < end, f"after {timeout:.0f} s packets differ from the API's word:\n{_say(wrong)}"


def _namespace(name: str) -> dict[str, Any]:
    labels = {"ns": name, MARK: "yes"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PREFIX + name, "labels": labels}}


def pod(ns: str, name: str, node: str, **labels: str) -> dict[str, Any]:
    """A pod of the world. It names its ports; ``web`` is another number on the pods named c, ``data`` on those named a.
    Its servers are one container: two would double what there is to start."""
    web, data = 81 if name == "c" else 80, 80 if name == "a" else 81
    ports = [
        {"name": "web", "containerPort": web, "protocol": "TCP"},
        {"name": "data", "containerPort": data, "protocol": "UDP"},
        {"name": "signal", "containerPort": 80, "protocol": "SCTP"},
    ]
    container = {
        "name": "main",
        "image": AGNHOST,
        "command": ["/bin/sh", "-c", " & ".join(map(_server, PORTS)) + " & wait"],
        "ports": ports,
        "startupProbe": {"httpGet": {"path": "/healthz", "port": 81}, "periodSeconds": 1, "failureThreshold": 120},
    }
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]}
    metadata = {"namespace": PREFIX + ns, "name": name, "labels": {"pod": name, MARK: "yes", **labels}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _server(port: int) -> str:
    return " ".join(["/agnhost", *SERVERS[port]])


def cluster_of(items: Iterable[dict[str, Any]]) -> policy.Cluster:
    """The value that `verdict` is asked about, from objects as the API server gives them."""
    by_kind: dict[str, list[dict[str, Any]]] = {"Namespace": [], "Pod": [], "NetworkPolicy": [], "Node": []}
    for item in items:
        by_kind[item["kind"]].append(item)
    pods = [msgspec.convert(item, Pod) for item in by_kind["Pod"]]
    policies = [msgspec.convert(item, NetworkPolicy) for item in by_kind["NetworkPolicy"]]
    nodes = [msgspec.convert(item, Node) for item in by_kind["Node"]]
    return policy.Cluster(
        namespaces={item["metadata"]["name"]: msgspec.convert(item, Namespace) for item in by_kind["Namespace"]},
        pods={(p.metadata.namespace, p.metadata.name): p for p in pods},
        policies={(p.metadata.namespace, p.metadata.name): p for p in policies},
        addresses={(p.metadata.namespace, p.metadata.name): tuple(ip.ip for ip in p.status.pod_ips) for p in pods},
        node_addresses={n.metadata.name: tuple(a.address for a in n.status.addresses) for n in nodes},
    )


def _hold(table: Mapping[Probe, bool], allows: str, denies: str) -> None:
    """Hold the API's word, as `verdict` reads it, to what somebody wrote by hand: ``x/a>y/b:80/UDP``, by blanks."""
    by_name = {str(probe): allowed for probe, allowed in table.items()}
    by_hand = {**dict.fromkeys(_each(allows), True), **dict.fromkeys(_each(denies), False)}
    assert {name: by_name[name] for name in by_hand} == by_hand


def _each(text: str) -> list[str]:
    return [word if word.endswith(PROTOCOLS) else f"{word}/TCP" for word in text.split()]


def _say(wrong: Mapping[Probe, Outcome]) -> str:
    """What is wrong, for people: each pair of ends once."""
    pairs = Counter((probe.source, probe.target, outcome) for probe, outcome in wrong.items())
    lines = [f"{source}>{target}: {count} wrongly {outcome}" for (source, target, outcome), count in pairs.items()]
    return "\n".join([f"{len(wrong)} probes, such as {next(iter(wrong))}", *lines[:40]])
