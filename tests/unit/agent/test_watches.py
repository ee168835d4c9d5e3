"""The agent's watches and its reporter, against an API server that filters by labels as the real one does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from fakeapi import FakeApi
from manx_agent.reporter import Reporter
from manx_agent.state.share import Share
from manx_agent.watches import Watches
from manx_core.api.v1alpha1 import ClassTier, NodeReportStatus
from manx_core.span import EVERYWHERE, span_label
from manx_kube.client import KubeClient
from manx_kube.resources import ADDRESS_GROUPS, NODE_REPORTS, NODE_STATES, POLICY_CLASSES

MINE, OTHER = {span_label("n1"): ""}, {span_label("n2"): ""}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def a_class(labels: dict[str, str], *policies: str) -> dict[str, Any]:
    spec = {"epoch": 1, "tiers": [{"name": "default", "policies": list(policies)}]}
    return {"metadata": {"name": "pc-1", "labels": labels}, "spec": spec}


def tiers(*policies: str) -> tuple[ClassTier, ...]:
    return (ClassTier(name="default", policies=policies),)


def watches(client: KubeClient, share: Share) -> Watches:
    def nothing() -> None:
        return None

    return Watches(client, share, on_state=nothing, on_policy=nothing, on_bgp=nothing, on_blocks=nothing)


async def test_a_node_hears_its_share_only_and_through_a_change_of_label() -> None:
    share = Share("n1")
    async with FakeApi() as api, KubeClient(api.config()) as client:
        api.state.put(POLICY_CLASSES, a_class(MINE, "a"))
        api.state.put(NODE_STATES, {"metadata": {"name": "n1"}, "spec": {"epoch": 1, "ipv4": "192.0.2.1"}})
        api.state.put(NODE_STATES, {"metadata": {"name": "n2"}, "spec": {"epoch": 1, "ipv4": "192.0.2.2"}})
        async with watches(client, share) as heard:
            await heard.wait_synced()
            assert share.settings is not None
            assert share.settings.ipv4 == "192.0.2.1"
            assert share.policy_view().classes == {"pc-1": tiers("a")}
            api.state.put(POLICY_CLASSES, a_class({EVERYWHERE: ""}, "a", "b"))
            await until(lambda: share.policy_view().classes == {"pc-1": tiers("a", "b")})
            api.state.put(POLICY_CLASSES, a_class(OTHER, "a"))
            await until(lambda: share.policy_view().classes == {})


async def test_progress_is_told_for_each_watch() -> None:
    share = Share("n1")
    async with FakeApi() as api, KubeClient(api.config()) as client, watches(client, share) as heard:
        await heard.wait_synced()
        group = {"epoch": 1, "group": "ag-1", "chunk": 0, "chunks": 1, "members": "10.0.0.1"}
        stored = api.state.put(ADDRESS_GROUPS, {"metadata": {"name": "ag-1-0", "labels": MINE}, "spec": group})
        await until(lambda: share.policy_view().groups == {"ag-1": frozenset({"10.0.0.1"})})
        wanted = int(stored["metadata"]["resourceVersion"])
        assert int(heard.progress().addressgroups) >= wanted


async def test_reports_are_created_replaced_and_not_repeated() -> None:
    says = "a"

    def make(before: NodeReportStatus) -> NodeReportStatus:
        return msgspec.structs.replace(before, last_error=says)

    async with FakeApi() as api, KubeClient(api.config()) as client:
        reporter = Reporter(client, "n1", make)
        task = asyncio.create_task(reporter.run())

        def written() -> str:
            obj = api.state.of(NODE_REPORTS).get(("", "n1"), {})
            return str(obj.get("status", {}).get("lastError", ""))

        reporter.wake()
        await until(lambda: written() == "a")
        writes = api.count(lambda request: request.method in ("POST", "PUT"))
        reporter.wake()
        await asyncio.sleep(0.3)
        assert api.count(lambda request: request.method in ("POST", "PUT")) == writes
        says = "b"
        api.state.put(NODE_REPORTS, {"metadata": {"name": "n1"}, "status": {"lastError": "by another"}})
        reporter.wake()
        await until(lambda: written() == "b")
        task.cancel()
