"""Services on Manx's network, by real packets: cluster addresses, node ports, a pod that reaches itself through its own
service, host ports, and cluster DNS. kube-proxy and CoreDNS make them; the network must let them work.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from lab.cluster import Cluster
from lab.settings import CLUSTER_DNS, CLUSTER_DOMAIN
from lab_ends import HTTP, SERVER, UDP, End, Unanswered, ends_of

NAMESPACE = "manx-services"
HOST_PORT = 29080  # below the range of node ports
PODS = {"web-0": 0, "web-1": 1, "alone": 0, "client": 1}
"""Each pod's node. web-0 and web-1 are behind the service web, alone behind two of its own."""
EVERYBODY = [*PODS, "node 0", "node 1"]
PATIENCE = 60.0


class Service(NamedTuple):
    """A service as the API server made it; HTTP and UDP in one, on ports `HTTP` and `UDP`."""

    address: str
    node_port: int
    node_port_udp: int


def manifest(name: str, app: str, **spec: Any) -> dict[str, Any]:
    ports = [
        {"name": "http", "port": HTTP},
        {"name": "udp", "port": UDP, "protocol": "UDP"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": app}, "ports": ports, **spec},
    }


SERVICES = (
    manifest("web", "web", type="NodePort"),
    manifest("alone", "alone", type="NodePort"),
    manifest("local", "alone", type="NodePort", externalTrafficPolicy="Local"),
    manifest("headless", "web", clusterIP="None"),
)


@pytest.fixture(scope="module")
def ends(cluster: Cluster) -> Iterator[dict[str, End]]:
    """The pods, the nodes and the outside host, once all services are in the nodes' kernels."""
    cluster.delete("namespace", NAMESPACE)
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        cluster.apply(*SERVICES)
        for name, node in PODS.items():
            run_server(cluster, name, node, app=name.partition("-")[0], host_port=HOST_PORT if name == "alone" else 0)
        with ends_of(cluster, NAMESPACE, PODS) as found:
            yield found | {f"node {index}": found[name] for index, name in enumerate(cluster.nodes)}
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def run_server(cluster: Cluster, name: str, node: int, *, app: str, host_port: int = 0) -> None:
    ports = [
        {"containerPort": HTTP, "hostPort": host_port},
        {"containerPort": UDP, "hostPort": host_port + 1, "protocol": "UDP"},
    ]
    container = {"ports": ports} if host_port else {}
    labels = {"app": app}
    cluster.run_pod(name, *SERVER, node=cluster.nodes[node], namespace=NAMESPACE, labels=labels, container=container)


@pytest.fixture(scope="module")
def services(cluster: Cluster, ends: dict[str, End]) -> dict[str, Service]:
    """Those of SERVICES that have an address."""
    found = {}
    for item in cluster.kubectl.items("services", "-n", NAMESPACE):
        spec, ports = item["spec"], {port["name"]: port for port in item["spec"]["ports"]}
        if spec["clusterIP"] != "None":
            numbers = (int(ports[name]["nodePort"]) for name in ("http", "udp"))
            found[item["metadata"]["name"]] = Service(spec["clusterIP"], *numbers)
    return found


def reaches(cluster: Cluster, source: End, target: tuple[str, int], udp: tuple[str, int], *names: str) -> None:
    """Until all of these pods have answered over TCP and UDP, and no other. kube-proxy programs endpoints shortly after
    they are Ready, and chooses among them at random."""
    for said, ask in (("TCP", lambda: source.get(target)), ("UDP", lambda: source.ask(udp))):
        seen: set[str] = set()

        def all_seen(ask: Any = ask, seen: set[str] = seen) -> bool:
            seen.add(ask().strip())
            return seen >= set(names)

        what = f"{' and '.join(names)} to answer {source.name} over {said} at {target[0]}:{target[1]}"
        cluster.wait_for(what, all_seen, timeout=PATIENCE, every=0.02)
        assert seen == set(names)


# --- cluster addresses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", EVERYBODY)
def test_cluster_addresses(cluster: Cluster, ends: dict[str, End], services: dict[str, Service], source: str) -> None:
    """From pods and nodes, whether they are behind the service or not, and whether it is on their node or another."""
    address = services["web"].address
    reaches(cluster, ends[source], (address, HTTP), (address, UDP), "web-0", "web-1")


def test_behind_a_cluster_address_a_server_sees_the_pods_own(
    cluster: Cluster, ends: dict[str, End], services: dict[str, Service]
) -> None:
    """alone is on the first node, client on the second."""
    client, address = ends["client"], services["alone"].address
    reaches(cluster, client, (address, HTTP), (address, UDP), "alone")
    assert client.seen_as((address, HTTP)) == (client.address, client.address)


def test_a_pod_reaches_itself_through_its_own_service(
    cluster: Cluster, ends: dict[str, End], services: dict[str, Service]
) -> None:
    address = services["alone"].address
    reaches(cluster, ends["alone"], (address, HTTP), (address, UDP), "alone")


def test_a_process_reaches_its_own_pod_by_the_services_name(cluster: Cluster, ends: dict[str, End]) -> None:
    """By its own resolver, with the pod's search domains."""
    assert ends["alone"].address
    cluster.wait_for(
        "alone to connect to alone",
        lambda: cluster.can_connect("alone", f"alone:{HTTP}", namespace=NAMESPACE, seconds=10),
        timeout=PATIENCE,
    )


# --- node ports -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "node"), [*itertools.product(["outside", *EVERYBODY], ["node 0", "node 1"])])
def test_node_ports(
    cluster: Cluster, ends: dict[str, End], services: dict[str, Service], source: str, node: str
) -> None:
    """At the node that has the pod, and at one that has not; from everywhere, the pod itself included."""
    address, service = ends[node].address, services["alone"]
    reaches(cluster, ends[source], (address, service.node_port), (address, service.node_port_udp), "alone")


def test_a_local_node_port_shows_who_asks(cluster: Cluster, ends: dict[str, End], services: dict[str, Service]) -> None:
    """externalTrafficPolicy Local: the address outside is what the pod sees, and what it answers to."""
    address, service, outside = ends["node 0"].address, services["local"], ends["outside"]
    reaches(cluster, outside, (address, service.node_port), (address, service.node_port_udp), "alone")
    assert outside.get((address, service.node_port), "/clientip").startswith(f"{outside.address}:")
    assert outside.ask((address, service.node_port_udp), "clientip").startswith(f"{outside.address}:")


# --- host ports -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["outside", *EVERYBODY])
def test_host_ports(cluster: Cluster, ends: dict[str, End], source: str) -> None:
    """From everywhere, the node and the pod themselves included."""
    address = ends["node 0"].address
    reaches(cluster, ends[source], (address, HOST_PORT), (address, HOST_PORT + 1), "alone")


def test_behind_a_host_port_a_pod_sees_who_asks(ends: dict[str, End]) -> None:
    outside = ends["outside"]
    assert outside.seen_as((ends["node 0"].address, HOST_PORT)) == (outside.address, outside.address)


def test_a_host_port_goes_with_its_pod_and_comes_with_the_next(cluster: Cluster, ends: dict[str, End]) -> None:
    """TCP and UDP: a stale connection of UDP must not keep its way to where nobody is. (A pod with no grace period is
    gone from the API before kubelet has ended it.)"""
    address, port, outside = ends["node 1"].address, HOST_PORT + 10, ends["outside"]
    for name in ("first", "second"):
        run_server(cluster, name, 1, app=name, host_port=port)
        cluster.wait_pod(name, namespace=NAMESPACE, timeout=120)
        reaches(cluster, outside, (address, port), (address, port + 1), name)
        cluster.kubectl("-n", NAMESPACE, "delete", "pod", name, timeout=120)
    cluster.wait_for("nobody to answer over TCP", lambda: unanswered(lambda: outside.get((address, port))))
    cluster.wait_for("nobody to answer over UDP", lambda: unanswered(lambda: outside.ask((address, port + 1))))


def unanswered(ask: Callable[[], str]) -> bool:
    try:
        ask()
    except Unanswered:
        return True
    return False


# --- DNS --------------------------------------------------------------------------------------------------------------

A, PTR = 1, 12


def query(source: End, name: str, kind: int, *, tcp: bool = False) -> set[str]:
    """Addresses or names that cluster DNS answers (RFC 1035). Raises Unanswered."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    message = struct.pack("!6H", 77, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!2H", kind, 1)
    with source.talking((CLUSTER_DNS[4], 53), socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as opened:
        opened.sendall(struct.pack("!H", len(message)) + message if tcp else message)
        answer = opened.recv(4096)
        answer = answer[2:] if tcp else answer
    return records(answer, len(message), kind)


def records(answer: bytes, start: int, kind: int) -> set[str]:
    """The data of all records of this kind in the answer section, which begins at `start`."""
    found = set()
    for _ in range(struct.unpack("!H", answer[6:8])[0]):
        _, start = read_name(answer, start)
        type_, _, _, size = struct.unpack("!HHIH", answer[start : start + 10])
        start += 10
        if type_ == kind:
            data = answer[start : start + size]
            found.add(socket.inet_ntoa(data) if kind == A else read_name(answer, start)[0])
        start += size
    return found


def read_name(message: bytes, at: int) -> tuple[str, int]:
    """A name that may end in a pointer (RFC 1035, 4.1.4), and where what follows it begins."""
    labels: list[str] = []
    while size := message[at]:
        if size >= 0xC0:
            rest, _ = read_name(message, struct.unpack("!H", message[at : at + 2])[0] & 0x3FFF)
            return ".".join([*labels, rest]), at + 2
        labels.append(message[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels), at + 1


def reverse(address: str) -> str:
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("source", EVERYBODY)
def test_cluster_dns_knows_services_by_name_and_address(
    cluster: Cluster, ends: dict[str, End], services: dict[str, Service], source: str, tcp: bool
) -> None:
    name, address = f"web.{NAMESPACE}.svc.{CLUSTER_DOMAIN}", services["web"].address
    cluster.wait_for(f"{name} to be {address}", lambda: query(ends[source], name, A, tcp=tcp) == {address})
    assert query(ends[source], reverse(address), PTR, tcp=tcp) == {name}


def test_cluster_dns_knows_pods_behind_a_headless_service(cluster: Cluster, ends: dict[str, End]) -> None:
    name = f"headless.{NAMESPACE}.svc.{CLUSTER_DOMAIN}"
    addresses = {ends[pod].address for pod in ("web-0", "web-1")}
    cluster.wait_for(f"{name} to be {addresses}", lambda: query(ends["client"], name, A) == addresses)
    for address in addresses:
        found = query(ends["client"], reverse(address), PTR)  # it is behind another service, too
        assert [one for one in found if one.endswith(f".{name}")]
