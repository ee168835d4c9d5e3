"""Owns the BGP mesh of a running cluster as tests see it: the kernels' sockets and routes, the nodes' reports, and what
they should be.

It must not believe a report alone: a mesh counts as whole only once the kernels have the sessions' sockets and exactly
the routes that follow from the blocks. What is expected is read off Nodes and IPAMBlocks, never off a MeshNode.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.cluster import Cluster
from manx_core.api.v1alpha1 import ROUTE_PROTOCOL

DEFAULT_AS = 64512
PATIENCE = 120.0
"""Seconds until a test gives up on a change of the mesh; far more than anything needs but the hold time."""

Route = tuple[str, str]
"""Prefix and gateway."""
Ports = frozenset[tuple[str, str]]
"""Local and remote port of each established connection between two addresses, seen from the first."""


@dataclass
class LabMesh:
    """The nodes' sessions and routes. `moved`: addresses of nodes that are not the machine's own."""

    cluster: Cluster
    moved: dict[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> list[str]:
        return self.cluster.nodes

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions of the mesh: it has a session of each between every two nodes."""
        return self.cluster.settings.families

    def address(self, node: str, version: int = 4) -> str:
        """The address by which others should reach a node."""
        member = self.cluster.settings.member(node)
        return member.address6 if version == 6 else self.moved.get(node) or member.address

    def addresses(self, nodes: Iterable[str]) -> set[str]:
        """Of each of these nodes, of each family."""
        return {self.address(node, version) for node in nodes for version in self.versions}

    # --- what kernels have --------------------------------------------------------------------------------------------

    def connections(self, node: str) -> dict[str, Ports]:
        """By peer's address, the established BGP connections in a node's kernel."""
        words = ("ss", "-Htn", "state", "established", "( sport = :179 or dport = :179 )")
        found: dict[str, set[tuple[str, str]]] = {}
        for line in self.cluster.node_exec(node, *words).splitlines():
            local, remote = line.split()[2:4]
            address, port = remote.rsplit(":", 1)
            found.setdefault(address.strip("[]"), set()).add((local.rsplit(":", 1)[1], port))
        return {address: frozenset(ports) for address, ports in found.items()}

    def session(self, node: str, other: str, version: int = 4) -> Ports:
        """Ports of the connection between two nodes."""
        return self.connections(node).get(self.address(other, version), frozenset())

    def sessions(self, node: str, other: str) -> tuple[Ports, ...]:
        """The same of each family."""
        return tuple(self.session(node, other, version) for version in self.versions)

    def routes(self, node: str) -> set[Route]:
        """Manx's routes by way of others in a node's kernel, of both families."""
        words = ("route", "show", "proto", str(ROUTE_PROTOCOL))
        both = (self.cluster.node_exec(node, "ip", family, *words) for family in ("-4", "-6"))
        return {route for text in both for route in re.findall(r"^(\S+) via (\S+)", text, re.MULTILINE)}

    # --- what should be -----------------------------------------------------------------------------------------------

    def routes_to(self, node: str) -> set[Route]:
        """What others should have of a node: its blocks, by way of its address of the same family."""
        blocks = (block["spec"] for block in self.cluster.kubectl.items("ipamblocks.manx.dev"))
        cidrs = [block["cidr"] for block in blocks if block["node"] == node]
        return {(cidr, self.address(node, 6 if ":" in cidr else 4)) for cidr in cidrs}

    def wanted_routes(self, node: str) -> set[Route]:
        return {route for other in self.nodes if other != node for route in self.routes_to(other)}

    # --- what is reported ---------------------------------------------------------------------------------------------

    def reports(self) -> dict[str, dict[str, Any]]:
        """Each node's NodeReport, its status."""
        return {r["metadata"]["name"]: r.get("status", {}) for r in self.cluster.kubectl.items("nodereports.manx.dev")}

    def summary(self) -> dict[str, str]:
        """The column of peers that `kubectl get nodereports` prints."""
        head, *lines = self.cluster.kubectl("get", "nodereports").splitlines()
        at = head.split().index("PEERS")
        return {line.split()[0]: line.split()[at] for line in lines}

    def condition(self, node: str, kind: str = "BGP") -> tuple[str, str]:
        """Status and message of a condition of a node's report."""
        return _condition(self.reports()[node].get("conditions", []), kind)

    def installation(self, kind: str = "BGPReady") -> tuple[str, str]:
        """Status and message of a condition of the Installation."""
        status = self.cluster.kubectl.json("get", "installation", "default").get("status", {})
        return _condition(status.get("conditions", []), kind)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def whole(self, as_numbers: Mapping[str, int] | None = None) -> bool:
        """Whether every node has a session of each family with every other, speaks the AS number given (64512 where
        none is), says so, and has the others' blocks in its kernel, nothing else."""
        numbers = dict.fromkeys(self.nodes, DEFAULT_AS) | dict(as_numbers or {})
        return self._told(numbers) and all(self._holds(node) for node in self.nodes)

    def _told(self, numbers: Mapping[str, int]) -> bool:
        reports = self.reports()
        for node, number in numbers.items():
            wanted = {
                (other, self.address(other, version), numbers[other], number, "Established")
                for other in numbers
                for version in self.versions
                if other != node
            }
            peers = reports.get(node, {}).get("peers", [])
            if {(p["name"], p["address"], p["asNumber"], p["localAsNumber"], p["state"]) for p in peers} != wanted:
                return False
        return True

    def _holds(self, node: str) -> bool:
        others = self.addresses(other for other in self.nodes if other != node)
        held = self.connections(node)
        one_each = set(held) == others and all(len(ports) == 1 for ports in held.values())
        return one_each and self.routes(node) == self.wanted_routes(node)

    def wait_whole(self, as_numbers: Mapping[str, int] | None = None) -> None:
        """Wait for `whole`."""
        what = f"a whole mesh with AS numbers {dict(as_numbers or {}) or DEFAULT_AS}"
        self.cluster.wait_for(what, lambda: self.whole(as_numbers), timeout=PATIENCE, every=0.5)

    def as_numbers(self, special: Mapping[str, int] | None = None, default: int = DEFAULT_AS) -> dict[Route, int]:
        """The AS number that the OPEN from each node's address to each other's should carry."""
        numbers = dict.fromkeys(self.nodes, default) | dict(special or {})
        return {
            (self.address(a, version), self.address(b, version)): numbers[a]
            for a, b in itertools.permutations(self.nodes, 2)
            for version in self.versions
        }

    # --- changing -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def annotated(self, node: str, annotation: str, value: str) -> Iterator[None]:
        """A node with an annotation while the block runs."""
        self.cluster.kubectl("annotate", "node", node, f"{annotation}={value}")
        try:
            yield
        finally:
            self.cluster.kubectl("annotate", "node", node, f"{annotation}-")

    def configure(self, **spec: Any) -> None:
        """Apply the BGPConfiguration named default."""
        kind = {"apiVersion": "projectcalico.org/v3", "kind": "BGPConfiguration", "metadata": {"name": "default"}}
        self.cluster.apply({**kind, "spec": spec})

    def reset(self) -> None:
        """Delete what the tests may have configured, and wait for the mesh that a new cluster has."""
        self.cluster.delete("bgpconfigurations.projectcalico.org", "--all")
        self.cluster.delete("bgppeers.projectcalico.org", "--all")
        self.wait_whole()


@contextlib.contextmanager
def cut(mesh: LabMesh, one: str, other: str) -> Iterator[None]:
    """TCP port 179 between two nodes dropped at both, of both families, while the block runs."""
    rules = [
        (node, program, ("INPUT", "-p", "tcp", "-s", mesh.address(peer, version), end, "179", "-j", "DROP"))
        for node, peer in ((one, other), (other, one))
        for version, program in ((4, "iptables"), (6, "ip6tables"))
        for end in ("--dport", "--sport")
    ]
    with contextlib.ExitStack() as stack:
        for node, program, rule in rules:
            mesh.cluster.node_exec(node, program, "-w", "-I", *rule)
            stack.callback(mesh.cluster.node_exec, node, program, "-w", "-D", *rule)
        yield


def _condition(conditions: list[dict[str, Any]], kind: str) -> tuple[str, str]:
    found = next((each for each in conditions if each["type"] == kind), {})
    return found.get("status", ""), found.get("message", "")
