"""Which connections are judged, and how; and what is read of the kernel's words."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manx_agent.model import LocalEndpoint
from manx_agent.recheck.connection import Connection, Tuple, packed, parse
from manx_agent.recheck.judge import changed, court_of
from manx_agent.render.needs import Policy, references
from manx_agent.render.settle import Settled
from manx_core.api.v1alpha1 import ClassTier, IcmpMatch, PolicyProgramSpec, PolicySource, Rule, RuleEnd
from manx_core.policy.own_ports import OwnPort

A, B, C, AWAY, NODE, SERVICE = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.9.9.9", "192.0.2.1", "10.96.0.1"
TCP, UDP, ICMP = 6, 17, 1


def program(*types: str, ingress: tuple[Rule, ...] = (), egress: tuple[Rule, ...] = ()) -> PolicyProgramSpec:
    source = PolicySource(kind="NetworkPolicy", name="test")
    return PolicyProgramSpec(epoch=1, source=source, types=types, ingress=ingress, egress=egress)  # type: ignore[arg-type]


def settled(
    programs: dict[str, PolicyProgramSpec],
    groups: dict[str, frozenset[str]] | None = None,
    lacking: frozenset[str] = frozenset(),
) -> Settled:
    """Endpoints a, b and c; the class of each has the program of its name, if there is one."""
    endpoints = {
        name: (
            LocalEndpoint("default", name, name, name, f"mnx{name}", (address,)),
            f"pc-{name}" if name in programs else "open",
        )
        for name, address in (("a", A), ("b", B), ("c", C))
    }
    policies = {name: Policy(spec, references(spec), lacking=lacking) for name, spec in programs.items()}
    classes = {f"pc-{name}": (ClassTier(name="default", policies=(name,)),) for name in programs}
    return Settled(endpoints=endpoints, classes=classes, policies=policies, groups=groups or {})


def connection(
    source: str, destination: str, port: int = 80, protocol: int = TCP, translated: str = "", to_port: int = 0
) -> Connection:
    """`translated`, `to_port`: what became of the destination."""
    there, reached = translated or destination, to_port or port
    original = Tuple(packed(source), packed(destination), protocol, 40000, port)
    return Connection(original, Tuple(packed(there), packed(source), protocol, reached, 40000), identity=b"x")


def denied(state: Settled, one: Connection, own: tuple[str, ...] = (NODE,)) -> bool:
    return bool(court_of(state, state.endpoints, frozenset(map(packed, own))).denied([one]))


PORT_80 = Rule(protocol="TCP", peer=RuleEnd(), subject=RuleEnd(ports=("80",)))
TO_80 = Rule(protocol="TCP", peer=RuleEnd(nets=(f"{B}/32",), ports=("80",)))


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (connection(A, B), False),
        (connection(A, B, 81), True),
        (connection(A, B, 80, UDP), True),
        (connection(A, SERVICE, 8080, translated=B, to_port=80), False),
        (connection(A, SERVICE, 80, translated=B, to_port=8080), True),
        (connection(AWAY, B, 81), True),
        (connection(AWAY, B), False),
        (connection(NODE, B, 81), False),
        (connection(B, SERVICE, 81, translated=B), False),
        (connection(B, A, 81), False),
        (connection(A, C, 81), False),
        (connection(AWAY, NODE, 81), False),
    ],
)
def test_at_the_destinations_ingress(one: Connection, expected: bool) -> None:
    state = settled({"b": program("Ingress", ingress=(PORT_80,))})
    assert denied(state, one) == expected


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (connection(A, B), False),
        (connection(A, C), True),
        (connection(A, SERVICE, 8080, translated=B, to_port=80), False),
        (connection(A, B, 80, translated=C), True),
        (connection(A, NODE, 80), True),
        (connection(A, AWAY, 80), True),
        (connection(B, A, 80), False),
    ],
)
def test_at_the_sources_egress(one: Connection, expected: bool) -> None:
    state = settled({"a": program("Egress", egress=(TO_80,))})
    assert denied(state, one) == expected


def test_the_way_to_the_node() -> None:
    state = settled({"a": program("Egress", egress=(Rule(protocol="TCP", peer=RuleEnd(ports=("80",))),))})
    own = frozenset({packed(NODE)})
    for source, port, shut, expected in (
        (A, 80, False, False), (A, 81, False, True), (A, 80, True, True), (C, 80, False, False), (C, 80, True, True),
    ):  # fmt: skip
        court = court_of(state, state.endpoints, own, closed_node=shut)
        assert bool(court.denied([connection(source, NODE, port)])) == expected
        assert not court.denied([connection(C, AWAY, 80), connection(NODE, C, 80)])


def test_icmp_by_its_type() -> None:
    rule = Rule(protocol="ICMP", icmp=IcmpMatch(type=8))
    state = settled({"b": program("Ingress", ingress=(rule,))})
    for kind, expected in ((8, False), (13, True)):
        there = Tuple(packed(A), packed(B), ICMP, icmp_type=kind, icmp_code=0)
        assert denied(state, Connection(there, Tuple(packed(B), packed(A), ICMP, icmp_type=0, icmp_code=0))) == expected


def test_what_a_helper_announced_goes_with_the_one_that_did() -> None:
    state = settled({"b": program("Ingress", ingress=(PORT_80,))})
    court = court_of(state, state.endpoints)
    for port, expected in ((80, 0), (81, 2)):
        master = connection(A, B, port)
        child = replace(connection(B, A, 20), master=master.original)
        assert len(court.denied([child, master])) == expected
    assert court.denied([replace(connection(A, B, 81), master=connection(A, B, 99).original)]) == []


def test_a_policy_that_lacks_a_group_judges_nobody() -> None:
    rule = Rule(peer=RuleEnd(groups=("g",)))
    spec = program("Ingress", ingress=(rule,))
    assert denied(settled({"b": spec}, {"g": frozenset()}), connection(A, B))
    assert not denied(settled({"b": spec}, lacking=frozenset("g")), connection(A, B))


def test_only_endpoints_whose_policy_changed_are_looked_at() -> None:
    rule = Rule(peer=RuleEnd(groups=("g",)))
    spec, other = program("Ingress", ingress=(rule,)), program("Egress")
    before = settled({"a": spec, "b": other}, {"g": frozenset({A})})
    assert changed(None, before) == {"a", "b", "c"}
    assert changed(before, before) == frozenset()
    assert changed(before, settled({"a": spec, "b": other}, {"g": frozenset({A, B})})) == {"a"}
    assert changed(before, settled({"a": spec, "b": program("Ingress")}, {"g": frozenset({A})})) == {"b"}
    assert changed(before, settled({"a": spec}, {"g": frozenset({A})})) == {"b"}
    assert changed(before, settled({"a": spec, "b": other, "c": other}, {"g": frozenset({A})})) == {"c"}
    assert changed(settled({"a": spec}, lacking=frozenset("g")), settled({"a": spec}, {"g": frozenset({A})})) == {"a"}


def test_an_endpoint_whose_named_ports_changed_is_looked_at() -> None:
    def having(*ports: str, name: str = "http") -> Settled:
        members = frozenset(f"{A},tcp:{port}" for port in ports) | {f"{B},tcp:80"}
        return replace(settled({"a": spec, "b": spec}), own_ports={OwnPort("TCP", name): members})

    spec = program("Ingress", ingress=(Rule(protocol="TCP", subject=RuleEnd(named_ports=("http",))),))
    assert changed(having("80"), having("8080")) == {"a"}
    assert changed(having(), having("80")) == {"a"}
    assert changed(having("80"), having("80")) == frozenset()
    assert changed(having("80", name="other"), having("8080")) == frozenset(), "which the policy's own change tells"
    for port, expected in ((80, False), (81, True)):
        assert denied(having("80"), connection(B, A, port)) == expected


def test_a_new_endpoint_has_no_connections_one_that_comes_back_may_have() -> None:
    after = settled({})
    without = {name: one for name, one in after.endpoints.items() if name != "a"}
    assert changed(replace(after, endpoints=without), after) == frozenset()
    assert changed(replace(after, endpoints=without, closed=frozenset("a")), after) == {"a"}


# --- the kernel's words ---------------------------------------------------------------------------------------------


def attribute(kind: int, value: bytes, nested: bool = False) -> bytes:
    head = struct.pack("=HH", 4 + len(value), kind | (0x8000 if nested else 0))
    return head + value + bytes(-len(value) % 4)


def one_way(kind: int, source: str, destination: str, ports: tuple[int, int]) -> bytes:
    first = 1 if ":" not in source else 3
    addresses = attribute(first, packed(source)) + attribute(first + 1, packed(destination))
    numbers = attribute(2, struct.pack("!H", ports[0])) + attribute(3, struct.pack("!H", ports[1]))
    protocol = attribute(2, attribute(1, b"\x06") + numbers, nested=True)
    return attribute(kind, attribute(1, addresses, nested=True) + protocol, nested=True)


@pytest.mark.parametrize(("source", "destination"), [(A, B), ("fd00::1", "fd00::2")])
def test_an_entry_is_read(source: str, destination: str) -> None:
    original = one_way(1, source, destination, (40000, 80))
    reply = one_way(2, destination, source, (8080, 40000))
    zone, identity = attribute(18, b"\0\5"), attribute(12, b"\1\2\3\4")
    status = attribute(3, struct.pack("!I", 0x18E))
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    body = bytes((family, 0, 0, 0)) + original + reply + status + identity + zone
    for ours in (source, destination):
        found = parse(body, {packed(ours)})
        assert found is not None
        assert found.original == Tuple(packed(source), packed(destination), TCP, 40000, 80)
        assert found.flow.destination == destination
        assert (found.flow.protocol, found.flow.port, found.flow.source_port) == ("TCP", 8080, 40000)
        assert found.identity == original + zone + identity
        assert found.master is None
    assert parse(body, {packed(AWAY)}) is None
    assert parse(bytes(4) + body[4:], {packed(AWAY)}) is None


def test_the_sources_port_counts_where_a_rule_asks_for_it() -> None:
    rule = Rule(protocol="TCP", peer=RuleEnd(ports=("40000",)))
    state = settled({"b": program("Ingress", ingress=(rule,))})
    one = connection(A, B)
    other = replace(one, original=one.original._replace(source_port=50000))
    assert court_of(state, state.endpoints).denied([one, other]) == [other]


def test_an_announced_one_names_its_master() -> None:
    body = bytes(4) + one_way(1, A, B, (20, 4000)) + one_way(2, B, A, (4000, 20))
    body += attribute(3, struct.pack("!I", 1)) + one_way(14, B, A, (40000, 21))
    found = parse(body, {packed(A)})
    assert found is not None
    assert found.master == Tuple(packed(B), packed(A), TCP, 40000, 21)


@given(st.binary(max_size=200), st.integers(0, 120))
def test_any_bytes_are_survived(noise: bytes, cut: int) -> None:
    whole = bytes(4) + one_way(1, A, B, (1, 2)) + one_way(2, B, A, (2, 1))
    for body in (noise, whole[:cut], whole[:cut] + noise):
        found = parse(body, {packed(A), packed(B)})
        assert found is None or isinstance(found, Connection)
