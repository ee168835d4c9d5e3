"""IPPools, by themselves, against each other and against the networks around them."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manx_core.api import ip_pool
from manx_core.api.fields import InvalidObject
from manx_core.api.ip_pool import IPPool, Pool, pool_of
from manx_core.api.pools import Surroundings, in_use, one_subnet, overlap, review


def parsed(**spec: Any) -> IPPool:
    return IPPool.parse({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})


def pool(name: str, cidr: str, created: str = "", **more: Any) -> Pool:
    return Pool(name, ipaddress.ip_network(cidr), 26, created=created, **more)


def test_defaults() -> None:
    found = parsed(cidr="10.244.0.0/16")
    assert ip_pool.check(found) == ()
    expected = Pool("p", ipaddress.ip_network("10.244.0.0/16"), 26, created="2026-01-01T00:00:00Z")
    assert pool_of(found) == expected


@pytest.mark.parametrize(
    ("spec", "field", "value"),
    [
        ({"blockSize": 20}, "block_size", 20),
        ({"blockSize": 32}, "block_size", 32),
        ({"natOutgoing": True}, "nat_outgoing", True),
        ({"disabled": True}, "disabled", True),
        ({"ipipMode": "CrossSubnet"}, "encapsulation", "IPIPCrossSubnet"),
        ({"vxlanMode": "CrossSubnet", "ipipMode": "Never"}, "encapsulation", "VXLANCrossSubnet"),
        ({"ipipMode": "Never", "vxlanMode": "Never"}, "encapsulation", "None"),
        ({"allowedUses": ["Tunnel"]}, "for_pods", False),
        ({"allowedUses": ["Workload", "Tunnel"]}, "for_pods", True),
        ({"nodeSelector": "all()"}, "name", "p"),
        ({"nodeSelector": "rack == 'a'"}, "name", "p"),
        ({"assignmentMode": "Automatic"}, "name", "p"),
    ],
)
def test_each_field(spec: dict[str, Any], field: str, value: object) -> None:
    found = parsed(cidr="10.244.0.0/16", **spec)
    assert ip_pool.check(found) == ()
    assert getattr(pool_of(found), field) == value


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"cidr": "fe80::/64"}, "spec.cidr"),
        ({"cidr": "ff00::/8"}, "spec.cidr"),
        ({"cidr": "::/0"}, "spec.cidr"),
        ({"cidr": "::ffff:10.0.0.0/112"}, "spec.cidr"),
        ({"cidr": "fd00::/64", "blockSize": 26}, "spec.blockSize"),
        ({"cidr": "fd00::/64", "blockSize": 115}, "spec.blockSize"),
        ({"cidr": "fd00::/123"}, "spec.blockSize"),
        ({"cidr": "fd00::/64", "ipipMode": "CrossSubnet"}, "spec.ipipMode"),
        ({"cidr": "10.244.0.0/28"}, "spec.blockSize"),
        ({"cidr": "10.244.0.0/24", "blockSize": 22}, "spec.blockSize"),
        ({"cidr": "10.244.0.0/16", "blockSize": 33}, "spec.blockSize"),
        ({"cidr": "10.244.0.0/16", "blockSize": 122}, "spec.blockSize"),
        ({"cidr": "10.244.0.0/16", "ipipMode": "Always"}, "spec.ipipMode"),
        ({"cidr": "10.244.0.0/16", "vxlanMode": "Always"}, "spec.vxlanMode"),
        ({"cidr": "10.244.0.0/16", "vxlanMode": "CrossSubnet", "ipipMode": "CrossSubnet"}, "spec.vxlanMode"),
        ({"cidr": "10.244.0.0/16", "assignmentMode": "Manual"}, "spec.assignmentMode"),
    ],
)
def test_pools_that_are_not_in_force(spec: dict[str, Any], field: str) -> None:
    assert [problem.field for problem in ip_pool.check(parsed(**spec))] == [field]


def test_defaults_of_ipv6() -> None:
    found = parsed(cidr="fd00:10:244::/56")
    assert ip_pool.check(found) == ()
    expected = Pool("p", ipaddress.ip_network("fd00:10:244::/56"), 122, created="2026-01-01T00:00:00Z")
    assert pool_of(found) == expected


@pytest.mark.parametrize("spec", [{"blockSize": 116}, {"blockSize": 128}, {"vxlanMode": "CrossSubnet"}])
def test_ipv6_pools_in_force(spec: dict[str, Any]) -> None:
    assert ip_pool.check(parsed(cidr="fd00:10:244::/56", **spec)) == ()


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "spec.cidr"),
        ({"cidr": "10.244.0.1/16"}, "spec.cidr"),
        ({"cidr": "here"}, "spec.cidr"),
        ({"cidr": "10.244.0.0/16", "blockSize": "26"}, "spec.blockSize"),
        ({"cidr": "10.244.0.0/16", "blockSize": 19}, "spec.blockSize"),
        ({"cidr": "10.244.0.0/16", "natOutgoing": "Enabled"}, "spec.natOutgoing"),
        ({"cidr": "10.244.0.0/16", "ipipMode": "Sometimes"}, "spec.ipipMode"),
        ({"cidr": "10.244.0.0/16", "nodeSelector": "all("}, "spec.nodeSelector"),
        ({"cidr": "10.244.0.0/16", "allowedUses": ["Fun"]}, "spec.allowedUses[0]"),
    ],
)
def test_pools_that_are_refused(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        parsed(**spec)
    assert [problem.field for problem in caught.value.problems] == [field]


def test_the_older_of_two_that_overlap_stays() -> None:
    older, newer = pool("z", "10.0.0.0/8", "2026-01-01"), pool("a", "10.244.0.0/16", "2026-01-02")
    found = review([newer, older], Surroundings())
    assert found["z"] == ()
    assert [str(problem) for problem in found["a"]] == [
        "spec.cidr: 10.244.0.0/16 overlaps IPPool z (10.0.0.0/8), which is older"
    ]


def test_a_pool_that_is_not_in_force_is_in_nobodys_way() -> None:
    first, second, third = pool("a", "10.0.0.0/16", "1"), pool("b", "10.0.0.0/8", "2"), pool("c", "10.9.0.0/16", "3")
    found = review([first, second, third], Surroundings())
    assert (found["a"], found["c"]) == ((), ())
    assert found["b"]


@pytest.mark.parametrize(
    ("around", "words"),
    [
        (Surroundings({"n1": [ipaddress.ip_address("10.244.9.9")]}), "addresses of nodes: n1 (10.244.9.9)"),
        (Surroundings(node_networks={"n1": [ipaddress.ip_network("10.244.8.0/24")]}), "nodes' network 10.244.8.0/24"),
        (Surroundings(service_networks=[ipaddress.ip_network("10.0.0.0/8")]), "services' network 10.0.0.0/8"),
    ],
)  # fmt: skip
def test_networks_around(around: Surroundings, words: str) -> None:
    (problem,) = review([pool("p", "10.244.0.0/16")], around)["p"]
    assert problem.field == "spec.cidr"
    assert words in problem.message


def test_networks_elsewhere_are_no_problem() -> None:
    around = Surroundings(
        {"n1": [ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("fd00::1")]},
        {"n1": [ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("::/0")]},
        [ipaddress.ip_network("10.96.0.0/16"), ipaddress.ip_network("fd01::/112")],
    )
    assert review([pool("p", "10.244.0.0/16")], around) == {"p": ()}


_networks = st.builds(
    lambda address, length: ipaddress.IPv4Network((address, length), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(4, 28),
)


@given(st.lists(_networks, max_size=8))
def test_pools_in_force_never_overlap_and_all_others_are_told(networks: list[ipaddress.IPv4Network]) -> None:
    pools = [Pool(f"p{index}", net, 26, created=str(index)) for index, net in enumerate(networks)]
    found = review(reversed(pools), Surroundings())
    good = [each for each in pools if not found[each.name]]
    assert not any(overlap(one.cidr, other.cidr) for one in good for other in good if one is not other)
    for bad in (each for each in pools if found[each.name]):
        assert any(overlap(bad.cidr, older.cidr) and older.created < bad.created for older in good)


def test_crosssubnet_needs_one_subnet() -> None:
    nets = [ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("198.51.100.0/24")]
    crossing = pool("p", "10.244.0.0/16", encapsulation="VXLANCrossSubnet")
    assert one_subnet(crossing, nets[:1] * 2) == ()
    (problem,) = one_subnet(crossing, nets)
    assert problem.field == "spec.vxlanMode"
    assert one_subnet(pool("p", "10.244.0.0/16"), nets) == ()
    six = ipaddress.ip_network("2001:db8::/64")
    assert one_subnet(crossing, [nets[0], six]) == ()
    crossing6 = Pool("p", ipaddress.ip_network("fd00::/64"), 122, encapsulation="VXLANCrossSubnet")
    assert one_subnet(crossing6, [*nets, six]) == ()
    assert one_subnet(crossing6, [six, ipaddress.ip_network("2001:db8:1::/64")])


@pytest.mark.parametrize(
    ("around", "words"),
    [
        (Surroundings({"n1": [ipaddress.ip_address("fd00::9")]}), "addresses of nodes: n1 (fd00::9)"),
        (Surroundings(node_networks={"n1": [ipaddress.ip_network("fd00::/64")]}), "nodes' network fd00::/64"),
        (Surroundings(service_networks=[ipaddress.ip_network("fd00::/108")]), "services' network fd00::/108"),
    ],
)
def test_ipv6_networks_around(around: Surroundings, words: str) -> None:
    (problem,) = review([pool("p", "fd00::/56")], around)["p"]
    assert words in problem.message


def test_pools_of_different_families_never_overlap() -> None:
    found = review([pool("a", "0.0.0.0/0"), pool("b", "fd00::/8")], Surroundings())
    assert found == {"a": (), "b": ()}


def test_pools_in_use_that_are_gone() -> None:
    assert in_use({"a"}, {"b1": "a", "b2": "gone", "b3": "gone"}) == {"gone": ("b2", "b3")}
