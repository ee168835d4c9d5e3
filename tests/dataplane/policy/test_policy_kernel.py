"""The policy dataplane and the kernel: nothing is done twice, what drifts comes back, kills leave nothing half-done."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from manx_agent.drivers import ipset
from manx_agent.drivers.iptables import Iptables
from manx_agent.model import Backend, Dirty, LocalEndpoint
from manx_agent.render import names
from policy_world import Applied, World, class_name, program, rule, towards


def _policies(world: World) -> None:
    """Something of every kind in the kernel."""
    friends = world.group("f", world.address("a"), "fd00::1")
    web = world.group("w", f"{world.address('b')},tcp:8080", kind="AddressPorts")
    many = rule(nets=("10.0.0.0/8", "192.0.2.0/24"), not_nets=("10.1.0.0/16", "10.2.0.0/16"))
    ingress = (rule(protocol="TCP", ports=("80", "90-99"), port_groups=(web,), groups=(friends,)), many)
    egress = (towards(protocol="SCTP", ports=("9",)), towards(action="Deny", nets=("198.51.100.9/32",)), towards())
    world.policy("b", program(ingress=ingress), program(ingress=(rule(protocol="UDP"),), egress=egress))


def test_a_second_apply_writes_nothing(applied: Applied, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _policies(world)
    applied.apply()
    assert world.tcp("a", "b", 80)
    before = applied.saved("-c", family="ip")  # In IPv6, pods say something every now and then.
    rules = applied.saved()
    assert any(re.match(r"\[[1-9].*manx-pi-", line) for line in before), "counters have counted"
    for owner, method in ((Iptables, "restore"), (ipset, "restore"), (ipset, "destroy")):
        monkeypatch.setattr(owner, method, lambda *_: pytest.fail("wrote"))
    applied.apply(Dirty(everything=True))
    applied.apply(Dirty())
    applied.policy = applied.fresh()
    assert applied.apply(Dirty(everything=True)).drift == ()
    assert applied.check() == ()
    assert (applied.saved("-c", family="ip"), applied.saved()) == (before, rules)


_CLASS = names.class_ingress(class_name("b"))
_POLICY = names.program_ingress("knp.b.0")
_EDITS: dict[str, tuple[Sequence[str], str]] = {
    "rule added": (("IPT", "-I", _CLASS, "-j", "ACCEPT"), rf"{_CLASS}: rule 1 "),
    "rule deleted": (("IPT", "-D", names.FROM, "2"), rf"{names.FROM}: rule 2 "),
    "rule replaced": (("IPT", "-R", _POLICY, "1", "-s", "10.0.0.0/7", "-j", "ACCEPT"), rf"{_POLICY}: rule 1 "),
    "chain emptied": (("IPT", "-F", names.TO), rf"{names.TO}: rule 1 "),
    "stray chain": (("IPT", "-N", "manx-stray"), "chain manx-stray should not exist"),
    "everything flushed": (("IPT", "-F"), "chain FORWARD: the jump"),
    "jump deleted": (("IPT", "-t", "raw", "-F", "PREROUTING"), "iptables raw: chain PREROUTING: the jump"),
    "somebody before us": (("IPT", "-I", "FORWARD", "-j", "ACCEPT"), "chain FORWARD: .* not the first"),
    "jump doubled": (("IPT", "-A", "FORWARD", "-j", names.FORWARD), "chain FORWARD: "),
    "masquerading gone": (("IPT", "-t", "nat", "-F", names.NAT), rf"iptables nat: chain {names.NAT}"),
    "ipv6 let in": (("IP6T", "-t", "raw", "-F", "PREROUTING"), "ip6tables raw: chain PREROUTING"),
    "member added": (("ipset", "add", names.address_group("ag-" + "f" * 20), "10.9.9.9"), "10.9.9.9 should not"),
    "members deleted": (("ipset", "flush", names.ENDPOINTS), rf"ipset {names.ENDPOINTS}: .* missing"),
    "stray set": (("ipset", "create", "manx-stray", "hash:ip"), "ipset manx-stray should not exist"),
}


@pytest.mark.parametrize("edit", _EDITS)
def test_what_is_altered_by_hand_comes_back_and_is_told(applied: Applied, world: World, edit: str) -> None:
    argv, sentence = _EDITS[edit]
    _policies(world)
    applied.apply()
    assert applied.check() == ()
    before, sets = applied.saved(), applied.sets()
    programs = {"IPT": f"iptables-{applied.backend}", "IP6T": f"ip6tables-{applied.backend}"}
    world.node.run(programs.get(argv[0], argv[0]), *argv[1:])
    told = applied.check()
    assert any(re.search(sentence, said) for said in told), told
    others = [line for line in applied.saved() if line != "-A FORWARD -j ACCEPT"]
    assert (others, applied.sets()) == (before, sets)
    assert applied.check() == ()


def test_rules_of_others_stay(applied: Applied, world: World) -> None:
    applied.iptables("-N", "KUBE-FORWARD")
    applied.iptables("-A", "FORWARD", "-j", "KUBE-FORWARD")
    applied.iptables("-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
    world.node.run("ipset", "create", "KUBE-LOOP", "hash:ip")
    others = [line for line in applied.saved() if line.startswith("-A")]
    _policies(world)
    applied.apply()
    world.open("b")
    applied.apply(Dirty())
    assert [line for line in applied.saved() if line.startswith("-A") and "manx-" not in line] == others
    assert "KUBE-LOOP" in world.node.run("ipset", "list", "-n")


def test_what_nothing_refers_to_goes(applied: Applied, world: World) -> None:
    applied.apply()
    before, sets = applied.saved(), applied.sets()
    _policies(world)
    applied.apply(Dirty())
    assert applied.saved() != before
    world.open("b")
    applied.apply(Dirty())
    assert (applied.saved(), applied.sets()) == (before, sets)


def test_rules_left_in_the_other_back_end_are_removed(applied: Applied, world: World) -> None:
    _policies(world)
    applied.apply()
    other: Backend = "legacy" if applied.backend == "nft" else "nft"
    after = Applied(world, other)
    assert any("left in the" in said for said in after.apply().drift)
    assert not [line for line in applied.saved() if "manx-" in line]
    assert [line for line in after.saved() if "manx-" in line]
    assert world.tcp("a", "b", 80)


def test_a_missing_group_holds_the_old_rules_and_then_denies(applied: Applied, world: World) -> None:
    friends = world.group("f", world.address("a"))
    world.policy("b", program(ingress=(rule(groups=(friends,)),)))
    assert applied.apply().missing == frozenset()
    world.policy("b", program(ingress=(rule(groups=("ag-" + "n" * 20,)),)))
    assert applied.apply(Dirty()).missing == {"ag-" + "n" * 20}
    assert world.tcp("a", "b")
    applied.now += 10
    applied.apply(Dirty())
    assert not world.tcp("a", "b", expected=False)
    world.group("n", world.address("a"))
    assert applied.apply(Dirty()).missing == frozenset()
    assert world.tcp("a", "b")


def test_a_restarted_agent_leaves_the_kernel_alone_while_something_may_still_come(
    applied: Applied, world: World
) -> None:
    _policies(world)
    applied.apply()
    whole, before = world.view, applied.saved()
    applied.policy = applied.fresh()
    world.view = replace(whole, programs={}, endpoints={**whole.endpoints, "c-new": _NEW})
    outcome = applied.apply()
    assert (outcome.missing, outcome.closed) == (frozenset({"knp.b.0", "knp.b.1"}), frozenset({"c-new"}))
    assert applied.saved() == before
    assert world.tcp("a", "b", 80)
    applied.now += 10
    assert applied.apply().closed == {"c-b", "c-new"}
    assert not world.tcp("a", "b", 80, expected=False)
    world.view = whole
    assert applied.apply().closed == frozenset()
    assert applied.saved() == before


def test_an_empty_kernel_is_not_left_alone(applied: Applied, world: World) -> None:
    world.policy("b", program("Ingress"))
    world.view = replace(world.view, programs={})
    assert applied.apply().closed == {"c-b"}
    assert not world.tcp("a", "b", expected=False)


_NEW = LocalEndpoint("default", "new", "uid-new", "c-new", "mnxfffffffffff", ("10.244.0.99", "fd00::99"))
_KILLED = Path(__file__).with_name("apply_for_ever.py")


def test_killed_in_the_middle_the_next_one_gets_there(applied: Applied, world: World) -> None:
    """An agent applies one view after another and is killed at some moment, again and again."""
    endpoints = [f"{pod.name},{pod.interface},{pod.address},{pod.address6}" for pod in world.pods.values()]
    for number in range(8):
        argv = world.node.argv(sys.executable, str(_KILLED), applied.backend, *endpoints)
        victim = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"ready\n"
        time.sleep(0.01 * number)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        victim.stdout.close()
    while world.node.pids():
        time.sleep(0.01)  # What it had started goes on to its end.
    _policies(world)
    applied.apply()
    found, sets = applied.saved(), [line for line in applied.sets() if line.startswith("add")]
    assert world.tcp("a", "b", 80)
    assert not world.tcp("outside", "b", 80, expected=False)
    with World() as clean:
        _policies(clean)
        other = Applied(clean, applied.backend)
        other.apply()
        assert sorted(found) == sorted(other.saved())
        assert sets == [line for line in other.sets() if line.startswith("add")]
