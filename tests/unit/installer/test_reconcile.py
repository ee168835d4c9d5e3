"""Passes of the installer against a fake API server: what it makes, changes, takes away, refuses to touch, and says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from fakeapi import FakeApi
from fakeapi_state import Refused
from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.fields import Problem
from manx_core.api.v1alpha1 import Condition, NodeReport, NodeReportStatus
from manx_kube.client import KubeClient
from manx_kube.errors import KubeError
from manx_kube.lease import LeaseLost
from manx_kube.resources import DAEMON_SETS, INSTALLATIONS, IP_POOLS, IPAM_BLOCKS, MESH_NODES, NODE_STATES, PODS, TIERS
from manx_operator.installer.names import AGENT, AGENT_LABELS, NAMESPACE, OWN_LABELS
from manx_operator.installer.reconcile import Installer, InstallerDeps, Pass

DAEMONSET = (NAMESPACE, AGENT)
POOL = {"cidr": "10.244.0.0/16"}


@dataclass
class World:
    """A fake API server, the installer at work on it, and what it told the model."""

    api: FakeApi
    active: list[bool] = field(default_factory=list)
    calico: list[str] = field(default_factory=list)
    in_use: set[str] = field(default_factory=set)
    problems: dict[str, tuple[Problem, ...]] = field(default_factory=lambda: {"default-ipv4-ippool": ()})
    leading: bool = True
    installer: Installer = field(init=False)

    def guard(self) -> None:
        if not self.leading:
            raise LeaseLost("over")

    async def foreign(self) -> list[str]:
        return self.calico

    async def review(self) -> dict[str, tuple[Problem, ...]]:
        return self.problems

    def reports(self) -> dict[str, NodeReport]:
        kinds = ("Policy", "Routes", "BGP", "IPAM")
        status = NodeReportStatus(conditions=tuple(Condition(type=kind, status="True") for kind in kinds))
        return {"n1": NodeReport(metadata=ObjectMeta(name="n1"), status=status)}

    def install(self, name: str = "default", **spec: Any) -> None:
        spec = {"calicoNetwork": {"ipPools": [POOL]}} | spec
        self.api.state.put(INSTALLATIONS, {"metadata": {"name": name, "generation": 1}, "spec": spec})

    def agents_run(self) -> None:
        """The part of the DaemonSet's controller."""
        found = self.api.state.of(DAEMON_SETS)[DAEMONSET]
        counts = {"desiredNumberScheduled": 1, "numberReady": 1, "updatedNumberScheduled": 1, "observedGeneration": 1}
        self.api.state.put(DAEMON_SETS, {**found, "status": counts})

    def daemonset(self) -> dict[str, Any] | None:
        return self.api.state.of(DAEMON_SETS).get(DAEMONSET)

    def condition(self, kind: str) -> dict[str, Any]:
        status = self.api.state.of(INSTALLATIONS)[("", "default")]["status"]
        return next(dict(each) for each in status["conditions"] if each["type"] == kind)

    def writes(self) -> list[str]:
        return [f"{request.method} {request.resource}" for request in self.api.requests if request.method != "GET"]

    async def passes(self) -> Pass:
        self.api.requests.clear()
        return await self.installer.reconcile()


@asynccontextmanager
async def world(rolls_out: bool = True) -> AsyncIterator[World]:
    async with FakeApi() as api, KubeClient(api.config(), max_wait=0.1) as client:
        made = World(api)
        made.installer = Installer(
            InstallerDeps(
                client=client, image="docker.io/manxnet/manx:v1", guard=made.guard, reports=made.reports,
                pools_in_use=lambda: made.in_use, review=made.review, foreign=made.foreign,
                tiers=lambda: {name for _, name in made.api.state.of(TIERS)},
                on_active=made.active.append, rolls_out=rolls_out, now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            )
        )  # fmt: skip
        yield made


async def test_an_installation_becomes_agents_and_pools_and_is_told_of() -> None:
    async with world() as it:
        it.install()
        assert await it.passes() == Pass(active=True, settled=False)
        assert it.daemonset() is not None
        assert set(it.api.state.of(IP_POOLS)) == {("", "default-ipv4-ippool")}
        assert it.active == [True]
        assert it.condition("Ready")["status"] == "False"
        it.agents_run()
        assert await it.passes() == Pass(active=True, settled=True)
        assert it.condition("Ready") == {
            "type": "Ready", "status": "True", "reason": "AllReady", "message": "everything is in force on every node",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        }  # fmt: skip


async def test_an_idle_pass_writes_nothing() -> None:
    async with world() as it:
        it.install()
        await it.passes()
        it.agents_run()
        await it.passes()
        await it.passes()
        assert it.writes() == []


async def test_a_change_is_rolled_out() -> None:
    async with world() as it:
        it.install()
        await it.passes()
        it.install(registry="quay.io/")
        await it.passes()
        containers = (it.daemonset() or {})["spec"]["template"]["spec"]["containers"]
        assert {each["image"] for each in containers} == {"quay.io/manxnet/manx:v1"}


async def test_where_a_calico_is_nothing_is_touched_but_the_status() -> None:
    async with world() as it:
        it.install()
        it.calico = ["DaemonSet kube-system/calico-node"]
        assert (await it.passes()).active is False
        assert it.writes() == [f"PATCH {INSTALLATIONS}"]
        assert it.active == [False]
        assert it.condition("Accepted")["reason"] == "CalicoPresent"


