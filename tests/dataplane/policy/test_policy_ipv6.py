"""What is of IPv6 alone, or of both families at once, between real namespaces: neighbours, ICMPv6, addresses of one
family in a rule, and pods and nodes without IPv6."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import pytest

from manx_agent.drivers.iptables import Iptables
from manx_agent.drivers.process import ProcessFailed
from manx_agent.model import Dirty, LocalEndpoint
from manx_core.api.v1alpha1 import IcmpMatch
from policy_world import Applied, World, program, rule, towards

pytestmark = pytest.mark.usefixtures("backend")

ECHO = IcmpMatch(128)
ADVERTISEMENT, SOLICITATION = 134, 135


@pytest.fixture(autouse=True)
def six(world: World) -> None:
    world.ipv6 = True


def test_ingress_by_group_port_and_network(world: World, applied: Applied) -> None:
    friends = world.group("f", world.address("a"), world.pods["c"].address)
    web = world.group("w", f"{world.address('b')},tcp:8080", kind="AddressPorts")
    rules = (
        rule(protocol="TCP", ports=("80", "8000-8010"), groups=(friends,)),
        rule(protocol="TCP", port_groups=(web,), nets=("2001:db8::/64", "10.0.0.0/8"), not_nets=("2001:db8::1/128",)),
    )
    world.policy("b", program(ingress=rules))
    applied.apply()
    assert world.tcp("a", "b", 80)
    assert world.tcp("a", "b", 8005)
    assert world.tcp("outside", "b", 8080)
    assert not world.tcp("a", "b", 81, expected=False)
    assert not world.tcp("c", "b", 80, expected=False), "the group has its IPv4 address alone"
    assert not world.tcp("outside", "b", 80, expected=False)
    assert world.tcp("node", "b", 81), "a node reaches its own pods, whatever their policy"
    world.ipv6 = False
    assert world.tcp("c", "b", 80)
    assert not world.tcp("a", "b", 80, expected=False)


def test_icmp_by_type(world: World, applied: Applied) -> None:
    world.policy("b", program(ingress=(rule(protocol="ICMPv6", icmp=ECHO),)))
    world.policy("c", program(ingress=(rule(protocol="ICMPv6", not_icmp=ECHO), rule(protocol="ICMP"))))
    applied.apply()
    assert world.ping("a", "b")
    assert not world.ping("a", "c", expected=False)
    assert not world.tcp("a", "b", expected=False)
    world.ipv6 = False
    assert world.ping("a", "c")
    assert not world.ping("a", "b", expected=False)


def test_an_isolated_pod_still_finds_its_node(world: World, applied: Applied) -> None:
    """Neighbour discovery is no traffic that policy is about: without it nothing allowed would arrive."""
    world.policy("a", program("Ingress", "Egress", egress=(towards(protocol="UDP", ports=("53",)),)))
    applied.apply()
    for pod in world.pods.values():
        pod.netns.ip("-6", "neigh", "flush", "all")
        world.node.ip("-6", "neigh", "flush", "all")
    assert world.udp("a", "b", 53)
    assert world.udp("a", "node", 53)
    assert not world.udp("a", "node", 54, expected=False)
    assert world.ping("node", "a")


def test_neighbour_discovery_reaches_the_node_and_advertisements_of_routers_do_not(
    world: World, applied: Applied
) -> None:
    assert _icmp_arrives(world, ADVERTISEMENT), "the way of sending works"
    applied.apply()
    assert _icmp_arrives(world, SOLICITATION)
    assert not _icmp_arrives(world, ADVERTISEMENT, expected=False)
    assert not _icmp_arrives(world, 128, expected=False), "an echo request of a link-local address"
    world.classless("a")
    applied.apply()
    assert not _icmp_arrives(world, SOLICITATION, expected=False), "of a pod that is not in force"


def test_a_pod_without_an_ipv6_address_is_silent(world: World, applied: Applied) -> None:
    pod = world.pods["a"].endpoint
    world.view = replace(
        world.view, endpoints={**world.view.endpoints, pod.container_id: replace(pod, addresses=pod.addresses[:1])}
    )
    applied.apply()
    assert not world.tcp("a", "b", expected=False)
    assert not world.tcp("b", "a", expected=False)
    assert not _icmp_arrives(world, SOLICITATION, expected=False)
    world.ipv6 = False
    assert world.tcp("a", "b")


def test_where_no_pod_has_ipv6_there_is_none(world: World, applied: Applied) -> None:
    four = {key: replace(one, addresses=one.addresses[:1]) for key, one in world.view.endpoints.items()}
    whole, world.view = world.view, replace(world.view, endpoints=four, pools=world.view.pools[:1])
    applied.apply()
    assert len([line for line in applied.saved(family="ip6") if line.startswith("-A manx-")]) == 4
    assert not world.tcp("a", "b", expected=False)
    assert not world.tcp("outside", "b", expected=False)
    world.view = whole
    applied.apply()
    assert world.tcp("a", "b")


def test_many_pods(world: World, applied: Applied) -> None:
    """A set takes one network with 64 interfaces at most."""
    others = [
        LocalEndpoint("default", f"p{n}", f"u{n}", f"c{n}", f"mnx{n:011x}", (f"10.244.1.{n}", f"fd00::1:{n:x}"))
        for n in range(1, 251)
    ]
    world.view = replace(
        world.view,
        endpoints={**world.view.endpoints, **{one.container_id: one for one in others}},
        class_of={**world.view.class_of, **{("default", one.name, one.uid): "open" for one in others}},
    )
    applied.apply()
    assert world.tcp("a", "b")
    world.view = replace(world.view, endpoints={"c-a": world.pods["a"].endpoint})
    applied.apply(Dirty())
    assert world.tcp("a", "outside")
    assert applied.check() == ()


def _icmp_arrives(world: World, kind: int, expected: bool = True) -> bool:
    """Whether an ICMPv6 message of pod a arrives at its node, sent from its link-local address to the node's."""
    with (
        world.socket("node", socket.SOCK_RAW, protocol=socket.IPPROTO_ICMPV6) as server,
        world.socket("a", socket.SOCK_RAW, protocol=socket.IPPROTO_ICMPV6) as client,
    ):
        server.settimeout(5.0 if expected else 0.4)
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
        with world.netns("a").entered():
            index = socket.if_nametoindex("eth0")
        mark = bytes(range(16))
        message = struct.pack("!BBHI", kind, 0, 0, 0) + mark
        client.bind((_link_local(world), 0, 0, index))
        client.sendto(message, ("fe80::1", 0, 0, index))
        try:
            while True:
                data = server.recv(1000)
                if data[0] == kind and mark in data:
                    return True
        except TimeoutError:
            return False


