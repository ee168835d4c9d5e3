"""The Installation's life on a real cluster: changed, refused, suspended for a Calico, deleted and made again; and what
the admission policies hold agents and old leaders to.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.binaries import path_of
from lab.cluster import Cluster
from lab.install import custom_resources
from lab.run import LabError

NAMESPACE = "manx-system"
OURS = ("nodestates", "meshnodes", "ipamblocks", "nodereports", "policyclasses", "policyprograms", "addressgroups")


def condition(cluster: Cluster, kind: str) -> dict[str, Any]:
    raw = cluster.kubectl.json("get", "installation", "default")
    found = (each for each in raw.get("status", {}).get("conditions", []) if each["type"] == kind)
    return next(found, {})


def wait_ready(cluster: Cluster) -> None:
    def ready() -> bool:
        return condition(cluster, "Ready").get("status") == "True"

    cluster.wait_for("the Installation to be Ready", ready, timeout=180)


def daemonset(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.kubectl.json("-n", NAMESPACE, "get", "daemonset", "manx-node")
    return found


def test_the_overview_says_what_is_in_force(cluster: Cluster) -> None:
    wait_ready(cluster)
    lines = cluster.kubectl("get", "nodereports").splitlines()
    assert lines[0].split() == ["NAME", "POLICIES", "ENDPOINTS", "PEERS", "BLOCKS", "LAG-MS", "READY", "AGE"]
    assert len(lines) == 1 + len(cluster.nodes)
    blocks = cluster.kubectl.items("ipamblocks")
    families = {":" in block["spec"]["cidr"] for block in blocks}
    sessions = (len(cluster.nodes) - 1) * len(families)
    assert all(f"{sessions}/{sessions}" in line.split() for line in lines[1:])
    assert all(any(block["spec"]["cidr"] in line for line in lines[1:]) for block in blocks)


def test_explain_reads_well(cluster: Cluster) -> None:
    told = " ".join(cluster.kubectl("explain", "bgpconfigurations.projectcalico.org.spec.asNumber").split())
    assert "1 to 4294967295, or a string in dotted form" in told
    told = cluster.kubectl("explain", "installation.spec.calicoNetwork.ipPools.encapsulation")
    assert "ENUM:" in told
    assert "VXLANCrossSubnet" in told
    assert "not supported yet" in told


def test_a_change_rolls_out_one_node_at_a_time(cluster: Cluster) -> None:
    wait_ready(cluster)
    assert daemonset(cluster)["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == 1
    set_host_ports(cluster, "Disabled")
    try:
        cluster.wait_for("a changed DaemonSet", lambda: host_ports(cluster) == "Disabled")
        cluster.wait_for("progress to be told", lambda: condition(cluster, "Progressing").get("status") == "True")
        wait_ready(cluster)
    finally:
        set_host_ports(cluster, None)
    cluster.wait_for("the DaemonSet to be as before", lambda: host_ports(cluster) == "Enabled")
    wait_ready(cluster)


def set_host_ports(cluster: Cluster, value: str | None) -> None:
    patch = json.dumps({"spec": {"calicoNetwork": {"hostPorts": value}}})
    cluster.kubectl("patch", "installation", "default", "--type=merge", "-p", patch)


def host_ports(cluster: Cluster) -> str:
    """What the agents are told."""
    containers = daemonset(cluster)["spec"]["template"]["spec"]["containers"]
    return str(next(entry["value"] for entry in containers[0]["env"] if entry["name"] == "MANX_HOST_PORTS"))


def test_a_daemonset_changed_by_hand_is_put_right(cluster: Cluster) -> None:
    wait_ready(cluster)
    path = "/spec/template/spec/containers/0/securityContext/privileged"
    patch = [
        {"op": "replace", "path": path, "value": True},
        {"op": "remove", "path": path.replace("privileged", "allowPrivilegeEscalation")},
    ]
    cluster.kubectl("-n", NAMESPACE, "patch", "daemonset", "manx-node", "--type=json", "-p", json.dumps(patch))

    def put_right() -> bool:
        container = daemonset(cluster)["spec"]["template"]["spec"]["containers"][0]
        return container["securityContext"]["privileged"] is False

    cluster.wait_for("the DaemonSet to be put right", put_right, timeout=60)
    wait_ready(cluster)


# --- what agents and old leaders are held to -------------------------------------------------------------------------


@pytest.fixture
def agent(cluster: Cluster) -> tuple[str, Callable[..., str]]:
    """A node, and kubectl with the very token of that node's agent."""
    wait_ready(cluster)
    pod = cluster.kubectl.items("pods", "-n", NAMESPACE, "-l", "k8s-app=manx-node")[0]
    path = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    token = cluster.kubectl("-n", NAMESPACE, "exec", pod["metadata"]["name"], "-c", "agent", "--", "cat", path)
    settings = cluster.machines.settings
    server = [f"--server=https://127.0.0.1:{settings.api_port}", f"--certificate-authority={settings.state}/pki/ca.crt"]

    def kubectl(*words: str) -> str:
        command = [str(path_of("kubectl")), "--kubeconfig=/dev/null", *server, f"--token={token}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    return pod["spec"]["nodeName"], kubectl


def test_an_agent_writes_its_own_report_and_no_other(cluster: Cluster, agent: tuple[str, Callable[..., str]]) -> None:
    node, kubectl = agent
    other = next(name for name in cluster.nodes if name != node)
    patch = ["--type=merge", "-p", '{"metadata":{"labels":{"test":"x"}}}']
    assert "patched" in kubectl("patch", "nodereport", node, *patch)
    assert f"the agent of node {node} may write its own NodeReport" in kubectl("patch", "nodereport", other, *patch)
    assert "forbidden" in kubectl("delete", "nodereport", node)


def test_an_agent_writes_status_of_its_own_blocks_and_nothing_else(
    cluster: Cluster, agent: tuple[str, Callable[..., str]]
) -> None:
    node, kubectl = agent
    blocks = {block["spec"]["node"]: block["metadata"]["name"] for block in cluster.kubectl.items("ipamblocks")}
    status = ["--subresource=status", "--type=merge", "-p", '{"status":{"released":false}}']
    assert "patched" in kubectl("patch", "ipamblock", blocks[node], *status)
    foreign = next(block for owner, block in blocks.items() if owner != node)
    assert "status of its own IPAMBlocks, nothing else" in kubectl("patch", "ipamblock", foreign, *status)
    spec = ["--type=merge", "-p", '{"spec":{"epoch":99}}']
    for kind, name in (("ipamblock", blocks[node]), ("nodestate", node), ("meshnode", node)):
        assert "forbidden" in kubectl("patch", kind, name, *spec)
    assert "forbidden" in kubectl("get", "secrets", "-A")
    assert "forbidden" in kubectl("get", "pods", "-A")


def test_a_lower_epoch_is_refused(cluster: Cluster) -> None:
    name = cluster.nodes[0]
    epoch = cluster.kubectl.json("get", "meshnode", name)["spec"]["epoch"]
    patch = json.dumps({"spec": {"epoch": epoch - 1}})
    with pytest.raises(LabError, match="another leader has taken over"):
        cluster.kubectl("patch", "meshnode", name, "--type=merge", "-p", patch)


# --- Calico, and the end ---------------------------------------------------------------------------------------------


@pytest.fixture
def calico(cluster: Cluster) -> Iterator[None]:
    """The sign of a real Calico: its DaemonSet, with no node to run on."""
    labels = {"k8s-app": "calico-node"}
    container = {"name": "calico-node", "image": "localhost/agnhost:lab"}
    template = {"spec": {"nodeSelector": {"no": "node"}, "containers": [container]}, "metadata": {"labels": labels}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "calico-node", "namespace": "kube-system"}
    cluster.apply({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec})
    yield
    cluster.delete("-n", "kube-system", "daemonset", "calico-node")
    wait_ready(cluster)


def test_where_a_real_calico_is_nothing_is_changed(cluster: Cluster, calico: None, namespace: str) -> None:
    def told() -> bool:
        return condition(cluster, "Accepted").get("reason") == "CalicoPresent"

    cluster.wait_for("the Calico to be told of", told, timeout=90)
    assert "kube-system/calico-node" in condition(cluster, "Ready")["message"]
    before = cluster.kubectl.items("policyprograms")
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    metadata = {"name": "deny", "namespace": namespace}
    cluster.apply({**policy, "metadata": metadata, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}})
    generation = daemonset(cluster)["metadata"]["generation"]
    set_host_ports(cluster, "Disabled")
    seen = cluster.kubectl.json("get", "installation", "default")["metadata"]["generation"]
    cluster.wait_for(
        "the change to be seen", lambda: condition(cluster, "Accepted").get("observedGeneration") == seen, timeout=60
    )
    assert daemonset(cluster)["metadata"]["generation"] == generation
    assert cluster.kubectl.items("policyprograms") == before
    set_host_ports(cluster, None)


