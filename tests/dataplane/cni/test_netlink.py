"""The netlink driver against the kernel: connection tracking, errors in the kernel's own words, autodetection."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from manx_agent.drivers import netlink_conntrack
from manx_agent.drivers.netlink import Netlink
from manx_agent.drivers.netlink_messages import PodLink, delete_link, endpoint_route, set_up
from manx_agent.drivers.netlink_wire import NetlinkError, Wire
from netns import Netns, addressed_veth

BACKEND, SERVICE, CLIENT = "10.99.0.1", "10.96.0.1", "10.99.0.2"


@pytest.fixture
def node() -> Iterator[Netns]:
    """A node without an agent."""
    with Netns() as made:
        yield made


@pytest.fixture
def tracked(node: Netns) -> Iterator[Netns]:
    """A node between a client and a backend behind a service's address, with a connection of each kind."""
    with Netns() as client, Netns() as backend:
        addressed_veth(node, client, ("to-client", "eth0"), ("10.99.0.254/32", f"{CLIENT}/32"))
        addressed_veth(node, backend, ("to-backend", "eth0"), ("10.99.0.253/32", f"{BACKEND}/32"))
        node.ip("route", "add", CLIENT, "dev", "to-client")
        node.ip("route", "add", BACKEND, "dev", "to-backend")
        for pod, gateway in ((client, "10.99.0.254"), (backend, "10.99.0.253")):
            pod.ip("route", "add", gateway, "dev", "eth0")
            pod.ip("route", "add", "default", "via", gateway)
        node.sysctl("ipv4.ip_forward", "1")
        node.run("iptables", "-t", "nat", "-A", "PREROUTING", "-d", SERVICE, "-j", "DNAT", "--to", BACKEND)
        client.run("ping", "-c", "1", "-W", "2", BACKEND)
        client.run("ping", "-c", "1", "-W", "2", SERVICE)
        backend.run("ping", "-c", "1", "-W", "2", CLIENT)
        node.run("ping", "-c", "1", "-W", "2", CLIENT)
        yield node


def connections(node: Netns) -> list[str]:
    return [line for line in node.run("conntrack", "-L").splitlines() if "icmp" in line]


def flush(node: Netns, address: str) -> None:
    with node.entered():
        asyncio.run(Netlink().flush_conntrack(address))


def test_all_connections_of_an_address_and_no_others_are_forgotten(tracked: Netns) -> None:
    assert len(connections(tracked)) == 4
    flush(tracked, BACKEND)
    (left,) = connections(tracked)
    assert BACKEND not in left
    assert f"dst={CLIENT}" in left
    flush(tracked, BACKEND)
    flush(tracked, CLIENT)
    assert connections(tracked) == []


def test_kernels_without_the_filter_get_the_tool(tracked: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str) -> None:
        raise NetlinkError("Invalid argument", 22)

    monkeypatch.setattr(netlink_conntrack, "deletions", refuse)
    flush(tracked, BACKEND)
    assert len(connections(tracked)) == 1
    flush(tracked, BACKEND)


def test_the_tool_is_asked_for_ipv6_too(node: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str) -> None:
        raise NetlinkError("Invalid argument", 22)

    monkeypatch.setattr(netlink_conntrack, "deletions", refuse)
    with Netns() as client:
        addressed_veth(node, client, ("to-client", "eth0"), ("10.99.0.254/24", f"{CLIENT}/24"))
        for place, number in ((node, 1), (client, 2)):
            place.ip("address", "add", f"fd00:99::{number}/64", "dev", "to-client" if number == 1 else "eth0", "nodad")
        node.run("ip6tables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
        client.run("ping", "-c", "1", "-W", "2", "fd00:99::1")
        assert "fd00:99::2" in node.run("conntrack", "-L", "-f", "ipv6")
        flush(node, "fd00:99::2")
        assert "fd00:99::2" not in node.run("conntrack", "-L", "-f", "ipv6")


def test_a_kernel_without_ipv6_is_known_by_its_parameters(tmp_path: Path) -> None:
    assert Netlink(proc_sys_net=tmp_path).families == {4}
    assert Netlink().families == {4, 6}


def test_errors_carry_the_kernels_words(node: Netns) -> None:
    with node.entered(), Wire() as wire:
        wire.send([delete_link("mnxmissing")])
        with pytest.raises(NetlinkError, match=r"set x up: .*No such device") as caught:
            wire.send([set_up("x", 4711)])
        assert caught.value.errno == 19
        node.ip("link", "add", "mnxdown", "type", "veth", "peer", "name", "x")
        index = int(re.findall(r"(\d+): mnxdown", node.ip("link"))[0])
        with pytest.raises(NetlinkError, match=r"route to 10.99.0.9: Network is down \(Device for nexthop is not up\)"):
            wire.send([endpoint_route("10.99.0.9", index), endpoint_route("10.99.0.8", index)])


def test_a_failed_creation_names_what_is_in_the_way(node: Netns) -> None:
    link = PodLink("mnx00000000001", ("10.99.0.9",), "02:00:00:00:00:01", pod_interface="eth0", mtu=1400)
    with Netns() as pod, open(pod.path) as namespace, node.entered():
        pod.ip("link", "add", "eth0", "type", "veth", "peer", "name", "x")
        with pytest.raises(NetlinkError, match="create mnx00000000001 with eth0 in the pod: File exists"):
            asyncio.run(Netlink().create(link, namespace.fileno()))
        assert asyncio.run(Netlink().present()) == frozenset()


def test_autodetection(node: Netns) -> None:
    with Netns() as other:
        addressed_veth(node, other, ("underlay", "eth0"), ("198.51.100.7/24", "198.51.100.8/24"))
        node.ip("address", "add", "2001:db8::7/64", "dev", "underlay", "nodad")
        node.ip("link", "set", "underlay", "mtu", "1450")
        node.ip("link", "add", "mnx00000000002", "type", "veth", "peer", "name", "x")
        node.ip("address", "add", "10.99.0.77/32", "dev", "mnx00000000002")
        with node.entered():
            (found,) = asyncio.run(Netlink().interfaces())
            assert found.name == "underlay"
            assert found.addresses == ("198.51.100.7/24", "2001:db8::7/64")
            assert asyncio.run(Netlink().mtu_of("198.51.100.7")) == 1450
            assert asyncio.run(Netlink().mtu_of("192.0.2.1")) == 1500


def test_work_that_is_cancelled_has_ended_first(node: Netns) -> None:
    """A creation that would go on after its undoing would leave an interface behind."""
    link = PodLink("mnx00000000003", ("10.99.0.9",), "02:00:00:00:00:01", pod_interface="eth0", mtu=1400)

    async def cancel_often(namespace: int) -> None:
        netlink = Netlink()
        for _ in range(20):
            task = asyncio.create_task(netlink.create(link, namespace))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            await netlink.delete(link.interface)
            assert await netlink.present() == frozenset()

    with Netns() as pod, open(pod.path) as namespace, node.entered():
        asyncio.run(cancel_often(namespace.fileno()))
