"""IPv6 beside IPv4 by real packets: what a pod's interface looks like, pods to pods, nodes, services and the outside
and back, policy, and that a pod can send from no address but its own.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import json
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.settings import CLUSTER_DOMAIN, MTU, OUTSIDE_ADDRESS6, POD_CIDR6, SERVICE_CIDR6
from lab_ends import HTTP, SERVER, UDP, End, Unanswered, ends_of, transfer

NAMESPACE = "manx-dual"
GATEWAY = "fe80::1"
OPEN_PORT, KUBELET_PORT = 45456, 10250
PODS = {"near": 0, "neighbour": 0, "far": 1}
PAIRS = list(itertools.permutations(PODS, 2))
PROBE = {"readinessProbe": {"httpGet": {"path": "/", "port": HTTP}, "periodSeconds": 1}}
PATIENCE = 60.0


@pytest.fixture(scope="module")
def ends(cluster: Cluster) -> Iterator[dict[str, End]]:
    """The pods, nodes and the outside host by their IPv6 addresses."""
    assert cluster.settings.families == 2, "this lab was brought up with --ipv4-only"
    cluster.delete("namespace", NAMESPACE)
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        for name, node in PODS.items():
            container = {**PROBE, "securityContext": {"capabilities": {"add": ["NET_RAW"]}}}
            cluster.run_pod(name, *SERVER, node=cluster.nodes[node], namespace=NAMESPACE, container=container)
        with ends_of(cluster, NAMESPACE, PODS) as found:
            yield {name: end.six for name, end in found.items()}
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


# --- addresses and the interface --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_an_address_of_each_family_from_its_nodes_blocks(
    cluster: Cluster, ends: dict[str, End], name: str
) -> None:
    status = cluster.kubectl.json("-n", NAMESPACE, "get", "pod", name)["status"]
    addresses = [ipaddress.ip_address(each["ip"]) for each in status["podIPs"]]
    assert [address.version for address in addresses] == [4, 6]
    node = cluster.nodes[PODS[name]]
    blocks = [b["spec"] for b in cluster.kubectl.items("ipamblocks.manx.dev") if b["spec"]["node"] == node]
    networks = [ipaddress.ip_network(block["cidr"]) for block in blocks]
    assert all(any(address in network for network in networks) for address in addresses)
    assert addresses[1] in ipaddress.ip_network(POD_CIDR6)


@pytest.mark.parametrize("name", PODS)
def test_a_pods_interface_has_its_ipv6_address_and_no_other(ends: dict[str, End], name: str) -> None:
    (link,) = json.loads(ends[name].run("ip", "-j", "-6", "address", "show", "dev", "eth0"))
    assert [(a["local"], a["prefixlen"]) for a in link["addr_info"]] == [(ends[name].address, 128)]
    routes = json.loads(ends[name].run("ip", "-j", "-6", "route", "show", "default"))
    assert [(r["gateway"], r["dev"]) for r in routes] == [(GATEWAY, "eth0")]


def test_nodes_have_blackholes_for_their_own_blocks_and_routes_to_others(cluster: Cluster) -> None:
    blocks = [b["spec"] for b in cluster.kubectl.items("ipamblocks.manx.dev") if ":" in b["spec"]["cidr"]]
    for node in cluster.nodes:
        lines = cluster.node_exec(node, "ip", "-6", "route", "show", "proto", "77").splitlines()
        for block in blocks:
            via = f"via {cluster.settings.member(block['node']).address6}"
            (line,) = [line for line in lines if block["cidr"] in line.split()]
            assert line.startswith("blackhole") if block["node"] == node else via in line


# --- pods, nodes, the outside -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_pods_reach_pods_which_see_their_address(ends: dict[str, End], source: str, target: str) -> None:
    client, server = ends[source], ends[target]
    assert client.get((server.address, HTTP)) == target
    assert client.seen_as((server.address, HTTP)) == (client.address, client.address)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_pods_ping_pods_with_more_than_a_packet_holds(ends: dict[str, End], source: str, target: str) -> None:
    ends[source].ping(ends[target].address)
    ends[source].ping(ends[target].address, size=4 * MTU)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_datagrams_beyond_the_mtu_arrive_whole(ends: dict[str, End], source: str, target: str) -> None:
    text = "x" * (MTU + 400)
    assert ends[source].ask((ends[target].address, UDP), f"echo {text}").strip() == text


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_megabytes_arrive_as_they_were_sent(ends: dict[str, End], source: str, target: str) -> None:
    data = random.Random(source + target).randbytes(4 << 20)
    got = transfer(ends[source], ends[target], OPEN_PORT, data)
    assert got == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("pod", ["near", "far"])
def test_nodes_and_pods_reach_each_other(cluster: Cluster, ends: dict[str, End], node: int, pod: str) -> None:
    other, end = ends[cluster.nodes[node]], ends[pod]
    assert other.get((end.address, HTTP)) == pod
    assert other.seen_as((end.address, HTTP)) == (other.address, other.address)
    other.ping(end.address)
    end.ping(other.address, size=4 * MTU)
    with end.talking((other.address, KUBELET_PORT)):
        pass  # connected


@pytest.mark.parametrize("pod", ["near", "far"])
def test_the_outside_sees_the_nodes_address(cluster: Cluster, ends: dict[str, End], pod: str) -> None:
    """The lab's IPv6 pool has natOutgoing."""
    client, outside, expected = ends[pod], ends["outside"], ends[cluster.nodes[PODS[pod]]].address
    with outside.listen(OPEN_PORT) as listener, client.talking((OUTSIDE_ADDRESS6, OPEN_PORT)) as calling:
        answering, peer = listener.accept()
        with answering:
            answering.sendall(b"hello")
            assert (peer[0], calling.recv(100)) == (expected, b"hello")
    client.ping(OUTSIDE_ADDRESS6, size=4 * MTU)


