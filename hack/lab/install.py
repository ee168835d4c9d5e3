"""Owns installing Manx into a lab as on any other cluster: by two ``kubectl create`` commands, and waiting until it
works.

It must not do anything that a user of a real cluster could not do, nor help the installation along.
"""

from __future__ import annotations

from pathlib import Path

from lab.kubectl import Kubectl
from lab.machines import Machines
from lab.run import LabError, wait_for
from lab.settings import CHECKOUT, Settings

NAMESPACE = "manx-system"
OPERATOR_MANIFEST = CHECKOUT / "manifests/operator.yaml"
CUSTOM_RESOURCES = {
    (4,): CHECKOUT / "manifests/custom-resources.yaml",
    (4, 6): CHECKOUT / "manifests/custom-resources-dual-stack.yaml",
    (6,): CHECKOUT / "manifests/custom-resources-ipv6.yaml",
}


def custom_resources(settings: Settings) -> Path:
    """The second manifest: by the families that pods are to have."""
    return CUSTOM_RESOURCES[settings.families]


def require_manifests() -> None:
    """LabError that names what this checkout lacks."""
    for path in (OPERATOR_MANIFEST, *CUSTOM_RESOURCES.values()):
        if not path.is_file():
            raise LabError(f"{path.relative_to(CHECKOUT)} is missing in this checkout (./hack/up --bare does without)")


def install(machines: Machines) -> None:
    """The two commands, back to back."""
    kubectl = Kubectl(machines.settings)
    for path in (OPERATOR_MANIFEST, custom_resources(machines.settings)):
        print(f"      $ kubectl create -f {path.relative_to(CHECKOUT)}", flush=True)
        kubectl("create", "-f", str(path))


def wait_until_working(machines: Machines, *, timeout: float = 180) -> None:
    """Wait until all nodes are Ready and cluster DNS answers; LabError with what Manx's pods say if not."""
    kubectl = Kubectl(machines.settings)
    try:
        wait_for("all nodes to be Ready", lambda: all(ready_nodes(kubectl).values()), timeout=timeout, every=0.5)
        kubectl(
            "-n", "kube-system", "rollout", "status", "deployment/coredns", f"--timeout={timeout:.0f}s", timeout=300
        )
    except LabError as error:
        raise LabError(
            f"{error}\n{diagnose(kubectl)}{_last_words(machines) if machines.settings.dev else ''}"
        ) from None


def ready_nodes(kubectl: Kubectl) -> dict[str, bool]:
    """Whether each node's condition Ready is True."""
    return {
        node["metadata"]["name"]: any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in node.get("status", {}).get("conditions", [])
        )
        for node in kubectl.items("nodes")
    }


def diagnose(kubectl: Kubectl) -> str:
    """What a person would look at first: Manx's pods, its status, its last events and log lines."""
    questions = (
        ("get", "nodes"),
        ("get", "pods", "-A", "-o", "wide"),
        ("get", "installations.operator.tigera.io", "-o", "yaml"),
        ("-n", NAMESPACE, "get", "events", "--sort-by=.lastTimestamp"),
        ("-n", NAMESPACE, "logs", "-l", "k8s-app=manx-operator", "--tail=15", "--prefix"),
        ("-n", NAMESPACE, "logs", "-l", "k8s-app=manx-node", "--tail=15", "--prefix", "--all-containers"),
    )
    return "\n".join(f"$ kubectl {' '.join(words)}\n{_answer(kubectl, words)}" for words in questions)


def _last_words(machines: Machines) -> str:
    """With --dev there are no pods to ask: the ends of the processes' logs."""
    logs = [machines.log(node, name) for node in machines.settings.node_names for name in ("operator", "bgp", "agent")]
    return "".join(f"\n$ tail {log}\n{log.read_text(errors='replace')[-1500:]}" for log in logs if log.exists())


def _answer(kubectl: Kubectl, words: tuple[str, ...]) -> str:
    try:
        return kubectl(*words)[-4000:]
    except LabError as error:
        return str(error)
