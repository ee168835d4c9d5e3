"""Policy and services: a policy means the pods behind a service and their ports, not the service's; a pod reaches
itself by way of one; names are looked up only where policy lets them be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.run import LabError
from lab_policy_probe import Probe
from lab_policy_world import World

DENY_BOTH = "{podSelector: {}, policyTypes: [Ingress, Egress]}"
DENY_OUT = "{podSelector: {}, policyTypes: [Egress]}"
TRIES = 12  # connections to a service, which kube-proxy spreads over its pods by chance
CLUSTER_DNS = (
    "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}},"
    " podSelector: {matchLabels: {k8s-app: kube-dns}}}"
)
LOOK_UP = (
    f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{CLUSTER_DNS}],"
    " ports: [{port: 53, protocol: UDP}, {port: 53}]}]}"
)


@pytest.fixture
def world(policy_world: World) -> Iterator[World]:
    yield policy_world
    policy_world.clear()
    policy_world.cluster.kubectl("delete", "services", "-A", "-l", "manx-policy-test")


def _service(world: World, ns: str, name: str, selector: dict[str, str], **spec: Any) -> dict[str, Any]:
    """Create a service on port 8000 for the port that pods call web; its spec as the API server completed it."""
    metadata = {"namespace": f"np-{ns}", "name": name, "labels": {"manx-policy-test": "yes"}}
    body = {"selector": selector, "ports": [{"port": 8000, "targetPort": "web"}], **spec}
    world.cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": body})
    found: dict[str, Any] = world.cluster.kubectl.json("-n", f"np-{ns}", "get", "service", name)["spec"]
    return found


def _tries(source: str, address: str, port: int = 8000) -> list[Probe]:
    return [Probe(source, f"{address} #{number}", address, "TCP", port) for number in range(TRIES)]


def _table(allowed: list[Probe], denied: list[Probe]) -> dict[Probe, bool]:
    return {**dict.fromkeys(allowed, True), **dict.fromkeys(denied, False)}


def test_a_policy_means_the_port_of_the_pod_behind_a_service(world: World) -> None:
    address = _service(world, "y", "all", {"manx-policy-test": "yes"})["clusterIP"]
    sources = [name for name, member in world.members.items() if member.key]
    world.agree(_table([try_ for name in sources for try_ in _tries(name, address)], []))
    from_x = "from: [{namespaceSelector: {matchLabels: {ns: x}}}]"
    world.apply({"y/p": f"{{podSelector: {{}}, ingress: [{{{from_x}, ports: [{{port: web}}]}}]}}"})
    inside = [try_ for name in ("x/a", "x/b", "x/c") for try_ in _tries(name, address)]
    world.agree(_table(inside, [try_ for name in ("z/a", "z/b", "z/c") for try_ in _tries(name, address)]))
    world.apply({"y/p": f"{{podSelector: {{}}, ingress: [{{{from_x}, ports: [{{port: 8000}}]}}]}}"})
    world.agree(_table([], inside))


def test_egress_by_way_of_a_service_is_egress_to_its_pod(world: World) -> None:
    allowed = _service(world, "y", "only-b", {"pod": "b"})["clusterIP"]
    denied = _service(world, "y", "only-c", {"pod": "c"})["clusterIP"]
    world.agree(_table(_tries("x/a", allowed) + _tries("x/a", denied), []))
    peer = "{namespaceSelector: {matchLabels: {ns: y}}, podSelector: {matchLabels: {pod: b}}}"
    world.apply({"x/p": f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{peer}]}}]}}"})
    world.agree(_table(_tries("x/a", allowed), _tries("x/a", denied)))


def test_an_isolated_pod_reaches_itself_by_way_of_its_service(world: World) -> None:
    own = _service(world, "x", "own", {"pod": "a"})["clusterIP"]
    world.agree(_table(_tries("x/a", own) + _tries("x/b", own), []))
    world.apply({"x/p": DENY_BOTH})
    world.agree(_table(_tries("x/a", own), _tries("x/b", own) + _tries("y/a", own)))


def test_a_node_port_that_keeps_the_source_is_judged_by_it(world: World) -> None:
    keep = {"type": "NodePort", "externalTrafficPolicy": "Local"}
    node_port = _service(world, "x", "outer", {"pod": "a"}, **keep)["ports"][0]["nodePort"]
    node = world.members[world.cluster.nodes[0]].address
    outside = _tries("outside", node, node_port)
    world.agree(_table(outside, []))
    world.apply({"x/p": "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}"})
    world.agree(_table([], outside))
    world.apply({"x/p": "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: <outside>/32}}]}]}"})
    world.agree(_table(outside, []))


def test_names_are_looked_up_where_egress_to_the_cluster_dns_is_allowed(world: World) -> None:
    _service(world, "y", "named", {"pod": "b"})
    _becomes(world, "connected")
    world.apply({"x/p": DENY_OUT})
    _becomes(world, "DNS")
    world.apply({"x/q": LOOK_UP})
    _becomes(world, "TIMEOUT")
    world.apply({"x/r": "{podSelector: {}, egress: [{to: [{namespaceSelector: {matchLabels: {ns: y}}}]}]}"})
    _becomes(world, "connected")


def _becomes(world: World, outcome: str) -> None:
    world.cluster.wait_for(f"a connection by name: {outcome}", lambda: _connect_by_name(world) == outcome, timeout=90)


def _connect_by_name(world: World) -> str:
    """What agnhost says of a connection from x/a to the service by its name: TIMEOUT, DNS, ..., or "connected"."""
    # With a dot at its end, or a look-up that policy drops would be tried in every search domain, ten seconds each.
    words = ["/agnhost", "connect", "named.np-y.svc.cluster.local.:8000", "--timeout=3s"]
    try:
        world.cluster.pod_exec("a", *words, namespace="np-x")
    except LabError as error:
        return next((word for word in ("TIMEOUT", "REFUSED", "DNS", "OTHER") if word in str(error)), str(error))
    return "connected"
