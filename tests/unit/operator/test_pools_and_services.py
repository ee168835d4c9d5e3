"""A pool that overlaps the services' network gives out no block, also where nobody was there to refuse it."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from manx_operator.pools import Pools
from manx_operator.user_kinds import UserKinds


@pytest.mark.parametrize(("cidr", "usable"), [("10.96.0.0/16", False), ("10.0.0.0/8", False), ("10.244.0.0/16", True)])
def test_services_have_their_network_to_themselves(cidr: str, usable: bool) -> None:
    kinds = UserKinds()
    kinds.pools.put("p", {"metadata": {"name": "p", "uid": "u"}, "spec": {"cidr": cidr}})
    pools = Pools(kinds, [ip_network("10.96.0.0/12"), ip_network("fd00::/112")])
    pools.refresh([], ())
    assert ("p" in pools.accepted) is usable
