"""The netlink driver against the kernel: connection tracking, errors in the kernel's own words, autodetection."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from manx_agent.drivers import netlink_conntrack
from manx_agent.drivers.netlink import Netlink
from manx_agent.drivers.netlink_codec import attributes, nested, packed
from manx_agent.drivers.netlink_conntrack import identity_of
from manx_agent.drivers.netlink_messages import PodLink, delete_link, endpoint_route, set_up
from manx_agent.drivers.netlink_states import states
from manx_agent.drivers.netlink_wire import NetlinkError, Wire
from netns import Netns, addressed_veth, veth


@pytest.fixture
def node() -> Iterator[Netns]:
    """A node without an agent."""
    with Netns() as made:
        yield made


@dataclass(frozen=True)
class Places:
    """Addresses of one family: of two pods, of the node towards each, and of a service before the first."""

    backend: str
    client: str
    gateways: tuple[str, str]
    service: str
    tables: str

    @property
    def version(self) -> int:
        return 6 if ":" in self.backend else 4

    def whole(self, address: str) -> str:
        return f"{address}/{128 if self.version == 6 else 32}"


FOUR = Places("10.99.0.1", "10.99.0.2", ("10.99.0.253", "10.99.0.254"), "10.96.0.1", "iptables")
SIX = Places("fd00:99::1", "fd00:99::2", ("fd00:99::fd", "fd00:99::fe"), "fd96::1", "ip6tables")


@pytest.fixture(params=[FOUR, SIX], ids=lambda places: f"ipv{places.version}")
def places(request: pytest.FixtureRequest) -> Places:
    chosen: Places = request.param
    return chosen


@pytest.fixture
def tracked(node: Netns, places: Places) -> Iterator[Netns]:
    """A node between a client and a backend behind a service's address, with a connection of each kind."""
    node.sysctl("ipv4.ip_forward", "1")
    node.sysctl("ipv6.conf.all.forwarding", "1")
    with Netns() as client, Netns() as backend:
        for pod, name, address, gateway in (
            (backend, "to-backend", places.backend, places.gateways[0]),
            (client, "to-client", places.client, places.gateways[1]),
        ):
            veth(node, name, pod, "eth0")
            for place, device, own in ((node, name, gateway), (pod, "eth0", address)):
                place.ip("address", "add", places.whole(own), "dev", device, *(["nodad"] if ":" in own else []))
            node.ip("route", "add", places.whole(address), "dev", name)
            pod.ip("route", "add", places.whole(gateway), "dev", "eth0")
            pod.ip("route", "add", "default", "via", gateway)
        node.run(
            *(places.tables, "-t", "nat", "-A", "PREROUTING", "-d", places.service, "-j", "DNAT"),
            *("--to", places.backend),
        )
        ping(client, places.backend)
        ping(client, places.service)
        ping(backend, places.client)
        ping(node, places.client)
        yield node


def ping(place: Netns, address: str) -> None:
    place.run("ping", "-c", "1", "-W", "5", address)


def connections(node: Netns, places: Places) -> list[str]:
    found = node.run("conntrack", "-L", "-f", f"ipv{places.version}").splitlines()
    return [line for line in found if ("icmp" in line and "type=8" in line) or "type=128" in line]


def flush(node: Netns, address: str) -> None:
    with node.entered():
        asyncio.run(Netlink().flush_conntrack(address))


def test_all_connections_of_an_address_and_no_others_are_forgotten(tracked: Netns, places: Places) -> None:
    assert len(connections(tracked, places)) == 4
    flush(tracked, places.backend)
    (left,) = connections(tracked, places)
    assert f"src={places.backend} " not in left
    assert f"dst={places.client} " in left
    flush(tracked, places.backend)
    assert len(connections(tracked, places)) == 1
    flush(tracked, places.client)
    assert connections(tracked, places) == []


@pytest.mark.parametrize("places", [FOUR], ids=["ipv4"], indirect=True)
def test_kernels_without_the_filter_are_read(tracked: Netns, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str) -> None:
        raise NetlinkError("Invalid argument", 22)

    monkeypatch.setattr(netlink_conntrack, "deletions", refuse)
    flush(tracked, places.backend)
    assert len(connections(tracked, places)) == 1
    flush(tracked, places.backend)


def test_an_entry_that_has_the_addresss_bytes_elsewhere_is_another(places: Places) -> None:
    sought, other = packed(places.backend), packed(places.client)
    kinds = (3, 4) if places.version == 6 else (1, 2)

    def entry(original: tuple[bytes, bytes], reply: tuple[bytes, bytes]) -> bytes:
        ends = [nested(1, *zip(kinds, pair, strict=True)) for pair in (original, reply)]
        return bytes(4) + attributes(nested(1, ends[0]), nested(2, ends[1]), (12, 7))

    assert identity_of(entry((other, other), (other, sought)), sought) == b""
    assert identity_of(entry((other, other), (other, other)), sought) == b""
    for mine in (((sought, other), (other, other)), ((other, sought), (other, other)), ((other,) * 2, (sought, other))):
        assert identity_of(entry(*mine), sought)


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


def test_a_pair_has_one_queue_at_each_end(node: Netns) -> None:
    """More would be taken out of use at once, which makes the kernel wait for all processors."""
    link = PodLink("mnx00000000004", ("10.99.0.9",), "02:00:00:00:00:01", pod_interface="eth0", mtu=1400)
    with Netns() as pod, open(pod.path) as namespace, node.entered():
        asyncio.run(Netlink().create(link, namespace.fileno()))
        for place, name in ((node, link.interface), (pod, link.pod_interface)):
            assert "numtxqueues 1 numrxqueues 1 " in place.ip("-d", "link", "show", name)


def test_packets_do_not_change_what_a_link_is_like_and_its_parameters_do(node: Netns) -> None:
    """Else the parameters of each pod that has sent something would be read anew at each look."""
    interface = "mnx00000000005"
    with Netns() as pod:
        for place in (node, pod):
            place.sysctl("ipv6.conf.default.disable_ipv6", "1")
        addressed_veth(node, pod, (interface, "eth0"), ("10.99.0.1/24", "10.99.0.2/24"))
        with node.entered():
            before, counted = states(), _packets(interface)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"", ("10.99.0.2", 9))
            assert _packets(interface) > counted
            assert states() == before
            seen = [before]
            node.sysctl(f"ipv4.conf.{interface}.rp_filter", "2")
            seen.append(states())
            node.sysctl(f"ipv4.neigh.{interface}.proxy_delay", "7")
            seen.append(states())
            node.ip("link", "set", interface, "down")
            seen.append(states())
    assert len({one[interface] for one in seen}) == len(seen)


def _packets(interface: str) -> int:
    """Sent."""
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    return int(next(line for line in lines if line.strip().startswith(interface)).split()[10])


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
