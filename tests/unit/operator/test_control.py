"""One leadership on a fake API server: what comes out of the inputs, in which order, and how little is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from informing import eventually
from manx_kube.resources import (
    ADDRESS_GROUPS,
    BGP_CONFIGURATIONS,
    BGP_PEERS,
    IPAM_BLOCKS,
    MESH_NODES,
    NETWORK_POLICIES,
    NODE_REPORTS,
    NODE_STATES,
    NODES,
    POLICY_CLASSES,
    POLICY_PROGRAMS,
)
from manx_operator.observed import Key
from operating import FAST, Cluster, cluster, leading, listed, settled


def small(world: Cluster) -> None:
    """Two nodes, a pool, and a web pod with a client."""
    world.node("n1", 1)
    world.node("n2", 2)
    world.pool(natOutgoing=True)
    world.namespace("d")
    world.pod("web", "n1", labels={"app": "web"})
    world.pod("client", "n2", labels={"app": "client"})


async def test_a_node_gets_its_state_its_place_in_the_mesh_and_a_block() -> None:
    async with cluster() as world:
        small(world)
        async with leading(world, epoch=7) as leader:
            await settled(world, leader)
            state, mesh = world.all(NODE_STATES)["n1"]["spec"], world.all(MESH_NODES)["n1"]["spec"]
            block = world.block_of("n1")
            assert state["epoch"] == mesh["epoch"] == block["spec"]["epoch"] == 7
            assert state["ipv4"] == mesh["ipv4"] == "192.0.2.1"
            assert state["pools"] == [{"name": "pool", "cidr": "10.1.0.0/16", "natOutgoing": True}]
            assert [(e.name, e.policy_class) for e in listed(world, "n1")] == [("web", "open")]
            assert mesh["blocks"] == [block["spec"]["cidr"]]
            assert Counter(r.resource for r in world.writes()) == {
                "nodestates.manx.dev": 2, "meshnodes.manx.dev": 2, "ipamblocks.manx.dev": 2,
            }  # fmt: skip


async def test_what_is_referred_to_is_written_first_and_removed_last() -> None:
    async with cluster() as world:
        small(world)
        async with leading(world) as leader:
            await settled(world, leader)
            world.allocate("client")
            await settled(world, leader)
            world.forget_requests()
            world.policy("p", {"app": "web"}, {"app": "client"})
            await settled(world, leader, lambda: world.all(POLICY_CLASSES))
            made = [r.resource.split(".")[0] for r in world.writes()]
            assert made == ["addressgroups", "policyprograms", "policyclasses", "nodestates"]
            assert all(world.spans(r, name, "n1") for r in (POLICY_CLASSES, ADDRESS_GROUPS) for name in world.all(r))
            assert not any(world.spans(POLICY_PROGRAMS, name, "n1") for name in world.all(POLICY_PROGRAMS))
            world.forget_requests()
            world.delete(NETWORK_POLICIES, "p", "d")
            await settled(world, leader, lambda: not world.all(POLICY_CLASSES))
            gone = [r.resource.split(".")[0] for r in world.writes()]
            gone.remove("policyprograms")  # whose class has it inside
            assert gone[0] == "nodestates"
            assert sorted(gone[1:]) == ["addressgroups", "policyclasses"]


async def test_an_address_is_in_groups_as_soon_as_the_agent_has_given_it() -> None:
    async with cluster() as world:
        small(world)
        world.policy("p", {"app": "web"}, {"app": "client"})
        async with leading(world) as leader:
            await settled(world, leader)
            world.forget_requests()
            address = world.allocate("client")
            await eventually(lambda: world.members(address))
            await settled(world, leader)
            assert [r.resource for r in world.writes()] == ["addressgroups.manx.dev"]


async def test_a_claim_to_anothers_pod_or_address_is_not_believed() -> None:
    async with cluster() as world:
        small(world)
        world.policy("p", {"app": "web"}, {"app": "client"})
        async with leading(world) as leader:
            await settled(world, leader)
            world.forget_requests()
            mine = world.block_of("n1")["metadata"]["name"]
            inside = world.block_of("n1")["spec"]["cidr"].split("/")[0]
            uid = world.api.state.objects["pods"][("d", "client")]["metadata"]["uid"]
            foreign = {"address": inside, "namespace": "d", "name": "client", "uid": uid, "containerID": "x"}
            world.set_status(mine, allocations=[foreign])
            theirs = world.block_of("n2")["metadata"]["name"]
            world.set_status(theirs, allocations=[{**foreign, "address": "203.0.113.1"}, {**foreign, "uid": "old"}])
            await settled(world, leader)
            assert world.writes() == []


async def test_what_is_right_is_not_written_again_by_the_next_leader() -> None:
    async with cluster() as world:
        small(world)
        world.policy("p", {"app": "web"}, {"app": "client"})
        async with leading(world, epoch=1) as leader:
            await settled(world, leader, lambda: world.all(POLICY_CLASSES))
            world.allocate("client")
            await settled(world, leader)
        world.forget_requests()
        async with leading(world, epoch=2) as leader:
            await settled(world, leader)
            assert world.writes() == []
            world.pod("other", "n1")
            await settled(world, leader, lambda: len(listed(world, "n1")) == 2)
            assert [(r.resource, r.body["spec"]["epoch"]) for r in world.writes()] == [("nodestates.manx.dev", 2)]


async def test_leftovers_and_damage_are_put_right() -> None:
    async with cluster() as world:
        small(world)
        world.put(NODE_STATES, {"metadata": {"name": "gone"}, "spec": {"epoch": 1}})
        world.put(POLICY_CLASSES, {"metadata": {"name": "pc-old"}, "spec": {"epoch": 1, "policies": ["x"]}})
        async with leading(world, epoch=2) as leader:
            await settled(world, leader)
            assert set(world.all(NODE_STATES)) == {"n1", "n2"}
            assert not world.all(POLICY_CLASSES)
            spoiled = world.all(NODE_STATES)["n1"]
            world.put(NODE_STATES, {**spoiled, "spec": {**spoiled["spec"], "pods": []}})
            await settled(world, leader, lambda: listed(world, "n1"))
            world.delete(MESH_NODES, "n2")
            await settled(world, leader, lambda: "n2" in world.all(MESH_NODES))


async def test_a_deleted_node_leaves_nothing_but_its_blocks_for_a_while() -> None:
    async with cluster() as world:
        world.node("n1", 1)
        world.node("n2", 2)
        world.pool()
        async with leading(world) as leader:
            await settled(world, leader)
            world.report("n1")
            world.report("n2")
            world.delete(NODES, "n2")
            await settled(world, leader, lambda: set(world.all(NODE_STATES)) == {"n1"})
            assert set(world.all(MESH_NODES)) == set(world.all(NODE_REPORTS)) == {"n1"}
            await eventually(lambda: [b["spec"]["node"] for b in world.all(IPAM_BLOCKS).values()] == ["n1"])


async def test_a_report_that_comes_after_its_node_is_gone_goes_too() -> None:
    async with cluster() as world:
        world.node("n1", 1)
        world.node("n2", 2)
        world.pool()
        async with leading(world) as leader:
            await settled(world, leader)
            world.delete(NODES, "n2")
            await settled(world, leader, lambda: set(world.all(NODE_STATES)) == {"n1"})
            world.report("n2")
            await settled(world, leader)
            assert not world.all(NODE_REPORTS)


async def test_the_as_number_reaches_those_nodes_that_have_none_of_their_own() -> None:
    async with cluster() as world:
        world.node("n1", 1)
        world.node("n2", 2, annotations={"projectcalico.org/ASNumber": "65001"})
        world.pool()
        async with leading(world) as leader:
            await settled(world, leader)
            world.forget_requests()
            spec = {"logSeverityScreen": "Info", "nodeToNodeMeshEnabled": True, "asNumber": 63400}
            world.put(BGP_CONFIGURATIONS, {"metadata": {"name": "default"}, "spec": spec})
            await settled(world, leader, lambda: world.all(MESH_NODES)["n1"]["spec"].get("asNumber") == 63400)
            assert world.all(NODE_STATES)["n1"]["spec"]["bgp"]["asNumber"] == 63400
            assert {r.name for r in world.writes()} == {"n1"}


async def test_an_explicit_peer_concerns_its_node_alone_and_a_bad_one_none() -> None:
    async with cluster() as world:
        world.node("n1", 1, labels={"rack": "a"})
        world.node("n2", 2)
        world.pool()
        async with leading(world) as leader:
            await settled(world, leader)
            world.forget_requests()
            spec = {"peerIP": "198.51.100.7:1179", "asNumber": "1.10", "nodeSelector": "has(rack)"}
            world.put(BGP_PEERS, {"metadata": {"name": "tor"}, "spec": spec})
            world.put(BGP_PEERS, {"metadata": {"name": "bad"}, "spec": {"peerIP": "198.51.100.8", "asNumber": 0}})
            await settled(world, leader, lambda: world.all(NODE_STATES)["n1"]["spec"].get("peers"))
            peers = world.all(NODE_STATES)["n1"]["spec"]["peers"]
            assert peers == [{"name": "tor", "address": "198.51.100.7", "asNumber": 65546, "port": 1179}]
            assert [r.name for r in world.writes()] == ["n1"]
            world.put(BGP_PEERS, {"metadata": {"name": "tor"}, "spec": {**spec, "asNumber": "abc"}})
            world.pod("x", "n1")
            await settled(world, leader, lambda: listed(world, "n1"))
            assert world.all(NODE_STATES)["n1"]["spec"]["peers"] == peers


async def test_nothing_is_written_while_inactive() -> None:
    async with cluster() as world:
        small(world)
        async with leading(world, active=False) as leader:
            world.pod("more", "n1")
            await eventually(lambda: ("d", "more") in leader.inputs.pods.cache)
            await eventually(
                lambda: len(leader.control.model.endpoints("n1")) == 2 and not leader.control.flush_pending
            )
            assert world.writes() == []
            leader.control.activate(True)
            await settled(world, leader, lambda: world.all(NODE_STATES))
            leader.control.activate(False)
            count = len(world.writes())
            world.pod("yet", "n1")
            await eventually(
                lambda: len(leader.control.model.endpoints("n1")) == 3 and not leader.control.flush_pending
            )
            assert len(world.writes()) == count


async def test_a_report_that_comes_before_its_node_is_kept_and_one_that_outlives_it_is_not() -> None:
    async with cluster() as world:
        small(world)
        world.report("left")
        async with leading(world) as leader:
            await settled(world, leader, lambda: set(world.all(NODE_REPORTS)) == set())
            world.report("new")
            await settled(world, leader)
            assert set(world.all(NODE_REPORTS)) == {"new"}
            world.node("new", 3)
            await settled(world, leader, lambda: "new" in world.all(NODE_STATES))
            world.delete(NODES, "new")
            await settled(world, leader, lambda: not world.all(NODE_REPORTS))


@pytest.mark.parametrize(
    ("usual", "waiting", "gap"), [(30.0, 0, 0.03), (30.0, 20, 0.05), (30.0, 5000, 0.1), (500.0, 5000, 0.5)]
)
async def test_the_more_waits_the_more_is_taken_up_together(usual: float, waiting: int, gap: float) -> None:
    async with cluster() as world:
        settings = replace(FAST, coalesce_ms=usual, write_rate=1000.0)
        async with leading(world, settings=settings, active=False) as leader:
            leader.control.writer.mark(Key(ADDRESS_GROUPS, f"group-{number}") for number in range(waiting))
            assert leader.control._gap() == pytest.approx(gap)
