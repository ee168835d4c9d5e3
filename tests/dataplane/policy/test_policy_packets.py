"""What policies mean for real packets between real namespaces, on both back ends and over both families."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import pytest

from policy_world import Applied, World, program, rule, towards

pytestmark = pytest.mark.usefixtures("backend")


@dataclass(frozen=True)
class Family:
    """What is of one family alone. `others`: nets with none of the world's pods; `strange`: addresses of nobody."""

    version: int
    everything: str
    outside: str
    others: str
    service: str
    strange: tuple[str, ...]


FAMILIES = (
    Family(4, "0.0.0.0/0", "198.51.100.0/24", "fd00::/8", "10.96.0.1", ("203.0.113.5", "127.0.0.1", "10.96.0.1")),
    Family(6, "::/0", "2001:db8::/64", "10.0.0.0/8", "fd96::1", ("2001:db8:5::5", "::1", "fe80::99")),
)


@pytest.fixture(params=FAMILIES, ids=lambda family: f"ipv{family.version}", autouse=True)
def family(request: pytest.FixtureRequest, world: World) -> Family:
    chosen: Family = request.param
    world.ipv6 = chosen.version == 6
    return chosen


def test_without_policy_everybody_reaches_everybody(world: World, applied: Applied) -> None:
    applied.apply()
    assert world.tcp("a", "b")
    assert world.udp("a", "b")
    assert world.sctp("a", "b")
    assert world.ping("a", "b")
    assert world.tcp("node", "a")
    assert world.tcp("a", "node")
    assert world.tcp("outside", "a")
    assert world.tcp("a", "outside")


def test_an_endpoint_without_a_class_is_closed(world: World, applied: Applied) -> None:
    world.classless("a")
    assert applied.apply().closed == {"c-a"}
    assert not world.tcp("a", "b", expected=False)
    assert not world.tcp("b", "a", expected=False)
    assert not world.tcp("a", "node", expected=False)
    assert world.tcp("b", "c")


def test_ingress_by_group_and_port(world: World, applied: Applied) -> None:
    friends = world.group("f", world.address("a"))
    world.policy("b", program(ingress=(rule(protocol="TCP", ports=("80", "8000-8010"), groups=(friends,)),)))
    applied.apply()
    assert world.tcp("a", "b", 80)
    assert world.tcp("a", "b", 8005)
    assert not world.tcp("a", "b", 81, expected=False)
    assert not world.udp("a", "b", 80, expected=False)
    assert not world.tcp("c", "b", 80, expected=False)
    assert not world.tcp("outside", "b", 80, expected=False)
    assert not world.ping("a", "b", expected=False)
    assert world.tcp("node", "b", 81), "a node reaches its own pods, whatever their policy"
    assert world.ping("node", "b")
    assert world.tcp("b", "a"), "egress is not isolated"
    world.group("f", world.address("c"))
    applied.apply()
    assert world.tcp("c", "b", 80)
    assert not world.tcp("a", "b", 80, expected=False)


def test_egress_by_protocol(world: World, applied: Applied) -> None:
    rules = (towards(protocol="UDP", ports=("53",)), towards(protocol="SCTP", ports=("9",)))
    world.policy("a", program(egress=rules))
    applied.apply()
    assert world.udp("a", "b", 53)
    assert world.udp("a", "outside", 53)
    assert world.udp("a", "node", 53)
    assert not world.udp("a", "b", 54, expected=False)
    assert world.sctp("a", "b", 9)
    assert not world.sctp("a", "b", 10, expected=False)
    assert not world.tcp("a", "b", expected=False)
    assert not world.tcp("a", "node", expected=False), "traffic to its own node is subject to egress"
    assert world.tcp("node", "a")
    assert world.tcp("b", "a"), "ingress is not isolated"


def test_both_sides_must_allow(world: World, applied: Applied) -> None:
    receivers, senders = world.group("r", world.address("b")), world.group("s", world.address("a"))
    world.policy("a", program(egress=(towards(protocol="TCP", ports=("80", "81"), groups=(receivers,)),)))
    world.policy("b", program(ingress=(rule(protocol="TCP", ports=("81", "82"), groups=(senders,)),)))
    applied.apply()
    assert world.tcp("a", "b", 81)
    assert not world.tcp("a", "b", 80, expected=False)
    assert not world.tcp("a", "b", 82, expected=False)
    assert not world.tcp("a", "c", 81, expected=False)


def test_networks_with_exceptions(world: World, applied: Applied, family: Family) -> None:
    exceptions = (family.outside, world.net("c"))
    world.policy(
        "b", program(ingress=(rule(nets=(family.everything,), not_nets=exceptions), rule(nets=(family.others,))))
    )
    world.policy("a", program(egress=(towards(nets=(family.everything,), not_nets=(world.net("c"),)),)))
    applied.apply()
    assert world.tcp("a", "b")
    assert not world.tcp("c", "b", expected=False)
    assert not world.tcp("outside", "b", expected=False)
    assert world.tcp("a", "outside")
    assert not world.tcp("a", "c", expected=False)


