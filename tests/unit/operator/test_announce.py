"""What users are told by the runtime itself: full pools, invalid policies, bad annotations."""

from __future__ import annotations

from typing import Any

from informing import eventually
from manx_kube.resources import EVENTS, IP_POOLS, NETWORK_POLICIES, NODE_STATES, NODES
from operating import Cluster, cluster, leading, settled


def events(world: Cluster, reason: str) -> list[dict[str, Any]]:
    return [event for event in world.all(EVENTS).values() if event["reason"] == reason]


def condition(world: Cluster, pool: str) -> dict[str, Any]:
    found = (world.all(IP_POOLS)[pool].get("status") or {}).get("conditions") or []
    return next((c for c in found if c["type"] == "AddressesAvailable"), {})


async def test_a_full_pool_has_a_condition_an_event_and_a_message_for_the_node() -> None:
    async with cluster() as world:
        world.pool("small", "10.1.0.0/26")
        accepted = {
            "type": "Accepted",
            "status": "True",
            "reason": "Valid",
            "message": "",
            "lastTransitionTime": "then",
        }
        world.put(IP_POOLS, {**world.all(IP_POOLS)["small"], "status": {"conditions": [accepted]}})
        world.node("n1", 1)
        async with leading(world) as leader:
            await settled(world, leader)
            assert condition(world, "small") == {}
            world.node("n2", 2)
            await eventually(lambda: condition(world, "small").get("status") == "False")
            assert accepted in world.all(IP_POOLS)["small"]["status"]["conditions"]
            await eventually(lambda: events(world, "PoolExhausted"))
            (event,) = events(world, "PoolExhausted")
            assert (event["type"], event["regarding"]["name"]) == ("Warning", "small")
            assert "10.1.0.0/26" in event["note"]
            await settled(world, leader)
            states = [world.all(NODE_STATES)[name]["spec"].get("ipamProblem", "") for name in ("n1", "n2")]
            assert sorted(states) == ["", "IPPool small (10.1.0.0/26): all 1 blocks are in use"]
            world.pool("more", "10.2.0.0/24")
            await eventually(lambda: condition(world, "small").get("status") == "True")
            await settled(world, leader)
            assert not any(state["spec"].get("ipamProblem") for state in world.all(NODE_STATES).values())
            assert len(events(world, "PoolExhausted")) == 1


async def test_a_bad_annotation_is_told_once() -> None:
    async with cluster() as world:
        world.node("n1", 1, annotations={"projectcalico.org/ASNumber": "0"})
        world.pool()
        async with leading(world) as leader:
            await eventually(lambda: events(world, "InvalidAnnotation"))
            node = world.all(NODES)["n1"]
            world.put(NODES, {**node, "metadata": {**node["metadata"], "labels": {"a": "b"}}})
            await settled(world, leader)
            (event,) = events(world, "InvalidAnnotation")
            assert "projectcalico.org/ASNumber" in event["note"]
            assert "1 to 4294967295" in event["note"]


async def test_an_invalid_policy_is_told() -> None:
    async with cluster() as world:
        world.node("n1", 1)
        world.pool()
        world.namespace("d")
        world.policy("bad", {"app": "web"}, {"app": "x"})
        bad = world.api.state.of(NETWORK_POLICIES)[("d", "bad")]
        block = {"from": [{"ipBlock": {"cidr": "10.0.0.0/99"}}]}
        world.put(NETWORK_POLICIES, {**bad, "spec": {**bad["spec"], "ingress": [block]}})
        async with leading(world):
            await eventually(lambda: events(world, "InvalidPolicy"))
            (event,) = events(world, "InvalidPolicy")
            assert (event["regarding"]["kind"], event["regarding"]["name"]) == ("NetworkPolicy", "bad")
            assert "cidr" in event["note"]
