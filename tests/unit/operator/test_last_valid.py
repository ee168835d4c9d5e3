"""Which version of a user's object counts: the declared, the last valid (also by the text it carries), the readable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from manx_core.api.fields import InvalidObject, Problem
from manx_kube import resources as r
from manx_operator.last_valid import LONGEST_TEXT, LastValid, stored_text, text_of
from manx_operator.user_kinds import UserKinds

BAD = "bad"


def parse(raw: Any) -> str:
    value = raw["spec"]["value"]
    if value == BAD:
        raise InvalidObject((Problem("spec.value", "is not allowed"),))
    return str(value)


def raw(value: str, uid: str = "u", last: str = "") -> dict[str, Any]:
    status = {"status": {"lastValid": last}} if last else {}
    return {"metadata": {"name": "x", "uid": uid}, "spec": {"value": value}, **status}


def text(value: str, uid: str = "u") -> str:
    return text_of(raw(value, uid))


@pytest.mark.parametrize(
    ("versions", "counts"),
    [
        ([raw("a")], "a"),
        ([raw("a"), raw("b")], "b"),
        ([raw("a"), raw(BAD)], "a"),
        ([raw("a"), raw(BAD, last=text("older"))], "a"),
        ([raw(BAD, last=text("kept"))], "kept"),
        ([raw(BAD, last=text("kept")), raw(BAD)], "kept"),
        ([raw(BAD, last=text("kept")), raw("new")], "new"),
        ([raw("a", last=text("kept"))], "a"),
        ([raw(BAD)], "readable"),
        ([raw(BAD), raw("a")], "a"),
        ([raw(BAD, last=text(BAD))], "readable"),
        ([raw(BAD, last=text("of another", uid="other"))], "readable"),
        ([raw(BAD, last="{no json")], "readable"),
        ([raw(BAD, last='"text"')], "readable"),
        ([raw(BAD, last='{"metadata": 5}')], "readable"),
        ([raw("a"), raw(BAD, uid="made anew")], "readable"),
        ([raw("a"), None], None),
        ([raw(BAD), None], None),
        ([raw("a"), None, raw(BAD)], "readable"),
    ],
)
def test_what_counts_after_some_versions(versions: list[dict[str, Any] | None], counts: str | None) -> None:
    kept: LastValid[str, str] = LastValid(parse, lambda raw: "readable")
    for version in versions:
        kept.put("x", version)
    assert kept.get("x") == counts
    assert ("x" in kept) == (versions[-1] is not None)
    assert kept.valid.get("x") == (None if counts == "readable" else counts)
    assert kept.text("x") == (text(counts) if counts not in (None, "readable") else "")


def test_without_a_way_of_reading_what_never_was_valid_is_as_if_it_was_absent() -> None:
    kept: LastValid[str, str] = LastValid(parse)
    kept.put("x", raw(BAD))
    assert kept.get("x") is None


def test_the_text_has_what_means_something() -> None:
    meta = {
        "name": "x", "namespace": "d", "uid": "u", "labels": {"a": "b"}, "resourceVersion": "7", "generation": 3,
        "annotations": {"manx.dev/log-denied": "true", "of": "others"},
    }  # fmt: skip
    found = json.loads(text_of({"metadata": meta, "spec": {"nets": []}, "status": {"conditions": []}}))
    kept = {key: meta[key] for key in ("name", "namespace", "uid", "labels")}
    assert found == {"metadata": {**kept, "annotations": {"manx.dev/log-denied": "true"}}, "spec": {"nets": []}}


def test_a_text_that_endangers_its_object_is_none() -> None:
    assert text(" " * LONGEST_TEXT) == ""


@pytest.mark.parametrize("status", [None, 5, {}, {"lastValid": 5}, {"lastValid": ["x"]}])
def test_a_status_that_says_nothing(status: Any) -> None:
    assert stored_text({**raw("a"), "status": status}) == ""


# --- the kinds --------------------------------------------------------------------------------------------------------


def tier(**spec: Any) -> tuple[float | None, str] | None:
    kinds = UserKinds()
    kinds.tiers.put("t", {"metadata": {"name": "t"}, "spec": spec})
    found = kinds.tiers.get("t")
    return None if found is None else (found.spec.order, found.default_action)


def test_of_a_tier_that_never_was_valid_its_place_counts_and_it_denies() -> None:
    assert tier(order=5, defaultAction="Perhaps") == (5, "Deny")
    assert tier(order="soon", defaultAction="Pass") is None
    assert tier(defaultAction="Perhaps") is None
    kinds = UserKinds()
    for name in ("default", "A.B"):
        kinds.tiers.put(name, {"metadata": {"name": name}, "spec": {"order": 5}})
        assert kinds.tiers.get(name) is None


def test_of_settings_that_never_were_valid_each_field_that_can_be_read_counts() -> None:
    kinds = UserKinds()
    meta = {
        "name": "default",
        "annotations": {"manx.dev/established-connections": "Recheck", "manx.dev/log-denied": "?"},
    }
    spec = {"defaultEndpointToHostAction": "Drop", "chainInsertMode": "Middle", "iptablesMarkMask": 1, "vxlanPort": "x"}
    kinds.felix_configurations.put("default", {"metadata": meta, "spec": spec})
    found = kinds.policy_settings("n1")
    assert (found.default_endpoint_to_host_action, found.established) == ("Drop", "Recheck")
    assert (found.chain_insert_mode, found.mark_mask, found.log_denied) == ("Insert", 0xFFFF0000, False)
    for spec in (5, None, ["x"]):  # type: ignore[assignment]
        kinds.felix_configurations.put("default", {"metadata": {"name": "default"}, "spec": spec})
        assert kinds.policy_settings("n1").default_endpoint_to_host_action == "Accept"


@pytest.mark.parametrize(
    ("resource", "namespace", "spec"),
    [
        (r.TIERS, "", {"order": 5}),
        (r.NETWORK_SETS, "d", {"nets": ["192.0.2.1"]}),
        (r.GLOBAL_NETWORK_SETS, "", {"nets": ["192.0.2.1"]}),
        (r.FELIX_CONFIGURATIONS, "", {"logPrefix": "x"}),
    ],
)
def test_each_kind_tells_what_it_last_was(resource: r.Resource, namespace: str, spec: dict[str, Any]) -> None:
    kinds = UserKinds()
    name = "default" if resource == r.FELIX_CONFIGURATIONS else "x"
    obj = {"metadata": {"name": name, "uid": "u"} | ({"namespace": namespace} if namespace else {}), "spec": spec}
    assert kinds.last_valid(resource, obj) == ""
    if resource == r.TIERS:
        kinds.tiers.put(name, obj)
    elif resource == r.FELIX_CONFIGURATIONS:
        kinds.felix_configurations.put(name, obj)
    else:
        kinds.network_sets.put((namespace, name), obj)
    assert kinds.last_valid(resource, obj) == text_of(obj)
    assert kinds.last_valid(r.IP_POOLS, obj) == ""
