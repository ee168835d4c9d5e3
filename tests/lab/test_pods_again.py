"""Pods that end and come again: a pod of the same name is another pod and works; one that has run to its end has no
address any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster import AGNHOST, Cluster
from lab_ends import HTTP, SERVER, End, Unanswered, ends_of

NAMESPACE = "manx-pods-again"
PROBE = {"readinessProbe": {"httpGet": {"path": "/", "port": HTTP}, "periodSeconds": 1}}
TIMES = 3


@pytest.fixture(scope="module")
def ends(cluster: Cluster) -> Iterator[dict[str, End]]:
    """The nodes, and a pod on the second."""
    cluster.delete("namespace", NAMESPACE)
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        cluster.run_pod("far", node=cluster.nodes[1], namespace=NAMESPACE)
        with ends_of(cluster, NAMESPACE, ["far"]) as found:
            yield found
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def owners(cluster: Cluster, name: str) -> set[str]:
    """Uids of pods of this name that have addresses."""
    blocks = cluster.kubectl.items("ipamblocks.manx.dev")
    found = [a for block in blocks for a in block.get("status", {}).get("allocations", [])]
    return {a["uid"] for a in found if (a["namespace"], a["name"]) == (NAMESPACE, name)}


def wait_for_owners(cluster: Cluster, name: str, uids: set[str]) -> None:
    """Until exactly these pods of the name have addresses."""
    cluster.wait_for(f"pods {name} with addresses to be {uids}", lambda: owners(cluster, name) == uids)


# --- the same name ----------------------------------------------------------------------------------------------------


def stateful_set(node: str) -> list[dict[str, Any]]:
    metadata, labels = {"name": "again", "namespace": NAMESPACE}, {"app": "again"}
    container = {"name": "main", "image": AGNHOST, "args": list(SERVER), **PROBE}
    pod = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]}
    service = {"clusterIP": "None", "selector": labels, "ports": [{"port": HTTP}]}
    spec = {
        "serviceName": "again",
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec},
    ]


def wait_for_new(cluster: Cluster, known: set[str]) -> dict[str, Any]:
    """The pod again-0 once it is Ready and its uid none of the known ones, to which it is added."""

    def new() -> dict[str, Any] | None:
        pod: dict[str, Any] = cluster.kubectl.json("-n", NAMESPACE, "get", "pod", "again-0")
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        return pod if ready and pod["metadata"]["uid"] not in known else None

    pod = cluster.wait_for("a new pod again-0", new, timeout=120)
    known.add(pod["metadata"]["uid"])
    return pod


def test_a_pod_of_the_same_name_works_and_nothing_of_its_predecessor_is_left(
    cluster: Cluster, ends: dict[str, End]
) -> None:
    cluster.apply(*stateful_set(cluster.nodes[0]))
    known: set[str] = set()
    for _ in range(TIMES):
        pod = wait_for_new(cluster, known)
        address, uid = pod["status"]["podIP"], pod["metadata"]["uid"]
        for source in ("far", cluster.nodes[0], cluster.nodes[1]):
            assert ends[source].get((address, HTTP)) == "again-0", source
        wait_for_owners(cluster, "again-0", {uid})
        cluster.kubectl("-n", NAMESPACE, "delete", "pod", "again-0", "--wait=false")
    cluster.kubectl("-n", NAMESPACE, "delete", "statefulset,service", "again")
    wait_for_owners(cluster, "again-0", set())
    with pytest.raises(Unanswered):
        ends["far"].get((address, HTTP))


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_job_that_is_done_has_no_address(cluster: Cluster, ends: dict[str, End]) -> None:
    """Its pod is still an object, and ended well: it had a network, for it has reached a server by name."""
    container = {
        "name": "main",
        "image": AGNHOST,
        "command": ["/agnhost", "connect", "kubernetes.default:443", "--timeout=20s"],
    }
    pod = {"nodeName": cluster.nodes[0], "restartPolicy": "Never", "containers": [container]}
    spec = {"backoffLimit": 3, "template": {"spec": pod}}
    cluster.apply(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "done", "namespace": NAMESPACE}, "spec": spec}
    )
    cluster.kubectl(*("-n", NAMESPACE, "wait", "--for=condition=Complete", "job/done", "--timeout=120s"), timeout=130)
    (found,) = cluster.kubectl.items(
        "pods", "-n", NAMESPACE, "-l", "job-name=done", "--field-selector", "status.phase=Succeeded"
    )
    name = found["metadata"]["name"]
    wait_for_owners(cluster, name, set())
    assert cluster.kubectl.json("-n", NAMESPACE, "get", "pod", name)["status"]["phase"] == "Succeeded"
