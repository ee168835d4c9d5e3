"""Whole replicas on a fake API server: one leads, a standby takes over, the old one writes nothing more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from informing import eventually
from manx_kube.client import KubeClient
from manx_kube.resources import BGP_CONFIGURATIONS, INSTALLATIONS, LEASES, NODE_STATES
from manx_operator.control import Control
from manx_operator.inputs import Inputs
from manx_operator.main import Operator
from operating import FAST, Cluster, cluster, listed


@pytest.fixture(autouse=True)
def quick_elections(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DURATION": "3", "RENEW_DEADLINE": "2", "RETRY_PERIOD": "0.1"}.items():
        monkeypatch.setenv(f"MANX_LEASE_{name}", value)


@asynccontextmanager
async def replica(
    world: Cluster, directory: Path, name: str, installer: bool = False
) -> AsyncIterator[asyncio.Task[None]]:
    """An operator, until the block ends or its task is cancelled (as SIGTERM does)."""
    alive, ready = directory / f"{name}.alive", directory / f"{name}.ready"
    settings = replace(FAST, installer=installer, alive_file=alive, ready_file=ready)
    task = asyncio.create_task(Operator(world.api.config(), settings).serve())
    try:
        await eventually(lambda: task.done() or ready.exists())
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def endpoints(world: Cluster) -> set[str]:
    return {endpoint.name for endpoint in listed(world, "n1")}


def holder(world: Cluster) -> str:
    return "".join(str(lease["spec"].get("holderIdentity") or "") for lease in world.all(LEASES).values())


async def test_one_leads_and_the_standby_takes_over_when_it_ends(tmp_path: Path) -> None:
    async with cluster() as world:
        world.node("n1", 1)
        world.pool()
        async with replica(world, tmp_path, "one") as one:
            await eventually(lambda: world.all(NODE_STATES))
            first = holder(world)
            async with replica(world, tmp_path, "two"):
                world.pod("web", "n1")
                await eventually(lambda: endpoints(world) == {"web"})
                one.cancel()
                await eventually(one.done)
                await eventually(lambda: holder(world) not in ("", first))
                world.pod("more", "n1")
                await eventually(lambda: endpoints(world) == {"web", "more"})
                epochs = [r.body["spec"]["epoch"] for r in world.writes() if r.resource == str(NODE_STATES)]
                assert epochs == sorted(epochs)
                assert len(set(epochs)) == 2


async def test_what_takes_longer_than_a_term_to_begin_is_no_end_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of many pods is built for longer than a term lasts. Meanwhile the term is renewed, and what is heard
    waits."""
    async with cluster() as world:
        world.node("n1", 1)
        world.pool()

        def build(client: KubeClient, inputs: Inputs, *given: Any, **more: Any) -> Control:
            world.pod("web", "n1")
            time.sleep(2.5)  # in a thread of its own, or nobody renews
            assert ("d", "web") not in inputs.pods.cache
            return Control(client, inputs, *given, **more)

        monkeypatch.setattr("manx_operator.main.Control", build)
        async with replica(world, tmp_path, "one"):
            await eventually(lambda: endpoints(world) == {"web"})
            assert [lease["spec"]["leaseTransitions"] for lease in world.all(LEASES).values()] == [0]


async def test_a_leader_cut_off_from_its_lease_writes_nothing_more(tmp_path: Path) -> None:
    async with cluster() as world:
        world.node("n1", 1)
        world.pool()
        async with replica(world, tmp_path, "one"):
            await eventually(lambda: world.all(NODE_STATES))

            lease = next(iter(world.all(LEASES).values()))
            others = {**lease["spec"], "holderIdentity": "nobody-else", "leaseTransitions": 40}
            world.put(LEASES, {**lease, "spec": others})
            await asyncio.sleep(0.2)  # the loss is noticed at the next renewal, within a retry period
            world.forget_requests()
            world.pod("web", "n1")
            await asyncio.sleep(0.3)
            assert world.writes() == []
            await eventually(
                lambda: endpoints(world) == {"web"}
            )  # nobody renewed it: it is ours again, by a later epoch
            assert world.all(NODE_STATES)["n1"]["spec"]["epoch"] > 40


async def test_nothing_is_written_before_every_kind_is_there(tmp_path: Path) -> None:
    async with cluster() as world:
        world.node("n1", 1)
        world.pool()
        world.api.state.established = None
        missing = str(BGP_CONFIGURATIONS)
        known = {"pods", "namespaces", "nodes", str(LEASES)} | {str(r) for r in (INSTALLATIONS,)}
        world.api.state.established = known
        settings = replace(FAST, installer=False, alive_file=tmp_path / "a", ready_file=tmp_path / "r")
        task = asyncio.create_task(Operator(world.api.config(), settings).serve())
        await eventually(lambda: world.api.count(lambda r: r.resource == missing) >= 2)
        assert world.writes() == []
        assert not settings.ready_file.exists()
        assert not world.all(LEASES)
        world.api.state.established = None
        await eventually(lambda: world.all(NODE_STATES))
        assert settings.ready_file.exists()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_without_an_installation_nothing_is_written(tmp_path: Path) -> None:
    async with cluster() as world:
        world.node("n1", 1)
        world.pool()
        async with replica(world, tmp_path, "one", installer=True):
            await eventually(lambda: holder(world))
            await eventually(lambda: world.api.count(lambda r: r.resource == str(INSTALLATIONS) and r.is_list) >= 3)
            assert [r for r in world.writes() if r.method != "DELETE"] == []
            world.put(INSTALLATIONS, {"metadata": {"name": "default"}, "spec": {"calicoNetwork": {"ipPools": []}}})
            await eventually(lambda: world.all(NODE_STATES))
