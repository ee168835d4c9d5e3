"""The cost rule for Calico's kinds, and for what they read: what one event makes differ, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from manx_core.api.core_v1 import EndpointPort
from manx_core.api.lines import lines_of
from manx_core.api.v1alpha1 import AddressGroupSpec, PolicyClassSpec
from manx_operator.model import Key, NetworkSetFacts, PolicyId, PolicyModel
from model_cases import account, slice_of, tier
from policy_cases import namespace
from policy_objects import pod

NODES = 10
DB_SERVICE = ("shop", "db-abc")


def gnp(model: PolicyModel, name: str, *, uid: str = "u", **spec: Any) -> PolicyId:
    declared = {"metadata": {"name": name, "uid": uid}, "spec": spec}
    model.set_policy(PolicyId("gnp", "", name), declared)
    return PolicyId("gnp", "", name)


def np(model: PolicyModel, name: str, **spec: Any) -> PolicyId:
    model.set_policy(
        PolicyId("np", "shop", name), {"metadata": {"name": name, "namespace": "shop", "uid": "u"}, "spec": spec}
    )
    return PolicyId("np", "shop", name)


def allow(direction: str, **entity: Any) -> list[dict[str, Any]]:
    return [{"action": "Allow", {"ingress": "source", "egress": "destination"}[direction]: entity}]


@pytest.fixture
def model() -> PolicyModel:
    """150 web pods on ten nodes, a third of them robots; a policy of the early tier, one of default, and groups of
    pods, of network sets, of both, and of a service."""
    made = PolicyModel()
    made.set_tier("early", tier("early", order=1))
    made.set_namespace("shop", namespace("shop", {"team": "a"}))
    for name, labels in (("default", {}), ("robot", {"role": "bot"})):
        made.set_service_account(("shop", name), account(("shop", name), labels))
    for number in range(150):
        name, node = f"web-{number}", f"n{number % NODES}"
        found = pod("shop", name, {"app": "web"}, account="default" if number % 3 else "robot", node=node, uid=name)
        made.set_pod(("shop", name), found)
        made.set_addresses(("shop", name), name, (f"10.0.0.{number}",))
    made.set_network_set(("", "office"), NetworkSetFacts({"kind": "office"}, ("10.0.0.7", "192.0.2.0/24")))
    made.set_endpoint_slice(DB_SERVICE, slice_of(DB_SERVICE, "db", ["10.9.0.1"], [EndpointPort(port=5432)]))
    gnp(made, "guard", tier="early", selector="app == 'web'", ingress=allow("ingress", selector="kind == 'office'"))
    np(made, "web", selector="app == 'web'", egress=allow("egress", services={"name": "db"}))
    made.drain()
    return made


def count(model: PolicyModel, change: Callable[[], object]) -> tuple[dict[str, int], set[str]]:
    """How many objects of each kind a change makes differ, and at which nodes; fails where more or less is reported."""
    keys, nodes = model.all_keys(), model.nodes()
    before = {key: model.desired(*key) for key in keys}, {node: model.endpoints(node) for node in nodes}
    change()
    reported = model.drain()
    keys, nodes = keys | model.all_keys(), nodes | model.nodes()
    different: set[Key] = {key for key in keys if model.desired(*key) != before[0].get(key)}
    different_nodes = {node for node in nodes if model.endpoints(node) != before[1].get(node, ())}
    assert reported.objects == different
    assert reported.nodes == different_nodes
    counts: dict[str, int] = {}
    for kind, _ in different:
        counts[kind] = counts.get(kind, 0) + 1
    return counts, different_nodes


def members(model: PolicyModel, text: str) -> list[str]:
    """Of the one group whose selector has this text in it."""
    specs = [found.spec for key in model.all_keys() if (found := model.desired(*key)) is not None]
    groups = [spec for spec in specs if isinstance(spec, AddressGroupSpec)]
    (group,) = {spec.group for spec in groups if text in spec.selector}
    return sorted(member for spec in groups if spec.group == group for member in lines_of(spec.members))


def tiers(model: PolicyModel) -> set[tuple[tuple[str, ...], ...]]:
    """What classes there are, by their policies' names."""
    specs = [found.spec for key in model.all_keys() if (found := model.desired(*key)) is not None]
    return {tuple(t.policies for t in spec.tiers) for spec in specs if isinstance(spec, PolicyClassSpec)}


def test_tiers_come_in_order(model: PolicyModel) -> None:
    assert tiers(model) == {(("gnp.guard",), ("np.shop.web",))}


# --- network sets -----------------------------------------------------------------------------------------------------


def test_a_network_set_changes(model: PolicyModel) -> None:
    changed = NetworkSetFacts({"kind": "office"}, ("0.0.0.0/0", "10.0.0.7"))
    assert count(model, lambda: model.set_network_set(("", "office"), changed)) == ({"AddressGroup": 1}, set())
    assert members(model, "office") == ["0.0.0.0/0", "10.0.0.7"]


