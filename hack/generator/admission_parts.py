"""What admission policies are made of.

Owns: the forms that several policies share. Must not: know what any policy is about.
Source: Kubernetes, "Validating Admission Policy" (admissionregistration.k8s.io/v1).
"""

from __future__ import annotations

from typing import Any

from generator.names import OPERATOR_USER

ANY: dict[str, Any] = {"selector": {}}
"""Every object of the parameter's kind."""


def on(group: str, resources: list[str], operations: list[str]) -> dict[str, Any]:
    """Which requests a policy is about."""
    rule = {"apiGroups": [group], "apiVersions": ["*"], "operations": operations, "resources": resources}
    return {"resourceRules": [rule]}


def held_to(
    constraints: dict[str, Any], validation: dict[str, str], parameter: tuple[str, str], *, on_error: str = "Fail"
) -> dict[str, Any]:
    """A policy of one validation, against every object of a kind (its apiVersion and name). What the operator deletes
    by itself is not judged."""
    operator = {"name": "not-the-operator", "expression": f"request.userInfo.username != '{OPERATOR_USER}'"}
    deletes = constraints["resourceRules"][0]["operations"] == ["DELETE"]
    return {
        "failurePolicy": on_error,
        "paramKind": {"apiVersion": parameter[0], "kind": parameter[1]},
        "matchConstraints": constraints,
        **({"matchConditions": [operator]} if deletes else {}),
        "validations": [validation],
    }
