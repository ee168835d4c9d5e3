"""The names that the manifests' parts know each other by.

Owns: names alone. Must not: hold anything else. The installer has its own copy of those that it needs, for nothing of
hack/ is in the image; a test holds both to be equal.
"""

from __future__ import annotations

from typing import Any

NAMESPACE = "manx-system"
OPERATOR = "manx-operator"
AGENT = "manx-node"
IMAGE = "docker.io/manxnet/manx:v0.1.0"
OPERATOR_USER = f"system:serviceaccount:{NAMESPACE}:{OPERATOR}"
AGENT_USER = f"system:serviceaccount:{NAMESPACE}:{AGENT}"


def labels(component: str = "") -> dict[str, str]:
    """The labels of every object of an installation."""
    common = {"app.kubernetes.io/part-of": "manx"}
    return common | ({"app.kubernetes.io/name": component} if component else {})


def metadata(name: str, *, namespaced: bool = False, **more: Any) -> dict[str, Any]:
    """An object's metadata."""
    where = {"namespace": NAMESPACE} if namespaced else {}
    return {"name": name, **where, "labels": labels(), **more}
