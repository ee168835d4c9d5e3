"""Owns the show: that Manx works, seen with real packets, step by step, in what a person could type.

It must not believe a status alone: sessions are compared with the kernel's sockets, AS numbers with captured OPEN
messages, and policy with connections that open or do not.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from typing import Any

from lab.install import ready_nodes
from lab.machines import HERE, Machines
from lab.run import LabError, wait_for
from lab.stream import OpenCapture, RequestStream
from lab.transcript import Transcript

EXAMPLES = HERE / "examples"
NAMESPACE = "show"
FAMILIES = ("-4", "-6")
ROUTE_PROTOCOL = "77"  # Manx's own, in every route that it puts into a kernel
NEW_AS, DEFAULT_AS = 63400, 64512
GAP_AT_MOST = 5.0
FAR_CLIENT = "client-a"


def show(machines: Machines) -> None:
    """All steps; LabError at the first that is not so."""
    script = Transcript(machines)
    prepare(script)
    show_nodes(script)
    show_sessions(script)
    show_routes(script)
    show_policy(script)
    show_as_number(script)
    script.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def prepare(script: Transcript) -> None:
    """Pods on every node before anything is looked at, and the AS number that a new cluster has."""
    names = script.settings.node_names
    text = (EXAMPLES / "web.yaml").read_text()
    for index in range(3):
        text = text.replace(f"NODE{index}", names[index % len(names)])
    script.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=120)
    script.kubectl("delete", "bgpconfigurations.projectcalico.org", "default", "--ignore-not-found")
    script.kubectl("apply", "-f", "-", stdin=text)


def show_nodes(script: Transcript) -> None:
    """Nodes are Ready."""
    script.step("Every node is Ready")
    script.typed("get", "nodes", "-o", "wide")
    ready = ready_nodes(script.kubectl)
    script.check(len(ready) == script.settings.nodes and all(ready.values()), f"{len(ready)} nodes are Ready")


def show_sessions(script: Transcript) -> None:
    """BGP sessions, as reported and as sockets."""
    script.step("A BGP session between every two nodes")
    wait_mesh(script, DEFAULT_AS)
    script.typed("get", "nodereports")
    print_sessions(script)
    others = (script.settings.nodes - 1) * len(script.settings.families)
    for node in script.settings.node_names:
        count = len(established(script, node))
        script.check(count == others, f"{node}'s kernel has {count} established connections on TCP port 179")


def wait_mesh(script: Transcript, as_number: int) -> None:
    """Wait until every node reports a session of each family with every other, all in one AS."""
    wanted = (script.settings.nodes - 1) * len(script.settings.families)

    def whole() -> bool:
        return all(
            len(peers) == wanted
            and all(p["state"] == "Established" and p["asNumber"] == p["localAsNumber"] == as_number for p in peers)
            for peers in sessions(script).values()
        )

    wait_for(f"a whole mesh in AS {as_number}", whole, timeout=90, every=0.5)


def sessions(script: Transcript) -> dict[str, list[dict[str, Any]]]:
    """Each node's mesh peers as its NodeReport has them; LabError while a node has no report."""
    reports = {r["metadata"]["name"]: r.get("status", {}) for r in script.kubectl.items("nodereports.manx.dev")}
    if missing := set(script.settings.node_names) - set(reports):
        raise LabError(f"no NodeReport of {', '.join(sorted(missing))}")
    mesh = {"source": "Mesh"}
    return {
        name: [{**mesh, **peer} for peer in reports[name].get("peers", []) if peer.get("source", "Mesh") == "Mesh"]
        for name in script.settings.node_names
    }


def print_sessions(script: Transcript) -> None:
    """Who with whom, AS, state, prefixes."""
    print(f"     {'node':10} {'peer':10} {'address':18} {'AS':>10} {'local AS':>10}  {'state':12} prefixes")
    for node, peers in sessions(script).items():
        for p in sorted(peers, key=lambda peer: str(peer["name"])):
            who = f"{node:10} {p['name']:10} {p['address']:18} {p['asNumber']:>10} {p['localAsNumber']:>10}"
            print(f"     {who}  {p['state']:12} {p.get('prefixesReceived', 0)}")


def established(script: Transcript, node: str) -> list[str]:
    """Lines of ss(8): established BGP connections in a node's kernel."""
    words = ["ss", "-Htn", "state", "established", "( sport = :179 or dport = :179 )"]
    return script.machines.exec(node, words).splitlines()


def show_routes(script: Transcript) -> None:
    """Routes learned by BGP are in every kernel."""
    script.step(f"Routes that BGP brought are in every node's kernel (protocol {ROUTE_PROTOCOL})")
    wait_pods(script)
    for node in script.settings.node_names:
        wanted = wanted_routes(script, node)

        def learned(node: str = node, wanted: set[tuple[str, str]] = wanted) -> bool:
            return wanted <= kernel_routes(script, node)

        wait_for(f"{node} to have routes {sorted(wanted)}", learned, timeout=30)
        if 4 in script.settings.families:
            script.typed_on(node, "ip", "route", "show", "proto", ROUTE_PROTOCOL)
        if 6 in script.settings.families:
            script.typed_on(node, "ip", "-6", "route", "show", "proto", ROUTE_PROTOCOL)
        script.check(learned(), f"{node} reaches {len(wanted)} blocks by way of their nodes")


