"""The requests that wire a pod say what they should: pyroute2 reads them back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from manx_agent.drivers.netlink_classes import decoded, ifinfmsg
from manx_agent.drivers.netlink_messages import (
    NODE_MAC,
    PodLink,
    create_pair,
    endpoint_route,
    interface_name,
    mac_address,
    pod_routes,
    set_parameters,
)

names = st.text(st.characters(codec="utf-8", exclude_characters="/:\0 "), min_size=1).filter(
    lambda name: len(name.encode()) < 16
)


@given(
    st.text(min_size=1),
    names | st.sampled_from(["mnx-----------", "mnx00000000001"]),
    st.integers(68, 65535),
    st.integers(0, 1 << 20),
)
def test_a_pair_is_what_its_link_says(container: str, pod_interface: str, mtu: int, namespace: int) -> None:
    interface, mac = interface_name(container, pod_interface), mac_address(container, pod_interface)
    link = PodLink(interface, ("10.0.0.1",), mac, pod_interface, mtu)
    found = decoded(ifinfmsg, create_pair(link, namespace).body)
    kind = found.get_attr("IFLA_LINKINFO")
    peer = kind.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert kind.get_attr("IFLA_INFO_KIND") == "veth"
    assert ends(found) == (interface, NODE_MAC, mtu)
    assert ends(peer) == (pod_interface, mac, mtu)
    assert peer.get_attr("IFLA_NET_NS_FD") == namespace


def ends(message: Any) -> tuple[object, ...]:
    return tuple(map(message.get_attr, ("IFLA_IFNAME", "IFLA_ADDRESS", "IFLA_MTU")))


def test_parameters_go_with_the_name() -> None:
    found = decoded(ifinfmsg, set_parameters("mnx00000000001", {3: 1, 1: 1}).body)
    assert found.get_attr("IFLA_IFNAME") == "mnx00000000001"
    assert found.get_attr("IFLA_AF_SPEC") is not None


@pytest.mark.parametrize(
    ("address", "gateway", "length"),
    [("10.0.0.7", "169.254.1.1", 32), ("fd00::7", "fe80::1", 128)],
    ids=["four", "six"],
)
def test_routes(address: str, gateway: str, length: int) -> None:
    assert routed(endpoint_route(address, 7).body) == (length, address, None, 7, 253, 77)
    on_link, default = pod_routes(gateway, 2)
    assert routed(on_link.body) == (length, gateway, None, 2, 253, 4)
    assert routed(default.body) == (0, None, gateway, 2, 0, 4)


def routed(body: bytes) -> tuple[object, ...]:
    found = decoded(rtmsg, body)
    attributes = map(found.get_attr, ("RTA_DST", "RTA_GATEWAY", "RTA_OIF"))
    return found["dst_len"], *attributes, found["scope"], found["proto"]