def test_deleting_the_installation_removes_all_and_making_it_again_brings_all_back(cluster: Cluster) -> None:
    wait_ready(cluster)
    cluster.run_pod("survivor", node=cluster.nodes[0])
    address = cluster.wait_pod("survivor")
    cluster.kubectl("delete", "installation", "default")
    cluster.wait_for("the agents to be gone", lambda: not _left(cluster, "daemonsets", "pods"), timeout=120)
    cluster.wait_for("all else to be gone", lambda: not _left(cluster), timeout=60)
    cluster.kubectl("create", "-f", str(custom_resources(cluster.settings)))
    wait_ready(cluster)
    blocks = {block["spec"]["cidr"] for block in cluster.kubectl.items("ipamblocks")}
    assert cluster.wait_pod("survivor") == address
    cluster.delete("pod", "survivor")
    assert blocks


def _left(cluster: Cluster, *namespaced: str) -> list[str]:
    """What there is of an installation, by name."""
    if namespaced:
        words = ("-n", NAMESPACE, "get", ",".join(namespaced), "-l", "k8s-app=manx-node", "-o", "name")
        return cluster.kubectl(*words).split()
    kinds = ",".join((*(f"{kind}.manx.dev" for kind in OURS), "ippools.projectcalico.org"))
    return cluster.kubectl("get", kinds, "-o", "name").split()
