"""A pool that overlaps the services' network gives out no block, also where nobody was there to refuse it."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from manx_core.api.bgp_configuration import BgpGlobals
from manx_core.api.core_v1 import Node, NodeAddress, NodeStatus, ObjectMeta
from manx_core.bgp.nodes import speaker
from manx_operator.pools import Pools
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
