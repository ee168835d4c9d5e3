"""What is said of users' objects: verdicts, and conditions and Events written only where they change."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from fakeapi import FakeApi
from manx_core.api.core_v1 import ObjectReference
from manx_core.api.pools import Surroundings
from manx_kube.client import KubeClient
from manx_kube.resources import (
    BGP_CONFIGURATIONS,
    BGP_PEERS,
    FELIX_CONFIGURATIONS,
    GLOBAL_NETWORK_SETS,
    IP_POOLS,
    NETWORK_SETS,
    TIERS,
    Resource,
)
from manx_operator.handlers import ADDONS
from manx_operator.last_valid import LONGEST_TEXT
from manx_operator.review.reviewer import POLICY_KINDS, Reviewer, ReviewerDeps
from manx_operator.review.verdicts import (
    Around,
    addon_said,
    bgp_configuration_said,
    bgp_peer_said,
    pool_problems,
    pool_said,
)

AROUND = Around(nodes={"n1"})


def raw(name: str, created: str = "", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "generation": 2, "creationTimestamp": created}, "spec": spec}


@pytest.mark.parametrize(
    ("obj", "status", "reason", "words"),
    [
        (raw("default", asNumber=63400), "True", "Accepted", ""),
        (raw("node.n1", listenPort=1179), "True", "Accepted", ""),
        (raw("node.n2", listenPort=1179), "False", "Invalid", "metadata.name: there is no node n2"),
        (raw("default", asNumber="abc"), "False", "Invalid", "spec.asNumber: 'abc' is not allowed"),
        (raw("defautl"), "False", "Invalid", "means nothing"),
        (raw("default", communities=[]), "True", "FieldsWithoutEffect", "spec.communities"),
    ],
)
def test_bgp_configurations(obj: dict[str, Any], status: str, reason: str, words: str) -> None:
    said = bgp_configuration_said(obj, AROUND)
    assert (said.type, said.status, said.reason) == ("Accepted", status, reason)
    assert words in said.message


@pytest.mark.parametrize(
    ("spec", "status", "words"),
    [
        ({"peerIP": "192.0.2.1", "asNumber": 1}, "True", ""),
        ({"peerIP": "192.0.2.1", "asNumber": 1, "node": "n1"}, "True", ""),
        ({"peerIP": "192.0.2.1", "asNumber": 1, "node": "n2"}, "False", "spec.node: there is no node n2"),
        ({"peerIP": "192.0.2.1"}, "False", "spec.asNumber"),
        ({"peerIP": "192.0.2.1", "asNumber": 1, "filters": ["x"]}, "True", "spec.filters"),
    ],
)
def test_bgp_peers(spec: dict[str, Any], status: str, words: str) -> None:
    said = bgp_peer_said(raw("p", **spec), AROUND)
    assert said.status == status
    assert words in said.message


@pytest.mark.parametrize("resource", ADDONS)
def test_calicos_other_kinds(resource: Resource) -> None:
    assert addon_said(resource.kind, {"metadata": {"name": "default"}}).reason == "NothingToDo"
    assert addon_said(resource.kind, {"metadata": {"name": "default"}, "spec": 5}).status == "False"


def test_pools_are_judged_together() -> None:
    pools = {
        "old": raw("old", "2026-01-01T00:00:00Z", cidr="10.0.0.0/8"),
        "new": raw("new", "2026-01-02T00:00:00Z", cidr="10.1.0.0/16"),
        "odd": raw("odd", "2026-01-03T00:00:00Z", cidr="here"),
        "far": raw("far", "2026-01-04T00:00:00Z", cidr="172.16.0.0/16", vxlanMode="CrossSubnet"),
    }
    subnets = {name: [ipaddress.ip_network(net)] for name, net in (("n1", "192.0.2.0/24"), ("n2", "198.51.100.0/24"))}
    found = pool_problems(pools, Around(Surroundings(node_networks=subnets), {"b1": "old", "b2": "gone"}, {"n1"}))
    assert found["old"] == ()
    assert "overlaps IPPool old" in str(found["new"][0])
    assert found["odd"][0].field == "spec.cidr"
    assert "several subnets" in str(found["far"][0])
    assert "deleted while it is in use (b2)" in str(found["gone"][0])
    assert pool_said(pools["old"], ()).status == "True"
    assert pool_said(pools["new"], found["new"]).status == "False"


@dataclass
class Told:
    """Takes the place of the recorder of Events."""

    events: list[tuple[str, str, str]] = field(default_factory=list)

    def emit(self, regarding: ObjectReference, type_: str, *, reason: str, note: str, action: str) -> None:
        self.events.append((f"{regarding.kind}/{regarding.name}", type_, reason))


@dataclass
class World:
    api: FakeApi
    told: Told
    reviewer: Reviewer = field(init=False)
    calico: bool = False

    def objects(self, resource: Resource) -> dict[str, Any]:
        return {key[1]: obj for key, obj in self.api.state.of(resource).items()}

    def put(self, resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
        return self.api.state.put(resource, obj)

    def conditions(self, resource: Resource, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.objects(resource)[name].get("status", {}).get("conditions", [])
        return found

    def writes(self) -> int:
        return self.api.count(lambda request: request.method != "GET")


@asynccontextmanager
async def world(
    last_valid: Callable[[Resource, Any], str] = lambda resource, raw: "",
) -> AsyncIterator[World]:
    async with FakeApi() as api, KubeClient(api.config()) as client:
        it = World(api, Told())

        async def around() -> Around:
            return AROUND

        async def foreign() -> list[str]:
            return ["Calico"] if it.calico else []

        it.reviewer = Reviewer(
            ReviewerDeps(
                client=client, recorder=it.told, guard=lambda: None, around=around,  # type: ignore[arg-type]
                pools=lambda: it.objects(IP_POOLS), bgp_configurations=lambda: it.objects(BGP_CONFIGURATIONS),
                bgp_peers=lambda: it.objects(BGP_PEERS),
                policy_kinds=lambda: {kind: list(it.objects(kind).values()) for kind in POLICY_KINDS}, foreign=foreign,
                last_valid=last_valid, now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            )
        )  # fmt: skip
        yield it


async def test_a_verdict_is_written_once_and_an_event_told_when_it_changes() -> None:
    async with world() as it:
        bad = it.put(BGP_CONFIGURATIONS, raw("default", asNumber=0))
        await it.reviewer.bgp_configuration(bad)
        assert it.conditions(BGP_CONFIGURATIONS, "default")[0]["status"] == "False"
        assert it.told.events == [("BGPConfiguration/default", "Warning", "Invalid")]
        before = it.writes()
        await it.reviewer.sweep()
        assert it.writes() == before
        fixed = {**it.objects(BGP_CONFIGURATIONS)["default"], "spec": {"asNumber": 1}}
        await it.reviewer.bgp_configuration(it.put(BGP_CONFIGURATIONS, fixed))
        assert it.told.events[1:] == [("BGPConfiguration/default", "Normal", "Accepted")]


async def test_conditions_of_others_stay() -> None:
    async with world() as it:
        theirs = {"type": "AddressesAvailable", "status": "False"}
        it.put(IP_POOLS, raw("p", cidr="10.0.0.0/16") | {"status": {"conditions": [theirs]}})
        await it.reviewer.sweep()
        assert [each["type"] for each in it.conditions(IP_POOLS, "p")] == ["AddressesAvailable", "Accepted"]


async def test_a_pool_that_comes_or_goes_concerns_the_others() -> None:
    async with world() as it:
        old = it.put(IP_POOLS, raw("old", "2026-01-01T00:00:00Z", cidr="10.0.0.0/8"))
        it.put(IP_POOLS, raw("new", "2026-01-02T00:00:00Z", cidr="10.1.0.0/16"))
        await it.reviewer.pool(old, deleted=False)
        assert it.conditions(IP_POOLS, "new")[0]["status"] == "False"
        it.api.state.delete(IP_POOLS, ("", "old"))
        await it.reviewer.pool(old, deleted=True)
        assert it.conditions(IP_POOLS, "new")[0]["status"] == "True"


async def test_a_calicos_objects_are_left_alone() -> None:
    async with world() as it:
        it.calico = True
        await it.reviewer.bgp_configuration(it.put(BGP_CONFIGURATIONS, raw("default", asNumber=0)))
        await it.reviewer.bgp_peer(it.put(BGP_PEERS, raw("p")))
        await it.reviewer.pool(it.put(IP_POOLS, raw("p", cidr="x")), deleted=False)
        assert it.writes() == 0
        assert it.told.events == []


async def test_an_object_that_changed_meanwhile_is_for_the_next_time() -> None:
    async with world() as it:
        seen = it.put(BGP_PEERS, raw("p"))
        it.put(BGP_PEERS, raw("p", peerIP="192.0.2.1", asNumber=1))
        await it.reviewer.bgp_peer(seen)
        assert it.conditions(BGP_PEERS, "p") == []
        assert it.told.events == []


async def test_kinds_that_policy_is_made_of_are_reviewed() -> None:
    async with world() as it:
        sets = it.put(
            NETWORK_SETS, {**raw("s", nets=["x"]), "metadata": {"name": "s", "namespace": "d", "generation": 2}}
        )
        tier, felix = it.put(TIERS, raw("t", order=1)), it.put(FELIX_CONFIGURATIONS, raw("default", bpfEnabled=True))
        for resource, obj in ((NETWORK_SETS, sets), (TIERS, tier), (FELIX_CONFIGURATIONS, felix)):
            await it.reviewer.policy_kind(resource, obj)
        assert it.conditions(NETWORK_SETS, "s")[0]["reason"] == "Invalid"
        assert it.conditions(TIERS, "t")[0]["reason"] == "Valid"
        assert it.conditions(FELIX_CONFIGURATIONS, "default")[0]["reason"] == "FieldsWithoutEffect"
        assert it.told.events == [("NetworkSet/s", "Warning", "Invalid")]


async def test_a_sweep_reviews_what_nobody_has_reviewed_yet() -> None:
    async with world() as it:
        it.put(GLOBAL_NETWORK_SETS, raw("s", nets=["10.0.0.0/8"]))
        await it.reviewer.sweep()
        assert it.conditions(GLOBAL_NETWORK_SETS, "s")[0]["status"] == "True"
        written = it.writes()
        await it.reviewer.sweep()
        assert it.writes() == written


async def test_what_last_was_valid_is_carried_by_the_object() -> None:
    async with world() as it:

        async def says(**changes: Any) -> tuple[str, str]:
            changed = it.put(GLOBAL_NETWORK_SETS, {**it.objects(GLOBAL_NETWORK_SETS)["s"], **changes})
            await it.reviewer.policy_kind(GLOBAL_NETWORK_SETS, changed)
            status = it.objects(GLOBAL_NETWORK_SETS)["s"]["status"]
            return status["conditions"][0]["message"], status.get("lastValid", "")

        it.put(GLOBAL_NETWORK_SETS, raw("s", nets=["x"]))
        message, kept = await says()
        assert "spec.nets[0]" in message
        assert ("It never was valid" in message, kept) == (True, "")
        _, kept = await says(spec={"nets": ["192.0.2.1"]})
        assert json.loads(kept)["spec"] == {"nets": ["192.0.2.1"]}
        message, still = await says(spec={"nets": ["x"]})
        assert ("The version last valid stays in force" in message, still) == (True, kept)
        meta = it.objects(GLOBAL_NETWORK_SETS)["s"]["metadata"]
        _, kept = await says(spec={"nets": ["192.0.2.1"]}, metadata={**meta, "labels": {"a": "b"}})
        assert json.loads(kept)["metadata"]["labels"] == {"a": "b"}
        written = it.writes()
        await it.reviewer.sweep()
        assert it.writes() == written


async def test_a_version_last_valid_that_no_status_tells_of_yet_is_the_leaders_to_tell() -> None:
    """It became invalid before anybody could look at it."""
    async with world(lambda resource, obj: "the text") as it:
        await it.reviewer.policy_kind(TIERS, it.put(TIERS, raw("t", order="soon")))
        assert it.objects(TIERS)["t"]["status"]["lastValid"] == "the text"
        assert "The version last valid stays in force" in it.conditions(TIERS, "t")[0]["message"]


async def test_a_text_that_has_grown_too_long_is_taken_away() -> None:
    """Of an older version than the last valid one nobody is to hear."""
    async with world() as it:
        await it.reviewer.policy_kind(TIERS, it.put(TIERS, raw("t", order=1)))
        long = {**it.objects(TIERS)["t"], "spec": {"order": 2, "unknown": " " * LONGEST_TEXT}}
        await it.reviewer.policy_kind(TIERS, it.put(TIERS, long))
        assert not it.objects(TIERS)["t"]["status"].get("lastValid")
