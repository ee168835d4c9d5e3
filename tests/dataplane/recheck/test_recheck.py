"""Real connections, real entries: what a new policy denies is forgotten, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Literal

import pytest

from manx_agent.dataplane import KernelPolicy
from manx_agent.model import Backend, Dirty
from manx_agent.recheck import Recheck, loop
from manx_core.api.v1alpha1 import PolicySettings, Rule, RuleEnd
from recheck_world import World, program

SERVICE = ("10.96.0.1", 8080)


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        yield made


class Agent:
    """The dataplane and the rechecking, in the world's node."""

    def __init__(self, world: World, backend: Backend) -> None:
        self.world = world
        self.policy = KernelPolicy(backend)
        self.recheck = Recheck(lambda: self.policy.in_force, lambda: world.view.settings)

    async def apply(self) -> None:
        outcome = await self.policy.apply(self.world.view, Dirty(everything=True))
        assert outcome.errors == ()
        self.recheck.notify()

    async def until(self, forgotten: int) -> None:
        """As many, and no more a while later."""
        while self.recheck.forgotten < forgotten:
            await asyncio.sleep(0.02)
        await asyncio.sleep(3 * loop.DELAY)
        assert self.recheck.forgotten == forgotten, self.world.connections()


@contextlib.asynccontextmanager
async def running(world: World, backend: Backend = "nft") -> AsyncIterator[Agent]:
    agent = Agent(world, backend)
    task = asyncio.create_task(agent.recheck.run())
    try:
        yield agent
    finally:
        task.cancel()
        await asyncio.wait({task})


def only_from(world: World, pod: str, port: str = "80") -> Rule:
    friends = world.group("ag-friends", *world.both(pod))
    return Rule(protocol="TCP", peer=RuleEnd(groups=(friends,)), subject=RuleEnd(ports=(port,)))


@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize("version", [4, 6])
def test_what_is_denied_goes_and_all_else_stays(world: World, backend: Backend, version: int) -> None:
    async def main() -> None:
        async with running(world, backend) as agent:
            await agent.apply()
            denied = [
                world.tcp("a", "b", 80, version),
                world.udp("a", "b", 53, version),
                world.tcp("outside", "b", 81, version),
            ]
            kept = [
                world.tcp("c", "b", 80, version),
                world.tcp("b", "a", 80, version),
                world.udp("b", "c", 53, version),
                world.tcp("node", "b", 82, version),
                world.tcp("a", "c", 80, version),
                world.tcp("outside", "c", 81, version),
            ]
            assert all(talk.passes() and talk.passes(back=True) for talk in denied + kept)
            before = len(world.connections())
            world.policy("b", program("Ingress", ingress=(only_from(world, "c"),)))
            await agent.apply()
            await agent.until(len(denied))
            assert len(world.connections()) == before - len(denied)
            assert not any(talk.passes(expected=False) for talk in denied)
            assert all(talk.passes() and talk.passes(back=True) for talk in kept)

    with world.node.entered():
        asyncio.run(main())


@pytest.mark.parametrize("version", [4, 6])
def test_an_answer_does_not_bring_a_connection_back(world: World, version: int) -> None:
    """The server may speak to the client of its own accord."""

    async def main() -> None:
        async with running(world) as agent:
            await agent.apply()
            talk = world.tcp("a", "b", 80, version)
            world.policy("b", program("Ingress", ingress=(only_from(world, "c"),)))
            await agent.apply()
            await agent.until(1)
            assert not talk.passes(back=True, expected=False)
            assert not talk.passes(expected=False)
            assert not world.tracked("b", "a", talk.client.getsockname()[1], version)

    with world.node.entered():
        asyncio.run(main())


def test_a_datagram_in_answer_is_forgotten_too(world: World) -> None:
    async def main() -> None:
        async with running(world) as agent:
            await agent.apply()
            talk = world.udp("a", "b", 53)
            world.policy("b", program("Ingress", ingress=(only_from(world, "c"),)))
            await agent.apply()
            await agent.until(1)
            talk.server.send(b"late")
            port = talk.client.getsockname()[1]
            assert world.tracked("b", "a", port)
            while world.tracked("b", "a", port):
                await asyncio.sleep(0.05)
            assert not talk.passes(expected=False)

    with world.node.entered():
        asyncio.run(main())


