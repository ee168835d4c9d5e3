"""Which version of a policy is in force: the declared one, the one last valid, or isolation; also after a restart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from manx_core.api.core_v1 import NetworkPolicy, ObjectMeta
from manx_core.api.v1alpha1 import PolicyProgramSpec, StoredProgram
from manx_core.policy import pod_item
from manx_operator.model import PolicyId, PolicyModel
from manx_operator.model.policies import Declared, judge
from policy_cases import BROKEN, ingress, peer, policy, select

GNP = PolicyId("gnp", "", "p")
NP = PolicyId("np", "shop", "p")
KNP = PolicyId("knp", "shop", "p")
RULES = [{"action": "Allow", "source": {"selector": "app == 'x'"}}]


def declared(policy_id: PolicyId, *, uid: str = "u", generation: int = 1, **spec: Any) -> Declared:
    meta: dict[str, Any] = {"name": policy_id.name, "uid": uid, "generation": generation}
    if policy_id.namespace:
        meta["namespace"] = policy_id.namespace
    return {"metadata": meta, "spec": spec}


def kubernetes(uid: str = "u", *, valid: bool = True) -> NetworkPolicy:
    rules = (ingress((peer(select(app="x")),)),)
    return policy("shop", "p", select(app="web") if valid else BROKEN, rules, uid=uid)


VALID = {
    KNP: kubernetes(),
    NP: declared(NP, selector="app == 'web'", ingress=RULES),
    GNP: declared(GNP, selector="app == 'web'", ingress=RULES, order=7, tier="early"),
}
INVALID = {
    KNP: kubernetes(valid=False),
    NP: declared(NP, generation=2, selector="app ==", ingress=RULES),
    GNP: declared(GNP, generation=2, selector="app == 'web'", ingress=[{"action": "Perhaps"}]),
}
KINDS = pytest.mark.parametrize("policy_id", [KNP, NP, GNP], ids=lambda policy_id: policy_id.kind)


def program(model: PolicyModel, policy_id: PolicyId) -> PolicyProgramSpec:
    found = model.desired("PolicyProgram", policy_id.program)
    assert found is not None
    assert isinstance(found.spec, PolicyProgramSpec)
    return found.spec


def stored(model: PolicyModel, policy_id: PolicyId) -> StoredProgram:
    """The object that a leader leaves."""
    found = model.desired("PolicyProgram", policy_id.program)
    assert found is not None
    assert isinstance(found.spec, PolicyProgramSpec)
    return StoredProgram(metadata=ObjectMeta(name=found.name), spec=found.spec, declared=found.declared)


@KINDS
def test_an_invalid_version_leaves_the_valid_one_in_force(policy_id: PolicyId) -> None:
    model = PolicyModel()
    model.set_policy(policy_id, VALID[policy_id])
    valid = program(model, policy_id)
    model.drain()
    model.set_policy(policy_id, INVALID[policy_id])
    changes = model.drain()
    assert not changes.objects
    assert changes.policies == {policy_id}
    assert program(model, policy_id) == valid
    assert model.problems(policy_id)
    model.set_policy(policy_id, VALID[policy_id])
    assert model.drain().policies == {policy_id}
    assert not model.problems(policy_id)


@KINDS
def test_the_valid_version_stays_over_a_change_of_leader(policy_id: PolicyId) -> None:
    first, second, third = PolicyModel(), PolicyModel(), PolicyModel()
    first.set_policy(policy_id, VALID[policy_id])
    for before, after in ((first, second), (second, third)):
        after.adopt([stored(before, policy_id)])
        after.set_policy(policy_id, INVALID[policy_id])
        after.drain()
        assert stored(after, policy_id) == stored(first, policy_id)
        assert after.problems(policy_id)


@KINDS
@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", '{"metadata": 5}', '{"metadata": {"uid": "u"}, "spec": 5}']
)
def test_a_text_that_says_nothing_closes(policy_id: PolicyId, text: str) -> None:
    found = judge(policy_id, INVALID[policy_id], None, text)
    assert found.valid is None
    assert found.declared() == ""


@KINDS
def test_the_text_of_another_object_of_that_name_closes(policy_id: PolicyId) -> None:
    text = judge(policy_id, VALID[policy_id], None).declared()
    kept = judge(policy_id, INVALID[policy_id], None, text)
    assert kept.valid is not None
    other = (
        kubernetes("later", valid=False) if policy_id.kind == "knp" else declared(policy_id, uid="later", types=["?"])
    )
    assert judge(policy_id, other, None, text).valid is None
    assert judge(policy_id, other, kept).valid is None


@KINDS
def test_the_text_holds_what_compiling_needs_and_no_more(policy_id: PolicyId) -> None:
    text = judge(policy_id, VALID[policy_id], None).declared()
    assert json.loads(text)["metadata"].keys() <= {"name", "namespace", "uid", "generation"}
    assert (
        judge(policy_id, INVALID[policy_id], None, text).compiled == judge(policy_id, VALID[policy_id], None).compiled
    )


def test_the_text_holds_our_annotations_only() -> None:
    annotated = {
        "metadata": {"name": "p", "uid": "u", "annotations": {"manx.dev/log-denied": "true", "kubectl": "long"}},
        "spec": {},
    }
    assert json.loads(judge(GNP, annotated, None).declared())["metadata"]["annotations"] == {
        "manx.dev/log-denied": "true"
    }


# --- what never was valid ---------------------------------------------------------------------------------------------

WEB = pod_item("shop", {"team": "a"}, {"app": "web"}, "robot", {"role": "bot"})
OTHER = pod_item("shop", {"team": "b"}, {"app": "db"}, "default", {})
AWAY = pod_item("far", {"team": "a"}, {"app": "web"}, "default", {})


@pytest.mark.parametrize(
    ("policy_id", "spec", "selected", "types", "tier"),
    [
        (GNP, {"selector": "app == 'web'", "ingress": [{}]}, [WEB, AWAY], ("Ingress",), "default"),
        (GNP, {"selector": "app ==", "egress": [{}]}, [WEB, OTHER, AWAY], ("Egress",), "default"),
        (GNP, {"selector": 5, "types": ["Up"]}, [WEB, OTHER, AWAY], ("Ingress", "Egress"), "default"),
        (GNP, {"namespaceSelector": "team == 'a'", "tier": 5}, [WEB, AWAY], ("Ingress",), "default"),
        (GNP, {"namespaceSelector": "a ~", "tier": "early", "order": "x"}, [WEB, OTHER, AWAY], ("Ingress",), "early"),
        (GNP, {"serviceAccountSelector": "role == 'bot'", "types": "Egress"}, [WEB], ("Ingress", "Egress"), "default"),
        (GNP, {"ingress": "all", "egress": "all"}, [WEB, OTHER, AWAY], ("Ingress", "Egress"), "default"),
        (GNP, {"egress": [{"action": "Allow", "protocol": "TCB"}]}, [WEB, OTHER, AWAY], ("Egress",), "default"),
        (NP, {"selector": "app ==", "order": 1}, [WEB, OTHER], ("Ingress",), "default"),
        (NP, {"selector": "app == 'web'", "ingress": [5], "egress": []}, [WEB], ("Ingress",), "default"),
    ],
)  # fmt: skip
def test_what_never_was_valid_closes_what_it_may_have_meant(
    policy_id: PolicyId, spec: dict[str, Any], selected: list[dict[str, str]], types: tuple[str, ...], tier: str
) -> None:
    found = judge(policy_id, declared(policy_id, **spec), None)
    assert found.problems
    assert [item for item in (WEB, OTHER, AWAY) if found.compiled.applies_to.matches(item)] == selected
    assert (found.compiled.types, found.compiled.tier, found.compiled.source.uid) == (types, tier, "u")
    rules = (*found.compiled.ingress, *found.compiled.egress)
    assert [rule.action for rule in rules] == ["Deny"] * len(types)


@pytest.mark.parametrize("spec", [None, 5, [], "all"])
def test_a_spec_that_is_none_closes_all(spec: Any) -> None:
    found = judge(GNP, {"metadata": {"name": "p", "uid": "u"}, "spec": spec}, None)
    assert found.compiled.applies_to.matches(WEB)
    assert bool(found.problems) == (spec is not None)


@pytest.mark.parametrize(
    ("policy_id", "name"),
    [(KNP, "knp.shop.p"), (NP, "np.shop.p"), (GNP, "gnp.p")],
)
def test_programs_names(policy_id: PolicyId, name: str) -> None:
    assert policy_id.program == name == judge(policy_id, VALID[policy_id], None).compiled.name


def test_a_text_that_endangers_its_object_is_left_out() -> None:
    nets = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(40_000)]
    huge = declared(GNP, ingress=[{"action": "Deny", "source": {"nets": nets}}])
    found = judge(GNP, huge, None)
    assert not found.problems
    assert found.declared() == ""