def _link_local(world: World) -> str:
    """Pod a's, once it is its own."""
    while True:
        for line in (
            world.netns("a").run("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link").splitlines()
        ):
            if "tentative" not in line:
                return line.split()[3].partition("/")[0]


def test_a_kernel_without_a_table_nat_of_ipv6_gets_everything_else(
    world: World, applied: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the legacy back end where ip6table_nat is not to be had."""
    restore = Iptables.restore

    async def without_nat(self: Iptables, text: str) -> None:
        if self.ipv6 and "*nat\n" in text:
            said = "ip6tables-restore: unable to initialize table 'nat'"
            raise ProcessFailed((self.program("restore"),), 3, said)
        await restore(self, text)

    monkeypatch.setattr(Iptables, "restore", without_nat)
    world.policy("b", program(ingress=(rule(protocol="TCP", ports=("80",)),)))
    for _ in range(2):
        assert ["no table nat of IPv6" in said for said in applied.apply().problems] == [True]
    assert applied.check() == ()
    assert any("MASQUERADE" in line for line in applied.saved(family="ip"))
    assert not any("MASQUERADE" in line for line in applied.saved(family="ip6"))
    for world.ipv6 in (False, True):
        assert world.tcp("a", "b", 80)
        assert not world.tcp("a", "b", 81, expected=False)
    monkeypatch.undo()
    assert applied.apply().problems == ()
    assert any("MASQUERADE" in line for line in applied.saved(family="ip6"))
