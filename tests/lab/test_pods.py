"""The pod network by real packets: pods to pods on a node and across nodes, to nodes and back, to the outside; what a
pod's interface looks like; and what a pod cannot do: send from an address that is not its own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import random
import re
import socket
from collections.abc import Iterator

import pytest

from lab.cluster import Cluster
from lab.settings import MTU, OUTSIDE_ADDRESS
from lab_ends import HTTP, SERVER, UDP, End, Watch, datagram, ends_of, forge, transfer

NAMESPACE = "manx-pods"
GATEWAY = "169.254.1.1"
HEADERS = 28  # IPv4 and UDP
DONT_FRAGMENT = (socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO: ip(7)
KUBELET_PORT = 10250
FORGED_PORT = 45454
OPEN_PORT = 45455
PAIRS = list(itertools.permutations(("near", "neighbour", "far"), 2))
PROBE = {"readinessProbe": {"httpGet": {"path": "/", "port": HTTP}, "periodSeconds": 1}}


@pytest.fixture(scope="module")
def ends(cluster: Cluster) -> Iterator[dict[str, End]]:
    """near and neighbour on the first node, far on the second; they are Ready because kubelet's probes reach them."""
    cluster.delete("namespace", NAMESPACE)
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        for name, node in (("near", 0), ("neighbour", 0), ("far", 1)):
            container = {**PROBE, "securityContext": {"capabilities": {"add": ["NET_RAW"]}}}
            cluster.run_pod(name, *SERVER, node=cluster.nodes[node], namespace=NAMESPACE, container=container)
        with ends_of(cluster, NAMESPACE, ("near", "neighbour", "far")) as found:
            yield found
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def interface_of(cluster: Cluster, node: str, address: str) -> str:
    """The node's end of a pod's link."""
    return str(json.loads(cluster.node_exec(node, "ip", "-j", "route", "get", address))[0]["dev"])


# --- the interface ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["near", "far"])
def test_a_pod_has_one_address_as_wide_as_itself(ends: dict[str, End], name: str) -> None:
    (link,) = json.loads(ends[name].run("ip", "-j", "-4", "address", "show", "dev", "eth0"))
    found = [(a["local"], a["prefixlen"]) for a in link["addr_info"]]
    assert (found, link["mtu"]) == ([(ends[name].address, 32)], MTU)


@pytest.mark.parametrize("name", ["near", "far"])
def test_a_pod_has_a_link_local_gateway(ends: dict[str, End], name: str) -> None:
    routes = json.loads(ends[name].run("ip", "-j", "-4", "route", "show"))
    assert {(r["dst"], r.get("gateway", ""), r["dev"]) for r in routes} == {
        ("default", GATEWAY, "eth0"),
        (GATEWAY, "", "eth0"),
    }


def test_a_node_routes_to_its_pod_by_the_pods_own_link(cluster: Cluster, ends: dict[str, End]) -> None:
    node, address = cluster.nodes[0], ends["near"].address
    (route,) = json.loads(cluster.node_exec(node, "ip", "-j", "route", "show", address))
    assert route["dst"] == address
    assert route["dev"].startswith("mnx")
    (link,) = json.loads(cluster.node_exec(node, "ip", "-j", "link", "show", route["dev"]))
    assert link["mtu"] == MTU


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
def test_a_packet_of_the_mtu_passes_unfragmented_and_no_larger_one_does(ends: dict[str, End], target: str) -> None:
    with ends["near"].talking((ends[target].address, UDP), socket.SOCK_DGRAM) as opened:
        opened.setsockopt(*DONT_FRAGMENT)
        text = "echo " + "y" * (MTU - HEADERS - len("echo "))
        opened.send(text.encode())
        assert opened.recv(65536).decode().strip() == text.removeprefix("echo ")
        with pytest.raises(OSError, match="too long") as error:
            opened.send(text.encode() + b"y")
        assert error.value.errno == errno.EMSGSIZE


def test_a_process_in_a_pod_reaches_a_pod(cluster: Cluster, ends: dict[str, End]) -> None:
    target = f"{ends['far'].address}:{HTTP}"
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


@pytest.mark.parametrize(("pod", "node"), [("near", 0), ("far", 1)])
def test_the_outside_sees_the_nodes_address(cluster: Cluster, ends: dict[str, End], pod: str, node: int) -> None:
    client, outside, expected = ends[pod], ends["outside"], ends[cluster.nodes[node]].address
    where = (OUTSIDE_ADDRESS, OPEN_PORT)
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
    client.ping(OUTSIDE_ADDRESS, size=4 * MTU)


def test_another_node_sees_the_nodes_address_and_the_own_node_the_pods(cluster: Cluster, ends: dict[str, End]) -> None:
    """Nodes are in no pool, so what goes to another one leaves the pools."""
    own, other = (ends[node] for node in cluster.nodes[:2])
    for target, expected in ((own, ends["near"].address), (other, own.address)):
        with target.listen(OPEN_PORT) as listener, ends["near"].talking((target.address, OPEN_PORT)):
            answering, peer = listener.accept()
            answering.close()
            assert peer[0] == expected, target.name


# --- forged sources ---------------------------------------------------------------------------------------------------


def forgeries(cluster: Cluster, ends: dict[str, End]) -> list[str]:
    """Addresses that are not near's."""
    others = [end.address for name, end in ends.items() if name != "near"]
    block = next(
        b["spec"]["cidr"] for b in cluster.kubectl.items("ipamblocks.manx.dev") if b["spec"]["node"] == cluster.nodes[0]
    )
    unused = re.sub(r"\.\d+/\d+$", ".1", block)
    strange = ["10.96.0.1", "10.96.0.10", "192.0.2.7", "127.0.0.1", "0.0.0.7", GATEWAY, "224.0.0.1", "255.255.255.255"]
    return [*others, unused, *strange]


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


@pytest.mark.parametrize("reverse_path_filter", [True, False])
def test_a_pod_cannot_send_from_an_address_that_is_not_its_own(
    cluster: Cluster, ends: dict[str, End], reverse_path_filter: bool
) -> None:
    """With CAP_NET_RAW a process may write any source into a packet. First all forgeries, then, over the same ways, the
    same packets from its own address: once those have arrived everywhere, the others have had their time. The rules
    stand by themselves: without the kernel's own filter, too (which the agent soon switches on again)."""
    near, node = ends["near"], cluster.nodes[0]
    own_link = interface_of(cluster, node, near.address)
    if not reverse_path_filter:
        cluster.node_exec(node, "sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{own_link}/rp_filter")
    targets = [end for name, end in ends.items() if name != "near"]
    forged = [source for source in forgeries(cluster, ends) if source != near.address]
    received: set[str] = set()
    with contextlib.ExitStack() as stack:
        watches = {end.name: stack.enter_context(Watch(end, FORGED_PORT)) for end in targets}
        socket_of_node = stack.enter_context(ends[node].receive(FORGED_PORT))
        for _ in range(3):
            forge(near, [datagram(source, t.address, FORGED_PORT) for source in forged for t in targets])

        def control_arrived() -> bool:
            forge(near, [datagram(near.address, t.address, FORGED_PORT) for t in targets])
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
    assert came_in >= set(forged) - {"255.255.255.255"}, "forgeries never reached the node: nothing was tried"
    assert ends[node].address not in seen["neighbour"] | seen["its own node's sockets"]
