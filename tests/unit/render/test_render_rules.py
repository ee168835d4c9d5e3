"""What one compiled rule becomes, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from manx_agent.render import names
from manx_agent.render.family import IPV4, IPV6, Family
from manx_agent.render.image import label_of, unsealed
from manx_agent.render.rules import Program, render_program, said
from manx_agent.render.style import Style
from manx_core.api.v1alpha1 import IcmpMatch, PolicyProgramSpec, PolicySettings, PolicySource, Rule, RuleEnd

_GROUP, _OTHER, _PORTS = "ag-" + "g" * 20, "ag-" + "h" * 20, "ag-" + "p" * 20
_G, _P = names.address_group(_GROUP), names.port_group(_PORTS)
_TYPES = {_GROUP: "Addresses", _PORTS: "AddressPorts"}


def _program(
    ingress: tuple[Rule, ...] = (),
    egress: tuple[Rule, ...] = (),
    lacking: frozenset[str] = frozenset(),
    family: Family = IPV4,
    style: Style = Style(),  # noqa: B008 (frozen)
    log_denied: bool = False,
) -> Program:
    source = PolicySource(kind="NetworkPolicy", name="n")
    spec = PolicyProgramSpec(
        epoch=1,
        source=source,
        types=("Ingress", "Egress"),
        ingress=ingress,
        egress=egress,
        log_denied=log_denied,
    )
    return render_program("p", spec, lacking, _TYPES, family, style)


def made(**fields: Any) -> Rule:
    """A Rule; `ports` are the destination's in an ingress rule, the other fields of ends the peer's."""
    peer = {name: fields.pop(name) for name in ("groups", "not_groups", "nets", "not_nets") if name in fields}
    names_of_ports = ("ports", "not_ports", "port_groups", "not_port_groups", "named_ports", "not_named_ports")
    subject = {name: fields.pop(name) for name in names_of_ports if name in fields}
    given = {"peer": RuleEnd(**peer), "subject": RuleEnd(**subject), **fields}
    return Rule(**given)


def _net_set(*members: str) -> str:
    return names.networks(frozenset(members))


_INGRESS: dict[str, tuple[Rule, list[str]]] = {
    "anything": (made(), ["-j ACCEPT"]),
    "protocol": (made(protocol="SCTP"), ["-p sctp -j ACCEPT"]),
    "port": (made(protocol="TCP", ports=("80",)), ["-p tcp -m multiport --dports 80 -j ACCEPT"]),
    "ports": (made(protocol="UDP", ports=("53", "100-200")), ["-p udp -m multiport --dports 53,100:200 -j ACCEPT"]),
    "range of one": (made(protocol="UDP", ports=("53-53",)), ["-p udp -m multiport --dports 53 -j ACCEPT"]),
    "group": (made(groups=(_GROUP,)), [f"-m set --match-set {_G} src -j ACCEPT"]),
    "named port": (made(port_groups=(_PORTS,)), [f"-m set --match-set {_P} dst,dst -j ACCEPT"]),
    "a port of the subject by its name": (
        made(protocol="TCP", named_ports=("http",)),
        ["-p tcp -m set --match-set manx-own-tcp-http dst,dst -j ACCEPT"],
    ),
    "ports of all kinds, by their names and not": (
        made(protocol="UDP", ports=("53",), port_groups=(_PORTS,), named_ports=("dns",), not_named_ports=("a", "b")),
        [
            f"-p udp {match} -m set ! --match-set manx-own-udp-a dst,dst -m set ! --match-set manx-own-udp-b dst,dst "
            "-j ACCEPT"
            for match in (
                "-m multiport --dports 53",
                f"-m set --match-set {_P} dst,dst",
                "-m set --match-set manx-own-udp-dns dst,dst",
            )
        ],
    ),
    "ports of both kinds": (
        made(protocol="TCP", ports=("80",), port_groups=(_PORTS,)),
        ["-p tcp -m multiport --dports 80 -j ACCEPT", f"-p tcp -m set --match-set {_P} dst,dst -j ACCEPT"],
    ),
    "sixteen ports": (
        made(protocol="TCP", ports=tuple(str(port) for port in range(1, 17))),
        [
            "-p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 -j ACCEPT",
            "-p tcp -m multiport --dports 16 -j ACCEPT",
        ],
    ),
    "a range takes two places": (
        made(protocol="TCP", ports=(*(str(port) for port in range(1, 15)), "20-30")),
        [
            "-p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14 -j ACCEPT",
            "-p tcp -m multiport --dports 20:30 -j ACCEPT",
        ],
    ),
    "one network": (made(nets=("10.1.2.3/8",)), ["-s 10.0.0.0/8 -j ACCEPT"]),
    "one address": (made(nets=("10.1.2.3",)), ["-s 10.1.2.3/32 -j ACCEPT"]),
    "all of IPv4": (made(nets=("0.0.0.0/0",)), ["-j ACCEPT"]),
    "all of IPv4 and more": (made(nets=("10.0.0.0/8", "0.0.0.0/0")), ["-j ACCEPT"]),
    "both halves": (made(nets=("128.0.0.0/1", "0.0.0.0/1")), ["-j ACCEPT"]),
    "networks": (
        made(nets=("10.0.0.0/8", "192.0.2.1/32", "fd00::/8")),
        [f"-m set --match-set {_net_set('10.0.0.0/8', '192.0.2.1')} src -j ACCEPT"],
    ),
    "IPv6 only is nobody, not everybody": (made(nets=("fd00::/8", "::/0")), []),
    "exception": (
        made(nets=("10.0.0.0/8",), not_nets=("10.1.0.0/16",)),
        [f"-s 10.0.0.0/8 -m set ! --match-set {_net_set('10.1.0.0/16')} src -j ACCEPT"],
    ),
    "IPv6 exception": (made(not_nets=("fd00::/8",)), ["-j ACCEPT"]),
    "everything excepted": (made(not_nets=("0.0.0.0/0",)), []),
    "deny": (made(action="Deny", groups=(_GROUP,)), [f"-m set --match-set {_G} src -j DROP"]),
    "protocols by number": (made(protocol="6", ports=("80",)), ["-p tcp -m multiport --dports 80 -j ACCEPT"]),
    "a protocol without a name": (made(protocol="47"), ["-p 47 -j ACCEPT"]),
    "UDPLite": (made(protocol="UDPLite", ports=("9",)), ["-p udplite -m multiport --dports 9 -j ACCEPT"]),
    "not a protocol": (made(not_protocol="ICMPv6"), ["! -p ipv6-icmp -j ACCEPT"]),
    "a protocol but another": (made(protocol="TCP", not_protocol="17"), ["-p tcp -j ACCEPT"]),
    "a protocol but the same": (made(protocol="TCP", not_protocol="6"), []),
    "ICMP type": (made(protocol="ICMP", icmp=IcmpMatch(8)), ["-p icmp -m icmp --icmp-type 8 -j ACCEPT"]),
    "ICMP code": (made(protocol="1", icmp=IcmpMatch(3, 0)), ["-p icmp -m icmp --icmp-type 3/0 -j ACCEPT"]),
    "not an ICMP type": (
        made(protocol="ICMP", icmp=IcmpMatch(3), not_icmp=IcmpMatch(3, 4)),
        ["-p icmp -m icmp --icmp-type 3 -m icmp ! --icmp-type 3/4 -j ACCEPT"],
    ),
    "neither a protocol nor an ICMP type": (
        made(not_protocol="TCP", not_icmp=IcmpMatch(8)),
        ["! -p icmp -m conntrack ! --ctproto 6 -j ACCEPT", "-p icmp -m icmp ! --icmp-type 8 -j ACCEPT"],
    ),
    "a Deny of neither, also of packets without a connection": (
        made(action="Deny", not_protocol="TCP", not_icmp=IcmpMatch(8)),
        [
            "! -p icmp -m conntrack ! --ctproto 6 -j DROP",
            "! -p icmp -m conntrack --ctstate UNTRACKED -j DROP",
            "-p icmp -m icmp ! --icmp-type 8 -j DROP",
        ],
    ),
    "types of the other family's ICMP": (made(protocol="ICMPv6", icmp=IcmpMatch(128)), []),
    "the other family's rule": (made(ip_version=6), []),
    "a Deny of the other family": (made(action="Deny", ip_version=6, groups=(_GROUP,)), []),
    "not a port": (made(protocol="TCP", not_ports=("80",)), ["-p tcp -m multiport ! --dports 80 -j ACCEPT"]),
    "none of many ports": (
        made(protocol="TCP", not_ports=tuple(str(port) for port in range(1, 17))),
        [
            "-p tcp -m multiport ! --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 -m multiport ! --dports 16 -j ACCEPT",
        ],
    ),
    "none of two groups": (
        made(not_groups=(_GROUP, _OTHER)),
        [f"-m set ! --match-set {_G} src -m set ! --match-set {names.address_group(_OTHER)} src -j ACCEPT"],
    ),
    "in both groups": (
        made(groups=(_GROUP, _OTHER)),
        [f"-m set --match-set {_G} src -m set --match-set {names.address_group(_OTHER)} src -j ACCEPT"],
    ),
    "not a named port": (made(not_port_groups=(_PORTS,)), [f"-m set ! --match-set {_P} dst,dst -j ACCEPT"]),
    "either end": (
        Rule(
            protocol="UDP",
            peer=RuleEnd(nets=("10.0.0.0/8",), ports=("53",), port_groups=(_PORTS,)),
            subject=RuleEnd(nets=("10.1.0.0/16",), not_groups=(_GROUP,), not_ports=("7", "9-11")),
        ),
        [
            f"-s 10.0.0.0/8 -d 10.1.0.0/16 -p udp {source} -m set ! --match-set {_G} dst "
            "-m multiport ! --dports 7,9:11 -j ACCEPT"
            for source in ("-m multiport --sports 53", f"-m set --match-set {_P} src,src")
        ],
    ),
    "pass": (made(action="Pass", protocol="TCP"), ["-p tcp -g manx-pass"]),
    "logged once, whichever port it is": (
        made(action="Log", protocol="TCP", ports=(*(str(port) for port in range(1, 16)), "16"), port_groups=(_PORTS,)),
        [
            f'-p tcp {match}-j LOG --log-prefix "calico-packet: " --log-level 5'
            for first, second in [
                ("multiport {}--dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 ", "multiport {}--dports 16 ")
            ]
            for match in (
                f"-m {first.format('')}",
                f"-m {first.format('! ')}-m {second.format('')}",
                f"-m {first.format('! ')}-m {second.format('! ')}-m set --match-set {_P} dst,dst ",
            )
        ],
    ),
    "log": (made(action="Log", protocol="TCP"), ['-p tcp -j LOG --log-prefix "calico-packet: " --log-level 5']),
}


@pytest.mark.parametrize("case", _INGRESS)
def test_an_ingress_rule(case: str) -> None:
    rule, expected = _INGRESS[case]
    program = _program(ingress=(rule,))
    assert [unsealed(line) for line in program.ingress or ()] == expected
    assert program.problems == ()


_G6 = names.in_ipv6(_G)
_INGRESS6: dict[str, tuple[Rule, list[str]]] = {
    "anything": (made(), ["-j ACCEPT"]),
    "group": (made(groups=(_GROUP,)), [f"-m set --match-set {_G6} src -j ACCEPT"]),
    "one network": (made(nets=("fd00:0:0::1/64", "10.0.0.0/8")), ["-s fd00::/64 -j ACCEPT"]),
    "one address": (made(nets=("fd00:0:0:0:1::1",)), ["-s fd00::1:0:0:1/128 -j ACCEPT"]),
    "all of IPv6": (made(nets=("::/0",)), ["-j ACCEPT"]),
    "IPv4 only is nobody": (made(nets=("0.0.0.0/0",)), []),
    "all but a network": (
        made(nets=("::/0",), not_nets=("fd00::/8", "10.0.0.0/8")),
        [f"-m set ! --match-set {names.in_ipv6(_net_set('fd00::/8'))} src -j ACCEPT"],
    ),
    "everything excepted": (made(not_nets=("::/0",)), []),
    "ICMPv6 type": (
        made(protocol="ICMPv6", icmp=IcmpMatch(128, 0)),
        ["-p ipv6-icmp -m icmp6 --icmpv6-type 128/0 -j ACCEPT"],
    ),
    "types of the other family's ICMP": (made(action="Deny", protocol="ICMP", icmp=IcmpMatch(8)), []),
    "the other family's rule": (made(ip_version=4), []),
    "its own": (made(ip_version=6, protocol="58"), ["-p ipv6-icmp -j ACCEPT"]),
}


@pytest.mark.parametrize("case", _INGRESS6)
def test_an_ingress_rule_of_ipv6(case: str) -> None:
    rule, expected = _INGRESS6[case]
    program = _program(ingress=(rule,), family=IPV6)
    assert [unsealed(line) for line in program.ingress or ()] == expected
    assert {image.family for image in program.sets.values()} <= {"inet6"}
    assert program.problems == ()


def test_an_egress_rule_looks_at_the_destination_and_goes_on_to_the_receiver() -> None:
    ported = Rule(peer=RuleEnd(groups=(_GROUP,), port_groups=(_PORTS,)), subject=RuleEnd(not_port_groups=(_PORTS,)))
    rules = (made(nets=("10.0.0.0/8",)), ported, made(action="Deny"))
    assert [unsealed(line) for line in _program(egress=rules).egress or ()] == [
        "-d 10.0.0.0/8 -g manx-to",
        f"-m set ! --match-set {_P} src,src -m set --match-set {_G} dst -m set --match-set {_P} dst,dst -g manx-to",
        "-j DROP",
    ]


_LACKING = {
    "Allow from a missing group": (made(groups=(_GROUP,)), []),
    "Allow from one of two, one missing": (made(groups=(_OTHER, _GROUP)), []),
    "Allow from all but a missing group": (made(not_groups=(_GROUP,)), []),
    "Allow to missing ports": (made(port_groups=(_PORTS,)), []),
    "Allow to all but missing ports": (made(not_port_groups=(_PORTS,)), []),
    "Allow to ports, some missing": (
        made(protocol="TCP", ports=("80",), port_groups=(_PORTS,)),
        ["-p tcp -m multiport --dports 80 -j ACCEPT"],
    ),
    "Deny from a missing group": (made(action="Deny", protocol="TCP", groups=(_GROUP,)), ["-p tcp -j DROP"]),
    "Deny from all but a missing group": (made(action="Deny", not_groups=(_GROUP,)), ["-j DROP"]),
    "Deny to ports, some missing": (
        made(action="Deny", protocol="TCP", ports=("80",), port_groups=(_PORTS,)),
        ["-p tcp -j DROP"],
    ),
    "Pass from a missing group denies": (
        made(action="Pass", protocol="TCP", groups=(_GROUP, _OTHER)),
        [f"-p tcp -m set --match-set {names.address_group(_OTHER)} src -j DROP"],
    ),
    "Log from a missing group": (made(action="Log", groups=(_GROUP,)), []),
}


@pytest.mark.parametrize("case", _LACKING)
def test_a_missing_group_opens_nothing_and_is_never_rejected(case: str) -> None:
    rule, expected = _LACKING[case]
    style = Style(PolicySettings(deny_action="Reject"))
    program = _program(ingress=(rule,), lacking=frozenset({_GROUP, _PORTS}), style=style)
    assert [unsealed(line) for line in program.ingress or ()] == expected


_UNREADABLE = {
    "port": (made(protocol="TCP", ports=("http",)), "spec.ingress[0].subject.ports: 'http' is neither a port"),
    "port beyond": (made(protocol="TCP", ports=("65536",)), "ports: '65536' is not within 0 to 65535"),
    "range backwards": (made(protocol="TCP", not_ports=("90-80",)), "notPorts: '90-80' is not within"),
    "ports of no protocol": (made(ports=("80",)), "ports: need protocol TCP, UDP, SCTP or UDPLite"),
    "ports of a protocol without": (made(protocol="ICMP", not_ports=("80",)), "notPorts: need protocol TCP"),
    "named port of no protocol": (made(named_ports=("http",)), "subject.namedPorts: need protocol TCP, UDP, SCTP"),
    "named port of one without": (made(protocol="47", not_named_ports=("a",)), "subject.notNamedPorts: need protocol"),
    "network": (made(nets=("10.0.0.0/33",)), "peer.nets: '10.0.0.0/33' is not a CIDR"),
    "exception": (made(not_nets=("x",)), "peer.notNets: 'x' is not a CIDR"),
    "protocol": (made(protocol="IPX"), "protocol: 'IPX' is not one of TCP, UDP, SCTP"),
    "protocol beyond": (made(not_protocol="256"), "notProtocol: '256' is not one of TCP, UDP, SCTP"),
    "type of no protocol": (made(icmp=IcmpMatch(8)), "icmp: needs protocol ICMP or ICMPv6"),
    "reserved type": (made(protocol="ICMP", not_icmp=IcmpMatch(255)), "notICMP: type 255, code -1: allowed are"),
    "group of ports as peers": (made(groups=(_PORTS,)), f"peer.groups: AddressGroup {_PORTS} is of type AddressPorts"),
    "group of peers as ports": (made(port_groups=(_GROUP,)), f"AddressGroup {_GROUP} is of type Addresses, not"),
}


@pytest.mark.parametrize("case", _UNREADABLE)
def test_what_cannot_be_read_is_told_and_opens_nothing(case: str) -> None:
    bad, told = _UNREADABLE[case]
    program = _program(ingress=(bad, made(protocol="UDP")))
    assert [unsealed(line) for line in program.ingress or ()] == ["-p udp -j ACCEPT"], "the other rule stays"
    assert len(program.problems) == 1
    assert told in program.problems[0]
    assert program.problems[0].startswith("PolicyProgram p: spec.ingress[0].")


def test_a_deny_rule_that_cannot_be_read_denies_more() -> None:
    for unreadable in ({"protocol": "IPX", "ports": ("80",)}, {"named_ports": ("http",)}):
        bad = made(action="Deny", nets=("10.0.0.0/8",), **unreadable)
        assert [unsealed(line) for line in _program(ingress=(bad,)).ingress or ()] == ["-s 10.0.0.0/8 -j DROP"]


_STYLES: dict[str, tuple[PolicySettings, list[str], list[str]]] = {
    "reject": (
        PolicySettings(deny_action="Reject"),
        ["-j ACCEPT", "-j REJECT --reject-with icmp-port-unreachable"],
        ["-g manx-to", "-j REJECT --reject-with icmp-port-unreachable"],
    ),
    "return": (
        PolicySettings(allow_action="Return"),
        ["-g manx-allow", "-j DROP"],
        ["-g manx-allow", "-j DROP"],
    ),
    "return of what is for the node": (
        PolicySettings(default_endpoint_to_host_action="Return"),
        ["-j ACCEPT", "-j DROP"],
        ["-g manx-allow", "-j DROP"],
    ),
}


@pytest.mark.parametrize("case", _STYLES)
def test_verdicts_as_the_settings_have_them(case: str) -> None:
    settings, ingress, egress = _STYLES[case]
    rules = (made(), made(action="Deny"))
    program = _program(ingress=rules, egress=rules, style=Style(settings))
    assert [unsealed(line) for line in program.ingress or ()] == ingress
    assert [unsealed(line) for line in program.egress or ()] == egress


def test_a_denied_packet_is_noted_with_policy_and_rule() -> None:
    rules = (made(), made(action="Deny", index=3, protocol="TCP"))
    program = _program(ingress=rules, log_denied=True)
    assert [unsealed(line) for line in program.ingress or ()][1:] == [
        '-p tcp -j NFLOG --nflog-prefix "manx deny in default p.n[3]"',
        "-p tcp -j DROP",
    ]
    assert [label_of(line) for line in program.ingress or ()] == [
        "p.n ingress[0] Allow",
        "p.n ingress[3] Deny",
        "p.n ingress[3] Deny",
    ]
    without = _program(ingress=rules, log_denied=True, style=Style(logs=False))
    assert "NFLOG" not in " ".join(without.ingress or ())


def test_long_names_are_cut_and_still_told_apart() -> None:
    rules = (made(action="Deny", index=12),)
    prefixes = set()
    for letter in "ab":
        source = PolicySource(kind="NetworkPolicy", name=letter * 180, namespace="n" * 63, tier="t" * 60)
        spec = PolicyProgramSpec(epoch=1, source=source, types=("Ingress",), ingress=rules, log_denied=True)
        noted, _ = render_program("knp.nnn-0", spec, frozenset(), {}, IPV4, Style()).ingress or ()
        assert len(noted.split('--nflog-prefix "')[1].strip('"')) <= 63
        assert len(label_of(noted)) < 230
        prefixes.add(noted.split('--nflog-prefix "')[1])
    assert len(prefixes) == 2
    assert all(prefix.endswith('[12]"') for prefix in prefixes)


def test_rules_say_a_policy_s_own_name_where_that_of_its_program_is_cut() -> None:
    source = PolicySource(kind="NetworkPolicy", name="allow-from-frontend", namespace="payments")
    spec = PolicyProgramSpec(epoch=1, source=source, types=("Ingress",), ingress=(made(),))
    (rule,) = render_program("np.payments-allo-" + "0" * 20, spec, frozenset(), {}, IPV4, Style()).ingress or ()
    assert label_of(rule) == "np.payments.allow-from-frontend ingress[0] Allow"
    odd = PolicySource(kind="NetworkPolicy", name='a"b\n')
    assert said("gnp.x", odd) == "gnp.a_b_"


def test_a_log_prefix_is_cut_and_cannot_break_out() -> None:
    assert Style(PolicySettings(log_prefix='a"b\\n' + "x" * 40)).log == (
        f'-j LOG --log-prefix "a_b_n{"x" * 22}: " --log-level 5'
    )


def test_a_hash_tells_rules_positions_and_chains_apart() -> None:
    twice = _program(ingress=(made(), made()), egress=(made(action="Deny"),))
    assert twice.ingress is not None
    assert twice.ingress[0] != twice.ingress[1]
    assert twice == _program(ingress=(made(), made()), egress=(made(action="Deny"),))


def test_names_fit_the_kernel_and_follow_the_hashes_of_ids() -> None:
    long = "knp." + "n" * 63 + "." + "p" * 180
    chains = (names.program_egress(long), names.class_ingress("pc-" + "a" * 20), names.program_ingress("x"))
    for chain in (*chains, names.tier_egress("pc-" + "a" * 20, long)):
        assert len(chain) <= 28
    own = (names.own_ports("TCP", "a" * 15), names.own_ports("SCTP", "x" * 63), names.own_ports("UDPLite", "a" * 15))
    assert own[0] == "manx-own-tcp-" + "a" * 15
    assert all(map(names.is_own_ports, (*own, names.in_ipv6(own[0]))))
    assert len({names.own_ports(how, port) for how in ("TCP", "UDP") for port in ("http", "Http", "ht tp")}) == 6
    for name in (names.address_group(_GROUP), names.class_set("anything"), names.networks(frozenset({"x"})), *own):
        assert len(name) <= 31
        assert len(names.in_ipv6(name)) <= 31
        assert names.in_ipv4(names.in_ipv6(name)) == name
    assert len(names.temporary("manx-g-x")) <= 31
    assert names.class_egress("pc-" + "0a" * 10) == "manx-ce-" + "0a" * 10
    assert names.class_set("open") == "manx-c-open"
    assert names.is_endpoint_set(names.in_ipv6(names.ENDPOINTS))
    assert names.is_class_set(names.in_ipv6(names.class_set("open")))
