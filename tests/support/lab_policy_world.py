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
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from lab import binaries
from lab.cluster import AGNHOST, Cluster
from lab.fabric import FABRIC
from lab.run import LabError
from lab.settings import OUTSIDE as OUTSIDE_ADDRESS
from lab_policy_netns import namespace_of, pid_in_pod
from lab_policy_objects import MARK, PREFIX, RESOURCES, SURROUNDINGS, cluster_of, document, identity
from lab_policy_probe import HIGH, LOW, Outcome, Probe, Prober, Source
from manx_core import policy
from manx_core.policy.verdict import verdict

NAMESPACES, NAMES = ("x", "y", "z"), ("a", "b", "c")
REAL = tuple(PREFIX + ns for ns in NAMESPACES)
OUTSIDE = "outside"
PORTS = (80, 81)
PROTOCOLS = ("TCP", "UDP", "SCTP", "UDPLite", "ICMP", "ICMPv6", "253")
KUBELET_PORT = 10250
ECHO, ECHO6, TIMESTAMP = 8, 128, 13
NOBODY, NOBODY6 = "10.244.255.254", "fd10:244::ffff:ffff:ffff:fffe"
"""Stand in policies for addresses that an end has not: of the pools, since there are exceptions from those."""
SERVERS = {port: ["netexec", f"--http-port={port}", f"--udp-port={port}"] for port in PORTS}


@dataclass(frozen=True)
class Offer:
    """Something that an end answers to: `Probe`'s fields. `version` 0: over both families."""

    protocol: str
    port: int
    code: int = 0
    low: bool = False
    version: int = 0


USUAL = (
    *(Offer(protocol, port) for protocol in ("TCP", "UDP", "SCTP") for port in PORTS),
    Offer("ICMP", ECHO, version=4),
    Offer("ICMPv6", ECHO6, version=6),
)
RARE = (
    Offer("TCP", 80, low=True),
    Offer("ICMP", ECHO, code=5, version=4),
    Offer("ICMP", TIMESTAMP, version=4),
    Offer("ICMPv6", ECHO6, code=5, version=6),
    Offer("UDPLite", 80),
    Offer("253", 0),
)
"""What only Calico's rules tell from the rest."""


@dataclass(frozen=True)
class Member:
    """An end of connections. `key` is set for pods: real namespace and name. `address`, `address6`: its IPv4 and its
    IPv6 address, empty where it has none."""

    name: str
    address: str
    address6: str
    offers: tuple[Offer, ...]
    key: policy.PodKey | None = None

    def probes_from(self, source: Member) -> list[Probe]:
        """Every question that the source can ask this end."""
        ways = [(4, self.address if source.address else ""), (6, self.address6 if source.address6 else "")]
        return [
            Probe(source.name, self.name, address, offer.protocol, offer.port, offer.code, offer.low)
            for version, address in ways
            for offer in self.offers
            if address and offer.version in (0, version)
        ]


