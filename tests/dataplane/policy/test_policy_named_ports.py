"""Ports by the names that a policy's own pods have for them: connections follow what each pod's ports are."""

from __future__ import annotations

import socket

import pytest

from manx_agent.model import Dirty
from manx_core.api.v1alpha1 import Rule, RuleEnd
from manx_core.policy.endpoint import NamedPort
from policy_world import Applied, World, program, rule

SET, SET6 = "manx-own-tcp-http", "manx-6-own-tcp-http"


@pytest.fixture(params=[False, True], ids=["IPv4", "IPv6"], autouse=True)
def family(request: pytest.FixtureRequest, world: World) -> None:
    world.ipv6 = request.param


def http(number: int) -> NamedPort:
    return NamedPort("http", "TCP", number)


def members(applied: Applied) -> set[str]:
    lines = (line.split() for line in applied.sets() if line.startswith((f"add {SET} ", f"add {SET6} ")))
    return {line[2] for line in lines}


def test_each_pods_own_number_is_meant(world: World, applied: Applied) -> None:
    world.policy("b", program(ingress=(rule(protocol="TCP", named_ports=("http",)),)))
    world.ports("a", http(81))
    world.ports("b", http(80), NamedPort("http", "UDP", 82), NamedPort("other", "TCP", 83))
    applied.apply()
    assert world.tcp("a", "b", 80)
    for port in (81, 82, 83):
        assert not world.tcp("a", "b", port, expected=False)
    assert world.tcp("b", "a", 80), "which no policy isolates"


def test_a_pod_comes_its_ports_change_and_it_goes(world: World, applied: Applied) -> None:
    allow = program(ingress=(rule(protocol="TCP", named_ports=("http",)),))
    world.policy("b", allow)
    world.gone("b")
    applied.apply()
    assert members(applied) == set()
    world.ports("b", http(80))
    world.back("b")
    applied.apply(Dirty())
    assert members(applied) == {f"{world.pods['b'].address},tcp:80", f"{world.pods['b'].address6},tcp:80"}
    assert world.tcp("a", "b", 80)
    assert not world.tcp("a", "b", 81, expected=False)
    world.ports("b", http(81), http(82))
    applied.apply(Dirty())
    assert not world.tcp("a", "b", 80, expected=False)
    assert world.tcp("a", "b", 81)
    assert world.tcp("a", "b", 82), "a name that two containers have is both"
    world.ports("b")
    applied.apply(Dirty())
    assert not world.tcp("a", "b", 81, expected=False)
    world.ports("b", http(81))
    applied.apply(Dirty())
    assert world.tcp("a", "b", 81)
    world.gone("b")
    applied.apply(Dirty())
    assert members(applied) == set()
    world.back("b")
    world.policy("b", program("Ingress"))
    applied.apply(Dirty())
    assert not [line for line in applied.sets() if "-own-" in line], "nobody asks for the name any more"
    assert applied.check() == ()


def test_a_pod_that_comes_under_the_policy_brings_its_ports(world: World, applied: Applied) -> None:
    """As at a relabelling: neither the policy nor a group changes."""
    world.policy("b", program(ingress=(rule(protocol="TCP", named_ports=("http",)),)))
    world.ports("a", http(81))
    world.ports("b", http(80))
    world.policy("c", program("Ingress"))
    world.ports("c", http(82))
    applied.apply()
    assert not world.tcp("a", "c", 82, expected=False)
    world.join("c", "b")
    applied.apply(Dirty())
    assert world.tcp("a", "c", 82)
    assert not world.tcp("a", "c", 80, expected=False)


def test_denied_by_name_and_all_but_a_name(world: World, applied: Applied) -> None:
    deny = rule(action="Deny", protocol="TCP", named_ports=("http",))
    world.policy("b", program(ingress=(deny, rule(protocol="TCP"))))
    world.ports("b", http(80))
    world.policy("c", program(ingress=(rule(protocol="TCP", not_named_ports=("http", "nobodys")),)))
    world.ports("c", http(81))
    applied.apply()
    assert not world.tcp("a", "b", 80, expected=False)
    assert world.tcp("a", "b", 81)
    assert world.tcp("a", "c", 80)
    assert not world.tcp("a", "c", 81, expected=False)


def test_the_source_port_of_an_egress_rule(world: World, applied: Applied) -> None:
    named = Rule(protocol="UDP", subject=RuleEnd(named_ports=("from",)))
    world.policy("a", program(egress=(named,)))
    world.ports("a", NamedPort("from", "UDP", 4000))
    applied.apply()
    assert sent(world, 4000)
    assert not sent(world, 4001, expected=False)


def sent(world: World, source_port: int, expected: bool = True) -> bool:
    """Whether a datagram of pod a from that port arrives at b."""
    kind = socket.SOCK_DGRAM
    with world.socket("b", kind, "", 53) as server, world.socket("a", kind, "", source_port) as client:
        server.settimeout(10.0 if expected else 0.4)
        client.sendto(b"probe", (world.address("b"), 53))
        try:
            return bool(server.recv(16))
        except TimeoutError:
            return False
