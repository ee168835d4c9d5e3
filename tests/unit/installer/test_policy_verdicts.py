"""What is said of policies, tiers, network sets and FelixConfigurations."""

from __future__ import annotations

from typing import Any

import pytest

from manx_operator.conditions import Said
from manx_operator.review.policy_verdicts import felix_said, network_set_said, policy_said, tier_said


def raw(name: str = "x", annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "generation": 2, "annotations": annotations or {}}, "spec": spec}


def said(obj: dict[str, Any], *, is_global: bool = False, more: tuple[str, ...] = ()) -> tuple[str, str, str]:
    found = policy_said(obj, is_global=is_global, tiers={"security"}, more=more)
    assert found.type == "Valid"
    return found.status, found.reason, found.message


ALLOW, LOG = {"action": "Allow", "protocol": "TCP"}, {"action": "Log"}


def test_policies_without_anything_to_say() -> None:
    assert said(raw(ingress=[ALLOW])) == ("True", "Valid", "")
    assert said(raw(tier="security", ingress=[LOG, ALLOW], egress=[ALLOW], types=["Ingress", "Egress"]))[1] == "Valid"
    assert said(raw(tier="kube-admin"))[1] == "Valid"
    assert said(raw(applyOnForward=True), is_global=True)[1] == "Valid"


def test_invalid_policies() -> None:
    assert said(raw(ingress=[{"action": "allow"}]))[:2] == ("False", "Invalid")
    assert "spec.ingress[0].http: is not supported" in said(raw(ingress=[{"action": "Allow", "http": {}}]))[2]
    assert said(raw(tier="nosuch"))[:2] == ("False", "NoSuchTier")
    assert said({"metadata": {"name": "x"}, "spec": 5})[:2] == ("False", "Invalid")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"ingress": [LOG]}, "spec.ingress only logs, and allows nothing"),
        ({"types": ["Ingress"], "egress": [ALLOW]}, "spec.egress has no effect: spec.types does not hold Egress"),
        ({"ingress": [{"action": "Deny"}, ALLOW]}, "spec.ingress[1] is never reached: spec.ingress[0] decides"),
        ({"egress": [{"action": "Pass", "metadata": {"annotations": {"a": "b"}}}, LOG]}, "spec.egress[1] is never"),
        ({"ingress": [{**ALLOW, "notProtocol": "TCP"}]}, "spec.ingress[0] can never match: protocol and notProtocol"),
        ({"ingress": [{"action": "Allow", "protocol": "ICMP", "icmp": {"type": 8}, "notICMP": {"type": 8}}]}, "icmp"),
        ({"ingress": [{**ALLOW, "source": {"nets": ["10.1.0.0/16"], "notNets": ["10.0.0.0/8"]}}]}, "source.notNets"),
        ({"ingress": [{**ALLOW, "destination": {"ports": [80], "notPorts": [80, 81]}}]}, "destination.notPorts"),
        ({"ingress": [{**ALLOW, "source": {"selector": "has(a)", "notSelector": "has(a)"}}]}, "notSelector"),
        ({"ingress": [{**ALLOW, "unheardOf": 1}]}, "spec.ingress[0].unheardOf (unknown) has no effect"),
        ({"namespaceSelector": "all()"}, "spec.namespaceSelector (unknown) has no effect"),
        ({"performanceHints": ["AssumeNeededOnEveryNode"]}, "spec.performanceHints has no effect"),
    ],
)
def test_what_is_legal_and_hardly_meant_is_remarked(spec: dict[str, Any], words: str) -> None:
    status, reason, message = said(raw(**spec))
    assert (status, reason) == ("True", "Remarks")
    assert words in message


@pytest.mark.parametrize(
    "rules",
    [
        [ALLOW, {"action": "Deny"}],
        [{"action": "Log"}, ALLOW],
        [{"action": "Deny", "ipVersion": 4}, ALLOW],
        [{**ALLOW, "source": {"nets": ["10.0.0.0/8"], "notNets": ["10.1.0.0/16", "192.0.2.0/24"]}}],
        [{**ALLOW, "destination": {"ports": [80, 81], "notPorts": [80]}}],
    ],
)
def test_rules_that_may_match_are_not_remarked(rules: list[dict[str, Any]]) -> None:
    assert said(raw(ingress=rules))[1] == "Valid"


def test_remarks_of_the_compiled_policy_are_added_once() -> None:
    more = ("spec.ingress[1] is never reached: twice", "spec.ingress[0].source selects nothing: x")
    message = said(raw(ingress=[{"action": "Deny"}, ALLOW]), more=more)[2]
    assert "selects nothing" in message
    assert "twice" not in message


def test_policies_for_host_endpoints_alone_and_bad_annotations() -> None:
    message = said(raw(doNotTrack=True, applyOnForward=True), is_global=True)[2]
    assert "host endpoints only, and selects no pod" in message
    assert "'yes' has no effect" in said(raw(annotations={"manx.dev/log-denied": "yes"}))[2]


def test_tiers_and_network_sets() -> None:
    assert tier_said(raw("t", order=5)) == Said("Valid", "True", "Valid")
    assert tier_said(raw("default", order=5)).reason == "Invalid"
    assert "spec.foo (unknown)" in tier_said(raw("t", foo=1)).message
    assert network_set_said(raw(nets=["10.0.0.0/8"]), is_global=False) == Said("Valid", "True", "Valid")
    assert "spec.nets[0]" in network_set_said(raw(nets=["x"]), is_global=True).message
    assert "holds no address" in network_set_said(raw(), is_global=True).message


def test_felix_configurations() -> None:
    assert felix_said(raw("default", logPrefix="x"), {"n1"}) == Said("Accepted", "True", "Accepted")
    assert felix_said(raw("node.n1"), {"n1"}).status == "True"
    assert "there is no node n2" in felix_said(raw("node.n2"), {"n1"}).message
    ignored = felix_said(raw("default", bpfEnabled=True, foo=1), ())
    assert (ignored.status, ignored.reason) == ("True", "FieldsWithoutEffect")
    assert ignored.message == "without effect: spec.bpfEnabled; spec.foo (unknown)"
    assert felix_said(raw("default", chainInsertMode="x"), ()).reason == "Invalid"
