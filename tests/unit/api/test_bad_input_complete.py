"""Every field of Calico's policy kinds once good and once bad, by the models, in the same documents that are tried on a
real API server. So what gets past its schema is found by the operator, and what the one takes the other takes.
"""

from __future__ import annotations

from typing import Any

import pytest

from manx_core.api import calico_policy, felix_configuration, network_set, tier
from manx_core.api.calico_policy import GlobalNetworkPolicy, NetworkPolicy
from manx_core.api.felix_configuration import FelixConfiguration
from manx_core.api.fields import InvalidObject
from manx_core.api.network_set import GlobalNetworkSet, NetworkSet
from manx_core.api.tier import Tier
from policy_documents import REFUSED, TAKEN
from policy_fields import NEVER_GOOD, UNSUPPORTED, Leaf, bad, good, leaves

MODELS: dict[str, tuple[Any, Any]] = {
    "NetworkPolicy": (NetworkPolicy, calico_policy.check),
    "GlobalNetworkPolicy": (GlobalNetworkPolicy, calico_policy.check),
    "Tier": (Tier, tier.check),
    "NetworkSet": (NetworkSet, network_set.check),
    "GlobalNetworkSet": (GlobalNetworkSet, network_set.check),
    "FelixConfiguration": (FelixConfiguration, felix_configuration.check),
}
LEAVES = leaves()
PATHS = [f"{leaf.kind}-{leaf.path}" for leaf in LEAVES]


def problems(document: dict[str, Any]) -> list[str]:
    model, check = MODELS[document["kind"]]
    try:
        return [str(problem) for problem in check(model.parse(document))]
    except InvalidObject as error:
        return [str(problem) for problem in error.problems]


@pytest.mark.parametrize("leaf", LEAVES, ids=PATHS)
def test_each_field_is_taken_once_and_refused_once_by_its_name(leaf: Leaf) -> None:
    illegal = NEVER_GOOD.search(leaf.path) or UNSUPPORTED.search(leaf.path)
    assert (problems(leaf.document(good(leaf), "x")) == []) == (not illegal)
    found = problems(leaf.document(bad(leaf), "x"))
    assert any(leaf.place in text for text in found), found


def test_no_field_of_the_models_is_left_out() -> None:
    assert {leaf.kind for leaf in LEAVES} == set(MODELS)
    for kind, (model, _) in MODELS.items():
        spec = model.model_fields["spec"].annotation
        tops = {leaf.path.split(".")[1].removesuffix("[]") for leaf in LEAVES if leaf.kind == kind}
        assert {info.alias or name for name, info in spec.model_fields.items()} <= tops


@pytest.mark.parametrize("document", TAKEN, ids=[f"{d['kind']}-{i}" for i, d in enumerate(TAKEN)])
def test_what_the_api_server_takes_is_valid(document: dict[str, Any]) -> None:
    assert [text for text in problems(document) if "http" not in text] == []


@pytest.mark.parametrize(
    ("document", "field"),
    [(d, field) for d, field, _ in REFUSED],
    ids=[f"{d['kind']}-{field}-{i}" for i, (d, field, _) in enumerate(REFUSED)],
)
def test_what_the_api_server_refuses_is_invalid(document: dict[str, Any], field: str) -> None:
    """But for names of rules' annotations, which change nothing: an older object that has odd ones stays in force."""
    assert bool(problems(document)) == (not field.endswith(".metadata.annotations"))
