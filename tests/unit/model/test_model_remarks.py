"""What policies name and nothing has now is remarked, for as long as nothing has it."""

from __future__ import annotations

from typing import Any

from manx_core.api.core_v1 import ContainerPort
from manx_operator.model import PolicyId, PolicyModel
from policy_objects import pod

HTTP = ContainerPort(container_port=8080, name="http")
ID = PolicyId("gnp", "", "p")
SPEC: dict[str, Any] = {
    "ingress": [
        {"action": "Allow", "protocol": "TCP", "destination": {"selector": "app == 'a'", "ports": ["http"]}},
        {"action": "Allow", "source": {"selector": "app == 'b'"}},
    ]
}


def declared(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "uid": "u"}, "spec": spec}


def test_remarks_follow_what_there_is() -> None:
    model = PolicyModel()
    model.set_policy(ID, declared(**SPEC))
    assert model.drain().remarked == {"gnp.p"}
    assert model.remarks("gnp.p") == (
        "spec.ingress[0].destination names a port http/TCP of app=a, which nothing has",
        "spec.ingress[1].source selects nothing: app=b",
    )
    model.set_pod(("web", "x"), pod("web", "x", {"app": "a"}, uid="u1", ports=(HTTP,)))
    model.set_addresses(("web", "x"), "u1", ["10.0.0.1"])
    assert model.drain().remarked == {"gnp.p"}
    assert model.remarks("gnp.p") == ("spec.ingress[1].source selects nothing: app=b",)
    model.set_pod(("web", "y"), pod("web", "y", {"app": "a"}, uid="u2", ports=(HTTP,)))
    model.set_addresses(("web", "y"), "u2", ["10.0.0.2"])
    assert model.drain().remarked == frozenset()
    model.set_pod(("web", "x"), None)
    model.set_pod(("web", "y"), None)
    assert model.drain().remarked == {"gnp.p"}
    assert len(model.remarks("gnp.p")) == 2


def test_a_policy_that_is_gone_has_no_remarks() -> None:
    model = PolicyModel()
    model.set_policy(ID, declared(**SPEC))
    model.set_policy(ID, declared(ingress=[SPEC["ingress"][1]]))
    assert model.remarks("gnp.p") == ("spec.ingress[0].source selects nothing: app=b",)
    model.set_policy(ID, None)
    assert model.drain().remarked == frozenset()
    assert model.remarks("gnp.p") == ()
