"""Owns moving a lab's node from one iptables back end to the other, as its administrator would.

It must not tell Manx: the agent has to find out by itself, from what the kubelet and kube-proxy use. A machine's /etc
is its own, so Debian's alternatives change for that node alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from lab.cluster import Cluster

Backend = Literal["nft", "legacy"]
FAMILIES = ("iptables", "ip6tables")
HINT = "KUBE-IPTABLES-HINT"
FOREIGN = ("KUBE-", "CNI-")


def switch(cluster: Cluster, node: str, backend: Backend) -> None:
    """Make a node's programs, its kubelet and its kube-proxy use a back end; then restart Manx's agent there.

    The rules of Kubernetes are removed from the other back end, where a reboot would have left none; Manx's stay, for
    the agent to remove.
    """
    other: Backend = "legacy" if backend == "nft" else "nft"
    for daemon in ("kubelet", "kube-proxy"):
        cluster.machines.stop(node, daemon)
    for family in FAMILIES:
        for verb in ("", "-save", "-restore"):
            target = f"/usr/sbin/{family}-{backend}{verb}"
            cluster.node_exec(node, "ln", "-sfn", target, f"/etc/alternatives/{family}{verb}")
        _remove_kubernetes(cluster, node, f"{family}-{other}")
    for daemon in ("kubelet", "kube-proxy"):
        cluster.machines.restart(node, daemon)
    cluster.wait_for("the kubelet's hint", lambda: HINT in saved(cluster, node, backend))
    _restart_agent(cluster, node)


def _remove_kubernetes(cluster: Cluster, node: str, program: str) -> None:
    """Delete Kubernetes' chains and the rules that lead there, and nothing else.

    Never a whole table read and written back: the agent goes on meanwhile, and what was read would name sets of its
    that are gone, or bring back rules that it replaced.
    """
    lines = _without_kubernetes(cluster.node_exec(node, f"{program}-save").splitlines())
    cluster.node_exec(node, f"{program}-restore", "--noflush", stdin="\n".join([*lines, ""]))


def _without_kubernetes(saved_lines: Iterable[str]) -> Iterator[str]:
    """What iptables-restore --noflush is told for a table's foreign chains to go."""
    chains: list[str] = []
    for line in saved_lines:
        if line.startswith("*"):
            chains = []
            yield line
        elif line == "COMMIT":
            yield from (f"-{verb} {chain}" for verb in "FX" for chain in chains)
            yield line
        elif line.startswith(tuple(f":{prefix}" for prefix in FOREIGN)):
            chains.append(line[1:].split()[0])
        elif line.startswith("-A ") and line[3:].split()[0] not in chains and any(each in line for each in FOREIGN):
            yield f"-D{line[2:]}"


def saved(cluster: Cluster, node: str, backend: Backend) -> str:
    """All rules of a back end, IPv4."""
    return cluster.node_exec(node, f"iptables-{backend}-save")


def _agent(cluster: Cluster, node: str) -> str:
    words = ("-l", "k8s-app=manx-node", "--field-selector", f"spec.nodeName={node}")
    (pod,) = cluster.kubectl.items("pods", "-n", "manx-system", *words)
    return str(pod["metadata"]["name"])


def _restart_agent(cluster: Cluster, node: str) -> None:
    old = _agent(cluster, node)
    cluster.kubectl("-n", "manx-system", "delete", "pod", old, timeout=120)
    cluster.wait_for("a new agent", lambda: _agent(cluster, node) != old, timeout=120)
    cluster.wait_pod(_agent(cluster, node), namespace="manx-system", timeout=120)
