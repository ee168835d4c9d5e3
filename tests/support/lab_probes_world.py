"""A small world to kill things in: a web pod, who may reach it, who may not, and the processes of Manx around them.

Owns: pods and policies of one Kubernetes namespace, `under_fire` (what must hold whatever is killed), `flip` (what
must come true afterwards), and finding the processes to kill. It must not decide what is killed.

    friend   reaches web, from another node      foe-near, foe-far  no policy lets them in, same and other node
    guest    may or may not, by its label        caged              would be let in, but its own egress policy forbids
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.cluster import Cluster
from lab.run import LabError
from lab_policy_netns import namespace_of, pid_in_pod
from lab_probes import PORTS_EACH, TCP_PORT, UDP_PORT, Detector, Flood, Place, Requests, reaches

NAMESPACE = "manx-kills"
SYSTEM = "manx-system"
AGENT, SPEAKER, OPERATOR = "\0manx_agent\0", "\0manx_agent.bgp.server\0", "\0manx_operator\0"
"""What the processes' command lines have in them, words ended by NUL."""
FORBIDDEN = ("foe-near", "foe-far", "caged")
RATE_EACH = 600
RATE_AT_LEAST = 1000
PATIENCE = 120.0
"""Seconds in which what was asked for must have come true, whatever was killed before: a new leader (15 s), a container
that kubelet starts again (up to 20 s), all on a machine that does much else."""

POD_LABELS = {
    "web": {"app": "web"},
    "friend": {"role": "friend"},
    "guest": {"role": "guest"},
    "foe-near": {"role": "foe"},
    "foe-far": {"role": "foe"},
    "caged": {"role": "friend", "caged": "yes"},
}
NODE_INDEX = {"web": 0, "friend": 1, "guest": 2, "foe-near": 0, "foe-far": 2, "caged": 1}


