"""What one compiled rule becomes, as a table."""

from __future__ import annotations

import pytest

from manx_agent.render import names
from manx_agent.render.image import unsealed
from manx_agent.render.rules import Program, render_program
from manx_core.api.v1alpha1 import PolicyProgramSpec, PolicySource, Rule

_GROUP, _PORTS = "ag-" + "g" * 20, "ag-" + "p" * 20
_G, _P = names.address_group(_GROUP), names.port_group(_PORTS)
_TYPES = {_GROUP: "Addresses", _PORTS: "AddressPorts"}


def _program(
    ingress: tuple[Rule, ...] = (), egress: tuple[Rule, ...] = (), lacking: frozenset[str] = frozenset()
) -> Program:
    source = PolicySource(kind="NetworkPolicy", name="n")
    spec = PolicyProgramSpec(epoch=1, source=source, types=("Ingress", "Egress"), ingress=ingress, egress=egress)
    return render_program("p", spec, lacking, _TYPES)


def _net_set(*members: str) -> str:
    return names.networks(frozenset(members))


_INGRESS: dict[str, tuple[Rule, list[str]]] = {
    "anything": (Rule(), ["-j ACCEPT"]),
    "protocol": (Rule(protocol="SCTP"), ["-p sctp -j ACCEPT"]),
    "port": (Rule(protocol="TCP", ports=("80",)), ["-p tcp -m multiport --dports 80 -j ACCEPT"]),
    "ports": (Rule(protocol="UDP", ports=("53", "100-200")), ["-p udp -m multiport --dports 53,100:200 -j ACCEPT"]),
    "range of one": (Rule(protocol="UDP", ports=("53-53",)), ["-p udp -m multiport --dports 53 -j ACCEPT"]),
    "group": (Rule(peer_group=_GROUP), [f"-m set --match-set {_G} src -j ACCEPT"]),
    "named port": (Rule(port_group=_PORTS), [f"-m set --match-set {_P} dst,dst -j ACCEPT"]),
    "ports of both kinds": (
        Rule(protocol="TCP", ports=("80",), port_group=_PORTS),
        ["-p tcp -m multiport --dports 80 -j ACCEPT", f"-p tcp -m set --match-set {_P} dst,dst -j ACCEPT"],
    ),
    "sixteen ports": (
        Rule(protocol="TCP", ports=tuple(str(port) for port in range(1, 17))),
        [
            "-p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 -j ACCEPT",
            "-p tcp -m multiport --dports 16 -j ACCEPT",
        ],
    ),
    "a range takes two places": (
        Rule(protocol="TCP", ports=(*(str(port) for port in range(1, 15)), "20-30")),
        [
            "-p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14 -j ACCEPT",
            "-p tcp -m multiport --dports 20:30 -j ACCEPT",
        ],
    ),
    "one network": (Rule(nets=("10.1.2.3/8",)), ["-s 10.0.0.0/8 -j ACCEPT"]),
    "one address": (Rule(nets=("10.1.2.3",)), ["-s 10.1.2.3/32 -j ACCEPT"]),
    "all of IPv4": (Rule(nets=("0.0.0.0/0",)), ["-j ACCEPT"]),
    "all of IPv4 and more": (Rule(nets=("10.0.0.0/8", "0.0.0.0/0")), ["-j ACCEPT"]),
    "both halves": (Rule(nets=("128.0.0.0/1", "0.0.0.0/1")), ["-j ACCEPT"]),
    "networks": (
        Rule(nets=("10.0.0.0/8", "192.0.2.1/32", "fd00::/8")),
        [f"-m set --match-set {_net_set('10.0.0.0/8', '192.0.2.1')} src -j ACCEPT"],
    ),
    "IPv6 only is nobody, not everybody": (Rule(nets=("fd00::/8", "::/0")), []),
    "exception": (
        Rule(nets=("10.0.0.0/8",), not_nets=("10.1.0.0/16",)),
        [f"-s 10.0.0.0/8 -m set ! --match-set {_net_set('10.1.0.0/16')} src -j ACCEPT"],
    ),
    "IPv6 exception": (Rule(not_nets=("fd00::/8",)), ["-j ACCEPT"]),
    "everything excepted": (Rule(not_nets=("0.0.0.0/0",)), []),
    "deny": (Rule(action="Deny", peer_group=_GROUP), [f"-m set --match-set {_G} src -j DROP"]),
}


@pytest.mark.parametrize("case", _INGRESS)
def test_an_ingress_rule(case: str) -> None:
    rule, expected = _INGRESS[case]
    program = _program(ingress=(rule,))
    assert [unsealed(line) for line in program.ingress or ()] == expected
    assert program.problems == ()