async def test_an_invalid_installation_leaves_what_is_there() -> None:
    async with world() as it:
        it.install()
        await it.passes()
        before = it.daemonset()
        it.install(cni={"type": "AmazonVPC"})
        await it.passes()
        assert it.writes() == [f"PATCH {INSTALLATIONS}"]
        assert it.daemonset() == before
        assert "spec.cni.type" in it.condition("Accepted")["message"]
        it.install(imagePath=5)
        await it.passes()
        assert "spec.imagePath: 5 is not allowed" in it.condition("Accepted")["message"]


async def test_what_the_server_refuses_is_told_and_the_rest_done() -> None:
    async with world() as it:
        it.install()
        it.api.fail(
            lambda r: r.resource == str(IP_POOLS) and r.method == "PATCH", Refused(403, "Forbidden", "overlaps")
        )
        await it.passes()
        assert it.daemonset() is not None
        assert it.condition("Accepted")["message"] == "overlaps"
        assert it.condition("Degraded")["status"] == "True"


async def test_anothers_daemonset_of_that_name_is_left_alone() -> None:
    async with world() as it:
        it.install()
        it.api.state.put(DAEMON_SETS, {"metadata": {"name": AGENT, "namespace": NAMESPACE}, "spec": {"theirs": True}})
        await it.passes()
        assert (it.daemonset() or {})["spec"] == {"theirs": True}
        assert "was not made by the operator" in it.condition("Accepted")["message"]


async def test_without_an_installation_all_goes_agents_first() -> None:
    async with world() as it:
        it.install()
        await it.passes()
        for resource in (NODE_STATES, MESH_NODES, IPAM_BLOCKS):
            it.api.state.put(resource, {"metadata": {"name": "x"}, "spec": {}})
        it.api.state.put(IP_POOLS, {"metadata": {"name": "users-own"}, "spec": {"cidr": "10.0.0.0/24"}})
        agent = {"metadata": {"name": "manx-node-x", "namespace": NAMESPACE, "labels": AGENT_LABELS}}
        it.api.state.put(PODS, agent)
        it.api.state.delete(INSTALLATIONS, ("", "default"))
        assert (await it.passes()).settled is False
        assert it.writes() == [f"DELETE {DAEMON_SETS}"]
        assert (await it.passes()).settled is False
        assert it.writes() == []
        it.api.state.delete(PODS, (NAMESPACE, "manx-node-x"))
        assert await it.passes() == Pass(active=False, settled=True)
        assert it.writes()[0] == f"DELETE {IP_POOLS}"
        assert set(it.api.state.of(IP_POOLS)) == {("", "users-own")}
        assert not any(it.api.state.of(resource) for resource in (NODE_STATES, MESH_NODES, IPAM_BLOCKS))
        assert it.active[-1] is False


async def test_where_the_kind_itself_is_gone_nothing_is_taken_away() -> None:
    async with world() as it:
        it.install()
        await it.passes()
        it.api.state.established = {str(resource) for resource in (DAEMON_SETS, IP_POOLS, PODS)}
        assert await it.passes() == Pass(active=False, settled=False)
        assert it.writes() == []
        assert it.daemonset() is not None
        assert it.active == [True]


async def test_an_installation_of_another_name_counts_for_nothing() -> None:
    async with world() as it:
        it.install("other")
        await it.passes()
        assert it.daemonset() is None
        assert it.active == [False]


async def test_one_that_leads_no_more_writes_nothing() -> None:
    async with world() as it:
        it.install()
        it.leading = False
        with pytest.raises(LeaseLost):
            await it.passes()
        assert it.writes() == []


async def test_a_server_that_does_not_answer_is_for_the_loop_to_bear() -> None:
    async with world() as it:
        it.install()
        it.api.fail(lambda r: r.resource == str(INSTALLATIONS), Refused(500, "InternalError"))
        with pytest.raises(KubeError):
            await it.passes()
        assert it.active == []


async def test_agents_that_run_otherwise_are_not_rolled_out() -> None:
    async with world(rolls_out=False) as it:
        it.install()
        assert await it.passes() == Pass(active=True, settled=True)
        assert it.daemonset() is None
        assert set(it.api.state.of(IP_POOLS)) == {("", "default-ipv4-ippool")}


async def test_a_pool_no_longer_asked_for_goes_once_it_is_empty() -> None:
    async with world() as it:
        it.install()
        await it.passes()
        it.install(calicoNetwork={"ipPools": []})
        it.in_use = {"default-ipv4-ippool"}
        await it.passes()
        pool = it.api.state.of(IP_POOLS)[("", "default-ipv4-ippool")]
        assert pool["spec"]["disabled"] is True
        assert pool["metadata"]["labels"] == OWN_LABELS
        assert "is in use" in it.condition("IPPoolsReady")["message"]
        it.in_use = set()
        await it.passes()
        assert not it.api.state.of(IP_POOLS)


async def test_the_built_in_tiers_are_made_and_left_as_they_are() -> None:
    async with world() as it:
        mine = {"order": 1_000_000, "defaultAction": "Pass"}
        it.api.state.put(TIERS, {"metadata": {"name": "default"}, "spec": mine})
        it.install()
        await it.passes()
        tiers = {name: obj["spec"] for (_, name), obj in it.api.state.of(TIERS).items()}
        assert tiers == {
            "default": mine,
            "adminnetworkpolicy": {"order": 1000, "defaultAction": "Pass"},
            "baselineadminnetworkpolicy": {"order": 10_000_000, "defaultAction": "Pass"},
        }
