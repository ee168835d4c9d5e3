"""Tiers, Pass, Log, and the node's settings, with real packets on both back ends; and what the kernel has counted."""

from __future__ import annotations

import json
import re
import socket
import sys
from dataclasses import replace
from typing import Any

import pytest

from manx_agent.model import Backend, Dirty
from manx_core.api.v1alpha1 import Rule
from policy_world import GATEWAY6, Applied, World, program, rule, towards

pytestmark = pytest.mark.usefixtures("backend")
MARKED = ("-m", "mark", "!", "--mark", "0x0/0xffff0000")


def _tiered(world: World) -> None:
    """Pod b: the first tier passes TCP on (80 and 81), denies 82, and denies what it does not name; the second allows
    80 and, by default, what it does not name is denied."""
    first = program(
        ingress=(
            Rule(action="Log", index=0),
            rule(action="Pass", protocol="TCP", ports=("80", "81"), index=1),
            rule(action="Deny", protocol="TCP", ports=("82",), index=2),
        )
    )
    never = program(ingress=(rule(action="Deny", protocol="TCP", ports=("80",)),))
    second = program(ingress=(rule(protocol="TCP", ports=("80", "82")),))
    world.tiers("b", ("security", "Deny", (first, never)), ("default", "Deny", (second,)))


@pytest.mark.parametrize("settings", [{}, {"allow_action": "Return"}, {"mark_mask": 0xC000}, {"log_denied": True}])
def test_a_pass_goes_on_with_the_next_tier_and_leaves_no_mark(
    world: World, applied: Applied, settings: dict[str, Any]
) -> None:
    world.settings(**settings)
    _tiered(world)
    applied.iptables("-A", "FORWARD", "-m", "mark", "!", "--mark", "0x0", "-j", "ACCEPT")
    applied.iptables("-t", "mangle", "-A", "POSTROUTING", "-m", "mark", "!", "--mark", "0x0", "-j", "DROP")
    applied.apply()
    for ipv6 in (False, True):
        world.ipv6 = ipv6
        assert world.tcp("a", "b", 80)
        assert not world.tcp("a", "b", 81, expected=False), "passed on, and not allowed"
        assert not world.tcp("a", "b", 82, expected=False), "denied before the next tier"
        assert not world.udp("a", "b", 80, expected=False)
    assert not [
        line for line in applied.saved("-c") if "MARK" not in line and " --mark 0x0 " in line and "[0:0]" not in line
    ]


def test_a_tier_that_passes_by_default(world: World, applied: Applied) -> None:
    first = program(egress=(towards(action="Deny", protocol="UDP", ports=("53",)),))
    world.tiers("a", ("security", "Pass", (first,)))
    applied.apply()
    assert world.tcp("a", "b")
    assert not world.udp("a", "b", 53, expected=False)
    world.tiers("a", ("security", "Pass", (first,)), ("default", "Deny", (program("Egress"),)))
    applied.apply(Dirty())
    assert not world.tcp("a", "b", expected=False)


def test_bits_of_others_stay(world: World, applied: Applied) -> None:
    _tiered(world)
    applied.iptables("-t", "mangle", "-A", "PREROUTING", "-j", "MARK", "--set-mark", "0x1005")
    applied.iptables("-t", "mangle", "-A", "POSTROUTING", "-m", "mark", "!", "--mark", "0x1005", "-j", "DROP")
    applied.apply()
    assert world.tcp("a", "b", 80)


def test_a_denied_packet_may_be_rejected_and_an_undecided_one_never(world: World, applied: Applied) -> None:
    world.settings(deny_action="Reject")
    world.policy("b", program(ingress=(rule(action="Deny", protocol="TCP", ports=("81",)), rule(protocol="UDP"))))
    world.policy("c", program(ingress=(rule(action="Deny", groups=("ag-" + "m" * 20,)),)))
    applied.apply()
    applied.now += 10
    assert applied.apply().missing
    for ipv6 in (False, True):
        world.ipv6 = ipv6
        assert _answer(world, "b", 81) is ConnectionRefusedError
        assert _answer(world, "b", 82) is ConnectionRefusedError, "the tier's denial"
        assert _answer(world, "c", 80) is TimeoutError
    world.classless("b")
    applied.apply()
    assert _answer(world, "b", 81) is TimeoutError


