"""The writer's promises: in order, once, never with a stale version, never when the term is over, never too often."""

from __future__ import annotations

import asyncio

import pytest

from fakeapi import Request
from fakeapi_state import Refused
from informing import eventually
from manx_core.span import span_label
from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig
from manx_kube.resources import (
    ADDRESS_GROUPS,
    IPAM_BLOCKS,
    MESH_NODES,
    NODE_STATES,
    PODS,
    POLICY_CLASSES,
    POLICY_PROGRAMS,
)
from manx_operator.decide import Decider
from manx_operator.limiter import TokenBucket
from manx_operator.observed import Key, Observed
from manx_operator.settings import Settings
from manx_operator.writer import Writer
from operating import FAST, Clock, Cluster, cluster, leading, listed, new_term, settled


def small(world: Cluster) -> None:
    world.node("n1", 1)
    world.pool()
    world.namespace("d")
    world.pod("web", "n1", labels={"app": "web"})


def is_put(request: Request) -> bool:
    return request.method in ("PUT", "POST") and request.resource == str(NODE_STATES)


async def test_whoever_is_marked_first_has_the_first_turn_and_together_what_is_referred_to_has() -> None:
    """A stream of changes to groups, as from many addresses at once, keeps no NodeState waiting."""
    node, group, program = Key(NODE_STATES, "n"), Key(ADDRESS_GROUPS, "g"), Key(POLICY_PROGRAMS, "p")
    looked_at: list[Key] = []

    class Recorder(Decider):
        def __init__(self) -> None:
            pass

        def decide(self, key: Key) -> None:
            looked_at.append(key)

    async with KubeClient(ApiConfig("http://127.0.0.1:9")) as client:
        observed = Observed({}, lambda key: None, lambda: None)
        bucket = TokenBucket(1e6, 1e6, asyncio.get_running_loop().time)
        writer = Writer(client, new_term(1), observed, bucket=bucket)
        writer.mark([program])
        writer.mark([node, group])
        writer.mark([Key(ADDRESS_GROUPS, "later"), program])
        writer.start(Recorder())
        await eventually(lambda: len(looked_at) == 4)
    assert looked_at == [program, group, node, Key(ADDRESS_GROUPS, "later")]


async def test_nothing_is_sent_once_the_term_is_over() -> None:
    async with cluster() as world:
        small(world)
        clock = Clock()
        async with leading(world, term=new_term(1, clock)) as leader:
            await settled(world, leader)
            world.forget_requests()
            clock.now = 1000.0
            world.pod("late", "n1")
            world.policy("p", {"app": "web"}, {"app": "x"})
            await eventually(lambda: leader.control.model.all_keys() and not leader.control.flush_pending)
            await asyncio.sleep(0.05)  # as long as ten windows of writing: time for a mistake
            assert world.writes() == []


async def test_a_leader_that_slept_undoes_nothing() -> None:
    async with cluster() as world:
        small(world)
        async with leading(world, epoch=1) as old:
            await settled(world, old)
            world.api.freeze_watches()
            world.pod("second", "n1")
            async with leading(world, epoch=2) as new:
                await settled(world, new, lambda: len(listed(world, "n1")) == 2)
                right = world.all(NODE_STATES)["n1"]
                old.control.model.set_pod(("d", "web"), None)  # what it believes is no longer so
                old.control.flush()
                await eventually(lambda: not old.idle)
                await eventually(
                    lambda: any(r.method == "PUT" and r.body["spec"]["epoch"] == 1 for r in world.writes())
                )
                assert world.all(NODE_STATES)["n1"] == right


async def test_a_conflict_is_answered_by_looking_again_not_by_sending_again() -> None:
    async with cluster() as world:
        small(world)
        async with leading(world) as leader:
            await settled(world, leader)
            block = world.block_of("n1")["metadata"]["name"]
            raced: list[str] = []

            def agent_was_quicker(request: Request) -> None:
                if request.resource == str(IPAM_BLOCKS) and request.method == "PUT" and not raced:
                    raced.append(request.body["metadata"]["resourceVersion"])
                    world.set_status(block, sequence=5)

            world.api.before_write = agent_was_quicker
            world.put(
                IPAM_BLOCKS, {**world.block_of("n1"), "spec": {**world.block_of("n1")["spec"], "nodeUID": "wrong"}}
            )
            await settled(world, leader, lambda: raced and world.block_of("n1")["spec"]["nodeUID"] != "wrong")
            sent = [
                r.body["metadata"]["resourceVersion"]
                for r in world.writes()
                if r.resource == str(IPAM_BLOCKS) and r.method == "PUT"
            ]
            assert sent[0] == raced[0]
            assert len(sent) == len(set(sent)) == 2
            assert world.block_of("n1")["status"]["sequence"] == 5


async def test_many_changes_in_one_window_are_one_write() -> None:
    async with cluster() as world:
        small(world)
        slow = Settings(**{name: getattr(FAST, name) for name in FAST.__slots__} | {"coalesce_ms": 100.0})
        async with leading(world, settings=slow) as leader:
            await settled(world, leader)
            world.forget_requests()
            for number in range(30):
                world.pod(f"p{number}", "n1")
            await settled(world, leader, lambda: len(listed(world, "n1")) == 31)
            assert 1 <= world.api.count(is_put) <= 3


