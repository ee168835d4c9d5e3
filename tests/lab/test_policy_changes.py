"""Policy follows what changes: labels of pods and namespaces, policies, pods that come and go. After each change every
connection of the policy tests' world is tried."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lab_policy_world import REAL, World, pod

FRIENDS = "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}]}]}"
BLUE = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]}"


@pytest.fixture
def world(policy_world: World) -> Iterator[World]:
    yield policy_world
    policy_world.clear()
    for namespace in REAL:
        policy_world.cluster.kubectl("-n", namespace, "label", "pods", "--all", "role-")
    policy_world.cluster.kubectl("label", "namespaces", *REAL, "team-")


def _label(world: World, namespace: str, name: str, *labels: str) -> None:
    world.cluster.kubectl("-n", namespace, "label", "pod", name, "--overwrite", *labels)


def test_a_relabelled_peer_is_let_in_and_shut_out(world: World) -> None:
    world.apply({"x/p": FRIENDS})
    world.settle(denies="x/b>x/a:80 x/c>x/a:80")
    _label(world, "np-x", "b", "role=friend")
    _label(world, "np-y", "b", "role=friend")
    world.settle(allows="x/b>x/a:80", denies="x/c>x/a:80 y/b>x/a:80")
    _label(world, "np-x", "b", "role=foe")
    _label(world, "np-x", "c", "role=friend")
    world.settle(allows="x/c>x/a:80", denies="x/b>x/a:80")


def test_an_empty_label_is_a_value_of_its_own(world: World) -> None:
    _label(world, "np-x", "b", "role=")
    _label(world, "np-x", "c", "role=friend")
    world.apply({"x/p": FRIENDS.replace("role: friend", 'role: ""')})
    world.settle(allows="x/b>x/a:80", denies="x/c>x/a:80 y/b>x/a:80")


def test_a_relabelled_pod_is_isolated_and_freed(world: World) -> None:
    world.apply({"x/p": "{podSelector: {matchLabels: {role: closed}}, policyTypes: [Ingress, Egress]}"})
    world.settle(allows="y/a>x/c:80 x/c>y/a:80")
    _label(world, "np-x", "c", "role=closed")
    world.settle(allows="y/a>x/a:80", denies="y/a>x/c:80 x/c>y/a:80")
    _label(world, "np-x", "c", "role-")
    world.settle(allows="y/a>x/c:80 x/c>y/a:80")


def test_a_relabelled_namespace_is_let_in_and_shut_out(world: World) -> None:
    world.apply({"x/p": BLUE, "y/p": BLUE})
    world.settle(denies="z/a>x/a:80 y/a>x/a:80 x/a>x/b:80")
    world.cluster.kubectl("label", "namespace", "np-z", "team=blue")
    world.settle(allows="z/a>x/a:80 z/c>y/b:80", denies="y/a>x/a:80")
    world.cluster.kubectl("label", "namespace", "np-z", "team=red", "--overwrite")
    world.cluster.kubectl("label", "namespace", "np-x", "team=blue")
    world.settle(allows="x/a>y/a:80 x/a>x/b:80", denies="z/a>x/a:80")


BLOCKS = "{ipBlock: {cidr: <y/a>/32}}, {ipBlock: {cidr: <y/a|6>/128}}"
VERSIONS = (
    ("{podSelector: {}, ingress: [{ports: [{port: 80}]}]}", "y/a>x/a:80", "y/a>x/a:81"),
    ("{podSelector: {}, ingress: [{ports: [{port: 81}]}]}", "y/a>x/a:81", "y/a>x/a:80"),
    ("{podSelector: {matchLabels: {pod: b}}, ingress: [{ports: [{port: 81}]}]}", "y/a>x/a:80", "y/a>x/b:80"),
    ("{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 81}]}]}", "y/a>x/b:80", "x/a>y/a:80"),
    (f"{{podSelector: {{}}, ingress: [{{from: [{BLOCKS}]}}]}}", "y/a>x/b:80 x/a>y/a:80", "z/a>x/b:80"),
    ("{podSelector: {}, ingress: [{}]}", "z/a>x/b:80", ""),
)


def test_an_updated_policy_replaces_what_it_said_and_a_deleted_one_leaves_nothing(world: World) -> None:
    for spec, allows, denies in VERSIONS:
        world.apply({"x/p": spec})
        world.settle(allows, denies)
    world.apply({"x/p": VERSIONS[0][0], "x/q": "{podSelector: {}, policyTypes: [Egress]}"})
    world.settle(denies="x/a>y/a:80 y/a>x/a:81")
    world.cluster.kubectl("-n", "np-x", "delete", "networkpolicy", "q")
    world.settle(allows="x/a>y/a:80", denies="y/a>x/a:81")
    world.cluster.kubectl("-n", "np-x", "delete", "networkpolicy", "p")
    world.settle(allows="x/a>y/a:80 y/a>x/a:81")


def test_a_pod_made_anew_under_its_name_is_the_peer_that_the_old_one_was(world: World) -> None:
    peer = "{podSelector: {matchLabels: {pod: b}}, namespaceSelector: {matchLabels: {ns: y}}}"
    world.apply(
        {
            "x/p": f"{{podSelector: {{}}, ingress: [{{from: [{peer}]}}]}}",
            "z/p": f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{peer}], ports: [{{port: web}}]}}]}}",
        }
    )
    world.settle("y/b>x/a:80 z/a>y/b:80", "y/a>x/a:80 z/a>y/b:81")
    before = world.members["y/b"].address
    world.dismiss("y/b")
    world.cluster.kubectl("-n", "np-y", "delete", "pod", "b")
    world.cluster.apply(pod("y", "b", world.cluster.nodes[-1]))
    world.admit("y/b")
    assert world.members["y/b"].address != before
    world.settle("y/b>x/a:80 z/a>y/b:80", "y/a>x/a:80 z/a>y/b:81")


def test_a_pod_on_the_hosts_network_is_no_peer_but_its_node(world: World) -> None:
    node = world.cluster.nodes[1]
    world.cluster.run_pod("host", node=node, namespace="np-x", labels={"role": "friend"}, host_network=True)
    _label(world, "np-x", "b", "role=friend")
    world.apply({"x/p": FRIENDS})
    world.cluster.wait_pod("host", namespace="np-x")
    world.settle("x/b>x/a:80 node1>x/a:80", f"{node}>x/a:80")
    world.apply({"x/p": "{podSelector: {matchLabels: {role: friend}}}"})
    world.settle(f"y/a>{node}:10250", "y/a>x/b:80")
    world.cluster.delete("-n", "np-x", "pod", "host", "--wait=false")


def test_the_kubelets_probes_reach_an_isolated_pod(world: World) -> None:
    world.apply({"x/p": "{podSelector: {}, policyTypes: [Ingress, Egress]}"})
    node = world.cluster.nodes[0]
    probed = pod("x", "probed", node)
    act = {"periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 1}
    (container,) = probed["spec"]["containers"]
    container["livenessProbe"] = {"tcpSocket": {"port": 80}, "initialDelaySeconds": 5, **act}
    container["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": 81}, "initialDelaySeconds": 5, **act}
    world.cluster.apply(probed)
    world.admit("x/probed")
    world.settle(f"{node}>x/probed:80", "y/a>x/probed:80 x/probed>y/a:80")
    world.cluster.wait_for("five of each probe", lambda: min(_probed(world, node, "successful")) >= 5)
    assert _probed(world, node, "failed") == (0, 0)
    world.dismiss("x/probed")
    world.cluster.kubectl("-n", "np-x", "delete", "pod", "probed", "--wait=false")


def _probed(world: World, node: str, result: str) -> tuple[int, int]:
    """How often the kubelet says that its liveness and readiness probes of the pod came out like this."""
    text = world.cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/metrics/probes")
    lines = [line for line in text.splitlines() if 'pod="probed"' in line and f'result="{result}"' in line]
    counts = dict.fromkeys(("Liveness", "Readiness"), 0)
    for line in lines:
        if (kind := re.search(r'probe_type="(\w+)"', line)) and kind[1] in counts:
            counts[kind[1]] = int(float(line.rpartition(" ")[2]))
    return counts["Liveness"], counts["Readiness"]
