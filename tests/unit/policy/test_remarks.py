"""What is legal and hardly meant is told, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from manx_core.policy import CompiledPolicy, compile_calico_policy, compile_network_policy
from manx_core.policy.remarks import remarks
from policy_cases import egress, ingress, peer, policy, select, to_port
from policy_objects import gnp

ALLOW = {"action": "Allow"}


def compiled(**spec: Any) -> CompiledPolicy:
    result = compile_calico_policy(gnp("p", **spec))
    assert isinstance(result, CompiledPolicy)
    return result


def tcp(*ports: int | str, action: str = "Allow", **destination: Any) -> dict[str, Any]:
    return {"action": action, "protocol": "TCP", "destination": {"ports": list(ports), **destination}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        (
            {"ingress": [ALLOW, {"action": "Allow", "source": {"notNets": ["0.0.0.0/0"]}}]},
            ["spec.ingress[1] can match no packet"],
        ),
        ({"types": ["Egress"], "ingress": [{"action": "Allow", "source": {"notNets": ["0.0.0.0/0"]}}]}, []),
        (
            {"egress": [tcp(80), ALLOW, tcp(443, action="Deny")]},
            ["spec.egress[2] is never reached: spec.egress[1] before it matches all that it would"],
        ),
        (
            {"ingress": [tcp(80, 443), tcp(80, nets=["10.0.0.0/8"])]},
            ["spec.ingress[1] is never reached: spec.ingress[0] before it matches all that it would"],
        ),
        (
            {"ingress": [tcp(80, nets=["10.0.0.0/8"]), tcp(80, nets=["10.1.0.0/16"])]},
            ["spec.ingress[1] is never reached: spec.ingress[0] before it matches all that it would"],
        ),
        ({"ingress": [tcp(80, nets=["10.1.0.0/16"]), tcp(80, nets=["10.0.0.0/8"])]}, []),
        ({"ingress": [tcp(80, nets=["10.1.0.0/16"]), tcp(80)]}, []),
        ({"ingress": [tcp(80), tcp(80, 443), tcp(81)]}, []),
        ({"ingress": [tcp(80, selector="has(a)"), tcp(80)]}, []),
        ({"ingress": [{"action": "Allow", "ipVersion": 4}, ALLOW]}, []),
        ({"ingress": [{"action": "Log"}, ALLOW]}, []),
        ({"ingress": [{"action": "Allow", "notProtocol": "TCP"}, tcp(80)]}, []),
        ({"ingress": [{"action": "Allow", "source": {"notSelector": "has(a)"}}, tcp(80)]}, []),
    ],
)
def test_remarks(spec: dict[str, Any], expected: list[str]) -> None:
    assert list(remarks(compiled(**spec))) == expected


def test_what_nothing_has_now_is_told() -> None:
    declared = compiled(
        ingress=[tcp("http", 80, selector="has(a)"), {"action": "Deny", "source": {"notSelector": "b == 'x'"}}],
        egress=[{"action": "Allow", "destination": {"services": {"name": "s", "namespace": "ops"}}}],
    )
    assert list(remarks(declared, [group.id for group in declared.groups])) == [
        "spec.ingress[0].destination selects nothing: a",
        "spec.ingress[0].destination names a port http/TCP of a, which nothing has",
        "spec.egress[0].destination names the service ops/s, which has no endpoints",
    ]
    assert list(remarks(declared, ["ag-other"])) == []


def test_kubernetes_fields_have_their_own_names() -> None:
    rules = (ingress((peer(select(app="a")), peer(cidr="10.0.0.0/8")), to_port("http")),)
    declared = policy("web", "p", rules=rules, out=(egress((peer(select(app="b")),), to_port("http")),))
    result = compile_network_policy(declared)
    assert isinstance(result, CompiledPolicy)
    of, pods = ":namespace=web,:orchestrator=k8s", "which nothing has"
    assert list(remarks(result, [group.id for group in (*result.groups, *result.own_ports())])) == [
        f"spec.ingress[0].ports names a port http/TCP of {of}, {pods}",
        f"spec.ingress[0].from selects nothing: {of},app=a",
        f"spec.egress[0].ports names a port http/TCP of {of},app=b, {pods}",
    ]


def test_a_kubernetes_rule_is_reached_where_any_part_of_it_is() -> None:
    wide, part = peer(cidr="10.0.0.0/8"), peer(cidr="10.1.0.0/16")
    parts = (ingress((wide,)), ingress((part, peer(select(app="a")))), ingress((part,), to_port(80)))
    result = compile_network_policy(policy("web", "p", rules=parts))
    assert isinstance(result, CompiledPolicy)
    expected = "spec.ingress[2] is never reached: spec.ingress[0] before it matches all that it would"
    assert list(remarks(result)) == [expected]