def _answer(world: World, to: str, port: int) -> type[OSError]:
    with world.socket("a", socket.SOCK_STREAM) as client:
        client.settimeout(1.5)
        with pytest.raises(OSError) as caught:  # noqa: PT011
            client.connect((world.address(to), port))
    return caught.type


def test_allowed_packets_meet_the_rules_of_others_where_that_is_asked(world: World, applied: Applied) -> None:
    world.policy("b", program(ingress=(rule(protocol="TCP", ports=("80", "81")),)))
    applied.iptables("-A", "FORWARD", "-p", "tcp", "--dport", "81", "-j", "DROP")
    applied.apply()
    assert world.tcp("a", "b", 81), "accepted at once"
    world.settings(allow_action="Return")
    applied.apply()
    assert world.tcp("a", "b", 80)
    assert not world.tcp("a", "b", 81, expected=False)
    world.settings()
    applied.apply()
    assert world.tcp("a", "b", 81)


@pytest.mark.parametrize("action", ["Accept", "Drop", "Return"])
def test_what_pods_may_tell_their_node(world: World, applied: Applied, action: str) -> None:
    world.settings(default_endpoint_to_host_action=action)
    world.policy("a", program("Egress", egress=(towards(protocol="TCP"),)))
    for family in ("ip", "ip6"):
        applied.iptables("-A", "INPUT", "-p", "tcp", "--dport", "81", "-j", "DROP", family=family)
    applied.apply()
    for ipv6 in (False, True):
        world.ipv6 = ipv6
        expected = {80: action != "Drop", 81: action == "Accept"}
        for port, allowed in expected.items():
            assert world.tcp("a", "node", port, expected=allowed) is allowed, port
            assert world.tcp("b", "node", port, expected=allowed) is allowed, port
            if ipv6:
                assert _to_gateway(world, port) is allowed, port
        assert not world.udp("a", "node", 53, expected=False)
        assert world.tcp("a", "b")
        assert world.tcp("node", "a")


def _to_gateway(world: World, port: int) -> bool:
    """Whether the node is reached by its link-local address, too."""
    with world.socket("a", socket.SOCK_STREAM) as client, world.socket("node", socket.SOCK_STREAM, "", port) as server:
        server.listen()
        client.settimeout(1)
        with world.netns("a").entered():
            client.bind((world.address("a"), 0))
            index = socket.if_nametoindex("eth0")
        try:
            client.connect((GATEWAY6, port, 0, index))
        except TimeoutError:
            return False
        return True


def test_our_rules_stand_last_where_that_is_asked(world: World, applied: Applied) -> None:
    world.policy("b", program("Ingress"))
    applied.iptables("-A", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "ACCEPT")
    applied.apply()
    assert not world.tcp("a", "b", 80, expected=False)
    world.settings(chain_insert_mode="Append")
    applied.apply(Dirty())
    assert world.tcp("a", "b", 80)
    assert not world.tcp("a", "b", 81, expected=False)
    assert applied.check() == ()
    applied.iptables("-A", "FORWARD", "-p", "tcp", "--dport", "82", "-j", "ACCEPT")
    assert any("not the last rule" in said for said in applied.check())
    assert world.tcp("a", "b", 82)
    assert applied.check() == ()
    world.settings()
    applied.apply(Dirty())
    assert not world.tcp("a", "b", 80, expected=False)


def test_the_back_end_is_changed_by_the_settings(world: World, applied: Applied, backend: Backend) -> None:
    world.policy("b", program("Ingress"))
    applied.apply()
    other: Backend = "legacy" if backend == "nft" else "nft"
    world.settings(iptables_backend="Legacy" if other == "legacy" else "NFT")
    assert applied.apply(Dirty()).backend == other
    assert not [line for line in applied.saved() if "manx-" in line]
    assert [line for line in Applied(world, other).saved() if "manx-" in line]
    assert not world.tcp("a", "b", expected=False)
    world.settings()
    assert applied.apply(Dirty()).backend == backend


