"""Owns a pool of eight addresses, in blocks of four, that is one node's only one, and pods that use it up.

It must leave the cluster as it found it: the default pool serves the node again, and the small pool and its blocks are
gone, before the next test module begins. While it stands, other nodes are not concerned.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.cluster import Cluster
from lab.run import LabError
from lab_ends import SERVER

NAME, CIDR, BLOCK_SIZE = "small", "10.245.7.0/29", 30
LABEL = "manx-test-small-pool"
NAMESPACE = "manx-addresses"
ADDRESSES = [str(address) for address in ipaddress.ip_network(CIDR)]
PODS = [f"p{index}" for index in range(len(ADDRESSES))]
PATIENCE = 300.0
"""Seconds. An operator that has just become the leader gives no freed address again for two minutes."""
AGENT = "\0manx_agent\0"


@dataclass
class SmallPool:
    """The pool, while it stands. `node`: the one that it serves; `other`: one that it does not."""

    cluster: Cluster
    node: str
    other: str

    # --- pods ---------------------------------------------------------------------------------------------------------

    def run(self, *names: str, app: str = "small") -> None:
        """Create pods on the node; those that are there stay."""
        for name in names:
            labels = {"app": app}
            self.cluster.run_pod(name, *SERVER, node=self.node, namespace=NAMESPACE, labels=labels)

    def wait(self, *names: str) -> None:
        """Until all of these pods are Ready."""
        words = ("-n", NAMESPACE, "wait", "--for=condition=Ready", f"--timeout={PATIENCE:.0f}s")
        self.cluster.kubectl(*words, *(f"pod/{name}" for name in names), timeout=PATIENCE + 10)

    def delete(self, *names: str) -> None:
        """Delete pods, and wait until they are gone."""
        if names:
            self.cluster.kubectl("-n", NAMESPACE, "delete", "pod", "--ignore-not-found", *names, timeout=PATIENCE)

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods on the node, by name."""
        items = self.cluster.kubectl.items("pods", "-n", NAMESPACE)
        return {pod["metadata"]["name"]: pod for pod in items if pod["spec"]["nodeName"] == self.node}

    def address(self, name: str) -> str:
        """A pod's address as kubelet reports it; "" for none."""
        pod = self.cluster.kubectl.json("-n", NAMESPACE, "get", "pod", name)
        return str(pod["status"].get("podIP", ""))

    # --- what is known of addresses -----------------------------------------------------------------------------------

    def blocks(self) -> list[dict[str, Any]]:
        """The pool's blocks."""
        found = self.cluster.kubectl.items("ipamblocks.manx.dev")
        return [block for block in found if block["spec"]["pool"] == NAME]

    def allocations(self) -> list[dict[str, Any]]:
        """All of them, of all blocks of the pool."""
        return [one for block in self.blocks() for one in block.get("status", {}).get("allocations", [])]

    def quarantined(self) -> set[str]:
        """Addresses that are freed and may not be given again yet."""
        return {
            freed["address"]
            for block in self.blocks()
            for freed in block.get("status", {}).get("freed", [])
            if freed["sequence"] > block["spec"].get("forgotten", 0)
        }

    def condition(self) -> tuple[str, str]:
        """(status, reason) of the pool's condition AddressesAvailable; empty where it has none."""
        pool = self.cluster.kubectl.json("get", "ippools.projectcalico.org", NAME)
        for condition in pool.get("status", {}).get("conditions", []):
            if condition["type"] == "AddressesAvailable":
                return condition["status"], condition["reason"]
        return "", ""

    def events(self, kind: str, name: str, reason: str) -> list[str]:
        """What Events of this reason on an object say."""
        fields = f"involvedObject.kind={kind},involvedObject.name={name},reason={reason}"
        return [event["message"] for event in self.cluster.kubectl.items("events", "-A", "--field-selector", fields)]

    def agent(self, node: str) -> int:
        """Pid of a node's agent, from an image or from the working tree: the one that is in the node's network."""
        network = os.stat(f"/proc/{self.cluster.machines.holder(node)}/ns/net").st_ino
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if AGENT in (path / "cmdline").read_text() + "\0" and os.stat(path / "ns/net").st_ino == network:
                    return int(path.name)
            except (FileNotFoundError, ProcessLookupError):
                continue
        raise LabError(f"no agent runs on {node}")


# --- making and ending it ---------------------------------------------------------------------------------------------


@contextmanager
def small_pool(cluster: Cluster) -> Iterator[SmallPool]:
    """On a node that cluster DNS is not on."""
    busy = {
        pod["spec"]["nodeName"] for pod in cluster.kubectl.items("pods", "-n", "kube-system", "-l", "k8s-app=kube-dns")
    }
    node = next(name for name in reversed(cluster.nodes) if name not in busy)
    pool = SmallPool(cluster, node, next(name for name in cluster.nodes if name != node))
    cluster.delete("namespace", NAMESPACE)
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        _narrow_default_pool(cluster, f"!has({LABEL})")
        cluster.apply(_manifest())
        cluster.kubectl("label", "node", node, "--overwrite", f"{LABEL}=yes")
        cluster.wait_for(f"{node} to have a block of the small pool", pool.blocks, timeout=PATIENCE)
        cluster.wait_for(f"{node}'s other blocks to be given back", lambda: not default_blocks(pool), timeout=PATIENCE)
        yield pool
    finally:
        cluster.delete("namespace", NAMESPACE)
        cluster.kubectl("label", "node", node, f"{LABEL}-")
        _narrow_default_pool(cluster, "all()")
        # A pool in use cannot be deleted; without a node it soon is not.
        cluster.wait_for("the small pool's blocks to be gone", lambda: not pool.blocks(), timeout=PATIENCE)
        cluster.delete("ippools.projectcalico.org", NAME)
        cluster.wait_for(f"{node} to have a block of the default pool", lambda: default_blocks(pool), timeout=PATIENCE)


def _manifest() -> dict[str, Any]:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": {"name": NAME},
        "spec": {"cidr": CIDR, "blockSize": BLOCK_SIZE, "natOutgoing": False, "nodeSelector": f"has({LABEL})"},
    }


def _narrow_default_pool(cluster: Cluster, selector: str) -> None:
    """By the Installation, which the operator would otherwise make the pool equal to again."""
    installation = cluster.kubectl.json("get", "installations.operator.tigera.io", "default")
    pools = installation["spec"]["calicoNetwork"]["ipPools"]
    pools[0]["nodeSelector"] = selector
    patch = json.dumps({"spec": {"calicoNetwork": {"ipPools": pools}}})
    cluster.kubectl("patch", "installations.operator.tigera.io", "default", "--type=merge", "-p", patch)
    name = pools[0]["name"]

    def arrived() -> bool:
        pool = cluster.kubectl.json("get", "ippools.projectcalico.org", name)
        return bool(pool["spec"].get("nodeSelector") == selector)

    cluster.wait_for(f"IPPool {name} to select {selector}", arrived, timeout=PATIENCE)


def default_blocks(pool: SmallPool) -> list[str]:
    """Active IPv4 blocks that the node has of other pools. (IPv6 is not narrowed: pods have an address of it, too.)"""
    found = pool.cluster.kubectl.items("ipamblocks.manx.dev")
    return [
        block["metadata"]["name"]
        for block in found
        if block["spec"]["node"] == pool.node
        and block["spec"]["pool"] != NAME
        and block["spec"].get("state", "Active") == "Active"
        and ":" not in block["spec"]["cidr"]
    ]
