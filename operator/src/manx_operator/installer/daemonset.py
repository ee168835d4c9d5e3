"""The agents' DaemonSet.

Owns: everything in its pods: containers, rights, mounts, probes.
Must not: do I/O, or hold settings that belong into NodeStates: a change of those must not restart agents.

Each capability and each mount is justified in docs/security.md; a test keeps that page complete.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from manx_core.api.installation import Installation, InstallationSpec, UpdateStrategy
from manx_core.api.installation_settings import bgp_enabled, host_ports_enabled
from manx_kube.config import ENDPOINT_DIR
from manx_operator.installer.image import image_for
from manx_operator.installer.names import AGENT, AGENT_LABELS, INSTALLATION_UID, NAMESPACE, OWN_LABELS, RENDERED

PROBE_PORT = 9098
BIN_DIR, CONF_DIR = "/opt/cni/bin", "/etc/cni/net.d"
PROC_SYS_NET = "/host/proc/sys/net"
AGENT_CAPABILITIES = ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"]
BGP_CAPABILITIES = ["NET_BIND_SERVICE"]


def render_daemonset(installation: Installation, own_image: str) -> dict[str, Any]:
    """The DaemonSet that a valid Installation asks for; `own_image` is the operator's. The same input gives the same
    object, whose annotation RENDERED is a hash of it."""
    spec = {
        "selector": {"matchLabels": AGENT_LABELS},
        "updateStrategy": _strategy(installation.spec.node_update_strategy or UpdateStrategy()),
        "template": {"metadata": {"labels": OWN_LABELS | AGENT_LABELS}, "spec": _pod(installation, own_image)},
    }
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:20]
    annotations = {RENDERED: digest, INSTALLATION_UID: installation.metadata.uid}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": AGENT,
            "namespace": NAMESPACE,
            "labels": OWN_LABELS | AGENT_LABELS,
            "annotations": annotations,
        },
        "spec": spec,
    }


def _strategy(wanted: UpdateStrategy) -> dict[str, Any]:
    if wanted.type == "OnDelete":
        return {"type": "OnDelete"}
    rolling = wanted.rolling_update
    share = rolling.max_unavailable if rolling is not None and rolling.max_unavailable is not None else 1
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": share, "maxSurge": 0}}


def _pod(installation: Installation, own_image: str) -> dict[str, Any]:
    spec = installation.spec
    image = image_for(spec, own_image)
    speaker = [_bgp(image)] if bgp_enabled(installation) else []
    pod: dict[str, Any] = {
        "serviceAccountName": AGENT,
        "hostNetwork": True,
        "dnsPolicy": "Default",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "priorityClassName": "system-node-critical",
        # A node has no network until its agent runs, whatever the node is tainted with.
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 10,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_agent(installation, image), *speaker],
        "volumes": [_volume(name, path, kind) for name, path, kind, _ in _mounts(spec)],
    }
    # The ConfigMap's name is Calico's. A volume, because nothing else of it lets a container start while the API server
    # is away (`manx_kube.config.adopt_endpoint`).
    endpoint = {"name": "kubernetes-services-endpoint", "optional": True}
    pod["volumes"] += [{"name": "tmp", "emptyDir": {}}, {"name": "api-endpoint", "configMap": endpoint}]
    if spec.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret.name} for secret in spec.image_pull_secrets]
    return pod


def _agent(installation: Installation, image: str) -> dict[str, Any]:
    mounts = [_mount(name, inside) for name, _, _, inside in _mounts(installation.spec)]
    return {
        "name": "agent",
        "image": image,
        "command": ["python3", "-m", "manx_agent"],
        "env": [
            _from_field("NODE_NAME", "spec.nodeName"),
            _from_field("POD_NAME", "metadata.name"),
            {"name": "MANX_PROBE_PORT", "value": str(PROBE_PORT)},
            {"name": "MANX_PROC_SYS_NET", "value": PROC_SYS_NET},
            {"name": "MANX_HOST_PORTS", "value": "Enabled" if host_ports_enabled(installation) else "Disabled"},
        ],
        # Liveness asks whether the event loop turns: an agent with much to apply must not be killed for it.
        "livenessProbe": _probe("/livez", delay=20, failures=6),
        "readinessProbe": _probe("/readyz", delay=1, failures=2),
        "resources": {"requests": {"cpu": "100m", "memory": "96Mi"}},
        "securityContext": _security(AGENT_CAPABILITIES),
        "volumeMounts": [
            *mounts,
            _mount("tmp", "/tmp"),
            _mount("api-endpoint", str(ENDPOINT_DIR)) | {"readOnly": True},
        ],
    }


def _bgp(image: str) -> dict[str, Any]:
    """A container of its own, so that agent and sessions may die without each other."""
    return {
        "name": "bgp",
        "image": image,
        "command": ["python3", "-m", "manx_agent.bgp.speaker"],
        "env": [_from_field("NODE_NAME", "spec.nodeName")],
        "resources": {"requests": {"cpu": "50m", "memory": "48Mi"}},
        "securityContext": _security(BGP_CAPABILITIES),
        "volumeMounts": [_mount("run", "/run/manx"), {"name": "tmp", "mountPath": "/tmp"}],
    }


def _mounts(spec: InstallationSpec) -> list[tuple[str, str, str, str]]:
    """(volume, path on the node, kind, path in the agent)."""
    cni = spec.cni
    bin_dir = cni.bin_dir if cni is not None and cni.bin_dir else BIN_DIR
    conf_dir = cni.conf_dir if cni is not None and cni.conf_dir else CONF_DIR
    return [
        ("run", "/run/manx", "DirectoryOrCreate", "/run/manx"),
        ("state", "/var/lib/manx", "DirectoryOrCreate", "/var/lib/manx"),
        ("cni-bin", bin_dir, "DirectoryOrCreate", BIN_DIR),
        ("cni-conf", conf_dir, "DirectoryOrCreate", CONF_DIR),
        ("xtables-lock", "/run/xtables.lock", "FileOrCreate", "/run/xtables.lock"),
        ("sysctl", "/proc/sys/net", "Directory", PROC_SYS_NET),
    ]


def _volume(name: str, path: str, kind: str) -> dict[str, Any]:
    return {"name": name, "hostPath": {"path": path, "type": kind}}


def _mount(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "mountPath": path}


def _from_field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _probe(path: str, *, delay: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"host": "127.0.0.1", "port": PROBE_PORT, "path": path},
        "initialDelaySeconds": delay,
        "periodSeconds": 10 if failures > 2 else 2,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _security(capabilities: list[str]) -> dict[str, Any]:
    return {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsUser": 0,
        "capabilities": {"drop": ["ALL"], "add": capabilities},
    }