def test_an_egress_rule_looks_at_the_destination_and_goes_on_to_the_receiver() -> None:
    rules = (Rule(nets=("10.0.0.0/8",)), Rule(peer_group=_GROUP, port_group=_PORTS), Rule(action="Deny"))
    assert [unsealed(line) for line in _program(egress=rules).egress or ()] == [
        "-d 10.0.0.0/8 -g manx-to",
        f"-m set --match-set {_G} dst -m set --match-set {_P} dst,dst -g manx-to",
        "-j DROP",
    ]


_LACKING = {
    "Allow from a missing group": (Rule(peer_group=_GROUP), []),
    "Allow to missing ports": (Rule(port_group=_PORTS), []),
    "Allow to ports, some missing": (
        Rule(protocol="TCP", ports=("80",), port_group=_PORTS),
        ["-p tcp -m multiport --dports 80 -j ACCEPT"],
    ),
    "Deny from a missing group": (Rule(action="Deny", protocol="TCP", peer_group=_GROUP), ["-p tcp -j DROP"]),
    "Deny to ports, some missing": (
        Rule(action="Deny", protocol="TCP", ports=("80",), port_group=_PORTS),
        ["-p tcp -j DROP"],
    ),
}


@pytest.mark.parametrize("case", _LACKING)
def test_a_missing_group_opens_nothing(case: str) -> None:
    rule, expected = _LACKING[case]
    program = _program(ingress=(rule,), lacking=frozenset({_GROUP, _PORTS}))
    assert [unsealed(line) for line in program.ingress or ()] == expected


_UNREADABLE = {
    "port": (Rule(protocol="TCP", ports=("http",)), "spec.ingress[0].ports: 'http' is neither a port"),
    "port beyond": (Rule(protocol="TCP", ports=("65536",)), "ports: '65536' is not within 0 to 65535"),
    "range backwards": (Rule(protocol="TCP", ports=("90-80",)), "ends before it begins"),
    "ports of no protocol": (Rule(ports=("80",)), "ports: need a protocol"),
    "network": (Rule(nets=("10.0.0.0/33",)), "nets: '10.0.0.0/33' is not a CIDR"),
    "exception": (Rule(not_nets=("x",)), "notNets: 'x' is not a CIDR"),
    "protocol": (Rule(protocol="ICMP"), "protocol: 'ICMP' is not one of TCP, UDP, SCTP"),  # type: ignore[arg-type]
    "group of ports as peers": (Rule(peer_group=_PORTS), f"peerGroup: AddressGroup {_PORTS} is of type AddressPorts"),
    "group of peers as ports": (Rule(port_group=_GROUP), f"portGroup: AddressGroup {_GROUP} is of type Addresses"),
}


@pytest.mark.parametrize("case", _UNREADABLE)
def test_what_cannot_be_read_is_told_and_opens_nothing(case: str) -> None:
    rule, told = _UNREADABLE[case]
    program = _program(ingress=(rule, Rule(protocol="UDP")))
    assert [unsealed(line) for line in program.ingress or ()] == ["-p udp -j ACCEPT"], "the other rule stays"
    assert len(program.problems) == 1
    assert told in program.problems[0]
    assert program.problems[0].startswith("PolicyProgram p: spec.ingress[0].")


def test_a_deny_rule_that_cannot_be_read_denies_more() -> None:
    rule = Rule(action="Deny", protocol="ICMP", ports=("80",), nets=("10.0.0.0/8",))  # type: ignore[arg-type]
    assert [unsealed(line) for line in _program(ingress=(rule,)).ingress or ()] == ["-s 10.0.0.0/8 -j DROP"]


def test_a_hash_tells_rules_positions_and_chains_apart() -> None:
    twice = _program(ingress=(Rule(), Rule()), egress=(Rule(action="Deny"),))
    assert twice.ingress is not None
    assert twice.ingress[0] != twice.ingress[1]
    assert twice == _program(ingress=(Rule(), Rule()), egress=(Rule(action="Deny"),))


def test_names_fit_the_kernel_and_follow_the_hashes_of_ids() -> None:
    long = "knp." + "n" * 63 + "." + "p" * 180
    for chain in (names.program_egress(long), names.class_ingress("pc-" + "a" * 20), names.program_ingress("x")):
        assert len(chain) <= 28
    for name in (names.address_group(_GROUP), names.class_set("anything"), names.temporary("manx-g-x")):
        assert len(name) <= 31
    assert names.class_egress("pc-" + "0a" * 10) == "manx-ce-" + "0a" * 10
    assert names.class_set("open") == "manx-c-open"
