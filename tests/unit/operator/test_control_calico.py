"""Calico's kinds through one leadership on a fake API server: what comes of them, and what outlives a leader."""

from __future__ import annotations

from typing import Any

import pytest

from manx_core.api.lines import lines_of
from manx_kube.resources import (
    ADDRESS_GROUPS,
    CALICO_NETWORK_POLICIES,
    ENDPOINT_SLICES,
    FELIX_CONFIGURATIONS,
    GLOBAL_NETWORK_POLICIES,
    GLOBAL_NETWORK_SETS,
    NETWORK_POLICIES,
    NETWORK_SETS,
    NODE_STATES,
    PODS,
    POLICY_CLASSES,
    POLICY_PROGRAMS,
    SERVICE_ACCOUNTS,
    TIERS,
    Resource,
)
from operating import Cluster, cluster, leading, listed, settled

WEB = "app == 'web'"


def declare(
    world: Cluster, resource: Resource, name: str, spec: dict[str, Any], labels: dict[str, str] | None = None
) -> None:
    """An object of the namespace d, or of none, as its kind is; its uid stays from one version to the next."""
    meta: dict[str, Any] = {"name": name, "labels": labels or {}, "uid": f"uid-{name}"}
    if resource.namespaced:
        meta["namespace"] = "d"
    world.put(resource, {"metadata": meta, "spec": spec})


