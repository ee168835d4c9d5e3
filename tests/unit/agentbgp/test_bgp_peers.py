"""Which sessions a view asks for."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from manx_agent.bgp.peers import wanted_peers
from manx_agent.model import BgpView
from manx_core.api.v1alpha1 import BgpPeer, BgpSettings, MeshNodeSpec

OWN = "192.0.2.1"


def member(address: str, as_number: int = 64512, blocks: tuple[str, ...] = ("10.0.2.0/26",)) -> MeshNodeSpec:
    return MeshNodeSpec(epoch=1, ipv4=address, as_number=as_number, blocks=blocks)


VIEW = BgpView(
    "a",
    OWN,
    mesh={"b": member("192.0.2.2"), "c": member("192.0.2.3", 65003), "d": member("")},
    peers=(BgpPeer(name="tor", address="192.0.2.9", as_number=65000),),
)


def test_mesh_and_explicit_peers() -> None:
    peers = wanted_peers(VIEW).by_address
    assert list(peers) == ["192.0.2.2", "192.0.2.3", "192.0.2.9"]
    assert [peer.internal for peer in peers.values()] == [True, False, False]
    assert [peer.blocks for peer in peers.values()] == [("10.0.2.0/26",), ("10.0.2.0/26",), None]


def test_without_an_address_there_is_no_session() -> None:
    assert wanted_peers(replace(VIEW, address="")).by_address == {}


def test_without_mesh_only_explicit_peers_remain() -> None:
    settings = BgpSettings(mesh_enabled=False)
    assert list(wanted_peers(replace(VIEW, settings=settings)).by_address) == ["192.0.2.9"]


def test_a_members_own_port_is_the_meshes() -> None:
    settings = BgpSettings(listen_port=1790)
    ports = {peer.address: peer.port for peer in wanted_peers(replace(VIEW, settings=settings)).by_address.values()}
    assert ports == {"192.0.2.2": 1790, "192.0.2.3": 1790, "192.0.2.9": 179}


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        ({"address": "fe80::1"}, "BGPPeer tor: peer address 'fe80::1' is not a global IPv6 address"),
        ({"address": "fe80::1%eth0"}, "BGPPeer tor: peer address 'fe80::1%eth0' is not a global IPv6 address"),
        ({"address": "2001:db8::9%eth0"}, "BGPPeer tor: peer address '2001:db8::9%eth0' is not a global IPv6 address"),
        ({"address": "ff02::1"}, "BGPPeer tor: peer address 'ff02::1' is not a global IPv6 address"),
        (
            {"address": "2001:db8::9"},
            "BGPPeer tor: peer address 2001:db8::9: this node's own IPv6 address is not known",
        ),
        ({"address": "nonsense"}, "BGPPeer tor: peer address 'nonsense' is not an IPv4 address"),
        ({"address": "224.0.0.1"}, "BGPPeer tor: peer address '224.0.0.1' is not an IPv4 address"),
        ({"address": OWN}, "BGPPeer tor: peer address 192.0.2.1 is this node's own"),
        ({"address": "192.0.2.2"}, "BGPPeer tor: peer address 192.0.2.2 is already that of Mesh b"),
        ({"as_number": 0}, "BGPPeer tor: AS numbers 64512 and 0 must be from 1 to 4294967295"),
        ({"as_number": 4294967296}, "BGPPeer tor: AS numbers 64512 and 4294967296 must be from 1 to 4294967295"),
        ({"port": 0}, "BGPPeer tor: port 0 must be from 1 to 65535"),
    ],
)
def test_what_no_session_can_be_made_of(peer: dict[str, object], said: str) -> None:
    bad = msgspec.structs.replace(VIEW.peers[0], **peer)
    found = wanted_peers(replace(VIEW, peers=(bad,)))
    assert found.errors == (said,)
    assert list(found.by_address) == ["192.0.2.2", "192.0.2.3"]


def test_a_bad_own_address_is_told() -> None:
    found = wanted_peers(replace(VIEW, address="2001:db8::1", peers=()))
    assert found.by_address == {}
    assert found.errors == ("node a: address '2001:db8::1' is not an IPv4 address",)


OWN6 = "2001:db8::1"
DUAL = replace(
    VIEW,
    address6=OWN6,
    mesh={
        "b": MeshNodeSpec(epoch=1, ipv4="192.0.2.2", ipv6="2001:db8::2", blocks=("10.0.2.0/26", "fd00::40/122")),
        "c": MeshNodeSpec(epoch=1, ipv4="192.0.2.3"),
        "d": MeshNodeSpec(epoch=1, ipv6="2001:db8:0::4"),
    },
    peers=(BgpPeer(name="tor", address="2001:DB8::9", as_number=65000),),
)


def test_a_session_of_each_family_that_both_have() -> None:
    found = wanted_peers(DUAL)
    assert {address: peer.name for address, peer in found.by_address.items()} == {
        "192.0.2.2": "b",
        "192.0.2.3": "c",
        "2001:db8::2": "b",
        "2001:db8::4": "d",
        "2001:db8::9": "tor",
    }
    assert found.by_address["2001:db8::2"].blocks == ("10.0.2.0/26", "fd00::40/122")
    assert found.errors == ()


def test_without_ipv6_of_our_own_no_ipv6_session_of_the_mesh() -> None:
    found = wanted_peers(replace(DUAL, address6="", peers=()))
    assert list(found.by_address) == ["192.0.2.2", "192.0.2.3"]
    assert found.errors == ()


def test_ipv6_alone_needs_a_bgp_identifier() -> None:
    alone = replace(DUAL, address="", peers=())
    assert wanted_peers(alone).errors == ("node a: it has no BGP identifier",)
    with_identifier = replace(alone, settings=BgpSettings(router_id="1.2.3.4"))
    assert list(wanted_peers(with_identifier).by_address) == ["2001:db8::2", "2001:db8::4"]


def test_a_bad_address_of_one_family_leaves_the_other() -> None:
    found = wanted_peers(replace(DUAL, address6="fe80::1", peers=()))
    assert list(found.by_address) == ["192.0.2.2", "192.0.2.3"]
    assert found.errors == ("node a: address 'fe80::1' is not a global IPv6 address",)