def test_a_connection_to_a_service_is_judged_by_where_it_went(world: World) -> None:
    async def main() -> None:
        async with running(world) as agent:
            target = f"{world.address('b', 4)}:80"
            rule = ("-t", "nat", "-A", "PREROUTING", "-d", SERVICE[0], "-p", "tcp", "--dport", str(SERVICE[1]))
            world.node.run("iptables-nft", *rule, "-j", "DNAT", "--to", target)
            await agent.apply()
            denied = world.tcp("a", "b", 80, via=SERVICE)
            kept = world.tcp("c", "b", 80, via=SERVICE)
            world.policy("b", program("Ingress", ingress=(only_from(world, "c"),)))
            await agent.apply()
            await agent.until(1)
            assert not denied.passes(expected=False)
            assert kept.passes()
            world.policy("c", program("Egress", egress=(Rule(peer=RuleEnd(nets=(f"{SERVICE[0]}/32",))),)))
            await agent.apply()
            await agent.until(2)

    with world.node.entered():
        asyncio.run(main())


def test_egress_and_the_way_to_the_node(world: World) -> None:
    async def main() -> None:
        async with running(world) as agent:
            await agent.apply()
            denied = [world.tcp("a", "outside", 80), world.tcp("a", "node", 81), world.udp("a", "b", 53, 6)]
            kept = [world.tcp("a", "outside", 443, 6), world.tcp("b", "a", 80)]
            allowed = Rule(protocol="TCP", peer=RuleEnd(ports=("443",)))
            world.policy("a", program("Egress", egress=(allowed,)))
            await agent.apply()
            await agent.until(len(denied))
            assert not any(talk.passes(expected=False) for talk in denied)
            assert all(talk.passes() and talk.passes(back=True) for talk in kept)

    with world.node.entered():
        asyncio.run(main())


def test_a_member_that_leaves_a_group_and_a_class_that_changes(world: World) -> None:
    async def main() -> None:
        async with running(world) as agent:
            friends = world.group("ag-friends", *world.both("a"), *world.both("c"))
            world.policy("b", program("Ingress", ingress=(Rule(peer=RuleEnd(groups=(friends,))),)))
            await agent.apply()
            first, second = world.tcp("a", "b", 80), world.tcp("c", "b", 80)
            world.group("ag-friends", *world.both("c"))
            await agent.apply()
            await agent.until(1)
            assert not first.passes(expected=False)
            assert second.passes()
            one = world.endpoints["b"]
            world.policy("a", program("Ingress"))
            world.view = replace(world.view, class_of={**world.view.class_of, ("default", "b", one.uid): "pc-a"})
            await agent.apply()
            await agent.until(2)

    with world.node.entered():
        asyncio.run(main())


def test_by_default_established_connections_stay(world: World) -> None:
    def settle(established: Literal["Keep", "Recheck"]) -> None:
        world.view = replace(world.view, settings=PolicySettings(established=established))

    async def main() -> None:
        async with running(world) as agent:
            settle("Keep")
            await agent.apply()
            talk = world.tcp("a", "b", 80)
            world.policy("b", program("Ingress", ingress=(only_from(world, "c"),)))
            await agent.apply()
            await agent.until(0)
            assert talk.passes()
            assert talk.passes(back=True)
            settle("Recheck")
            await agent.apply()
            await agent.until(1)
            assert not talk.passes(expected=False)

    with world.node.entered():
        asyncio.run(main())


def test_what_changed_while_no_agent_ran_is_looked_at_by_the_next(world: World) -> None:
    async def main() -> None:
        async with running(world) as agent:
            await agent.apply()
            talk = world.tcp("a", "b", 80)
        world.policy("b", program("Ingress", ingress=(only_from(world, "c"),)))
        async with running(world) as agent:
            await agent.apply()
            await agent.until(1)
            assert not talk.passes(expected=False)

    with world.node.entered():
        asyncio.run(main())
