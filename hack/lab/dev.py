"""Owns the developer's fast loop: Manx's processes run from the working tree inside the nodes, restarted in seconds.

It must not be used to prove an installation: these processes are root on their machine and speak to the API server as
its administrator, so what the image, the manifests and RBAC may get wrong does not show here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lab.image import compile_cni
from lab.install import NAMESPACE, OPERATOR_MANIFEST, custom_resources
from lab.kubectl import Kubectl
from lab.machines import HERE, Daemon, Machines
from lab.run import LabError
from lab.settings import CHECKOUT, DEFAULT_IMAGE

SOURCES = ("core/src", "operator/src", "node-agent/src")


@dataclass(frozen=True)
class Process:
    """One of Manx's processes: what it is called, what it runs, and whether on every node or on the first alone."""

    name: str
    argv: tuple[str, ...]
    everywhere: bool
    env: tuple[tuple[str, str], ...] = ()


# A restarted operator must not wait until its predecessor's Lease has run out.
SHORT_LEASE = (("MANX_LEASE_DURATION", "3"), ("MANX_LEASE_RENEW_DEADLINE", "2"), ("MANX_LEASE_RETRY_PERIOD", "0.5"))
OPERATOR_ENV = (("POD_NAME", "dev"), ("POD_NAMESPACE", NAMESPACE), ("MANX_IMAGE", DEFAULT_IMAGE), *SHORT_LEASE)
PROCESSES = (
    Process("operator", (sys.executable, "-m", "manx_operator"), everywhere=False, env=OPERATOR_ENV),
    Process("bgp", (sys.executable, "-m", "manx_agent.bgp.speaker"), everywhere=True),
    Process("agent", (sys.executable, "-m", "manx_agent"), everywhere=True),
)

# The operator rolls out its DaemonSet here as anywhere; its pods are refused, so that nothing disputes the processes'
# place.
NO_AGENT_PODS = HERE / "no-agent-pods.yaml"


def install(machines: Machines) -> None:
    """Create what the manifests have but the workloads, put the CNI executable into the nodes, start the processes."""
    kubectl = Kubectl(machines.settings)
    kubectl("create", "-f", str(NO_AGENT_PODS))
    documents = [d for d in yaml.safe_load_all(OPERATOR_MANIFEST.read_text()) if d]
    kubectl("create", "-f", "-", stdin=yaml.safe_dump_all(d for d in documents if not _is_workload(d)))
    kubectl("create", "-f", str(custom_resources(machines.settings)))
    _install_cni(machines)
    restart(machines, [])


def _is_workload(document: dict[str, Any]) -> bool:
    return document["kind"] in ("Deployment", "DaemonSet", "PodDisruptionBudget")


def _install_cni(machines: Machines) -> None:
    built = machines.settings.state / "cni"
    compile_cni(built)
    for name in machines.settings.node_names:
        machines.exec(name, ["cp", built / "manx", built / "portmap", "/opt/cni/bin/"])
        machines.exec(name, ["mkdir", "-p", "/run/manx", "/run/netns"])


def restart(machines: Machines, names: Sequence[str]) -> list[Daemon]:
    """Start, or end and start, the named processes (none named: all of them) wherever they belong."""
    unknown = set(names) - {process.name for process in PROCESSES}
    if unknown:
        raise LabError(f"{', '.join(sorted(unknown))}: the processes are {', '.join(p.name for p in PROCESSES)}")
    started = []
    for process in PROCESSES:
        nodes = machines.settings.node_names if process.everywhere else machines.settings.node_names[:1]
        if not names or process.name in names:
            started += [start(machines, name, process.name, process.argv, dict(process.env)) for name in nodes]
    return started


def start(
    machines: Machines, machine: str, name: str, argv: Sequence[str], env: dict[str, str] | None = None
) -> Daemon:
    """Run a command as a daemon of a machine, ending an earlier one of this name."""
    if any(daemon.name == name for daemon in machines.daemons(machine)):
        machines.stop(machine, name)
    settings = machines.settings
    variables = {
        "KUBECONFIG": str(settings.state / "inside.kubeconfig"),
        "NODE_NAME": machine,
        "PYTHONPATH": os.pathsep.join(str(CHECKOUT / source) for source in SOURCES),
        "PYTHONUNBUFFERED": "1",
        **(env or {}),
    }
    return machines.spawn(machine, name, argv, variables)
