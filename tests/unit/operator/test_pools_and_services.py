"""A pool that overlaps the services' network gives out no block, also where nobody was there to refuse it."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from manx_core.api.bgp_configuration import BgpGlobals
from manx_core.api.core_v1 import Node, NodeAddress, NodeStatus, ObjectMeta
from manx_core.bgp.nodes import speaker
from manx_operator.pools import WAIT, Pools
from manx_operator.user_kinds import UserKinds


@pytest.mark.parametrize(("cidr", "usable"), [("10.96.0.0/16", False), ("10.0.0.0/8", False), ("10.244.0.0/16", True)])
def test_services_have_their_network_to_themselves(cidr: str, usable: bool) -> None:
    kinds = UserKinds()
    kinds.pools.put("p", {"metadata": {"name": "p", "uid": "u"}, "spec": {"cidr": cidr}})
    pools = Pools(kinds, [ip_network("10.96.0.0/12"), ip_network("fd00::/112")])
    pools.refresh([], ())
    assert ("p" in pools.accepted) is usable


@pytest.mark.parametrize(("cidr", "usable"), [("fd00::/112", False), ("fd00::/64", False), ("fd01::/64", True)])
def test_services_have_their_ipv6_network_to_themselves(cidr: str, usable: bool) -> None:
    kinds = UserKinds()
    kinds.pools.put("p", {"metadata": {"name": "p", "uid": "u"}, "spec": {"cidr": cidr}})
    pools = Pools(kinds, [ip_network("10.96.0.0/12"), ip_network("fd00::/112")])
    pools.refresh([], ())
    assert ("p" in pools.accepted) is usable
    assert pools.ipv6 is usable


POOLS = [{"cidr": "10.1.0.0/16"}, {"cidr": "fd01::/64"}]


def installed(pools: list[dict[str, str]]) -> UserKinds:
    kinds = UserKinds()
    raw = {"metadata": {"name": "default", "uid": "i"}, "spec": {"calicoNetwork": {"ipPools": pools}}}
    kinds.installations.put("default", raw)
    return kinds


def test_no_block_before_the_installations_pools_of_both_families_are_there() -> None:
    now = 100.0
    kinds = installed(POOLS)
    pools = Pools(kinds, clock=lambda: now)
    for name, spec in zip(("default-ipv4-ippool", "default-ipv6-ippool"), POOLS, strict=True):
        pools.refresh([], ())
        assert (pools.accepted, pools.waiting) == ({}, True)
        kinds.pools.put(name, {"metadata": {"name": name, "uid": name}, "spec": spec})
    pools.refresh([], ())
    assert (sorted(pools.accepted), pools.waiting) == (["default-ipv4-ippool", "default-ipv6-ippool"], False)


def test_a_pool_that_does_not_come_is_not_waited_for_for_ever_nor_where_blocks_are() -> None:
    now = 100.0
    kinds = installed(POOLS)
    raw = {"metadata": {"name": "default-ipv4-ippool", "uid": "u"}, "spec": POOLS[0]}
    kinds.pools.put("default-ipv4-ippool", raw)
    pools = Pools(kinds, clock=lambda: now)
    pools.refresh([], ["default-ipv4-ippool"])
    assert (list(pools.accepted), pools.waiting) == (["default-ipv4-ippool"], False)
    pools.refresh([], ())
    assert (pools.accepted, pools.waiting) == ({}, True)
    now += WAIT
    assert pools.refresh([], ())
    assert (list(pools.accepted), pools.waiting) == (["default-ipv4-ippool"], False)


def test_nodes_take_part_in_ipv6_while_a_pool_or_its_blocks_are_there() -> None:
    kinds = UserKinds()
    raw = {"metadata": {"name": "p", "uid": "u"}, "spec": {"cidr": "fd01::/64"}}
    pools = Pools(kinds)
    pools.refresh([], ())
    assert not pools.ipv6
    kinds.pools.put("p", raw)
    assert pools.refresh([], ())
    assert pools.ipv6
    meta = ObjectMeta(name="n", uid="u")
    status = NodeStatus(addresses=(NodeAddress(type="InternalIP", address="fd01::1"),))
    node = speaker(Node(metadata=meta, status=status), BgpGlobals())
    pools.refresh([node], ["p"])
    assert not pools.accepted
    assert pools.ipv6
    pools.refresh([node], ())
    assert not pools.ipv6