async def test_what_the_server_makes_something_else_of_is_looked_at_again_and_nothing_else_is() -> None:
    async with cluster() as world:
        small(world)

        def another(request: Request) -> None:
            if request.resource == str(MESH_NODES) and request.method == "POST":
                request.body["spec"]["asNumber"] = 1

        world.api.before_write = another
        async with leading(world) as leader:
            await settled(world, leader, lambda: world.all(MESH_NODES))
            await settled(world, leader, lambda: world.all(MESH_NODES)["n1"]["spec"].get("asNumber") != 1)
            assert [r.resource for r in world.writes() if r.method == "PUT"] == [str(MESH_NODES)]


async def test_refused_writes_are_tried_again_and_hold_up_nothing_else() -> None:
    async with cluster() as world:
        small(world)
        world.api.fail(
            lambda r: r.resource == str(MESH_NODES) and r.method == "POST", Refused(500, "Internal"), times=2
        )
        async with leading(world) as leader:
            await eventually(lambda: world.all(NODE_STATES) and world.all(IPAM_BLOCKS))
            assert not world.all(MESH_NODES)
            await settled(world, leader, lambda: world.all(MESH_NODES))


async def test_a_block_that_another_created_first_is_not_taken() -> None:
    async with cluster() as world:
        small(world)

        def another(request: Request) -> None:
            if request.resource == str(IPAM_BLOCKS) and request.method == "POST" and not world.all(IPAM_BLOCKS):
                spec = {**request.body["spec"], "node": "elsewhere"}
                world.put(IPAM_BLOCKS, {"metadata": {"name": request.body["metadata"]["name"]}, "spec": spec})

        world.api.before_write = another
        async with leading(world) as leader:
            await settled(world, leader, lambda: len(world.all(IPAM_BLOCKS)) == 2)
            assert sorted(b["spec"]["node"] for b in world.all(IPAM_BLOCKS).values()) == ["elsewhere", "n1"]
            assert world.all(MESH_NODES)["n1"]["spec"]["blocks"] == [world.block_of("n1")["spec"]["cidr"]]


async def test_a_node_waits_for_its_class_and_the_class_for_its_program() -> None:
    async with cluster() as world:
        small(world)
        world.pod("other", "n1", labels={"app": "other"})
        world.policy("q", {"app": "web"}, {"app": "x"})  # so that there is more than one class
        async with leading(world) as leader:
            await settled(world, leader, lambda: world.all(POLICY_CLASSES))
            world.api.fail(
                lambda r: r.resource == str(POLICY_PROGRAMS) and r.method == "POST", Refused(500, "Internal")
            )
            world.policy("p", {}, {"app": "x"})
            await eventually(lambda: leader.control.writer._backoffs)
            assert not naming(world, "knp.d.p")
            assert {pod.policy_class == "open" for pod in listed(world, "n1") if pod.name == "other"} == {True}
            await settled(world, leader, lambda: len(naming(world, "knp.d.p")) > 1)
            assert "open" not in {pod.policy_class for pod in listed(world, "n1")}


def naming(world: Cluster, program: str) -> list[str]:
    """The classes that name a program."""
    classes = world.all(POLICY_CLASSES).items()
    return [name for name, found in classes for tier in found["spec"]["tiers"] if program in tier["policies"]]


@pytest.mark.parametrize("applies_to", [{"app": "web"}, {}])
async def test_labels_come_before_the_node_and_go_later(applies_to: dict[str, str]) -> None:
    """A program of one class is inside it, and has no labels."""
    programs = ["policyprograms"] if not applies_to else []
    async with cluster() as world:
        small(world)
        world.node("n2", 2)
        world.pod("other", "n1", labels={"app": "other"})
        world.policy("p", applies_to, {"app": "x"})
        world.policy("q", {"app": "web"}, {"app": "x"})
        async with leading(world) as leader:
            await settled(world, leader, lambda: world.all(POLICY_CLASSES))
            world.forget_requests()
            world.pod("web2", "n2", labels={"app": "web"})
            await settled(world, leader, lambda: listed(world, "n2"))
            order = [r.resource.split(".")[0] for r in world.writes()]
            assert order == ["addressgroups", *programs, "policyclasses", "nodestates"]
            world.forget_requests()
            world.delete(PODS, "web2", "d")
            await eventually(lambda: not listed(world, "n2"))
            assert [r.resource for r in world.writes()] == ["nodestates.manx.dev"]
            kinds = (ADDRESS_GROUPS, POLICY_PROGRAMS, POLICY_CLASSES)
            labels = span_label("n2")
            await eventually(
                lambda: not any(labels in o["metadata"].get("labels", {}) for r in kinds for o in world.all(r).values())
            )
            await settled(world, leader)
            assert len(world.writes()) == 3 + len(programs)


async def test_a_ceiling_on_writes_is_kept() -> None:
    async with cluster() as world:
        world.pool()
        for number in range(20):
            world.node(f"n{number}", number)
        slow = Settings(
            **{name: getattr(FAST, name) for name in FAST.__slots__} | {"write_rate": 50.0, "write_burst": 5.0}
        )
        async with leading(world, settings=slow) as leader:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await settled(world, leader, lambda: len(world.all(NODE_STATES)) == 20)
            count, took = len(world.writes()), loop.time() - began
            assert count == 60
            assert count <= 5 + 50 * took + 1