def test_a_network_set_nobody_selects(model: PolicyModel) -> None:
    changed = NetworkSetFacts({"kind": "home"}, ("198.51.100.0/24",))
    assert count(model, lambda: model.set_network_set(("shop", "home"), changed)) == ({}, set())


def test_network_sets_share_a_member(model: PolicyModel) -> None:
    other = NetworkSetFacts({"kind": "office"}, ("10.0.0.7", "192.0.2.0/24"))
    assert count(model, lambda: model.set_network_set(("shop", "office"), other)) == ({}, set())
    assert count(model, lambda: model.set_network_set(("", "office"), None)) == ({}, set())
    assert members(model, "office") == ["10.0.0.7", "192.0.2.0/24"]
    assert count(model, lambda: model.set_network_set(("shop", "office"), None)) == ({"AddressGroup": 1}, set())


def test_a_pod_shares_its_address_with_a_set(model: PolicyModel) -> None:
    """The group holds the address for as long as either has it."""
    gnp(model, "guard", tier="early", ingress=allow("ingress", selector="kind == 'office' || app == 'web'"))
    model.drain()
    assert count(model, lambda: model.set_addresses(("shop", "web-7"), "web-7", ())) == ({}, set())
    assert "10.0.0.7" in members(model, "office")
    assert count(model, lambda: model.set_network_set(("", "office"), None)) == ({"AddressGroup": 2}, set())
    assert "10.0.0.7" not in members(model, "app")


def test_a_namespace_is_relabelled_around_a_network_set(model: PolicyModel) -> None:
    model.set_network_set(("shop", "branch"), NetworkSetFacts({"kind": "branch"}, ("198.51.100.0/24",)))
    gnp(model, "guard", tier="early", ingress=allow("ingress", selector="has(kind)", namespaceSelector="team == 'a'"))
    model.drain()
    assert members(model, "team") == ["198.51.100.0/24"]
    relabelled = namespace("shop", {"team": "b"})
    assert count(model, lambda: model.set_namespace("shop", relabelled)) == ({"AddressGroup": 1}, set())
    assert members(model, "team") == []


# --- services ---------------------------------------------------------------------------------------------------------


def test_a_services_endpoints_change(model: PolicyModel) -> None:
    assert members(model, "service") == ["10.9.0.1,tcp:5432"]
    changed = slice_of(DB_SERVICE, "db", ["10.9.0.1", "10.9.0.2"], [EndpointPort(port=5432)])
    assert count(model, lambda: model.set_endpoint_slice(DB_SERVICE, changed)) == ({"AddressGroup": 1}, set())
    assert members(model, "service") == ["10.9.0.1,tcp:5432", "10.9.0.2,tcp:5432"]


def test_endpoints_move_from_one_slice_to_another(model: PolicyModel) -> None:
    other = ("shop", "db-xyz")
    ports = [EndpointPort(port=5432)]
    second = slice_of(other, "db", ["10.9.0.1"], ports)
    assert count(model, lambda: model.set_endpoint_slice(other, second)) == ({}, set())
    assert count(model, lambda: model.set_endpoint_slice(DB_SERVICE, None)) == ({}, set())
    assert members(model, "service") == ["10.9.0.1,tcp:5432"]


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([EndpointPort(protocol="SCTP", port=7)], ["10.9.0.1,sctp:7"]),
        ([EndpointPort(port=1), EndpointPort(port=2)], ["10.9.0.1,tcp:1", "10.9.0.1,tcp:2"]),
        ([EndpointPort()], []),
        ([], []),
    ],
)
def test_a_slices_ports(model: PolicyModel, ports: list[EndpointPort], expected: list[str]) -> None:
    model.set_endpoint_slice(DB_SERVICE, slice_of(DB_SERVICE, "db", ["10.9.0.1", "no address"], ports))
    assert members(model, "service") == expected


def test_a_slice_comes_to_be_another_services(model: PolicyModel) -> None:
    changed = slice_of(DB_SERVICE, "web", ["10.9.0.1"], [EndpointPort(port=5432)])
    assert count(model, lambda: model.set_endpoint_slice(DB_SERVICE, changed)) == ({"AddressGroup": 1}, set())
    assert members(model, "service") == []


# --- service accounts and namespaces ----------------------------------------------------------------------------------


def test_service_accounts_are_read_for_the_first_time(model: PolicyModel) -> None:
    """Every pod's class is then named after its service account, too; and where there were one, there are two, so that
    no program is inside one any more."""
    counts, nodes = count(model, lambda: gnp(model, "bots", serviceAccountSelector="role == 'bot'"))
    assert counts == {"PolicyProgram": 3, "PolicyClass": 3}
    assert len(nodes) == NODES


