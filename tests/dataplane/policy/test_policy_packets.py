"""What policies mean for real packets between real namespaces, on both back ends."""

from __future__ import annotations

import socket

import pytest

from policy_world import NODE_ADDRESS, OUTSIDE, Applied, World, program, rule, towards

pytestmark = pytest.mark.usefixtures("backend")


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


def test_networks_with_exceptions(world: World, applied: Applied) -> None:
    everywhere = rule(nets=("0.0.0.0/0",), not_nets=("198.51.100.0/24", "10.244.0.13/32"))
    world.policy("b", program(ingress=(everywhere, rule(nets=("fd00::/8",)))))
    applied.apply()
    assert world.tcp("a", "b")
    assert not world.tcp("c", "b", expected=False)
    assert not world.tcp("outside", "b", expected=False)


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


def _service(applied: Applied, pod: str) -> None:
    """10.96.0.1:80 is the pod's port 8080, with the masquerading that kube-proxy does for hairpins."""
    address = applied.world.address(pod)
    to_service = ("-d", "10.96.0.1/32", "-p", "tcp", "--dport", "80")
    applied.iptables("-t", "nat", "-A", "PREROUTING", *to_service, "-j", "DNAT", "--to", f"{address}:8080")
    own = ("-s", f"{address}/32", "-d", f"{address}/32")
    applied.iptables("-t", "nat", "-A", "POSTROUTING", *own, "-j", "MASQUERADE")


def test_a_pod_reaches_itself_through_a_service_whatever_its_policy(world: World, applied: Applied) -> None:
    _service(applied, "a")
    world.policy("a", program("Ingress", "Egress"))
    applied.apply()
    assert world.tcp("a", "a", 8080, via=("10.96.0.1", 80))
    assert not world.tcp("b", "a", 8080, via=("10.96.0.1", 80), expected=False)


def test_policy_is_about_the_pod_behind_a_service(world: World, applied: Applied) -> None:
    _service(applied, "b")
    friends = world.group("f", world.address("a"))
    world.policy("b", program(ingress=(rule(protocol="TCP", ports=("8080",), groups=(friends,)),)))
    applied.apply()
    assert world.tcp("a", "b", 8080, via=("10.96.0.1", 80))
    assert not world.tcp("c", "b", 8080, via=("10.96.0.1", 80), expected=False)


def test_a_deny_rule_wins_over_later_ones(world: World, applied: Applied) -> None:
    rules = (rule(action="Deny", nets=(f"{world.address('c')}/32",)), rule())
    world.policy("b", program(ingress=rules))
    applied.apply()
    assert world.tcp("a", "b")
    assert not world.tcp("c", "b", expected=False)


def test_what_leaves_the_pools_is_masqueraded(world: World, applied: Applied) -> None:
    applied.apply()
    assert world.seen_source("a", "outside") == NODE_ADDRESS
    assert world.seen_source("a", "b") == world.address("a")
    assert world.seen_source("a", "node") == world.address("a")
    assert world.seen_source("outside", "a") == OUTSIDE


def test_pods_send_from_their_own_address_only(world: World, applied: Applied) -> None:
    applied.apply()
    assert world.forged("a", world.address("a"), "c"), "the way of sending works"
    for address in (world.address("b"), NODE_ADDRESS, "203.0.113.5", "127.0.0.1", "10.96.0.1"):
        assert not world.forged("a", address, "c", expected=False), address
        assert not world.forged("a", address, "node", expected=False), address


def test_forging_works_where_nothing_stops_it(world: World) -> None:
    assert world.forged("a", "203.0.113.5", "c"), "the tests above would see a forged packet"
