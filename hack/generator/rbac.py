"""What the operator and the agents may do at the API server.

Owns: roles, and why each rule is there (docs/security.md says it for people).
Must not: grant what nothing uses. Secrets are in no rule: kubelet reads the pull secrets, and nobody else needs any.
"""

from __future__ import annotations

from typing import Any

from generator.names import AGENT, NAMESPACE, OPERATOR, metadata

READ = ["get", "list", "watch"]
WRITE = ["create", "update", "patch", "delete"]
SPECS = ["nodestates", "policyclasses", "policyprograms", "addressgroups", "meshnodes", "ipamblocks"]
POLICIES = ["networkpolicies", "globalnetworkpolicies"]
CALICO = [
    "bgpconfigurations", "bgppeers", "ippools", "felixconfigurations", "tiers", *POLICIES, "networksets",
    "globalnetworksets",
]  # fmt: skip
INSTALL = ["installations", "apiservers", "goldmanes", "whiskers"]


def _rule(group: str, resources: list[str], verbs: list[str], names: list[str] | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"apiGroups": [group], "resources": resources}
    rule |= {"resourceNames": names} if names else {}
    return rule | {"verbs": verbs}


def _status(resources: list[str]) -> list[str]:
    return [f"{resource}/status" for resource in resources]


OPERATOR_RULES = [
    # The model's inputs.
    _rule("", ["pods", "namespaces", "nodes", "services", "serviceaccounts"], READ),
    _rule("discovery.k8s.io", ["endpointslices"], READ),
    _rule("networking.k8s.io", ["networkpolicies", "servicecidrs"], READ),
    # What users write: read it, say in its status what was made of it. Pools are also made for the Installation, and
    # the built-in tiers.
    _rule("projectcalico.org", CALICO, READ),
    _rule("projectcalico.org", _status(CALICO), ["get", "update", "patch"]),
    _rule("projectcalico.org", ["ippools"], WRITE),
    _rule("projectcalico.org", ["tiers"], ["create"]),
    _rule("operator.tigera.io", INSTALL, READ),
    _rule("operator.tigera.io", _status(INSTALL), ["get", "update", "patch"]),
    # The objects between operator and agents. A NodeReport is deleted with its node.
    _rule("manx.dev", SPECS, READ + WRITE),
    _rule("manx.dev", ["ipamblocks/status", "policyprograms/status"], ["get", "update", "patch"]),
    _rule("manx.dev", ["nodereports"], [*READ, "delete"]),
    # What users must know.
    _rule("events.k8s.io", ["events"], ["create", "update", "patch"]),
    _rule("", ["events"], ["create", "update", "patch"]),
    # Whether the custom resources are there yet.
    _rule("apiextensions.k8s.io", ["customresourcedefinitions"], READ),
    # Whether a real Calico is here.
    _rule("apiregistration.k8s.io", ["apiservices"], ["get"], ["v3.projectcalico.org"]),
    _rule("apps", ["deployments"], ["get"], ["tigera-operator"]),
    _rule("apps", ["daemonsets"], ["get"], ["calico-node"]),
]
OPERATOR_NAMESPACED_RULES = [
    # The agents' roll-out: only that DaemonSet (create cannot be bound to a name).
    _rule("apps", ["daemonsets"], ["create"]),
    _rule("apps", ["daemonsets"], ["get", "update", "patch", "delete"], [AGENT]),
    _rule("apps", ["daemonsets"], ["list", "watch"]),
    # Electing the leader.
    _rule("coordination.k8s.io", ["leases"], ["create"]),
    _rule("coordination.k8s.io", ["leases"], ["get", "update", "patch"], [OPERATOR]),
]
AGENT_RULES = [
    # This node's share; the agent selects it by name and label.
    _rule("manx.dev", SPECS, READ),
    # Its report, and the allocations in its blocks: an admission policy holds it to its own node's.
    _rule("manx.dev", ["nodereports"], ["get", "list", "watch", "create", "update", "patch"]),
    _rule("manx.dev", ["ipamblocks/status"], ["get", "update", "patch"]),
    _rule("events.k8s.io", ["events"], ["create", "update", "patch"]),
]


def written(rules: list[dict[str, Any]], group: str) -> list[str]:
    """The kinds (plural names) of a group of which these rules let something be written, be it the status alone."""
    writing = [rule for rule in rules if group in rule["apiGroups"] and set(rule["verbs"]) - set(READ)]
    return sorted({resource.partition("/")[0] for rule in writing for resource in rule["resources"]})


def objects() -> list[dict[str, Any]]:
    """Service accounts, roles and bindings."""
    return [
        _account(OPERATOR),
        _account(AGENT),
        *_cluster_role(OPERATOR, OPERATOR_RULES),
        *_cluster_role(AGENT, AGENT_RULES),
        *_role(OPERATOR, OPERATOR_NAMESPACED_RULES),
    ]


def _account(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(name, namespaced=True)}


def _subjects(name: str) -> list[dict[str, str]]:
    return [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}


def _cluster_role(name: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    head = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    return [
        head | {"kind": "ClusterRole", "metadata": metadata(name), "rules": rules},
        head
        | {
            "kind": "ClusterRoleBinding",
            "metadata": metadata(name),
            "roleRef": _reference("ClusterRole", name),
            "subjects": _subjects(name),
        },
    ]


def _role(name: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    head = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    return [
        head | {"kind": "Role", "metadata": metadata(name, namespaced=True), "rules": rules},
        head
        | {
            "kind": "RoleBinding",
            "metadata": metadata(name, namespaced=True),
            "roleRef": _reference("Role", name),
            "subjects": _subjects(name),
        },
    ]