# --- services ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(cluster: Cluster, ends: dict[str, End]) -> dict[str, Any]:
    """A service of both families before the pod far, as the API server made it."""
    spec = {
        "type": "NodePort",
        "selector": {"app": "far"},
        "ipFamilyPolicy": "RequireDualStack",
        "ports": [{"name": "http", "port": HTTP}, {"name": "udp", "port": UDP, "protocol": "UDP"}],
    }
    metadata = {"name": "far", "namespace": NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    found: dict[str, Any] = cluster.kubectl.json("-n", NAMESPACE, "get", "service", "far")["spec"]
    return found


def answers(cluster: Cluster, source: End, target: tuple[str, int]) -> None:
    """kube-proxy programs a service shortly after its pods are Ready."""

    def answered() -> bool:
        try:
            return source.get(target) == "far"
        except Unanswered:
            return False

    cluster.wait_for(f"far to answer {source.name} at {target}", answered, timeout=PATIENCE)


@pytest.mark.parametrize("source", [*PODS, "node1", "node2"])
def test_a_service_is_reached_by_both_its_addresses(
    cluster: Cluster, ends: dict[str, End], service: dict[str, Any], source: str
) -> None:
    (six,) = [address for address in service["clusterIPs"] if ":" in address]
    assert ipaddress.ip_address(six) in ipaddress.ip_network(SERVICE_CIDR6)
    for address in service["clusterIPs"]:
        answers(cluster, ends[source], (address, HTTP))
    if source == "near":
        assert ends[source].seen_as((six, HTTP)) == (ends[source].address, ends[source].address)


@pytest.mark.parametrize("source", ["outside", "near", "node1"])
@pytest.mark.parametrize("node", [0, 1])
def test_node_ports(cluster: Cluster, ends: dict[str, End], service: dict[str, Any], source: str, node: int) -> None:
    """At the node that has the pod, and at one that has not."""
    answers(cluster, ends[source], (ends[cluster.nodes[node]].address, service["ports"][0]["nodePort"]))


def test_a_process_reaches_the_service_by_its_name_and_its_ipv6_address(
    cluster: Cluster, ends: dict[str, End], service: dict[str, Any]
) -> None:
    """agnhost's resolver asks for both families; each address must lead there."""
    name = f"far.{NAMESPACE}.svc.{CLUSTER_DOMAIN}"
    addresses = [f"[{ip}]" if ":" in ip else ip for ip in service["clusterIPs"]]
    for host in (name, *addresses):

        def connects(host: str = host) -> bool:
            return cluster.can_connect("near", f"{host}:{HTTP}", namespace=NAMESPACE, seconds=5)

        cluster.wait_for(f"near to connect to {host}", connects, timeout=PATIENCE)


# --- policy and forged sources ----------------------------------------------------------------------------------------


def reaches(source: End, target: End) -> bool:
    try:
        return source.get((target.address, HTTP)) != ""
    except Unanswered:
        return False


def test_a_policy_means_the_same_in_both_families(cluster: Cluster, ends: dict[str, End]) -> None:
    """By a pod selector, which must hold the IPv6 address too, and by an IPv6 block."""
    metadata = {"name": "guarded", "namespace": NAMESPACE}
    near = {"podSelector": {"matchLabels": {"app": "near"}}}
    node = {"ipBlock": {"cidr": f"{ends[cluster.nodes[0]].address}/128"}}
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata}
    select = {"podSelector": {"matchLabels": {"app": "far"}}, "policyTypes": ["Ingress"]}
    try:
        cluster.apply({**kind, "spec": {**select, "ingress": [{"from": [near]}]}})
        target = ends["far"]
        cluster.wait_for("neighbour to be refused", lambda: not reaches(ends["neighbour"], target), timeout=PATIENCE)
        assert reaches(ends["near"], target)
        assert not reaches(ends[cluster.nodes[0]], target)
        cluster.apply({**kind, "spec": {**select, "ingress": [{"from": [node]}]}})
        cluster.wait_for("the node to be let in", lambda: reaches(ends[cluster.nodes[0]], target), timeout=PATIENCE)
        assert not reaches(ends["near"], target)
    finally:
        cluster.delete("networkpolicy", "-n", NAMESPACE, "guarded")
    cluster.wait_for("neighbour to be let in", lambda: reaches(ends["neighbour"], ends["far"]), timeout=PATIENCE)