@dataclass
class World:
    """All ends, and the rounds between them."""

    cluster: Cluster
    members: dict[str, Member] = field(default_factory=dict)
    prober: Prober = field(default_factory=Prober)
    rounds: int = 0
    wide: bool = False
    """Whether what only Calico's rules tell apart is tried, too."""
    _routed: list[dict[str, Any]] = field(default_factory=list)
    """The blocks that the outside host has routes to: a later one has none to take away."""
    _kinds: list[str] = field(default_factory=list)
    _chance: Random = field(default_factory=lambda: Random(4))

    # --- making and ending it -----------------------------------------------------------------------------------------

    def build(self) -> None:
        """Create everything, in place of what an interrupted run left, and wait until all pods run."""
        self.clear()
        self.cluster.delete("namespace", *REAL)
        self._stop_outside()
        self.cluster.apply(*(_namespace(name) for name in NAMESPACES))
        self.cluster.apply(*(_account(ns, name) for ns in NAMESPACES for name in NAMES))
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
        self.cluster.wait_pod(short, namespace=key[0], timeout=180)
        found = self.cluster.kubectl.json("-n", key[0], "get", "pod", short)
        four, six = _families(each["ip"] for each in found["status"]["podIPs"])
        uid = found["metadata"]["uid"]
        pid = self.cluster.wait_for(f"a process in {name}", lambda: pid_in_pod(uid), timeout=30)
        self._add(Member(name, four, six, USUAL + RARE, key), pid)

    def _admit_node(self, node: str) -> None:
        member = self.cluster.settings.member(node)
        offers = (Offer("TCP", KUBELET_PORT), *(offer for offer in USUAL if offer.protocol.startswith("ICMP")))
        four = member.address if member.has_ipv4 else ""
        self._add(Member(node, four, member.address6, offers), self.cluster.machines.holder(node))

    def _open_outside(self) -> None:
        # Over UDP, a server on all addresses would answer from the router's.
        addresses = {family: OUTSIDE_ADDRESS[family] for family in self.cluster.settings.node_families}
        only = f"--udp-listen-addresses={','.join(addresses.values())}"
        for port, words in SERVERS.items():
            self.cluster.machines.spawn(FABRIC, f"{MARK}-{port}", [binaries.path_of("agnhost"), *words, only])
        self._routed = [block["spec"] for block in self.cluster.kubectl.items("ipamblocks.manx.dev")]
        for block in self._routed:
            self._route("replace", block)
        # Where pods are masqueraded, only one of a node at a time could ask over a protocol without ports.
        offers = tuple(offer for offer in USUAL + RARE if offer.protocol != "253")
        outside = Member(OUTSIDE, addresses.get(4, ""), addresses[6], offers)
        self._add(outside, self.cluster.machines.holder(FABRIC))

    def _stop_outside(self) -> None:
        for port in PORTS:
            with contextlib.suppress(LabError):  # none was ever started
                self.cluster.machines.stop(FABRIC, f"{MARK}-{port}")

    def _route(self, verb: str, block: dict[str, Any]) -> None:
        """The outside host's route to pods, which it has not got from Manx: the fabric takes no part in BGP."""
        node = self.cluster.settings.member(block["node"])
        family, via = ("-6", node.address6) if ":" in block["cidr"] else ("-4", node.address)
        self.cluster.node_exec(FABRIC, "ip", family, "route", verb, block["cidr"], "via", via)

    def _add(self, member: Member, pid: int) -> None:
        self.dismiss(member.name)
        self.members[member.name] = member
        self.prober.sources[member.name] = Source(namespace_of(pid), member.address, member.address6)

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
        """Apply objects: key → spec as YAML (see `lab_policy_objects`), in which ``<x/a>`` is that member's IPv4
        address and ``<x/a|6>`` its IPv6 address."""
        self.cluster.apply(*(document(key, self._addressed(spec)) for key, spec in policies.items()))

    def _addressed(self, spec: str) -> str:
        for member in self.members.values():
            spec = spec.replace(f"<{member.name}>", member.address or NOBODY)
            spec = spec.replace(f"<{member.name}|6>", member.address6 or NOBODY6)
        return spec

    def clear(self) -> None:
        """Delete all policies of the tests, and what belongs to them."""
        self._remove(",".join(self._resources()), "-A", "-l", MARK)

    def _resources(self) -> list[str]:
        """Of the kinds that the cluster has; those of Calico came with Manx."""
        if not self._kinds:
            self._kinds = self.cluster.kubectl("api-resources", "-o", "name").split()
        return [resource for resource in RESOURCES.values() if resource in self._kinds]

    def replace(self, policies: Mapping[str, str]) -> None:
        """Exactly these, changing what is there as a user would: deletions last."""
        wanted = {identity(document(key, self._addressed(spec))) for key, spec in policies.items()}
        self.apply(policies)
        found = self.cluster.kubectl.items(",".join(self._resources()), "-A", "-l", MARK)
        if stale := [json.dumps(item) for item in found if identity(item) not in wanted]:
            self._remove("-f", "-", stdin="\n---\n".join(stale))

    def _remove(self, *words: str, stdin: str | None = None) -> None:
        """Delete; a tier in use is refused, and for a moment policies count that were deleted just before it."""
        delete = ("delete", "--ignore-not-found", *words)
        self.cluster.wait_for(
            "policies and tiers to go", lambda: self.cluster.kubectl(*delete, stdin=stdin) or True, timeout=30
        )

    # --- what is so ---------------------------------------------------------------------------------------------------

    def probes(self) -> list[Probe]:
        """Every connection that has a pod at one end at least."""
        every = [
            probe
            for source, target in itertools.product(self.members.values(), repeat=2)
            if source.key or target.key
            for probe in target.probes_from(source)
        ]
        return every if self.wide else [probe for probe in every if not _is_rare(probe)]

    def read(self) -> policy.Cluster:
        """What policy depends on, as the API server has it."""
        kinds = ",".join([*SURROUNDINGS, *self._resources()])
        return cluster_of(json.loads(self.cluster.kubectl("get", kinds, "-A", "-o", "json"))["items"])

    def table(self, share: float = 1, names: Collection[str] = ()) -> dict[Probe, bool]:
        """This share of all probes, another one each time, and all of these names; and whether the API says that each
        is allowed. What is not tried is not judged, for the reference is slow."""
        every = self.probes()
        kept = self._chance.sample(every, int(len(every) * min(share, 1)))
        objects, named = self.read(), [probe for probe in every if str(probe) in names]
        return {probe: self.allowed(objects, probe) for probe in dict.fromkeys([*named, *kept])}

    def allowed(self, objects: policy.Cluster, probe: Probe) -> bool:
        """Whether the API says so."""
        return all(end.allowed for end in self.verdicts(objects, probe))

    def verdicts(self, objects: policy.Cluster, probe: Probe) -> list[policy.Verdict]:
        """What the API says at each end that is a pod, the source first."""
        source, target = self.members[probe.source], self.members[probe.target]
        own = source.address6 if probe.version == 6 else source.address
        icmp = probe.protocol.startswith("ICMP")
        packet: dict[str, Any] = {"source_port": LOW if probe.low else HIGH}
        packet |= {"icmp_type": probe.port, "icmp_code": probe.code} if icmp else {}
        port, protocol, found = 0 if icmp else probe.port, probe.protocol, []
        if source.key:
            found.append(verdict(objects, source.key, probe.address, port, protocol, "Egress", **packet))
        if target.key:
            found.append(verdict(objects, target.key, own, port, protocol, "Ingress", **packet))
        return found

    def settle(
        self, allows: str = "", denies: str = "", *, timeout: float = 90, families: str = "46", share: float = 1
    ) -> None:
        """Probe everything, or a share of it, until packets agree with the API. `allows`, `denies`: some of what the
        API says, by hand, of these families.

        AssertionError names what differs after ``timeout`` seconds.
        """
        claims = _claims(self.probes(), allows, denies, families)
        table = self.table(share, claims)
        self.hold(table, claims)
        self.agree(table, timeout=timeout)

    def hold(self, table: Mapping[Probe, bool], claims: Mapping[str, bool]) -> None:
        """Hold the API's word, as `verdict` reads it, to what somebody wrote by hand of probes by their names, as far
        as pods have that family."""
        by_name = {str(probe): allowed for probe, allowed in table.items()}
        known = {name: allowed for name, allowed in claims.items() if _version(name) in self.cluster.settings.families}
        wrong = {name: by_name.get(name) for name, allowed in known.items() if by_name.get(name) != allowed}
        assert not wrong, f"the reference says otherwise (None: there is no such probe): {wrong}"

    def agree(self, table: Mapping[Probe, bool], *, timeout: float = 90) -> None:
        """Probe until exactly those that are allowed answer; AssertionError as `settle`."""
        table = _one_way(table)
        expected = [probe for probe, allowed in table.items() if allowed]
        end = time.monotonic() + timeout
        while True:
            self._forget_connections(table)
            seen = self.prober.round(list(table), expected)
            self.rounds += 1
            wrong = {p: o for p, o in seen.items() if o != ("answered" if table[p] else "silent")}
            if not wrong:
                return
            assert time.monotonic() < end, f"after {timeout:.0f} s packets differ from the API's word:\n{_say(wrong)}"

    def _forget_connections(self, probes: Iterable[Probe]) -> None:
        """A protocol without ports has one connection between two addresses, which stays established for ten minutes:
        nodes forget it before it is asked again."""
        if any(probe.protocol == "253" for probe in probes):
            for node, family in itertools.product(self.cluster.nodes, ("ipv4", "ipv6")):
                with contextlib.suppress(LabError):  # there was none
                    self.cluster.node_exec(node, "conntrack", "-D", "-p", "253", "-f", family)


