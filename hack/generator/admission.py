"""Admission policies: what RBAC and schemas cannot say, said by the API server itself, in CEL.

Owns: the policies and their bindings. Must not: need a webhook, which would have to run before anything could.

Those about pools take other objects as parameters, each of which must pass; what they miss (two pools made in the same
moment, a node that comes later) the operator finds and says in a condition.
Source: Kubernetes, "Validating Admission Policy" (admissionregistration.k8s.io/v1).
"""

from __future__ import annotations

from typing import Any

from generator import policy_admission
from generator.admission_parts import ANY, held_to, on
from generator.names import AGENT_USER, NAMESPACE, OPERATOR, metadata
from generator.rbac import AGENT_RULES, SPECS, written

_API = "admissionregistration.k8s.io/v1"
_NODE_CLAIM = "authentication.kubernetes.io/node-name"


def objects() -> list[dict[str, Any]]:
    """Every policy with its binding."""
    return [
        *_policy("agents.manx.dev", _agents()),
        *_policy("term.manx.dev", _term(), parameter=_LEASE),
        *_policy("ippool-in-use.manx.dev", _in_use(), parameter=ANY),
        *_policy("ippool-overlaps-ippool.manx.dev", _overlaps_pool(), parameter=ANY),
        *_policy("ippool-overlaps-services.manx.dev", _overlaps_services(), parameter=ANY),
        *_policy("ippool-overlaps-nodes.manx.dev", _overlaps_nodes(), parameter=ANY),
        *(
            document
            for name, spec, parameter in policy_admission.policies()
            for document in _policy(name, spec, parameter=parameter)
        ),
    ]


_LEASE: dict[str, Any] = {"name": OPERATOR, "namespace": NAMESPACE}


def _policy(name: str, spec: dict[str, Any], *, parameter: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """`parameter`: which objects of the parameter's kind must each be satisfied; none at all is fine."""
    binding: dict[str, Any] = {"policyName": name, "validationActions": ["Deny"]}
    if parameter is not None:
        binding["paramRef"] = {**parameter, "parameterNotFoundAction": "Allow"}
    return [
        {"apiVersion": _API, "kind": "ValidatingAdmissionPolicy", "metadata": metadata(name), "spec": spec},
        {"apiVersion": _API, "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata(name), "spec": binding},
    ]


def _agents() -> dict[str, Any]:
    """RBAC says which kinds agents may write, this says of which node. So it is about those kinds alone: what the
    operator writes all the time is not kept waiting for it."""
    claim = f"'{_NODE_CLAIM}'"
    return {
        "failurePolicy": "Fail",
        "matchConstraints": on(
            "manx.dev",
            [name for kind in written(AGENT_RULES, "manx.dev") for name in (kind, f"{kind}/*")],
            ["CREATE", "UPDATE", "DELETE"],
        ),
        "matchConditions": [{"name": "agents", "expression": f"request.userInfo.username == '{AGENT_USER}'"}],
        "variables": [
            {
                "name": "node",
                "expression": f"has(request.userInfo.extra) && {claim} in request.userInfo.extra"
                f" ? request.userInfo.extra[{claim}][0] : ''",
            }
        ],
        "validations": [
            {
                "expression": "variables.node != ''",
                "message": "an agent's token must be bound to a pod on a node (Kubernetes 1.32 or later)",
                "reason": "Forbidden",
            },
            {
                "expression": "request.operation != 'DELETE' && ("
                "(request.resource.resource == 'nodereports' && !has(request.subResource)"
                " && object.metadata.name == variables.node)"
                " || (request.resource.resource == 'ipamblocks' && has(request.subResource)"
                " && request.subResource == 'status' && oldObject.spec.node == variables.node))",
                "messageExpression": "'the agent of node ' + variables.node + ' may write its own NodeReport and the"
                " status of its own IPAMBlocks, nothing else of these kinds'",
                "reason": "Forbidden",
            },
        ],
    }


def _term() -> dict[str, Any]:
    """What a leader had on its way when it was stopped may arrive after its successor has begun. An update is then
    refused for the object's epoch (by its schema) or resourceVersion; for a creation only the Lease can tell."""
    validation = {
        "expression": "!has(params.spec.leaseTransitions) || object.spec.epoch > params.spec.leaseTransitions",
        "messageExpression": "'spec.epoch ' + string(object.spec.epoch) + ' is over: Lease '"
        " + params.metadata.name + ' is at ' + string(params.spec.leaseTransitions + 1)",
        "reason": "Forbidden",
    }
    return held_to(on("manx.dev", SPECS, ["CREATE"]), validation, ("coordination.k8s.io/v1", "Lease"))


def _pools(operations: list[str], parameter: tuple[str, str], expression: str, message: str, on_error: str) -> Any:
    validation = {"expression": expression, "messageExpression": message}
    return held_to(on("projectcalico.org", ["ippools"], operations), validation, parameter, on_error=on_error)


def _in_use() -> Any:
    return _pools(
        ["DELETE"],
        ("manx.dev/v1alpha1", "IPAMBlock"),
        "params.spec.pool != oldObject.metadata.name",
        "'IPPool ' + oldObject.metadata.name + ' is in use: block ' + params.spec.cidr + ' of node ' + params.spec.node"
        " + '. Set spec.disabled: true, and delete it once its blocks are gone'",
        "Fail",
    )


def _overlaps_pool() -> Any:
    return _pools(
        ["CREATE"],
        ("projectcalico.org/v3", "IPPool"),
        "params.metadata.name == object.metadata.name || !isCIDR(object.spec.cidr) || !isCIDR(params.spec.cidr)"
        " || !(cidr(params.spec.cidr).containsCIDR(object.spec.cidr)"
        " || cidr(object.spec.cidr).containsCIDR(params.spec.cidr))",
        "'spec.cidr ' + object.spec.cidr + ' overlaps IPPool ' + params.metadata.name + ' (' + params.spec.cidr + ')'",
        "Ignore",
    )


def _overlaps_services() -> Any:
    return _pools(
        ["CREATE"],
        ("networking.k8s.io/v1", "ServiceCIDR"),
        "!isCIDR(object.spec.cidr) || params.spec.cidrs.all(c, !cidr(c).containsCIDR(object.spec.cidr)"
        " && !cidr(object.spec.cidr).containsCIDR(c))",
        "'spec.cidr ' + object.spec.cidr + ' overlaps the services\\' network ' + params.spec.cidrs.join(', ')",
        "Ignore",
    )


def _overlaps_nodes() -> Any:
    return _pools(
        ["CREATE"],
        ("v1", "Node"),
        "!isCIDR(object.spec.cidr) || !has(params.status) || !has(params.status.addresses)"
        " || params.status.addresses.all(a, !isIP(a.address) || !cidr(object.spec.cidr).containsIP(a.address))",
        "'spec.cidr ' + object.spec.cidr + ' holds an address of node ' + params.metadata.name",
        "Ignore",
    )