def wait_pods(script: Transcript) -> None:
    """Wait until the show's pods are Ready."""
    script.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pods", "--all", "--timeout=90s", timeout=100)


def wanted_routes(script: Transcript, node: str) -> set[tuple[str, str]]:
    """(block, next hop) of the show's pods on other nodes: from the pods' addresses, by the blocks that hold them."""
    blocks = [b["spec"] for b in script.kubectl.items("ipamblocks.manx.dev")]
    found = set()
    for pod in script.kubectl.items("pods", "-n", NAMESPACE):
        home = script.settings.member(pod["spec"]["nodeName"])
        addresses = [ipaddress.ip_address(each["ip"]) for each in pod["status"]["podIPs"]]
        for network in (ipaddress.ip_network(block["cidr"]) for block in blocks):
            if home.name != node and any(address in network for address in addresses):
                found.add((str(network), home.address6 if network.version == 6 else home.address))
    return found


def kernel_routes(script: Transcript, node: str) -> set[tuple[str, str]]:
    """(prefix, next hop) of Manx's routes in a node's kernel."""
    both = (script.machines.exec(node, ["ip", family, "route", "show", "proto", ROUTE_PROTOCOL]) for family in FAMILIES)
    return {route for text in both for route in re.findall(r"^(\S+) via (\S+)", text, re.MULTILINE)}


def show_policy(script: Transcript) -> None:
    """A NetworkPolicy lets one of two clients through; without it both are."""
    script.step("A web pod and two clients, each on another node: both clients reach it")
    script.typed("-n", NAMESPACE, "get", "pods", "-o", "wide")
    expect(script, "client-a", True)
    expect(script, "client-b", True)
    script.step("A NetworkPolicy is applied: one client still reaches it, the other no longer")
    script.typed_file("apply", EXAMPLES / "policy.yaml")
    expect(script, "client-b", False)
    expect(script, "client-a", True)
    script.step("The policy is deleted: both reach it again")
    script.typed("-n", NAMESPACE, "delete", "networkpolicy", "friends-only")
    expect(script, "client-b", True)
    expect(script, "client-a", True)


def expect(script: Transcript, pod: str, wanted: bool) -> None:
    """Show that a pod does, or does not, open a connection to the web service by its name."""
    words = ["-n", NAMESPACE, "exec", pod, "--", "/agnhost", "connect", "web.show.svc.cluster.local:80", "--timeout=2s"]
    claim = f"{pod} {'reaches' if wanted else 'does not reach'} web"
    print(f"     $ kubectl {' '.join(words)}")
    script.becomes(claim, lambda: connects(script, words) == wanted, timeout=15)


def connects(script: Transcript, words: list[str]) -> bool:
    """Whether ``agnhost connect`` succeeded; only a time-out counts as "does not"."""
    try:
        script.kubectl(*words)
    except LabError as error:
        if "TIMEOUT" in str(error):
            return False
        raise
    return True


def show_as_number(script: Transcript) -> None:
    """The AS number changes on every session, and a stream of requests between nodes hardly notices."""
    script.step("A BGPConfiguration changes the AS number of a mesh that carries traffic")
    address = script.kubectl.json("-n", NAMESPACE, "get", "pod", "web")["status"]["podIP"]
    print(f"     ({FAR_CLIENT} asks http://{address}:8080/hostname again and again meanwhile; the fabric is captured)")
    requests = RequestStream(script.kubectl, NAMESPACE, FAR_CLIENT, address, 8080)
    with OpenCapture(script.machines) as capture, requests as stream:
        wait_for("the stream to run", lambda: len(stream.answered) > 20, timeout=20)
        script.typed_file("apply", EXAMPLES / "bgpconfiguration.yaml")
        wait_mesh(script, NEW_AS)
        settled = len(stream.answered)
        wait_for("the stream to go on", lambda: len(stream.answered) > settled + 100, timeout=20)
    print_sessions(script)
    check_opens(script, capture.as_numbers())
    gap = stream.longest_gap()
    said = f"{len(stream.answered)} requests answered, {stream.failed} not; the longest gap was {gap:.2f} s"
    script.check(gap <= GAP_AT_MOST, f"{said} (at most {GAP_AT_MOST:.0f} s)")


def check_opens(script: Transcript, captured: dict[tuple[str, str], int]) -> None:
    """Every session's two OPEN messages carried the new number."""
    members = [script.settings.member(name) for name in script.settings.node_names]
    addresses = {member.address: member.name for member in members}
    if 6 in script.settings.families:
        addresses |= {member.address6: member.name for member in members}
    for pair in itertools.permutations(addresses, 2):
        if (":" in pair[0]) != (":" in pair[1]) or addresses[pair[0]] == addresses[pair[1]]:
            continue
        number = captured.get(pair)
        version = 6 if ":" in pair[0] else 4
        claim = f"captured OPEN from {addresses[pair[0]]} to {addresses[pair[1]]} by IPv{version} says AS {NEW_AS}"
        script.check(number == NEW_AS, claim, f"the last one said {number}")
