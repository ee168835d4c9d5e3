"""The pod network by real packets, over each family that pods have: pods to pods on a node and across nodes, to nodes
and back, to the outside; what a pod's interface looks like; and what a pod cannot do: send from an address that is not
its own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import ipaddress
import itertools
import json
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab.cluster import Cluster
from lab.settings import API_SERVICE, CLUSTER_DNS, MTU, OUTSIDE, POD_CIDR
from lab_ends import HTTP, SERVER, UDP, End, Watch, ends_of, forge, transfer
from packets import udp_packet

NAMESPACE = "manx-pods"
KUBELET_PORT = 10250
FORGED_PORT = 45454
OPEN_PORT = 45455
PODS = {"near": 0, "neighbour": 0, "far": 1}
PAIRS = list(itertools.permutations(PODS, 2))
BROADCAST = "255.255.255.255"
PROBE = {"readinessProbe": {"httpGet": {"path": "/", "port": HTTP}, "periodSeconds": 1}}


@dataclass(frozen=True)
class Family:
    """What is of one family alone. `headers`: bytes of IP's and UDP's; `whole`: the socket option for packets that are
    not to be fragmented; `strange`: sources that no packet should have."""

    version: int
    width: int
    gateway: str
    headers: int
    whole: tuple[int, int, int]
    strange: tuple[str, ...]


FAMILIES = (
    # IP_MTU_DISCOVER, IP_PMTUDISC_DO: ip(7)
    Family(
        *(4, 32, "169.254.1.1", 28, (socket.IPPROTO_IP, 10, 2)),
        strange=("192.0.2.7", "127.0.0.1", "0.0.0.7", "224.0.0.1", BROADCAST),
    ),
    # IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO: ipv6(7)
    Family(6, 128, "fe80::1", 48, (socket.IPPROTO_IPV6, 23, 2), ("2001:db8:99::5", "::1", "ff02::1")),
)


@pytest.fixture(scope="module")
def every_end(cluster: Cluster) -> Iterator[dict[str, End]]:
    """near and neighbour on the first node, far on the second; they are Ready because kubelet's probes reach them."""
    cluster.delete("namespace", NAMESPACE)
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        for name, node in PODS.items():
            container = {**PROBE, "securityContext": {"capabilities": {"add": ["NET_RAW"]}}}
            cluster.run_pod(name, *SERVER, node=cluster.nodes[node], namespace=NAMESPACE, container=container)
        with ends_of(cluster, NAMESPACE, PODS) as found:
            yield found
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: f"ipv{family.version}")
def family(cluster: Cluster, request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    if found.version not in cluster.settings.families:
        pytest.skip(f"pods of this lab have no IPv{found.version}")
    return found


@pytest.fixture
def ends(every_end: dict[str, End], family: Family) -> dict[str, End]:
    """All by their addresses of the family."""
    return {name: end.by(family.version) for name, end in every_end.items()}


def blocks_of(cluster: Cluster, family: Family) -> list[tuple[str, str]]:
    """(node, block's CIDR)."""
    found = [block["spec"] for block in cluster.kubectl.items("ipamblocks.manx.dev")]
    return [(b["node"], b["cidr"]) for b in found if ipaddress.ip_network(b["cidr"]).version == family.version]


def interface_of(cluster: Cluster, node: str, address: str) -> str:
    """The node's end of a pod's link."""
    return str(json.loads(cluster.node_exec(node, "ip", "-j", "route", "get", address))[0]["dev"])


# --- addresses and the interface --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_one_address_of_each_family(cluster: Cluster, every_end: dict[str, End], name: str) -> None:
    found = [ipaddress.ip_address(each).version for each in every_end[name].others]
    assert found == list(cluster.settings.families)


@pytest.mark.parametrize("name", PODS)
def test_a_pods_address_is_of_one_of_its_nodes_blocks(
    cluster: Cluster, ends: dict[str, End], family: Family, name: str
) -> None:
    address = ipaddress.ip_address(ends[name].address)
    assert address in ipaddress.ip_network(POD_CIDR[family.version])
    own = [cidr for node, cidr in blocks_of(cluster, family) if node == cluster.nodes[PODS[name]]]
    assert any(address in ipaddress.ip_network(cidr) for cidr in own)


@pytest.mark.parametrize("name", ["near", "far"])
def test_a_pods_interface_has_its_address_and_no_other(ends: dict[str, End], family: Family, name: str) -> None:
    (link,) = json.loads(ends[name].run("ip", "-j", f"-{family.version}", "address", "show", "dev", "eth0"))
    found = [(a["local"], a["prefixlen"]) for a in link["addr_info"]]
    assert (found, link["mtu"]) == ([(ends[name].address, family.width)], MTU)


@pytest.mark.parametrize("name", ["near", "far"])
def test_a_pod_has_a_link_local_gateway(ends: dict[str, End], family: Family, name: str) -> None:
    routes = json.loads(ends[name].run("ip", "-j", f"-{family.version}", "route", "show"))
    found = {(r["dst"], r.get("gateway", ""), r["dev"]) for r in routes}
    itself = {(ends[name].address, "", "eth0")} if family.version == 6 else set()  # IPv4 has that in another table
    assert found == {("default", family.gateway, "eth0"), (family.gateway, "", "eth0"), *itself}


def test_a_node_routes_to_its_pod_by_the_pods_own_link(cluster: Cluster, ends: dict[str, End], family: Family) -> None:
    node, address = cluster.nodes[0], ends["near"].address
    (route,) = json.loads(cluster.node_exec(node, "ip", "-j", f"-{family.version}", "route", "show", address))
    assert route["dst"] == address
    assert route["dev"].startswith("mnx")
    (link,) = json.loads(cluster.node_exec(node, "ip", "-j", "link", "show", route["dev"]))
    assert link["mtu"] == MTU


def test_nodes_have_blackholes_for_their_own_blocks_and_routes_to_others(
    cluster: Cluster, ends: dict[str, End], family: Family
) -> None:
    for node in cluster.nodes:
        lines = cluster.node_exec(node, "ip", f"-{family.version}", "route", "show", "proto", "77").splitlines()
        for owner, cidr in blocks_of(cluster, family):
            (line,) = [line for line in lines if cidr in line.split()]
            assert line.startswith("blackhole") if owner == node else f"via {ends[owner].address}" in line


# --- pods and pods ----------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("target", ["neighbour", "far"])
def test_a_packet_of_the_mtu_passes_unfragmented_and_no_larger_one_does(
    ends: dict[str, End], family: Family, target: str
) -> None:
    with ends["near"].talking((ends[target].address, UDP), socket.SOCK_DGRAM) as opened:
        opened.setsockopt(*family.whole)
        text = "echo " + "y" * (MTU - family.headers - len("echo "))
        opened.send(text.encode())
        assert opened.recv(65536).decode().strip() == text.removeprefix("echo ")
        with pytest.raises(OSError, match="too long") as error:
            opened.send(text.encode() + b"y")
        assert error.value.errno == errno.EMSGSIZE


def test_a_process_in_a_pod_reaches_a_pod(cluster: Cluster, ends: dict[str, End]) -> None:
    address = ends["far"].address
    target = f"[{address}]:{HTTP}" if ":" in address else f"{address}:{HTTP}"
    assert cluster.can_connect("near", target, namespace=NAMESPACE, seconds=5)


# --- pods and nodes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("pod", ["near", "far"])
def test_nodes_reach_pods(cluster: Cluster, ends: dict[str, End], node: int, pod: str) -> None:
    source, target = ends[cluster.nodes[node]], ends[pod]
    assert source.get((target.address, HTTP)) == pod
    assert source.seen_as((target.address, HTTP)) == (source.address, source.address)
    source.ping(target.address)


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("pod", ["near", "far"])
def test_pods_reach_nodes(cluster: Cluster, ends: dict[str, End], node: int, pod: str) -> None:
    target = ends[cluster.nodes[node]]
    ends[pod].ping(target.address, size=4 * MTU)
    with ends[pod].talking((target.address, KUBELET_PORT)):
        pass  # connected


# --- the outside ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pod", ["near", "far"])
def test_the_outside_sees_the_nodes_address(cluster: Cluster, ends: dict[str, End], family: Family, pod: str) -> None:
    """The lab's pools have natOutgoing."""
    client, outside, expected = ends[pod], ends["outside"], ends[cluster.nodes[PODS[pod]]].address
    where = (OUTSIDE[family.version], OPEN_PORT)
    with outside.listen(OPEN_PORT) as listener, client.talking(where) as calling:
        answering, peer = listener.accept()
        with answering:
            answering.sendall(b"hello")
            assert (peer[0], calling.recv(100)) == (expected, b"hello")
    with outside.receive(OPEN_PORT) as receiver, client.talking(where, socket.SOCK_DGRAM) as calling:
        calling.send(b"anybody?")
        _, peer = receiver.recvfrom(100)
        receiver.sendto(b"yes", peer)
        assert (peer[0], calling.recv(100)) == (expected, b"yes")
    client.ping(where[0], size=4 * MTU)


def test_another_node_sees_the_nodes_address_and_the_own_node_the_pods(cluster: Cluster, ends: dict[str, End]) -> None:
    """Nodes are in no pool, so what goes to another one leaves the pools."""
    own, other = (ends[node] for node in cluster.nodes[:2])
    for target, expected in ((own, ends["near"].address), (other, own.address)):
        with target.listen(OPEN_PORT) as listener, ends["near"].talking((target.address, OPEN_PORT)):
            answering, peer = listener.accept()
            answering.close()
            assert peer[0] == expected, target.name


# --- forged sources ---------------------------------------------------------------------------------------------------


def forgeries(cluster: Cluster, ends: dict[str, End], family: Family) -> list[str]:
    """Addresses that are not near's."""
    others = {end.address for end in ends.values()}
    block = next(cidr for node, cidr in blocks_of(cluster, family) if node == cluster.nodes[0])
    unused = next(str(each) for each in ipaddress.ip_network(block) if str(each) not in others)
    services = (API_SERVICE[family.version], CLUSTER_DNS[family.version])
    return [*(others - {ends["near"].address}), unused, *services, family.gateway, *family.strange]


def arrivals(ends: dict[str, End], watches: dict[str, Watch], own: str, received: set[str]) -> dict[str, set[str]]:
    """By target, the sources that arrived: at the own node what its sockets received or it sent on; elsewhere whatever
    any interface saw."""
    found = {name: {s.source for s in watch.seen() if s.interface != own} for name, watch in watches.items()}
    return {**found, "its own node's sockets": received}


def receive_all(opened: socket.socket, into: set[str]) -> None:
    """Sources of the datagrams that wait at a socket."""
    opened.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            into.add(opened.recvfrom(100)[1][0])


def test_a_pod_cannot_send_from_an_address_that_is_not_its_own(
    cluster: Cluster, ends: dict[str, End], family: Family
) -> None:
    """With CAP_NET_RAW a process may write any source into a packet. The rules stand by themselves: also without the
    kernel's own filter, which IPv6 has not got (and of IPv4 the agent soon switches on again)."""
    own_link = interface_of(cluster, cluster.nodes[0], ends["near"].address)
    forge_everything(cluster, ends, family, own_link)
    if family.version == 4:
        cluster.node_exec(cluster.nodes[0], "sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{own_link}/rp_filter")
        forge_everything(cluster, ends, family, own_link)


def forge_everything(cluster: Cluster, ends: dict[str, End], family: Family, own_link: str) -> None:
    """First all forgeries, then, over the same ways, the same packets from its own address: once those have arrived
    everywhere, the others have had their time."""
    near, node = ends["near"], cluster.nodes[0]
    targets = [end for name, end in ends.items() if name != "near"]
    forged = forgeries(cluster, ends, family)
    received: set[str] = set()
    with contextlib.ExitStack() as stack:
        watches = {end.name: stack.enter_context(Watch(end, FORGED_PORT)) for end in targets}
        socket_of_node = stack.enter_context(ends[node].receive(FORGED_PORT))
        for _ in range(3):
            forge(near, [udp_packet(source, t.address, FORGED_PORT) for source in forged for t in targets])

        def control_arrived() -> bool:
            forge(near, [udp_packet(near.address, t.address, FORGED_PORT) for t in targets])
            receive_all(socket_of_node, received)
            seen = arrivals(ends, watches, own_link, received)
            through = {name for name, sources in seen.items() if sources}
            return through >= {*(t.name for t in targets if t.name != node), "its own node's sockets"}

        cluster.wait_for("packets from the own address to arrive everywhere", control_arrived, timeout=30)
        seen = arrivals(ends, watches, own_link, received)
        came_in = {s.source for s in watches[node].seen() if s.interface == own_link}
    allowed = {near.address, ends[node].address}  # the latter where it was masqueraded
    forged_sightings = {name: sources - allowed for name, sources in seen.items() if sources - allowed}
    assert not forged_sightings
    assert came_in >= set(forged) - {BROADCAST}, "forgeries never reached the node: nothing was tried"
    assert ends[node].address not in seen["neighbour"] | seen["its own node's sockets"]