def policy(name: str, selects: dict[str, str], **spec: Any) -> dict[str, Any]:
    """A NetworkPolicy of this world."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"podSelector": {"matchLabels": selects}, **spec},
    }


WEB_PORTS = [{"protocol": "TCP", "port": TCP_PORT}, {"protocol": "UDP", "port": UDP_PORT}]
FRIENDS = [{"podSelector": {"matchLabels": {"role": "friend"}}}]
POLICIES = (
    policy("web", {"app": "web"}, policyTypes=["Ingress"], ingress=[{"from": FRIENDS, "ports": WEB_PORTS}]),
    policy("caged", {"caged": "yes"}, policyTypes=["Egress"], egress=[]),
)


@dataclass(frozen=True)
class Leader:
    """Who holds the operator's Lease: the candidate, its pod, and its process as this machine's root sees it."""

    identity: str
    pod: str
    pid: int


@dataclass
class Fire:
    """What was sent, seen and answered in one spell."""

    floods: dict[str, Flood]
    detector: Detector
    kept: Requests
    fresh: Requests
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        return sum(flood.sent for flood in self.floods.values())

    @property
    def rate(self) -> float:
        """Forbidden probes a second, of all sources."""
        return sum(flood.rate for flood in self.floods.values())

    def __str__(self) -> str:
        return (
            f"{self.sent} probes in {self.seconds:.0f} s ({self.rate:.0f}/s), "
            f"{sum(self.detector.seen.values())} passed; "
            f"{len(self.kept.answered)} requests by one connection (longest gap {self.kept.longest_gap():.2f} s), "
            f"{len(self.fresh.answered)} by new ones ({self.fresh.longest_gap():.2f} s)"
        )

    def check(self) -> None:
        """What must hold, whatever was killed meanwhile."""
        assert not self.detector.seen, f"forbidden packets reached web: {dict(self.detector.seen)}; {self}"
        assert not self.detector.lost
        assert self.rate >= RATE_AT_LEAST, f"too few probes to say anything: {self}"
        assert all(flood.sent and not flood.refused for flood in self.floods.values())
        assert not self.kept.failed, f"an allowed connection broke: {self.kept.failed}; {self}"
        assert not self.fresh.failed, f"allowed connections were not opened: {self.fresh.failed[:5]}; {self}"
        assert self.kept.answered
        assert self.fresh.answered


@dataclass
class World:
    """See the module. All waiting is by polling, and names what it waits for."""

    cluster: Cluster
    places: dict[str, Place] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    guest_is_friend: bool = False
    _first_ports: Iterator[int] = field(default_factory=lambda: itertools.count(10000, PORTS_EACH))

    # --- making and ending it ---------------------------------------------------------------------------------------

    def build(self) -> None:
        """Namespace, policies, pods."""
        self.cluster.delete("namespace", NAMESPACE)
        self.cluster.kubectl("create", "namespace", NAMESPACE)
        self.cluster.apply(*POLICIES)
        names = self.cluster.nodes
        for pod, labels in POD_LABELS.items():
            args = ["netexec", f"--http-port={TCP_PORT}", f"--udp-port={UDP_PORT}"] if pod == "web" else []
            self.nodes[pod] = names[NODE_INDEX[pod] % len(names)]
            self.cluster.run_pod(pod, *args, node=self.nodes[pod], namespace=NAMESPACE, labels=labels)
        for pod in POD_LABELS:
            self.places[pod] = self.place(pod)

    def place(self, pod: str) -> Place:
        """A pod of this world, once it is Ready."""
        address = self.cluster.wait_pod(pod, namespace=NAMESPACE, timeout=PATIENCE)
        pid = pid_in_pod(self.uid(pod))
        assert pid is not None, f"{pod} is Ready, but has no process"
        found = self.cluster.kubectl.json("-n", NAMESPACE, "get", "pod", pod)["status"]["podIPs"]
        return Place(pod, address, namespace_of(pid), next(one["ip"] for one in found if ":" in one["ip"]))

    def uid(self, pod: str, namespace: str = NAMESPACE) -> str:
        return str(self.cluster.kubectl.json("-n", namespace, "get", "pod", pod)["metadata"]["uid"])

    def end(self) -> None:
        for place in self.places.values():
            os.close(place.namespace)
        self.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")

    # --- what must hold, and what must come true --------------------------------------------------------------------

    @contextmanager
    def under_fire(self) -> Iterator[Fire]:
        """Forbidden probes and allowed requests; checked at the end of the block."""
        web, began = self.places["web"], time.monotonic()
        with self.fire() as fire:
            self.cluster.wait_for("the first answers and probes", lambda: self._has_begun(fire), timeout=30)
            yield fire
        fire.seconds = time.monotonic() - began
        print(f"\n{web.name}: {fire}")
        fire.check()

    @contextmanager
    def fire(self) -> Iterator[Fire]:
        """The same, without a check. Every spell has source ports of its own, so that no flow of an earlier one, which
        may have been allowed, makes a probe part of an established connection."""
        web, first = self.places["web"], next(self._first_ports)
        assert first + PORTS_EACH <= 65536, "no source ports are left for another spell"
        forbidden = [self.places[name] for name in FORBIDDEN]
        floods = {place.name: Flood(place, web, rate=RATE_EACH, first_port=first) for place in forbidden}
        kept, fresh = (Requests(self.places["friend"], web, keep=keep) for keep in (True, False))
        fire = Fire(floods, Detector(web, forbidden), kept, fresh)
        with ExitStack() as stack:
            stack.enter_context(fire.detector)
            for witness in (kept, fresh):
                stack.enter_context(witness)
            for flood in floods.values():
                stack.enter_context(flood)
            yield fire

    @staticmethod
    def _has_begun(fire: Fire) -> bool:
        return bool(fire.kept.answered and fire.fresh.answered) and all(f.sent > 100 for f in fire.floods.values())

    def label(self, pod: str, *labels: str) -> None:
        """``kubectl label``, again and again while the API server is away."""

        def done() -> bool:
            return bool(self.cluster.kubectl("-n", NAMESPACE, "label", "--overwrite", "pod", pod, *labels))

        self.cluster.wait_for(f"{pod} to be labelled", done, timeout=PATIENCE)

    def flip(self) -> None:
        """Ask that the guest may reach web if it may not, and the other way round; and wait until it is so."""
        self.ask_flip()
        self.await_flip()

    def ask_flip(self) -> None:
        """The first half of `flip`."""
        self.guest_is_friend = not self.guest_is_friend
        self.label("guest", f"role={'friend' if self.guest_is_friend else 'guest'}")

    def await_flip(self) -> None:
        """The second half of `flip`."""
        guest, web, wanted = self.places["guest"], self.places["web"], self.guest_is_friend
        said = f"the guest, now {'a friend' if wanted else 'a stranger'}, {'' if wanted else 'not '}to reach web"
        self.cluster.wait_for(said, lambda: reaches(guest, web) == wanted, timeout=PATIENCE)

    # --- whom to kill -----------------------------------------------------------------------------------------------

    def leader(self) -> Leader:
        """Raises LabError where nobody leads, or the one that does has no process any more."""
        lease = self.cluster.kubectl.json("-n", SYSTEM, "get", "lease", "manx-operator")["spec"]
        identity = str(lease.get("holderIdentity") or "")
        pod = identity.rpartition("_")[0]
        if not pod:
            raise LabError("nobody holds the Lease")
        return Leader(identity, pod, self.process(pod, OPERATOR))

    def process(self, pod: str, word: str) -> int:
        """Pid of the process of a pod of Manx's whose command line has this word."""
        found = processes(self.uid(pod, SYSTEM), word)
        if len(found) != 1:
            raise LabError(f"{pod} has {len(found)} processes {word!r}")
        return found[0]

    def new_leader(self, after: Leader) -> Leader:
        """Wait until somebody else leads."""

        def other() -> Leader | None:
            now = self.leader()
            return now if now.identity != after.identity else None

        return self.cluster.wait_for(f"another leader than {after.identity}", other, timeout=PATIENCE)

    def agents(self) -> dict[str, str]:
        """The agent's pod on each node."""
        pods = self.cluster.kubectl.items("pods", "-n", SYSTEM, "-l", "k8s-app=manx-node")
        return {pod["spec"]["nodeName"]: pod["metadata"]["name"] for pod in pods}

    def reports(self) -> dict[str, dict[str, Any]]:
        """Each node's NodeReport, its status."""
        return {r["metadata"]["name"]: r.get("status", {}) for r in self.cluster.kubectl.items("nodereports.manx.dev")}


def processes(uid: str, word: str) -> list[int]:
    """Processes of a pod whose command line has a word, as this machine's root sees them."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"pod{uid}" in (path / "cgroup").read_text() and word in (path / "cmdline").read_text():
                found.append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
