"""Services of both families before a pod: by each address from pods, nodes and outside, by node ports and by name."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.settings import CLUSTER_DOMAIN, SERVICE_CIDR
from lab_ends import HTTP, SERVER, UDP, End, Unanswered, ends_of

NAMESPACE = "manx-dual"
PODS = {"near": 0, "far": 1}
PROBE = {"readinessProbe": {"httpGet": {"path": "/", "port": HTTP}, "periodSeconds": 1}}
PATIENCE = 60.0


@pytest.fixture(scope="module")
def ends(cluster: Cluster) -> Iterator[dict[str, End]]:
    """The pods, nodes and the outside host by their IPv6 addresses."""
    if cluster.settings.families != (4, 6):
        pytest.skip("this lab is of one family alone")
    cluster.delete("namespace", NAMESPACE)
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        for name, node in PODS.items():
            cluster.run_pod(name, *SERVER, node=cluster.nodes[node], namespace=NAMESPACE, container=PROBE)
        with ends_of(cluster, NAMESPACE, PODS) as found:
            yield {name: end.by(6) for name, end in found.items()}
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


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
    assert ipaddress.ip_address(six) in ipaddress.ip_network(SERVICE_CIDR[6])
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