def datagram6(source: str, destination: str, port: int) -> bytes:
    """An IPv6 packet (RFC 8200) with a UDP datagram and its checksum (RFC 768)."""
    udp = port.to_bytes(2) * 2 + (11).to_bytes(2)
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    text = b"six"
    covered = ends + (11).to_bytes(4) + (17).to_bytes(4) + udp + b"\0\0" + text + b"\0"
    total = sum(int.from_bytes(covered[at : at + 2]) for at in range(0, len(covered), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    header = (6 << 28).to_bytes(4) + (11).to_bytes(2) + bytes((17, 64))
    return header + ends + udp + ((~total & 0xFFFF) or 0xFFFF).to_bytes(2) + text


def forge6(sender: End, source: str, target: End) -> None:
    with sender.open(socket.SOCK_RAW, socket.AF_INET6, socket.IPPROTO_RAW) as raw:
        raw.sendto(datagram6(source, target.address, OPEN_PORT), (target.address, 0))


@pytest.mark.parametrize("target", ["neighbour", "far", "node1", "node2"])
def test_a_pod_sends_from_no_ipv6_address_but_its_own(cluster: Cluster, ends: dict[str, End], target: str) -> None:
    near, receiver = ends["near"], ends[target]
    others = [end.address for name, end in ends.items() if name != "near"]
    with receiver.receive(OPEN_PORT) as opened:
        for forged in [
            *others,
            "2001:db8:99::5",
            "fd10:96::1",
            "::1",
            GATEWAY,
            str(ipaddress.ip_address(near.address) + 9),
        ]:
            forge6(near, forged, receiver)
        forge6(near, near.address, receiver)
        source = opened.recvfrom(100)[1][0]
        assert source in (near.address, ends[cluster.nodes[0]].address)  # masqueraded, where it leaves the pools
        opened.settimeout(1)
        with pytest.raises(TimeoutError):
            opened.recvfrom(100)