def test_a_service_account_is_relabelled(model: PolicyModel) -> None:
    """The class of its pods, and the groups that they leave; no pod changes its class."""
    gnp(
        model,
        "bots",
        serviceAccountSelector="role == 'bot'",
        ingress=allow("ingress", serviceAccounts={"selector": "role == 'bot'"}),
    )
    model.drain()
    assert tiers(model) == {(("gnp.guard",), ("np.shop.web",)), (("gnp.guard",), ("gnp.bots", "np.shop.web"))}
    free = account(("shop", "robot"), {"role": "human"})
    counts, nodes = count(model, lambda: model.set_service_account(("shop", "robot"), free))
    assert nodes == set()
    assert counts == {"PolicyClass": 1, "AddressGroup": 1}
    assert tiers(model) == {(("gnp.guard",), ("np.shop.web",))}


def test_a_service_account_nobody_reads_is_relabelled(model: PolicyModel) -> None:
    free = account(("shop", "robot"), {"role": "human"})
    assert count(model, lambda: model.set_service_account(("shop", "robot"), free)) == ({}, set())


def test_a_namespace_is_relabelled(model: PolicyModel) -> None:
    """Its classes name other policies; no node's endpoints change."""
    gnp(model, "team", namespaceSelector="team == 'b'")
    model.drain()
    counts, nodes = count(model, lambda: model.set_namespace("shop", namespace("shop", {"team": "b"})))
    assert (counts, nodes) == ({"PolicyClass": 1}, set())
    assert tiers(model) == {(("gnp.guard",), ("gnp.team", "np.shop.web"))}


def test_pods_of_an_unknown_namespace_are_closed_while_a_policy_asks_for_namespaces(model: PolicyModel) -> None:
    model.set_pod(("far", "p"), pod("far", "p", node="n1"))
    assert class_of(model, "p") == "open"
    model.drain()
    counts, nodes = count(model, lambda: gnp(model, "team", namespaceSelector="team == 'b'"))
    assert (class_of(model, "p"), counts, nodes) == ("", {"PolicyProgram": 1}, {"n1"})
    _, nodes = count(model, lambda: model.set_namespace("far", namespace("far", {"team": "c"})))
    assert (class_of(model, "p"), nodes) == ("open", {"n1"})
    _, nodes = count(model, lambda: model.set_namespace("far", namespace("far", {"team": "b"})))
    assert (class_of(model, "p")[:3], nodes) == ("pc-", {"n1"})


def class_of(model: PolicyModel, name: str) -> str:
    return next(found.policy_class for node in model.nodes() for found in model.endpoints(node) if found.name == name)


# --- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (tier("early", order=2_000_000), (("np.shop.web",), ("gnp.guard",))),
        (tier("early"), (("np.shop.web",), ("gnp.guard",))),
        (tier("early", order=1_000_000), (("np.shop.web",), ("gnp.guard",))),
        (tier("early", order=2, defaultAction="Pass"), (("gnp.guard",), ("np.shop.web",))),
        (None, (("np.shop.web",), ("gnp.guard",))),
    ],
)
def test_a_tier_changes(model: PolicyModel, changed: Any, expected: tuple[tuple[str, ...], ...]) -> None:
    counts, nodes = count(model, lambda: model.set_tier("early", changed))
    assert (tiers(model), nodes) == ({expected}, set())
    assert counts == (
        {"PolicyClass": 1} if changed is None or changed.spec.order != 2 or changed.spec.default_action else {}
    )


def test_a_tier_without_policies_changes(model: PolicyModel) -> None:
    assert count(model, lambda: model.set_tier("late", tier("late", order=7))) == ({}, set())


def test_policies_are_ordered_and_reordered(model: PolicyModel) -> None:
    spec: dict[str, Any] = {"selector": "app == 'web'", "ingress": allow("ingress")}
    gnp(model, "z", order=1, **spec)
    gnp(model, "b", **spec)
    gnp(model, "a", **spec)
    model.drain()
    assert tiers(model) == {(("gnp.guard",), ("gnp.z", "gnp.a", "gnp.b", "np.shop.web"))}
    counts, nodes = count(model, lambda: gnp(model, "b", order=0.5, **spec))
    assert (counts, nodes) == ({"PolicyClass": 1, "PolicyProgram": 1}, set())
    assert tiers(model) == {(("gnp.guard",), ("gnp.b", "gnp.z", "gnp.a", "np.shop.web"))}


def test_a_policy_changes_its_tier(model: PolicyModel) -> None:
    counts, nodes = count(
        model,
        lambda: gnp(model, "guard", selector="app == 'web'", ingress=allow("ingress", selector="kind == 'office'")),
    )
    assert (counts, nodes) == ({"PolicyClass": 1, "PolicyProgram": 1}, set())
    assert tiers(model) == {(("gnp.guard", "np.shop.web"),)}
