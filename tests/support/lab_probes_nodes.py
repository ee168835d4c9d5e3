"""What nodes' kernels have while things are killed or altered by hand: routes as they go, a pod as it leaves, and
Manx's rules, sets and routes as a person at the node could spoil them.

Owns: reading kernels by the tools that a person would use. It must not read anything of Manx's own but the names that
its chains and sets have.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_probes_world import NAMESPACE, PATIENCE, World, processes

ROUTE_PROTOCOL = "77"
_NOBODYS = ("192.0.2.0/24", "2001:db8:77::/64")


# --- routes -------------------------------------------------------------------------------------------------------


class RouteMonitor:
    """What ``ip monitor route`` says on every node while the ``with`` block runs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._processes: list[subprocess.Popen[str]] = []
        self.lines: list[str] = []

    def __enter__(self) -> RouteMonitor:
        for node in self._world.cluster.nodes:
            process = self._world.cluster.machines.popen(node, ["ip", "monitor", "route"])
            self._processes.append(process)
            threading.Thread(target=self._read, args=(node, process), daemon=True).start()
        self._world.cluster.wait_for("the monitors to work", self._works, timeout=PATIENCE)
        return self

    def _works(self) -> bool:
        """Whether each has seen a route of Manx's kind come and go: one made for that."""
        for node in self._world.cluster.nodes:
            for net in _NOBODYS:
                route = f"{net} dev lo proto {ROUTE_PROTOCOL}"
                self._world.cluster.node_exec(
                    node, "sh", "-c", f"ip route replace {route}; ip route del {route} || true"
                )
        seen = {(line.split(":")[0], net) for line in self._withdrawn() for net in _NOBODYS if net in line}
        return seen == {(node, net) for node in self._world.cluster.nodes for net in _NOBODYS}

    def _read(self, node: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(f"{node}: {line.strip()}")

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _withdrawn(self) -> list[str]:
        return [line for line in self.lines if "Deleted" in line and f"proto {ROUTE_PROTOCOL}" in line]

    def withdrawn(self) -> list[str]:
        """Routes to this world's pods that left a kernel."""
        return [line for line in self._withdrawn() if _leads_to_pods(self._world, line)]


def kernel_routes(world: World) -> dict[str, list[str]]:
    """Manx's routes to this world's pods on every node."""
    shows = [("ip", family, "route", "show", "proto", ROUTE_PROTOCOL) for family in ("-4", "-6")]
    return {
        node: sorted(
            line
            for show in shows
            for line in world.cluster.node_exec(node, *show).splitlines()
            if _leads_to_pods(world, line)
        )
        for node in world.cluster.nodes
    }


def _leads_to_pods(world: World, line: str) -> bool:
    """Other blocks come and go for reasons of their own."""
    found = re.search(r"[0-9a-f:.]+[:.][0-9a-f:.]*/\d+", line)
    pods = [ipaddress.ip_address(one) for place in world.places.values() for one in (place.address, place.address6)]
    return found is not None and any(pod in ipaddress.ip_network(found[0]) for pod in pods)


def whole_mesh(world: World) -> bool:
    """Every node has established connections on port 179 with every other, by its kernel, and says so."""
    reports, others = world.reports(), (len(world.cluster.nodes) - 1) * len(world.cluster.settings.families)
    question = ["ss", "-Htn", "state", "established", "( sport = :179 or dport = :179 )"]
    return all(
        reports[node].get("peersSummary") == f"{others}/{others}"
        and len(world.cluster.node_exec(node, *question).splitlines()) == others
        for node in world.cluster.nodes
    )


# --- a pod that leaves --------------------------------------------------------------------------------------------


class Leaving:
    """A pod that takes `grace` seconds to end, and what its node's kernel has of it."""

    _SCRIPT = "trap 'echo > /tmp/asked' TERM; while :; do /bin/busybox sleep 0.1; done"

    def __init__(self, world: World, node: str, grace: int) -> None:
        self._cluster, self._node = world.cluster, node
        command = {"command": ["/bin/sh", "-c", self._SCRIPT]}
        world.cluster.run_pod(
            "leaving", node=node, namespace=NAMESPACE, container=command, terminationGracePeriodSeconds=grace
        )
        place = world.place("leaving")
        self.address = place.address
        os.close(place.namespace)
        self._root = Path(f"/proc/{processes(world.uid('leaving'), '/tmp/asked')[0]}/root")
        self.interface = self._on_node("ip", "-o", "route", "get", place.address).split(" dev ")[1].split()[0]
        self.container = world.cluster.wait_for("its allocation to be known", self._container_id, timeout=PATIENCE)

    def _on_node(self, *words: str, stdin: str | None = None) -> str:
        return self._cluster.node_exec(self._node, *words, stdin=stdin)

    def _allocations(self) -> list[dict[str, Any]]:
        blocks = self._cluster.kubectl.items("ipamblocks.manx.dev")
        return [given for block in blocks for given in block.get("status", {}).get("allocations", [])]

    def _container_id(self) -> str:
        """Empty while its address is only reserved."""
        mine = (given.get("containerID", "") for given in self._allocations() if given["name"] == "leaving")
        return str(next(mine, ""))

    def was_asked(self) -> bool:
        """Whether the kubelet has sent SIGTERM."""
        return (self._root / "tmp/asked").exists()

    def is_there(self) -> bool:
        return self.interface in self._on_node("ip", "-o", "link")

    def in_sets(self) -> bool:
        return bool(re.search(rf"\b{re.escape(self.address)}\b", self._on_node("ipset", "save")))

    def delete_by_hand(self) -> str:
        """What a runtime would do once more: DEL of the same sandbox. Returns the executable's output."""
        listed = json.loads(self._on_node("sh", "-c", "cat $(ls /etc/cni/net.d/*.conflist | head -1)"))
        plugin = next(plugin for plugin in listed["plugins"] if plugin["type"] == "manx")
        config = json.dumps({**plugin, "name": listed["name"], "cniVersion": listed["cniVersion"]})
        environment = {
            "CNI_COMMAND": "DEL",
            "CNI_CONTAINERID": self.container,
            "CNI_NETNS": "",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
            "CNI_ARGS": f"K8S_POD_NAMESPACE={NAMESPACE};K8S_POD_NAME=leaving",
        }
        words = [f"{name}={value}" for name, value in environment.items()]
        return self._on_node("env", *words, "/opt/cni/bin/manx", stdin=config)

    def is_gone(self) -> bool:
        """Whether the pod's object is no more."""
        names = self._cluster.kubectl("-n", NAMESPACE, "get", "pods", "-o", "name").split()
        return "pod/leaving" not in names

    def is_allocated(self) -> bool:
        return any(given.get("containerID") == self.container for given in self._allocations())


# --- alterations by hand ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Names:
    """What there is to alter on the node of the web pod."""

    iptables: str
    chain: str
    """Of the ingress of web's class."""
    group: str
    """The set of web's friends."""
    friend: str
    route: str
    """A prefix that BGP brought."""
    pod: str


@dataclass(frozen=True)
class Alteration:
    """Something done by hand, as shell text, and a word that the report about it must have."""

    what: str
    text: Callable[[Names], str]
    word: Callable[[Names], str]


ALTERATIONS = (
    Alteration("a rule deleted", lambda n: f"{n.iptables} -D {n.chain} 1", lambda n: n.chain),
    Alteration("a rule inserted", lambda n: f"{n.iptables} -I manx-in 1 -j ACCEPT", lambda n: "manx-in"),
    Alteration("a chain flushed", lambda n: f"{n.iptables} -F {n.chain}", lambda n: n.chain),
    Alteration(
        "a jump deleted",
        lambda n: f"{n.iptables} -S FORWARD | grep manx-forward | sed 's/^-A/-D/' | xargs {n.iptables}",
        lambda n: "FORWARD",
    ),
    Alteration("a member removed", lambda n: f"ipset del {n.group} {n.friend}", lambda n: n.group),
    Alteration("a member added", lambda n: f"ipset add {n.group} 192.0.2.9", lambda n: n.group),
    Alteration("a route removed", lambda n: f"ip route del {n.route} proto {ROUTE_PROTOCOL}", lambda n: n.route),
    Alteration("a pod's route removed", lambda n: f"ip route del {n.pod}", lambda n: n.pod),
)


class Kernel:
    """What is Manx's in the kernel of web's node."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.node = world.nodes["web"]
        self._iptables = f"iptables-{world.reports()[self.node]['backend']}"

    def run(self, text: str) -> str:
        return self._world.cluster.node_exec(self.node, "sh", "-ec", text)

    def names(self) -> Names:
        """LabError or IndexError where web's policy is not in force."""
        rules = self.run(f"{self._iptables} -S")
        chain = re.findall(r"^-N (manx-ci-\S+)", rules, re.MULTILINE)[0]
        group = re.findall(r"^-A manx-pi-.* --match-set (\S+) src .*--dports 8080", rules, re.MULTILINE)[0]
        route = re.findall(r"^(\S+) via", self.run(f"ip -4 route show proto {ROUTE_PROTOCOL}"), re.MULTILINE)[0]
        friend, web = (self._world.places[name].address for name in ("friend", "web"))
        return Names(self._iptables, chain, group, friend, route, web)

    def state(self) -> list[str]:
        """Rules in order, members and routes sorted."""
        tables = " ; ".join(f"{self._iptables} -t {table} -S | grep manx" for table in ("raw", "filter", "nat"))
        members = self.run("ipset save | grep '^add manx-' | sort")
        routes = self.run("ip -4 route show | grep -E 'proto 77|dev mnx' | sort")
        return [*self.run(tables).splitlines(), *members.splitlines(), *routes.splitlines()]

    def drift(self) -> tuple[int, str]:
        """How often the node's agent found something altered, and what it found last, by its report."""
        drift = self._world.reports()[self.node].get("drift", {})
        return int(drift.get("count", 0)), str(drift.get("last", ""))