def small(world: Cluster) -> None:
    """A node with a web pod; a policy of each kind that selects it, in two tiers; what their rules select."""
    world.node("n1", 1)
    world.pool()
    world.namespace("d", {"team": "a"})
    world.put(SERVICE_ACCOUNTS, {"metadata": {"name": "robot", "namespace": "d", "labels": {"role": "bot"}}})
    meta = {"name": "web", "namespace": "d", "labels": {"app": "web"}}
    from_robots = {"nodeName": "n1", "serviceAccountName": "robot"}
    world.put(PODS, {"metadata": meta, "spec": from_robots, "status": {}})
    declare(world, TIERS, "early", {"order": 1, "defaultAction": "Pass"})
    declare(world, GLOBAL_NETWORK_SETS, "office", {"nets": ["192.0.2.0/24", "198.51.100.7"]}, {"kind": "office"})
    declare(world, NETWORK_SETS, "branch", {"nets": ["198.51.100.7/32", "2001:db8::1:0/112"]}, {"kind": "office"})
    guard = {"action": "Deny", "source": {"selector": "kind == 'office'"}}
    declare(
        world,
        GLOBAL_NETWORK_POLICIES,
        "guard",
        {"tier": "early", "serviceAccountSelector": "role == 'bot'", "ingress": [guard]},
    )
    out = {"action": "Allow", "destination": {"services": {"name": "db"}}}
    declare(world, CALICO_NETWORK_POLICIES, "out", {"selector": WEB, "egress": [out]})
    world.policy("in", {"app": "web"}, {"app": "client"})
    world.put(
        ENDPOINT_SLICES,
        {
            "metadata": {"name": "db-1", "namespace": "d", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.9.0.1"], "conditions": {"ready": False}}],
            "ports": [{"port": 5432, "protocol": "TCP"}],
        },
    )


def members(world: Cluster) -> list[list[str]]:
    return sorted(list(lines_of(obj["spec"].get("members", ""))) for obj in world.all(ADDRESS_GROUPS).values())


async def test_policies_of_all_kinds_meet_at_a_pod() -> None:
    async with cluster() as world:
        small(world)
        async with leading(world) as leader:
            await settled(world, leader, lambda: world.all(POLICY_CLASSES))
            (made,) = world.all(POLICY_CLASSES).values()
            assert made["spec"]["tiers"] == [
                {"name": "early", "policies": ["gnp.guard"], "defaultAction": "Pass"},
                {"name": "default", "policies": ["knp.d.in", "np.d.out"]},
            ]
            assert [e.policy_class for e in listed(world, "n1")] == [made["metadata"]["name"]]
            assert members(world) == [
                [],
                ["10.9.0.1,tcp:5432"],
                ["192.0.2.0/24", "198.51.100.7", "2001:db8::1:0/112"],
            ]


async def test_each_kind_goes_without_trace() -> None:
    async with cluster() as world:
        small(world)
        async with leading(world) as leader:
            await settled(world, leader, lambda: world.all(POLICY_CLASSES))
            world.delete(GLOBAL_NETWORK_SETS, "office")
            await settled(world, leader, lambda: ["198.51.100.7", "2001:db8::1:0/112"] in members(world))
            world.delete(TIERS, "early")
            await settled(world, leader, lambda: _first_tier(world) == "default")
            for resource, name in (
                (GLOBAL_NETWORK_POLICIES, "guard"),
                (CALICO_NETWORK_POLICIES, "out"),
                (NETWORK_POLICIES, "in"),
            ):
                world.delete(resource, name, "d" if resource.namespaced else "")
            await settled(world, leader, lambda: not world.all(POLICY_PROGRAMS))
            assert not world.all(POLICY_CLASSES)
            assert not world.all(ADDRESS_GROUPS)
            assert listed(world, "n1")[0].policy_class == "open"


def _first_tier(world: Cluster) -> str:
    (made,) = world.all(POLICY_CLASSES).values()
    return str(made["spec"]["tiers"][0]["name"])


async def test_what_is_only_said_of_a_policy_costs_nothing() -> None:
    """A status, or an annotation of others."""
    async with cluster() as world:
        small(world)
        async with leading(world) as leader:
            await settled(world, leader, lambda: world.all(POLICY_CLASSES))
            world.forget_requests()
            calls: list[object] = []
            leader.control.model.set_policy = lambda *found: calls.append(found)  # type: ignore[method-assign]
            guard = world.all(GLOBAL_NETWORK_POLICIES)["guard"]
            annotated = {**guard["metadata"], "annotations": {"of": "others"}}
            world.put(GLOBAL_NETWORK_POLICIES, {**guard, "metadata": annotated, "status": {"conditions": []}})
            await settled(world, leader)
            assert (calls, world.writes()) == ([], [])


async def test_an_invalid_policy_stays_as_it_was_whoever_leads() -> None:
    async with cluster() as world:
        small(world)
        async with leading(world, epoch=1) as leader:
            await settled(world, leader, lambda: world.all(POLICY_CLASSES))
            before = world.all(POLICY_PROGRAMS)
            assert '"serviceAccountSelector"' in before["gnp.guard"]["declared"]
            declare(world, GLOBAL_NETWORK_POLICIES, "guard", {"tier": "early", "ingress": [{"action": "Perhaps"}]})
            await settled(world, leader)
            assert world.all(POLICY_PROGRAMS) == before
        for epoch in (2, 3):
            world.forget_requests()
            async with leading(world, epoch=epoch) as leader:
                await settled(world, leader)
                assert world.writes() == []
                assert world.all(POLICY_PROGRAMS) == before
        async with leading(world, epoch=4) as leader:
            declare(
                world,
                GLOBAL_NETWORK_POLICIES,
                "guard",
                {"tier": "early", "selector": WEB, "ingress": [{"action": "Allow"}]},
            )
            await settled(
                world,
                leader,
                lambda: world.all(POLICY_PROGRAMS)["gnp.guard"]["declared"] != before["gnp.guard"]["declared"],
            )
            (rule,) = world.all(POLICY_PROGRAMS)["gnp.guard"]["spec"]["ingress"]
            assert rule.get("action", "Allow") == "Allow"


async def test_a_policy_that_never_was_valid_denies_what_it_selects() -> None:
    async with cluster() as world:
        small(world)
        declare(world, GLOBAL_NETWORK_POLICIES, "bad", {"selector": WEB, "egress": [{"action": "Perhaps"}]})
        async with leading(world) as leader:
            await settled(world, leader, lambda: "gnp.bad" in world.all(POLICY_PROGRAMS))
            program = world.all(POLICY_PROGRAMS)["gnp.bad"]
            assert program["spec"]["types"] == ["Egress"]
            assert [rule["action"] for rule in program["spec"]["egress"]] == ["Deny"]
            assert not program.get("declared")
            (made,) = world.all(POLICY_CLASSES).values()
            assert "gnp.bad" in made["spec"]["tiers"][1]["policies"]


KEPT = ((TIERS, "early"), (GLOBAL_NETWORK_SETS, "office"), (FELIX_CONFIGURATIONS, "default"))


def spoil(world: Cluster) -> None:
    """A tier, a set and settings become invalid; what their statuses say stays."""
    for (resource, name), spec in zip(KEPT, ({"order": "soon"}, {"nets": ["all"]}, {"natPortRange": "x"}), strict=True):
        world.put(resource, {**world.all(resource)[name], "spec": spec})


async def test_an_invalid_tier_or_set_or_setting_stays_as_it_was() -> None:
    async with cluster() as world:
        small(world)
        declare(world, FELIX_CONFIGURATIONS, "default", {"logPrefix": "ours"})
        async with leading(world) as leader:
            await settled(world, leader, lambda: world.all(POLICY_CLASSES))
            world.forget_requests()
            spoil(world)
            await settled(world, leader)
            assert world.writes() == []


async def test_an_invalid_tier_or_set_or_setting_stays_as_it_was_whoever_leads() -> None:
    """By the text that the object's status carries."""
    async with cluster() as world:
        small(world)
        declare(world, FELIX_CONFIGURATIONS, "default", {"logPrefix": "ours"})
        async with leading(world, epoch=1) as leader:
            await settled(world, leader, lambda: world.all(POLICY_CLASSES))
            for resource, name in KEPT:
                obj = world.all(resource)[name]
                world.put(resource, {**obj, "status": {"lastValid": leader.control.last_valid(resource, obj)}})
            spoil(world)
            await settled(world, leader)
        for epoch in (2, 3):
            world.forget_requests()
            async with leading(world, epoch=epoch) as leader:
                await settled(world, leader)
                assert world.writes() == []
                assert world.all(NODE_STATES)["n1"]["spec"]["policy"] == {"logPrefix": "ours"}
        async with leading(world, epoch=4) as leader:
            declare(world, TIERS, "early", {"order": 2_000_000})
            await settled(world, leader, lambda: _first_tier(world) == "default")
            assert leader.control.last_valid(TIERS, world.all(TIERS)["early"]).count("2000000") == 1


async def test_a_tier_that_never_was_valid_stands_where_its_order_says() -> None:
    async with cluster() as world:
        small(world)
        declare(world, TIERS, "early", {"order": 1, "defaultAction": "Perhaps"})
        async with leading(world) as leader:
            await settled(world, leader, lambda: world.all(POLICY_CLASSES))
            (made,) = world.all(POLICY_CLASSES).values()
            assert made["spec"]["tiers"][0] == {"name": "early", "policies": ["gnp.guard"]}


async def test_of_a_set_that_never_was_valid_counts_what_can_be_read() -> None:
    async with cluster() as world:
        small(world)
        nets = ["everywhere", 5, "198.51.100.9/24", None, "203.0.113.1"]
        declare(world, GLOBAL_NETWORK_SETS, "office", {"nets": nets}, {"kind": "office"})
        async with leading(world) as leader:
            found = ["198.51.100.0/24", "198.51.100.7", "2001:db8::1:0/112", "203.0.113.1"]
            await settled(world, leader, lambda: found in members(world))


@pytest.mark.parametrize("spec", [None, 5, {"nets": 5}, {"nets": {"a": "b"}}])
async def test_a_set_that_says_nothing_is_empty(spec: Any) -> None:
    async with cluster() as world:
        small(world)
        declare(world, GLOBAL_NETWORK_SETS, "office", spec, {"kind": "office"})
        async with leading(world) as leader:
            await settled(world, leader, lambda: ["198.51.100.7", "2001:db8::1:0/112"] in members(world))


# --- service accounts that pods name before anybody has told of them --------------------------------------------------


def put_pod(world: Cluster, name: str, account: str, **meta: Any) -> None:
    spec = {"nodeName": "n1", "serviceAccountName": account}
    world.put(PODS, {"metadata": {"name": name, "namespace": "d", **meta}, "spec": spec, "status": {}})


def put_account(world: Cluster, name: str, **labels: str) -> None:
    world.put(SERVICE_ACCOUNTS, {"metadata": {"name": name, "namespace": "d", "labels": labels}})


def classes_of(world: Cluster) -> dict[str, str]:
    return {each.name: each.policy_class for each in listed(world, "n1")}


async def test_a_pod_waits_closed_for_its_service_account() -> None:
    async with cluster() as world:
        small(world)
        async with leading(world) as leader:
            leader.control.accounts.moment = 3600
            put_pod(world, "early", "late")
            put_pod(world, "other", "robot")
            await settled(world, leader, lambda: len(classes_of(world)) == 3)
            found = classes_of(world)
            assert found["early"] == ""
            assert found["other"]
            put_account(world, "late", role="bot")
            await settled(world, leader, lambda: classes_of(world)["early"])
            made = world.all(POLICY_CLASSES)[classes_of(world)["early"]]
            assert made["spec"]["tiers"][0]["policies"] == ["gnp.guard"]


async def test_a_service_account_that_will_never_come_is_waited_for_no_longer_than_it_takes_to_ask() -> None:
    async with cluster() as world:
        small(world)
        async with leading(world) as leader:
            leader.control.accounts.moment = 0.01
            put_pod(world, "orphan", "nobody")
            await settled(world, leader, lambda: classes_of(world).get("orphan") == "open")
            put_pod(world, "another", "nobody")
            await settled(world, leader, lambda: classes_of(world).get("another") == "open")


async def test_a_pod_that_is_known_never_waits() -> None:
    """Its service account goes, it changes, or another leads."""
    async with cluster() as world:
        small(world)
        async with leading(world, epoch=1) as leader:
            leader.control.accounts.moment = 3600
            await settled(world, leader, lambda: classes_of(world).get("web"))
            world.delete(SERVICE_ACCOUNTS, "robot", "d")
            await settled(world, leader)
            pod = world.api.state.of(PODS)[("d", "web")]
            world.put(PODS, {**pod, "metadata": {**pod["metadata"], "labels": {"app": "web", "more": "yes"}}})
            await settled(world, leader, lambda: classes_of(world)["web"])
        async with leading(world, epoch=2) as leader:
            leader.control.accounts.moment = 3600
            await settled(world, leader, lambda: classes_of(world)["web"])
            world.delete(PODS, "web", "d")
            put_pod(world, "web", "robot")
            await settled(world, leader, lambda: not classes_of(world)["web"])