def _one_way(table: Mapping[Probe, bool]) -> Mapping[Probe, bool]:
    """Without questions that answer another one's: over a protocol without ports there is one connection between two
    addresses, whoever begins it."""
    found: dict[Probe, bool] = {}
    seen = set()
    for probe, allowed in table.items():
        if probe.protocol != "253" or (probe.target, probe.source, probe.version) not in seen:
            found[probe] = allowed
            seen.add((probe.source, probe.target, probe.version) if probe.protocol == "253" else None)
    return found


def _is_rare(probe: Probe) -> bool:
    return probe.low or bool(probe.code) or probe.protocol in ("UDPLite", "253") or probe.port == TIMESTAMP


def _families(addresses: Iterable[str]) -> tuple[str, str]:
    """The IPv4 address and the IPv6 address, empty where there is none."""
    found = list(addresses)
    return next((a for a in found if ":" not in a), ""), next((a for a in found if ":" in a), "")


def _namespace(name: str) -> dict[str, Any]:
    labels = {"ns": name, MARK: "yes"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PREFIX + name, "labels": labels}}


def _account(ns: str, name: str) -> dict[str, Any]:
    metadata = {"namespace": PREFIX + ns, "name": name, "labels": {"account": name}}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def pod(ns: str, name: str, node: str, **labels: str) -> dict[str, Any]:
    """A pod of the world. It names its ports; ``web`` is another number on the pods named c, ``data`` on those named a.
    Its servers are one container: two would double what there is to start. Pods a, b and c have service accounts of
    their names."""
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
    account = {"serviceAccountName": name, "automountServiceAccountToken": False} if name in NAMES else {}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container], **account}
    metadata = {"namespace": PREFIX + ns, "name": name, "labels": {"pod": name, MARK: "yes", **labels}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _server(port: int) -> str:
    return " ".join(["/agnhost", *SERVERS[port]])


def _claims(table: Iterable[Probe], allows: str, denies: str, families: str) -> dict[str, bool]:
    """What somebody wrote by hand, ``x/a>y/b:80/UDP`` separated by blanks, of probes by their names."""
    by_hand = {**dict.fromkeys(_each(allows), True), **dict.fromkeys(_each(denies), False)}
    known = {str(probe) for probe in table}
    over_six = {f"{name}/6": allowed for name, allowed in by_hand.items() if "6" in families and f"{name}/6" in known}
    return {**(by_hand if "4" in families else {}), **over_six}


def _version(name: str) -> int:
    return 6 if name.endswith("/6") or "ICMPv6" in name else 4


def _each(text: str) -> list[str]:
    return [word if "/" in word.rpartition(":")[2] else f"{word}/TCP" for word in text.split()]


def _say(wrong: Mapping[Probe, Outcome]) -> str:
    """What is wrong, for people: each pair of ends once."""
    pairs = Counter((probe.source, probe.target, outcome) for probe, outcome in wrong.items())
    lines = [f"{source}>{target}: {count} wrongly {outcome}" for (source, target, outcome), count in pairs.items()]
    return "\n".join([f"{len(wrong)} probes, such as {next(iter(wrong))}", *lines[:40]])
