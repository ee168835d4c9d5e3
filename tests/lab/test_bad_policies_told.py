"""What the API server takes and means nothing: a condition and an Event say so, field by field, on a real cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster import Cluster

CALICO = "projectcalico.org/v3"
HTTP = {"action": "Allow", "http": {"methods": ["GET"]}}
PLURALS = {
    "NetworkPolicy": "networkpolicies.projectcalico.org",
    "GlobalNetworkPolicy": "globalnetworkpolicies",
    "FelixConfiguration": "felixconfigurations",
}


def made(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    if kind != "FelixConfiguration":
        spec = {"selector": "manx.dev/test == 'nobody'", **spec}
    return {"apiVersion": CALICO, "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def thing(cluster: Cluster, namespace: str) -> Iterator[Any]:
    """Applies an object, in the test's namespace where it has one; deletes it afterwards."""
    there: list[tuple[str, str]] = []

    def apply(document: dict[str, Any]) -> None:
        cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(document))
        there.append((PLURALS[document["kind"]], document["metadata"]["name"]))

    yield apply
    for plural, name in there:
        cluster.kubectl("-n", namespace, "delete", plural, name, "--ignore-not-found")


def condition(cluster: Cluster, namespace: str, document: dict[str, Any], type_: str, status: str) -> dict[str, Any]:
    """The condition, once it has this status for this generation."""
    plural, name = PLURALS[document["kind"]], document["metadata"]["name"]

    def probe() -> dict[str, Any] | None:
        raw = cluster.kubectl.json("-n", namespace, "get", plural, name)
        for found in raw.get("status", {}).get("conditions", []):
            current = found.get("observedGeneration") == raw["metadata"]["generation"]
            if found["type"] == type_ and found["status"] == status and current:
                return dict(found)
        return None

    return cluster.wait_for(f"{plural}/{name} to be {type_}={status}", probe, timeout=60)


def told(cluster: Cluster, name: str, words: str) -> None:
    def probe() -> bool:
        events = cluster.kubectl.items("events.events.k8s.io", "-A")
        return any(each["regarding"].get("name") == name and words in each.get("note", "") for each in events)

    cluster.wait_for(f"an Event on {name}", probe, timeout=30)


@pytest.mark.parametrize(
    ("document", "type_", "words"),
    [
        (made("NetworkPolicy", "told-parentheses", selector="(has(nobody)"), "Valid", "spec.selector: "),
        (made("NetworkPolicy", "told-http", ingress=[HTTP]), "Valid", "spec.ingress[0].http: is not supported"),
        (made("GlobalNetworkPolicy", "told-tier", tier="nosuch"), "Valid", "spec.tier: there is no Tier nosuch"),
        (made("FelixConfiguration", "node.nosuch"), "Accepted", "metadata.name: there is no node nosuch"),
    ],
    ids=lambda value: value["metadata"]["name"] if isinstance(value, dict) else None,
)
def test_what_means_nothing_is_told(
    cluster: Cluster, namespace: str, thing: Any, document: dict[str, Any], type_: str, words: str
) -> None:
    thing(document)
    assert words in condition(cluster, namespace, document, type_, "False")["message"]
    told(cluster, document["metadata"]["name"], words)


def test_a_policy_becomes_invalid_and_valid_again(cluster: Cluster, namespace: str, thing: Any) -> None:
    good, bad = made("NetworkPolicy", "told-twice"), made("NetworkPolicy", "told-twice", ingress=[HTTP])
    for document, status in ((good, "True"), (bad, "False"), (good, "True")):
        thing(document)
        condition(cluster, namespace, document, "Valid", status)
    told(cluster, "told-twice", "valid again")


def test_what_is_legal_and_hardly_meant_is_remarked(cluster: Cluster, namespace: str, thing: Any) -> None:
    document = made("NetworkPolicy", "told-remarks", ingress=[{"action": "Log"}], egress=[], types=["Ingress"])
    thing(document)
    found = condition(cluster, namespace, document, "Valid", "True")
    assert found["reason"] == "Remarks"
    assert "spec.ingress only logs" in found["message"]
    assert condition(cluster, namespace, document, "InForce", "True")["reason"] == "NothingSelected"
