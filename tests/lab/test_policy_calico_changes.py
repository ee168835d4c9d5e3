"""Calico's policies follow what changes: service accounts and namespaces relabelled, network sets, services, orders,
tiers, and pods that finish. After each change a share of all connections is tried."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab_policy_cases import DENY_IN
from lab_policy_objects import MARK
from lab_policy_world import REAL, World
from manx_core.api.lines import lines_of

SHARE = 0.3


@pytest.fixture
def world(policy_world: World) -> Iterator[World]:
    yield policy_world
    policy_world.clear()
    kubectl = policy_world.cluster.kubectl
    for namespace in REAL:
        kubectl("-n", namespace, "label", "pods,serviceaccounts", "--all", "role-")
        kubectl("-n", namespace, "delete", "services,pods", "-l", "passing")
    kubectl("label", "namespaces", *REAL, "team-")


def test_relabelled_service_accounts_enter_and_leave_on_both_sides(world: World) -> None:
    kubectl = world.cluster.kubectl
    world.apply(
        {
            "gnp peers": "{namespaceSelector: ns == 'x', ingress: [{action: Allow,"
            " source: {serviceAccounts: {selector: role == 'friend'}}}]}",
            "gnp subjects": "{serviceAccountSelector: role == 'closed', types: [Ingress]}",
        }
    )
    world.settle("x/a>y/a:80", "y/b>x/a:80", share=SHARE)
    kubectl("-n", "np-y", "label", "serviceaccount", "b", "role=friend")
    kubectl("-n", "np-z", "label", "serviceaccount", "a", "role=closed")
    world.settle("y/b>x/a:80", "z/b>x/a:80 x/a>z/a:80", share=SHARE)
    kubectl("-n", "np-y", "label", "serviceaccount", "b", "role=foe", "--overwrite")
    kubectl("-n", "np-z", "label", "serviceaccount", "a", "role-")
    world.settle("x/a>z/a:80", "y/b>x/a:80", share=SHARE)


def test_relabelled_namespaces_enter_and_leave_on_both_sides(world: World) -> None:
    world.apply(
        {
            "gnp peers": "{namespaceSelector: team == 'red', ingress: [{action: Allow,"
            " source: {namespaceSelector: team == 'blue'}}]}",
        }
    )
    world.settle("y/b>x/a:80 x/a>y/a:80", share=SHARE)
    world.cluster.kubectl("label", "namespace", "np-x", "team=red")
    world.settle("x/a>y/a:80", "y/b>x/a:80", share=SHARE)
    world.cluster.kubectl("label", "namespace", "np-y", "team=blue")
    world.settle("y/b>x/a:80", "z/b>x/a:80", share=SHARE)
    world.cluster.kubectl("label", "namespace", "np-y", "np-x", "team=green", "--overwrite")
    world.settle("z/b>x/a:80 y/b>x/a:80", share=SHARE)


def test_a_network_sets_addresses_and_labels_are_followed(world: World) -> None:
    world.apply(
        {
            "gset s": "{labels: {who: them}, nets: [203.0.113.0/24]}",
            "np x/p": "{ingress: [{action: Allow, source: {namespaceSelector: global(), selector: who == 'them'}}]}",
        }
    )
    world.settle("outside>x/a:80", "y/a>x/a:80 outside>x/a:80/UDP/6", families="4", share=SHARE)
    world.apply({"gset s": "{labels: {who: them}, nets: ['2001:db8:cb::10', <y/a>]}"})
    world.settle("y/a>x/a:80 outside>x/a:80/UDP/6", "outside>x/a:80", families="4", share=SHARE)
    world.apply({"gset s": "{labels: {who: others}, nets: ['2001:db8:cb::10', <y/a>]}"})
    world.settle(denies="y/a>x/a:80 outside>x/a:80", share=SHARE)


def test_a_services_endpoints_are_followed(world: World) -> None:
    metadata = {"name": "s", "namespace": "np-y", "labels": {"passing": "yes"}}
    spec = {
        "selector": {"role": "server"},
        "ports": [{"port": 9, "targetPort": "web"}],
        "ipFamilyPolicy": "PreferDualStack",
    }
    world.cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    world.apply(
        {
            "np y/p": "{selector: pod == 'a', egress: [{action: Allow, destination: {services: {name: s}}}]}",
            "gnp q": "{namespaceSelector: ns == 'z', ingress: [{action: Allow,"
            " source: {services: {name: s, namespace: np-y}}}]}",
        }
    )
    world.settle(denies="y/a>y/b:80 y/b>z/a:80", share=SHARE)
    world.cluster.kubectl("-n", "np-y", "label", "pod", "b", "c", "role=server")
    _wait_for_endpoints(world, "y/b", "y/c")
    world.settle("y/a>y/b:80 y/a>y/c:81 y/b>z/a:80 y/c>z/a:81", "y/a>y/b:81 y/a>y/c:80", share=SHARE)
    world.cluster.kubectl("-n", "np-y", "label", "pod", "b", "role-")
    _wait_for_endpoints(world, "y/c")
    world.settle("y/a>y/c:81 y/c>z/a:80", "y/a>y/b:80 y/b>z/a:80", share=SHARE)
    world.cluster.kubectl("-n", "np-y", "delete", "service", "s")
    _wait_for_endpoints(world)
    world.settle(denies="y/a>y/c:81 y/c>z/a:80", share=SHARE)


def _wait_for_endpoints(world: World, *names: str) -> None:
    """Until the service has these endpoints, of both families: what is expected is read from them."""
    members = [world.members[name] for name in names]
    expected = {address for member in members for address in (member.address, member.address6)}

    def there() -> bool:
        words = ("endpointslices", "-n", "np-y", "-l", "kubernetes.io/service-name=s")
        slices = [found.get("endpoints") or [] for found in world.cluster.kubectl.items(*words)]
        return {address for found in slices for each in found for address in each["addresses"]} == expected

    world.cluster.wait_for(f"endpoints {names}", there)


def test_orders_and_tiers_are_followed(world: World) -> None:
    allow = "ingress: [{action: Allow, protocol: TCP}]"
    world.apply(
        {
            "tier t": "{order: 10}",
            "np x/deny": "{order: 1, ingress: [{action: Deny}]}",
            "np x/allow": f"{{order: 2, {allow}}}",
            "y/k": DENY_IN,
        }
    )
    world.settle(denies="y/a>x/a:80 x/a>y/a:80", share=SHARE)
    world.apply({"np x/allow": f"{{order: 0.5, {allow}}}"})
    world.settle("y/a>x/a:80", "y/a>x/a:80/UDP", share=SHARE)
    world.apply({"np x/allow": f"{{tier: t, order: 100, {allow}}}", "gnp all": f"{{tier: t, {allow}}}"})
    world.settle("y/a>x/a:80 x/a>y/a:80", "y/a>x/a:80/UDP y/a>z/a:80/UDP", share=SHARE)
    world.apply({"tier t": "{order: 10, defaultAction: Pass}"})
    world.settle("y/a>z/a:80/UDP x/a>y/a:80", "y/a>x/a:80/UDP x/a>y/a:80/UDP", share=SHARE)
    world.apply({"tier t": "{order: 3000000, defaultAction: Deny}"})
    world.settle(denies="y/a>x/a:80 x/a>y/a:80 y/a>z/a:80/UDP", share=SHARE)


def test_a_pod_that_finished_is_nobodys_peer(world: World) -> None:
    """Its address goes from the groups while its object is still there."""
    world.apply(
        {"np x/p": "{ingress: [{action: Allow, source: {selector: passing == 'yes', namespaceSelector: all()}}]}"}
    )
    metadata = {"name": "passing", "namespace": "np-y", "labels": {"passing": "yes", MARK: "yes"}}
    container = {"name": "main", "image": "localhost/agnhost:lab", "command": ["/bin/sh", "-c", "sleep 8"]}
    spec = {"containers": [container], "restartPolicy": "Never", "nodeName": world.cluster.nodes[0]}
    world.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    address = world.cluster.wait_pod("passing", namespace="np-y", timeout=120)
    world.cluster.wait_for("its address in a group", lambda: address in _members(world))
    world.cluster.wait_for("its end", lambda: _phase(world) == "Succeeded")
    world.cluster.wait_for("its address in no group", lambda: address not in _members(world))
    world.settle(denies="y/a>x/a:80", share=SHARE)


def _members(world: World) -> set[str]:
    groups = world.cluster.kubectl.items("addressgroups.manx.dev")
    return {member for group in groups for member in lines_of(group["spec"].get("members", ""))}


def _phase(world: World) -> str:
    return str(world.cluster.kubectl.json("-n", "np-y", "get", "pod", "passing")["status"]["phase"])


def test_a_policy_says_where_it_is_in_force(world: World) -> None:
    world.apply({"np x/p": "{ingress: [{action: Allow, protocol: TCP}]}", "x/k": DENY_IN})
    world.settle("y/a>x/a:80", "y/a>x/a:80/UDP", share=0.1)
    world.cluster.wait_for("the policy in force on all three nodes", lambda: _in_force(world, "np-x", "p") == (3, 3))
    world.apply({"np x/p": "{selector: pod == 'a', ingress: [{action: Allow, protocol: UDP}]}"})
    world.cluster.wait_for("the policy in force on its one node", lambda: _in_force(world, "np-x", "p") == (1, 1))
    program = world.cluster.kubectl.json("get", "policyprograms.manx.dev", "knp.np-x.k")["status"]["nodes"]
    assert (program["inForce"], program["concerned"]) == (3, 3)


def _in_force(world: World, namespace: str, name: str) -> tuple[int, int] | None:
    """On how many nodes, of how many; None while what is said is of an earlier generation."""
    found = world.cluster.kubectl.json("-n", namespace, "get", "networkpolicies.projectcalico.org", name)
    status = found.get("status", {})
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return None
    nodes = status["nodes"]
    return nodes.get("inForce", 0), nodes.get("concerned", 0)