def test_policies_add_up_and_named_ports_are_per_pod(world: World, applied: Applied) -> None:
    web = world.group("w", f"{world.address('b')},tcp:8080", f"{world.address('c')},tcp:9090", kind="AddressPorts")
    from_a, from_c = world.group("f", world.address("a")), world.group("h", world.address("c"))
    named = rule(protocol="TCP", ports=("81",), port_groups=(web,), groups=(from_a,))
    world.policy("b", program(ingress=(named,)), program(ingress=(rule(groups=(from_c,)),)), program("Ingress"))
    applied.apply()
    assert world.tcp("a", "b", 8080)
    assert world.tcp("a", "b", 81)
    assert not world.tcp("a", "b", 9090, expected=False)
    assert world.tcp("c", "b", 9090)


def test_more_ports_than_one_match_takes(world: World, applied: Applied) -> None:
    ports = (*(str(port) for port in range(100, 114)), "200-210", "300")
    world.policy("b", program(ingress=(rule(protocol="TCP", ports=ports),)))
    applied.apply()
    assert all(world.tcp("a", "b", port) for port in (100, 113, 205, 300))
    assert not world.tcp("a", "b", 114, expected=False)


def test_an_established_connection_lives_on_and_replies_pass(world: World, applied: Applied) -> None:
    applied.apply()
    with world.socket("b", socket.SOCK_STREAM, "", 80) as server, world.socket("a", socket.SOCK_STREAM) as client:
        server.listen()
        client.connect((world.address("b"), 80))
        accepted, _ = server.accept()
        world.policy("b", program("Ingress", "Egress"))
        applied.apply()
        client.sendall(b"still here")
        assert accepted.recv(100) == b"still here"
        accepted.close()
    assert not world.tcp("a", "b", expected=False)


def _service(applied: Applied, pod: str, family: Family) -> tuple[str, int]:
    """An address and a port behind which is the pod's port 8080, with the masquerading that kube-proxy does for
    hairpins."""
    world, tables = applied.world, "ip" if family.version == 4 else "ip6"
    address = world.address(pod)
    target = f"{address}:8080" if family.version == 4 else f"[{address}]:8080"
    to_service = ("-d", family.service, "-p", "tcp", "--dport", "80")
    applied.iptables("-t", "nat", "-A", "PREROUTING", *to_service, "-j", "DNAT", "--to", target, family=tables)
    own = ("-s", address, "-d", address)
    applied.iptables("-t", "nat", "-A", "POSTROUTING", *own, "-j", "MASQUERADE", family=tables)
    return family.service, 80


def test_a_pod_reaches_itself_through_a_service_whatever_its_policy(
    world: World, applied: Applied, family: Family
) -> None:
    service = _service(applied, "a", family)
    world.policy("a", program("Ingress", "Egress"))
    applied.apply()
    assert world.tcp("a", "a", 8080, via=service)
    assert not world.tcp("b", "a", 8080, via=service, expected=False)


def test_policy_is_about_the_pod_behind_a_service(world: World, applied: Applied, family: Family) -> None:
    service = _service(applied, "b", family)
    friends = world.group("f", world.address("a"))
    world.policy("b", program(ingress=(rule(protocol="TCP", ports=("8080",), groups=(friends,)),)))
    applied.apply()
    assert world.tcp("a", "b", 8080, via=service)
    assert not world.tcp("c", "b", 8080, via=service, expected=False)


def test_a_deny_rule_wins_over_later_ones(world: World, applied: Applied) -> None:
    rules = (rule(action="Deny", nets=(world.net("c"),)), rule())
    world.policy("b", program(ingress=rules))
    applied.apply()
    assert world.tcp("a", "b")
    assert not world.tcp("c", "b", expected=False)


def test_what_leaves_the_pools_is_masqueraded(world: World, applied: Applied) -> None:
    applied.apply()
    assert world.seen_source("a", "outside") == world.address("node")
    assert world.seen_source("a", "b") == world.address("a")
    assert world.seen_source("a", "node") == world.address("a")
    assert world.seen_source("outside", "a") == world.address("outside")


def test_pods_send_from_their_own_address_only(world: World, applied: Applied, family: Family) -> None:
    applied.apply()
    assert world.forged("a", world.address("a"), "c"), "the way of sending works"
    for address in (world.address("b"), world.address("node"), *family.strange):
        assert not world.forged("a", address, "c", expected=False), address
        assert not world.forged("a", address, "node", expected=False), address


def test_forging_works_where_nothing_stops_it(world: World, family: Family) -> None:
    assert world.forged("a", family.strange[0], "c"), "the tests above would see a forged packet"
