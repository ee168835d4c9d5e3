"""Owns the lab as tests see it: a running cluster to which objects are applied and in whose machines and pods
commands run.

It must not hide a failure or wait silently: every wait names what it waits for, and every command that fails raises
LabError with what was said.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lab import fabric, install
from lab.down import down
from lab.kubectl import Kubectl
from lab.machines import HERE, Machines
from lab.run import LabError, run, wait_for
from lab.settings import FIRST_EXTRA_HOST, Member, load, running_labs

T = TypeVar("T")
AGNHOST = "localhost/agnhost:lab"


def up_command(name: str, *options: str) -> list[str]:
    """The words that bring a lab up without the show."""
    return [sys.executable, "-m", "lab", "up", "--name", name, "--no-show", *options]


def up_environment() -> dict[str, str]:
    """The environment in which ``up_command`` finds this package."""
    return {**os.environ, "PYTHONPATH": str(HERE.parent)}


class Cluster:
    """One running lab."""

    def __init__(self, name: str) -> None:
        self.settings = load(name)
        self.machines = Machines(self.settings)
        self.kubectl = Kubectl(self.settings)

    @classmethod
    def start(cls, name: str, *options: str) -> Cluster:
        """Bring a lab up as ``./hack/up`` does, without the show; ``options`` are that command's.

        In a process of its own, for ``up`` joins the lab's cgroup, and what is in there ends with the lab.
        """
        run(up_command(name, *options), env=up_environment())
        return cls(name)

    @classmethod
    def start_or_reuse(cls, name: str, *options: str) -> tuple[Cluster, bool]:
        """The lab of this name if its API server answers, else a new one; and whether it is new."""
        if name in running_labs():
            with contextlib.suppress(LabError):
                cluster = cls(name)
                cluster.kubectl("get", "--raw", "/readyz")
                return cluster, False
        return cls.start(name, *options), True

    def down(self) -> None:
        """End this lab."""
        down(self.settings.name)

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes."""
        return self.settings.node_names

    def node_exec(self, node: str, *argv: str | Path, stdin: str | None = None, timeout: float = 60) -> str:
        """Output of a command run in all namespaces of a node (or ``fabric``, ``control-plane``, an added host)."""
        return self.machines.exec(node, argv, stdin=stdin, timeout=timeout)

    def pod_exec(self, pod: str, *argv: str, namespace: str = "default", timeout: float = 60) -> str:
        """Output of a command run in a pod by ``kubectl exec``."""
        return self.kubectl("-n", namespace, "exec", pod, "--", *argv, timeout=timeout)

    def apply(self, *documents: dict[str, Any] | str) -> str:
        """``kubectl apply`` of objects, or of YAML text; what kubectl said."""
        # As JSON: PyYAML leaves the word y as it is, which kubectl's YAML then takes for a truth value.
        texts = [d if isinstance(d, str) else json.dumps(d) for d in documents]
        return self.kubectl("apply", "-f", "-", stdin="\n---\n".join(texts))

    def delete(self, *words: str) -> str:
        """``kubectl delete``; what does not exist is deleted."""
        return self.kubectl("delete", "--ignore-not-found", *words, timeout=180)

    def run_pod(
        self,
        name: str,
        *args: str,
        node: str = "",
        namespace: str = "default",
        labels: dict[str, str] | None = None,
        image: str = AGNHOST,
        host_network: bool = False,
        **spec: Any,
    ) -> None:
        """Create a pod of one container (agnhost with ``args``); it need not run yet when this returns."""
        container = {"name": "main", "image": image, "args": list(args) or ["pause"], **spec.pop("container", {})}
        body: dict[str, Any] = {
            "containers": [container],
            "terminationGracePeriodSeconds": 0,
            "hostNetwork": host_network,
            **({"nodeName": node} if node else {}),
            **({"tolerations": [{"operator": "Exists"}]} if host_network else {}),
            **spec,
        }
        metadata = {"name": name, "namespace": namespace, "labels": labels or {"app": name}}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body})

    def wait_pod(self, name: str, *, namespace: str = "default", timeout: float = 60) -> str:
        """Wait until a pod is Ready and return its address."""
        self.kubectl(
            *("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={timeout:.0f}s"),
            timeout=timeout + 10,
        )
        return str(self.kubectl.json("-n", namespace, "get", "pod", name)["status"]["podIP"])

    def can_connect(self, pod: str, target: str, *, namespace: str = "default", seconds: int = 2) -> bool:
        """Whether a pod (agnhost) opens a TCP connection to ``address:port`` within ``seconds``."""
        try:
            self.pod_exec(pod, "/agnhost", "connect", target, f"--timeout={seconds}s", namespace=namespace)
        except LabError as error:
            if any(word in str(error) for word in ("TIMEOUT", "REFUSED", "OTHER")):
                return False
            raise
        return True

    def wait_for(self, what: str, probe: Callable[[], T | None], *, timeout: float = 60, every: float = 0.2) -> T:
        """Call ``probe`` until it is true; LabError names ``what`` and shows Manx's state after ``timeout`` seconds."""
        try:
            return wait_for(what, probe, timeout=timeout, every=every)
        except LabError as error:
            raise LabError(f"{error}\n{install.diagnose(self.kubectl)}") from None

    def add_host(self, name: str) -> Member:
        """Connect one more machine (a router, an outsider) to the fabric; it goes with ``remove_host`` or the lab."""
        taken = {host for host in range(FIRST_EXTRA_HOST, 255) if self._extra(host).exists()}
        host = next(host for host in range(FIRST_EXTRA_HOST, 255) if host not in taken)
        self._extra(host).write_text(name)
        self.machines.start(name)
        member = self.settings.at(name, host)
        fabric.connect(self.machines, member)
        return member

    def remove_host(self, member: Member) -> None:
        """End a machine that ``add_host`` made."""
        self.machines.kill(member.name)
        self._extra(member.host).unlink(missing_ok=True)

    def _extra(self, host: int) -> Path:
        return self.machines.run_dir / f"extra-{host}"
