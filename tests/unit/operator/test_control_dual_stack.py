"""One leadership on a fake API server: when nodes begin and cease to take part in IPv6, and what that writes."""

from __future__ import annotations

from collections import Counter

from informing import eventually
from manx_kube.resources import BGP_PEERS, IP_POOLS, IPAM_BLOCKS, MESH_NODES, NODE_STATES, NODES
from operating import Cluster, cluster, leading, settled


def dual(world: Cluster) -> None:
    """Two nodes with addresses of both families, and an IPv4 pool."""
    for number in (1, 2):
        addresses = [{"type": "InternalIP", "address": ip} for ip in (f"192.0.2.{number}", f"2001:db8::{number}")]
        world.put(NODES, {"metadata": {"name": f"n{number}"}, "status": {"addresses": addresses}})
    world.pool(natOutgoing=True)
    world.namespace("d")


def ipv6_of(world: Cluster) -> list[tuple[str, str]]:
    """Each node's address in its NodeState, and in the mesh."""
    states, mesh = world.all(NODE_STATES), world.all(MESH_NODES)
    return [(states[name]["spec"].get("ipv6", ""), mesh[name]["spec"].get("ipv6", "")) for name in ("n1", "n2")]


def blocks6(world: Cluster) -> dict[str, str]:
    """IPv6 blocks by node."""
    specs = [block["spec"] for block in world.all(IPAM_BLOCKS).values()]
    return {spec["node"]: spec["cidr"] for spec in specs if ":" in spec["cidr"]}


def states6(world: Cluster) -> list[str]:
    """Of IPv6 blocks."""
    specs = [block["spec"] for block in world.all(IPAM_BLOCKS).values()]
    return [spec.get("state", "Active") for spec in specs if ":" in spec["cidr"]]


async def test_with_ipv4_pools_alone_nothing_says_ipv6() -> None:
    async with cluster() as world:
        dual(world)
        async with leading(world) as leader:
            await settled(world, leader)
            assert ipv6_of(world) == [("", ""), ("", "")]
            assert blocks6(world) == {}


async def test_an_ipv6_pool_gives_every_node_a_block_and_a_place_in_the_mesh_and_its_end_takes_them() -> None:
    async with cluster() as world:
        dual(world)
        async with leading(world) as leader:
            await settled(world, leader)
            world.forget_requests()
            world.pool("six", "fd01::/64", blockSize=122)
            await settled(world, leader, lambda: len(blocks6(world)) == 2 and all(all(pair) for pair in ipv6_of(world)))
            assert ipv6_of(world) == [("2001:db8::1", "2001:db8::1"), ("2001:db8::2", "2001:db8::2")]
            for node, cidr in blocks6(world).items():
                assert cidr in world.all(MESH_NODES)[node]["spec"]["blocks"]
                assert {pool["cidr"] for pool in world.all(NODE_STATES)[node]["spec"]["pools"]} == {
                    "10.1.0.0/16",
                    "fd01::/64",
                }
            created = Counter(request.resource for request in world.writes() if request.method == "POST")
            assert created == {"ipamblocks.manx.dev": 2}
            world.delete(IP_POOLS, "six")
            await eventually(lambda: set(states6(world)) == {"Releasing"})
            for name, block in list(world.all(IPAM_BLOCKS).items()):
                if ":" in block["spec"]["cidr"]:
                    world.set_status(name, released=True)
            await settled(world, leader, lambda: ipv6_of(world) == [("", ""), ("", "")])
            assert blocks6(world) == {}


async def test_a_peer_over_ipv6_gives_its_node_an_address_and_no_mesh_of_ipv6() -> None:
    async with cluster() as world:
        dual(world)
        async with leading(world) as leader:
            await settled(world, leader)
            spec = {"peerIP": "2001:DB8::99", "asNumber": 65000, "node": "n1"}
            world.put(BGP_PEERS, {"metadata": {"name": "tor"}, "spec": spec})
            await settled(world, leader, lambda: ipv6_of(world)[0][0] == "2001:db8::1")
            assert ipv6_of(world) == [("2001:db8::1", ""), ("", "")]
            (peer,) = world.all(NODE_STATES)["n1"]["spec"]["peers"]
            assert peer["address"] == "2001:db8::99"
