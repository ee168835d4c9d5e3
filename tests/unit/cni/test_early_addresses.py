"""Operator and agent together: a pod's address is in its peers' groups before the pod has a sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from early_agent import EarlyAgent, early_agent
from informing import eventually
from manx_kube.resources import PODS
from operating import Cluster, cluster, leading


@pytest.fixture
async def world() -> AsyncIterator[Cluster]:
    """A node, and a policy whose group holds the pods labelled app=peer."""
    async with cluster() as made:
        made.namespace("d")
        made.pool()
        made.node("n1")
        made.policy("p", {"app": "server"}, {"app": "peer"})
        yield made


@pytest.fixture
async def agent(world: Cluster, tmp_path: Path) -> AsyncIterator[EarlyAgent]:
    async with leading(world), early_agent(world.api.config(), "n1", tmp_path) as made:
        world.pod("server", labels={"app": "server"})
        yield made


def uid_of(world: Cluster, pod: str) -> str:
    return str(world.api.state.of(PODS)["d", pod]["metadata"]["uid"])


async def test_it_is_in_the_group_before_its_sandbox_asks(world: Cluster, agent: EarlyAgent) -> None:
    world.pod("client", labels={"app": "peer"})
    await eventually(lambda: uid_of(world, "client") in agent.ipam.reservations())
    (reserved,) = agent.ipam.reservations()[uid_of(world, "client")]
    await eventually(lambda: world.members(reserved.address))
    assert await agent.add("c1", "client", uid_of(world, "client")) == reserved.address
    await eventually(lambda: "c1" in str(world.block_of("n1")["status"]["allocations"]))
    assert world.members(reserved.address)


async def test_a_pod_that_never_came_is_forgotten_like_any_other(world: Cluster, agent: EarlyAgent) -> None:
    world.pod("client", labels={"app": "peer"})
    await eventually(lambda: uid_of(world, "client") in agent.ipam.reservations())
    (reserved,) = agent.ipam.reservations()[uid_of(world, "client")]
    await eventually(lambda: world.members(reserved.address))
    world.delete(PODS, "client", "d")
    await eventually(lambda: not world.members(reserved.address))
    await eventually(lambda: [one["address"] for one in world.block_of("n1")["status"].get("freed", [])])
    world.report("n1")
    await eventually(lambda: world.block_of("n1")["spec"].get("forgotten", 0) >= 1)
    await eventually(lambda: not world.block_of("n1")["status"].get("freed"))


async def test_a_pod_made_anew_under_its_name_gets_another(world: Cluster, agent: EarlyAgent) -> None:
    world.pod("client", labels={"app": "peer"})
    first = uid_of(world, "client")
    await eventually(lambda: first in agent.ipam.reservations())
    old = await agent.add("c1", "client", first)
    world.delete(PODS, "client", "d")
    world.pod("client", labels={"app": "peer"})
    second = uid_of(world, "client")
    await eventually(lambda: second in agent.ipam.reservations())
    new = await agent.add("c2", "client", second)
    assert new != old
    await agent.delete("c1")
    await eventually(lambda: world.members(new) and not world.members(old))
