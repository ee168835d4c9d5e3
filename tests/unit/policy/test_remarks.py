"""What is legal and hardly meant is told, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from manx_core.policy import CompiledPolicy, compile_calico_policy
from manx_core.policy.remarks import remarks
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
        ({"selector": "a == 'x' && a != 'x'"}, ["SelectsNothing: the policy can select no pod"]),
        ({"doNotTrack": True, "applyOnForward": True}, ["SelectsNothing: the policy can select no pod"]),
        (
            {"ingress": [{"action": "Log"}], "egress": [{"action": "Log"}, ALLOW]},
            [
                "OnlyLogs: rules for Ingress only log: what no other policy decides, the tier's default action does",
            ],
        ),
        (
            {"ingress": [ALLOW, {"action": "Allow", "source": {"notNets": ["0.0.0.0/0"]}}]},
            ["MatchesNothing: spec.ingress[1] can match no packet"],
        ),
        ({"types": ["Egress"], "ingress": [{"action": "Allow", "source": {"notNets": ["0.0.0.0/0"]}}]}, []),
        (
            {"egress": [tcp(80), ALLOW, tcp(443, action="Deny")]},
            ["NeverReached: spec.egress[2] is never reached: spec.egress[1] matches all that it would"],
        ),
        (
            {"ingress": [tcp(80, 443), tcp(80, nets=["10.0.0.0/8"])]},
            ["NeverReached: spec.ingress[1] is never reached: spec.ingress[0] matches all that it would"],
        ),
        (
            {"ingress": [tcp(80, nets=["10.0.0.0/8"]), tcp(80, nets=["10.1.0.0/16"])]},
            ["NeverReached: spec.ingress[1] is never reached: spec.ingress[0] matches all that it would"],
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
    assert [f"{reason}: {message}" for reason, message in remarks(compiled(**spec))] == expected


def test_groups_without_members_are_told() -> None:
    policy = compiled(ingress=[tcp("http", selector="has(a)"), {"action": "Deny", "source": {"selector": "b == 'x'"}}])
    found = remarks(policy, [group.id for group in policy.groups])
    assert [str(remark.message) for remark in found] == [
        "nothing has a port http/TCP of a",
        "nothing is selected by b=x",
    ]
    assert remarks(policy, ["ag-other"]) == ()
