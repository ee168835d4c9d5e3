"""manifests/operator.yaml beyond the custom resource definitions: namespace, rights, policies, the operator itself.

Owns: the operator's Deployment and the order of the objects.
Must not: hold anything that the operator could make itself: what it makes, it can also take away and change.

Order: definitions first, so that the API server has the time of all that follows to serve them; what a pod needs before
the pod.
"""

from __future__ import annotations

from typing import Any

from generator import admission, rbac
from generator.names import IMAGE, NAMESPACE, OPERATOR, labels, metadata
from manx_kube.config import ENDPOINT_DIR

_ALIVE = "/run/manx-operator/alive"
_READY = "/run/manx-operator/ready"
_USER = 10001
_SELECTOR = {"k8s-app": OPERATOR}


def operator() -> list[dict[str, Any]]:
    """The objects that follow the definitions, in order."""
    return [_namespace(), *rbac.objects(), *admission.objects(), _disruption_budget(), _deployment()]


def _namespace() -> dict[str, Any]:
    """Agents and operator use the nodes' network, which the stricter levels of pod security do not allow."""
    security = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "audit", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": labels() | {"name": NAMESPACE} | security},
    }


def _disruption_budget() -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(OPERATOR, namespaced=True),
        "spec": {"minAvailable": 1, "selector": {"matchLabels": _SELECTOR}},
    }


def _deployment() -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(OPERATOR, namespaced=True),
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": _SELECTOR},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}},
            "template": {"metadata": {"labels": labels(OPERATOR) | _SELECTOR}, "spec": _pod()},
        },
    }


def _pod() -> dict[str, Any]:
    return {
        "serviceAccountName": OPERATOR,
        # It starts before there is a pod network, and pods' network must not be needed to repair it.
        "hostNetwork": True,
        "dnsPolicy": "Default",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "priorityClassName": "system-cluster-critical",
        # Nodes are NotReady, and on many clusters tainted, until the operator has done its work.
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists"},
            {"key": "node.kubernetes.io/network-unavailable", "operator": "Exists"},
            {"key": "node.cloudprovider.kubernetes.io/uninitialized", "operator": "Exists"},
            {"operator": "Exists", "effect": "NoSchedule"},
        ],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _SELECTOR},
            }
        ],
        "terminationGracePeriodSeconds": 10,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container()],
        "volumes": [
            {"name": "run", "emptyDir": {"medium": "Memory"}},
            {"name": "tmp", "emptyDir": {}},
            # Where this ConfigMap (Calico's name for it) is there, the API server is reached by its own address instead
            # of by the service's, so that nothing depends on kube-proxy.
            {"name": "api-endpoint", "configMap": {"name": "kubernetes-services-endpoint", "optional": True}},
        ],
    }


def _container() -> dict[str, Any]:
    return {
        "name": "operator",
        "image": IMAGE,
        "command": ["python3", "-m", "manx_operator"],
        "env": [
            # The image of the agents, unless the Installation names another registry.
            {"name": "MANX_IMAGE", "value": IMAGE},
            {"name": "MANX_ALIVE_FILE", "value": _ALIVE},
            {"name": "MANX_READY_FILE", "value": _READY},
            # The user has no entry in the image's passwd, and kopf asks for its name.
            {"name": "USER", "value": OPERATOR},
            _from_field("POD_NAME", "metadata.name"),
            _from_field("POD_NAMESPACE", "metadata.namespace"),
            _from_field("NODE_NAME", "spec.nodeName"),
        ],
        # Files and not ports: two replicas on one node would want the same port of its network. The file's age tells
        # that the event loop turns.
        "livenessProbe": _probe(f"test $(( $(date +%s) - $(stat -c %Y {_ALIVE}) )) -lt 60", delay=30, failures=3),
        "readinessProbe": _probe(f"test -e {_READY}", delay=1, failures=1),
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "run", "mountPath": "/run/manx-operator"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "api-endpoint", "mountPath": str(ENDPOINT_DIR), "readOnly": True},
        ],
    }


def _from_field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _probe(script: str, *, delay: int, failures: int) -> dict[str, Any]:
    return {
        "exec": {"command": ["sh", "-c", script]},
        "initialDelaySeconds": delay,
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
