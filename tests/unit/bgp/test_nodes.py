"""What a node is in the mesh: where it is reached, its AS number, its explicit peers; and what bad input comes to."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from manx_core.api.bgp_configuration import BgpGlobals
from manx_core.api.bgp_peer import Peer
from manx_core.api.core_v1 import Node, NodeAddress, NodeStatus, ObjectMeta
from manx_core.api.installation import NodeAddressAutodetection as Method
from manx_core.api.v1alpha1 import BgpPeer, Interface
from manx_core.bgp.nodes import PeerRule, speaker
from manx_core.selectors.calico import parse

ETH = (
    Interface(name="lo", addresses=("127.0.0.1/8",)),
    Interface(name="eth0", addresses=("2001:db8::1/64", "192.0.2.1/24")),
    Interface(name="eth1", addresses=("198.51.100.1/28",)),
    Interface(name="docker0", addresses=("172.17.0.1/16",)),
)


def node(ip: str = "192.0.2.1", labels: dict[str, str] | None = None, **annotations: str) -> Node:
    marks = {f"projectcalico.org/{name}": value for name, value in annotations.items()}
    meta = ObjectMeta(name="n", uid="u", labels=labels or {}, annotations=marks)
    addresses = (NodeAddress(type="InternalIP", address="2001:db8::9"), NodeAddress(type="InternalIP", address=ip))
    return Node(metadata=meta, status=NodeStatus(addresses=addresses if ip else ()))


def test_by_default_a_node_is_reached_at_its_internal_ip() -> None:
    found = speaker(node(), BgpGlobals())
    assert (found.ipv4, found.ipv4_network, found.ipv6, found.ipv6_network) == ("192.0.2.1", "", "2001:db8::9", "")
    assert found.settings.router_id == "192.0.2.1"
    assert not found.problems


def test_the_agents_report_adds_the_subnet() -> None:
    found = speaker(node(), BgpGlobals(), interfaces=ETH)
    assert (found.ipv4_network, found.ipv6, found.ipv6_network) == ("192.0.2.0/24", "2001:db8::1", "2001:db8::/64")


@pytest.mark.parametrize("bad", ["nonsense", "2001:db8::1/129", "192.0.2.1/24", "2001:db8::1%eth0"])
def test_a_bad_ipv6_annotation_is_told_and_counts_as_absent(bad: str) -> None:
    found = speaker(node(IPv6Address=bad), BgpGlobals())
    assert found.ipv6 == "2001:db8::9"
    assert [problem.field for problem in found.problems] == ["metadata.annotations[projectcalico.org/IPv6Address]"]


def test_the_ipv6_annotation_decides() -> None:
    found = speaker(node(IPv6Address="2001:DB8:7::7/64"), BgpGlobals(), interfaces=ETH)
    assert (found.ipv6, found.ipv6_network) == ("2001:db8:7::7", "2001:db8:7::/64")


def test_each_family_has_its_own_method() -> None:
    found = speaker(
        node(), BgpGlobals(), method=Method(interface="eth1"), interfaces=ETH, method6=Method(interface="eth0")
    )
    assert (found.ipv4, found.ipv6) == ("198.51.100.1", "2001:db8::1")


def test_the_mesh_hears_of_ipv6_only_where_it_is_of_ipv6() -> None:
    found = speaker(node(), BgpGlobals(), interfaces=ETH)
    assert (found.mesh_node([]).ipv6, found.mesh_node([]).ipv6_network) == ("", "")
    both = found.mesh_node(["fd00::40/122", "10.1.0.0/26"], ipv6=True)
    assert (both.ipv4, both.ipv6, both.ipv6_network) == ("192.0.2.1", "2001:db8::1", "2001:db8::/64")
    assert both.blocks == ("10.1.0.0/26", "fd00::40/122")


def test_a_node_of_ipv6_alone_has_a_bgp_identifier_of_its_own() -> None:
    identifiers = set()
    for name in ("a", "b", "c"):
        meta = ObjectMeta(name=name, uid="u")
        status = NodeStatus(addresses=(NodeAddress(type="InternalIP", address="2001:db8::9"),))
        found = speaker(Node(metadata=meta, status=status), BgpGlobals())
        assert (found.ipv4, found.ipv6) == ("", "2001:db8::9")
        assert IPv4Address(found.settings.router_id).is_global or IPv4Address(found.settings.router_id).is_private
        assert not IPv4Address(found.settings.router_id).is_multicast
        identifiers.add(found.settings.router_id)
    assert len(identifiers) == 3


def test_an_ipv6_peer_is_told_apart() -> None:
    rules = [PeerRule(Peer("p", "2001:db8::99", None, 65000, ""), parse(""))]
    assert speaker(node(), BgpGlobals(), rules).has_ipv6_peer
    assert not speaker(node(), BgpGlobals()).has_ipv6_peer


@pytest.mark.parametrize("bad", ["nonsense", "192.0.2.1/33", "2001:db8::1/64", "300.0.2.1"])
def test_a_bad_address_annotation_is_told_and_counts_as_absent(bad: str) -> None:
    found = speaker(node(IPv4Address=bad), BgpGlobals())
    assert found.ipv4 == "192.0.2.1"
    assert [problem.field for problem in found.problems] == ["metadata.annotations[projectcalico.org/IPv4Address]"]


@pytest.mark.parametrize(
    ("text", "address", "net"),
    [("198.51.100.7/28", "198.51.100.7", "198.51.100.0/28"), ("198.51.100.7", "198.51.100.7", "")],
)
def test_the_address_annotation_decides(text: str, address: str, net: str) -> None:
    found = speaker(node(IPv4Address=text), BgpGlobals(), interfaces=ETH)
    assert (found.ipv4, found.ipv4_network) == (address, net)


@pytest.mark.parametrize(
    ("text", "number", "problems"),
    [
        ("", 63400, 0),
        ("65001", 65001, 0),
        ("1.10", 65546, 0),
        ("0", 63400, 1),
        ("4294967296", 63400, 1),
        ("abc", 63400, 1),
    ],
)
def test_a_nodes_own_as_number_goes_before_everyones(text: str, number: int, problems: int) -> None:
    found = speaker(node(ASNumber=text) if text else node(), BgpGlobals(as_number=63400))
    assert found.settings.as_number == found.mesh_node([]).as_number == number
    assert len(found.problems) == problems


@pytest.mark.parametrize(
    ("method", "interfaces", "address"),
    [
        (None, (), "192.0.2.1"),
        (Method(first_found=True), (), "192.0.2.1"),
        (Method(kubernetes="NodeInternalIP"), (), "192.0.2.1"),
        (Method(interface="eth1"), (), ""),
        (Method(interface="eth1"), ETH, "198.51.100.1"),
        (Method(skip_interface="eth0"), ETH, "198.51.100.1"),
        (Method(cidrs=("198.51.100.0/24",)), ETH, "198.51.100.1"),
    ],
)
def test_only_what_needs_the_agents_report_waits_for_it(
    method: Method | None, interfaces: tuple[Interface, ...], address: str
) -> None:
    assert speaker(node(), BgpGlobals(), method=method, interfaces=interfaces).ipv4 == address


def test_no_address_is_no_guess() -> None:
    found = speaker(node(ip=""), BgpGlobals())
    assert (found.ipv4, found.settings.router_id) == ("", "")


@pytest.mark.parametrize(
    ("on", "selector", "concerned"),
    [
        ("", "all()", True),
        ("", "", True),
        ("", "rack == 'a'", True),
        ("", "rack == 'b'", False),
        ("n", "", True),
        ("m", "", False),
    ],
)
def test_a_peer_concerns_the_nodes_it_names_or_selects(on: str, selector: str, concerned: bool) -> None:
    rule = PeerRule(Peer("p", "192.0.2.9", None, 65000, on), parse(selector))
    expected = (BgpPeer(name="p", address="192.0.2.9", as_number=65000, port=179),) if concerned else ()
    assert speaker(node(labels={"rack": "a"}), BgpGlobals(), [rule]).peers == expected


def test_blocks_are_told_in_one_order() -> None:
    mesh = speaker(node(), BgpGlobals()).mesh_node(["10.1.0.64/26", "10.1.0.0/26"], epoch=3)
    assert mesh.blocks == ("10.1.0.0/26", "10.1.0.64/26")
    assert (mesh.epoch, mesh.node_uid, mesh.ipv4) == (3, "u", "192.0.2.1")