def test_ports_of_masqueraded_connections(world: World, applied: Applied) -> None:
    world.settings(nat_port_range="2000:2001")
    applied.apply()
    with (
        world.socket("outside", socket.SOCK_DGRAM, "", 5353) as server,
        world.socket("a", socket.SOCK_DGRAM) as client,
    ):
        server.settimeout(5)
        client.sendto(b"x", (world.address("outside"), 5353))
        assert server.recvfrom(10)[1][1] in (2000, 2001)


def test_denied_packets_are_noted_and_everything_is_counted(world: World, applied: Applied) -> None:
    _tiered(world)
    name = "knp.b.0"
    spec = world.view.programs[name]
    source = type(spec.source)(kind="NetworkPolicy", namespace="b", name="0", tier="security")
    programs = {
        **world.view.programs,
        name: type(spec)(epoch=1, source=source, types=spec.types, ingress=spec.ingress, egress=(), log_denied=True),
    }
    world.view = replace(world.view, programs=programs)
    applied.apply()
    assert world.tcp("a", "b", 80)
    assert not world.tcp("a", "b", 82, expected=False)
    assert not world.udp("a", "b", 53, expected=False)
    noted = _hits(applied, "NFLOG")
    assert noted["manx deny in security knp.b.0[2]"] >= 1
    assert noted["manx deny in security none of knp.b.0 knp.b.1"] == 1
    assert _hits(applied, "LOG")["calico-packet: "] >= 3
    counted = {
        (one["rule"], one["action"]): one["packets"]
        for one in _counters(world, "--policy", "b/0", "--json")
        if one["family"] == 4
    }
    assert counted[0, "Log"] >= 3
    assert counted[1, "Pass"] == 1
    assert counted[2, "Deny"] >= 1
    assert counted[-1, "Deny"] == 1
    table = world.node.run(sys.executable, "-m", "manx_agent", "counters")
    assert re.search(r"knp\.b\.0 +ingress +1 +Pass +IPv4 +1 ", table)
    assert re.search(r"tier security: none of knp\.b\.0, knp\.b\.1 +ingress +- +Deny +IPv4 +1 ", table)


def _hits(applied: Applied, target: str) -> dict[str, int]:
    """Prefix → packets."""
    found = re.findall(
        rf'\[(\d+):\d+\] .* -j {target} --\w+-prefix "([^"]*)"', "\n".join(applied.saved("-c", family="ip"))
    )
    return {prefix: int(packets) for packets, prefix in found}


def _counters(world: World, *words: str) -> Any:
    return json.loads(world.node.run(sys.executable, "-m", "manx_agent", "counters", *words))


def test_counters_of_what_is_not_there(world: World, applied: Applied) -> None:
    applied.apply()
    said = world.node.run(sys.executable, "-m", "manx_agent", "counters", "--policy", "x/y", check=False)
    assert "no rule of a policy 'x/y' is in force" in said
    assert _counters(world, "--json") == []


def test_cleanup_takes_everything_of_ours_and_nothing_else(world: World, applied: Applied, tmp_path: Any) -> None:
    applied.iptables("-A", "FORWARD", "-p", "tcp", "-j", "ACCEPT")
    world.node.run("ipset", "create", "KUBE-X", "hash:ip")
    world.node.ip("route", "add", "192.0.2.0/24", "via", world.address("outside"), "proto", "77")
    before = [line for line in applied.saved() if line.startswith("-A")]
    _tiered(world)
    applied.apply()
    (tmp_path / "10-manx.conflist").touch()
    world.node.run(sys.executable, "-m", "manx_agent", "cleanup", "--cni-conf-dir", str(tmp_path))
    assert [line for line in applied.saved() if line.startswith("-A")] == before
    assert not [line for line in applied.saved() if "manx-" in line]
    assert world.node.run("ipset", "list", "-n").split() == ["KUBE-X"]
    assert "192.0.2.0/24" not in world.node.ip("route")
    assert not list(tmp_path.iterdir())
    said = world.node.run(sys.executable, "-m", "manx_agent", "cleanup", "--cni-conf-dir", str(tmp_path))
    assert said == "nothing of Manx's was there\n"
