"""FelixConfiguration on real nodes: what it changes of packets, rules and log entries, and that it is undone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from lab_ends import pod_end
from lab_policy_cases import DENY_BOTH, DENY_IN
from lab_policy_nflog import listening
from lab_policy_probe import Probe
from lab_policy_talk import talks
from lab_policy_world import OUTSIDE, World

DENY_FROM_A = "{ingress: [{action: Deny, source: {selector: pod == 'a', namespaceSelector: all()}}, {action: Allow}]}"


@pytest.fixture
def world(policy_world: World) -> Iterator[World]:
    yield policy_world
    policy_world.cluster.delete("felixconfigurations.projectcalico.org", "--all")
    policy_world.clear()
    policy_world.settle(share=0.1)


def _configure(world: World, *, annotations: dict[str, str] | None = None, **spec: Any) -> None:
    metadata = {"name": "default", "annotations": annotations or {}}
    kind = {"apiVersion": "projectcalico.org/v3", "kind": "FelixConfiguration"}
    world.cluster.apply({**kind, "metadata": metadata, "spec": spec})


def _saved(world: World, node: str, *words: str) -> str:
    return world.cluster.node_exec(node, "iptables-save", *words)


def _forwarding(world: World, node: str) -> list[str]:
    """The rules of FORWARD, in order."""
    return [line for line in _saved(world, node, "-t", "filter").splitlines() if line.startswith("-A FORWARD ")]


def test_what_a_pods_policy_allows_may_still_not_reach_its_own_node(world: World) -> None:
    own = {
        pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in world.cluster.kubectl.items("pods", "-n", "np-x")
    }
    table = {probe: allowed for probe, allowed in world.table().items() if probe.source.startswith("x/")}
    _configure(world, defaultEndpointToHostAction="Drop")
    world.agree({probe: own[probe.source[2:]] != probe.target for probe in table})
    _configure(world, defaultEndpointToHostAction="RETURN")
    world.agree(table)


def test_what_is_denied_is_refused_where_that_is_asked_for(world: World) -> None:
    _configure(world, iptablesFilterDenyAction="Reject")
    world.apply({"x/p": DENY_IN, "gnp p": "{namespaceSelector: ns == 'y', egress: [{action: Deny, protocol: UDP}]}"})
    denied = ("z/a>x/a:80/TCP", "z/b>x/b:81/UDP/6", "y/a>z/b:80/UDP", "y/b>z/c:81/UDP/6")
    probes = {str(probe): probe for probe in world.probes()}
    for probe in [probes[name] for name in denied]:  # one by one: the kernel bounds how many it answers
        world.cluster.wait_for(f"{probe} to be refused", lambda p=probe: world.prober.round([p], [p]) == {p: "refused"})


def test_our_rules_stand_last_where_that_is_asked_for(world: World) -> None:
    node = world.cluster.nodes[0]
    foreign = ("FORWARD", "-m", "comment", "--comment", "somebody's")
    world.cluster.node_exec(node, "iptables", "-A", *foreign)
    try:
        world.cluster.wait_for("our jump to be first", lambda: "manx-forward" in _forwarding(world, node)[0])
        _configure(world, chainInsertMode="Append")
        world.cluster.wait_for("our jump to be last", lambda: "manx-forward" in _forwarding(world, node)[-1])
        world.apply({"x/p": DENY_BOTH})
        world.settle(denies="y/a>x/a:80 x/a>y/a:80", share=0.3)
        _configure(world, chainInsertMode="insert")
        world.cluster.wait_for("our jump to be first again", lambda: "manx-forward" in _forwarding(world, node)[0])
    finally:
        world.cluster.node_exec(node, "iptables", "-D", *foreign)


def test_allowed_packets_meet_others_rules_where_that_is_asked_for(world: World) -> None:
    node = world.cluster.nodes[0]
    foreign = ("FORWARD", "-p", "tcp", "--dport", "81", "-m", "comment", "--comment", "somebody's", "-j", "DROP")
    world.cluster.node_exec(node, "iptables", "-A", *foreign)
    try:
        world.apply({"gnp p": "{ingress: [{action: Allow}], egress: [{action: Allow}]}"})
        world.settle("y/a>x/a:81", share=0.2)
        _configure(world, iptablesFilterAllowAction="Return")
        probe = next(p for p in world.probes() if str(p) == "y/a>x/a:81/TCP")
        elsewhere = next(p for p in world.probes() if str(p) == "x/c>y/b:81/TCP")
        world.agree({probe: False, elsewhere: True, probe._replace(port=80): True})
    finally:
        world.cluster.node_exec(node, "iptables", "-D", *foreign)


def test_masquerading_uses_the_ports_that_it_is_given(world: World) -> None:
    _configure(world, natPortRange="40000:40099")
    server = (world.members[OUTSIDE].address, 80)
    end = pod_end(world.cluster, "a", "np-x")
    try:
        world.cluster.wait_for(
            "ports of the range",
            lambda: {int(end.get(server, "/clientip").rpartition(":")[2]) // 100 for _ in range(5)} == {400},
        )
    finally:
        end.close()


def test_rules_with_action_log_are_in_the_kernels_log_under_the_prefix(world: World) -> None:
    """Whether the kernel writes them down is the machine's affair (net.netfilter.nf_log_all_netns): we count."""
    _configure(world, logPrefix="mine")
    world.apply({"np x/p": "{selector: pod == 'a', ingress: [{action: Log, protocol: TCP}, {action: Allow}]}"})
    world.settle("y/a>x/a:80", share=0.1)
    before = _count(world, 'LOG .*--log-prefix "mine: "')
    asked = [
        p for p in world.probes() if p.target == "x/a" and p.protocol == "TCP" and p.version == 4 and p.source != "x/a"
    ]
    asked = [p for p in asked if p.source != world.cluster.nodes[0]]
    world.prober.round(asked, asked)
    assert _count(world, 'LOG .*--log-prefix "mine: "') - before == len(asked)


def _count(world: World, pattern: str) -> int:
    """Packets of the rules of the first node's IPv4 table that look like this."""
    lines = [
        line
        for line in _saved(world, world.cluster.nodes[0], "-c", "-t", "filter").splitlines()
        if re.search(pattern, line)
    ]
    assert lines, f"no rule is like {pattern}"
    return sum(int(line[1:].partition(":")[0]) for line in lines)


def test_every_rule_is_counted_and_an_update_elsewhere_resets_nothing(world: World) -> None:
    spec = (
        "{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80}]}, {ports: [{port: 81, protocol: UDP}]}]}"
    )
    world.apply({"x/p": spec})
    world.settle("y/a>x/a:80", "y/a>x/a:81", share=0.1)
    first, second, denial = (r"knp\.np-x\.p ingress\[0\]", r"knp\.np-x\.p ingress\[1\]", "tier default ingress denial")
    before = [_count(world, pattern) for pattern in (first, second, denial)]
    ways = [("TCP", 80), ("UDP", 81), ("TCP", 81), ("UDP", 80)]
    target = world.members["x/a"].address
    asked = [Probe("y/a", "x/a", target, *way) for way in ways]
    world.prober.round(asked, asked[:2])
    assert [_count(world, pattern) for pattern in (first, second)] == [before[0] + 1, before[1] + 1]
    assert _count(world, denial) >= before[2] + 2
    world.apply({"x/q": "{podSelector: {matchLabels: {pod: b}}, ingress: [{ports: [{port: 80}]}]}"})
    world.settle(share=0.05)
    assert _count(world, first) >= before[0] + 1


@pytest.mark.parametrize("by", ["policy", "configuration"])
def test_a_denied_packet_names_its_policy_and_rule(world: World, by: str) -> None:
    """Of Kubernetes' kind and of Calico's, by a rule and by the lack of one, on the way in and out."""
    deny_tcp = "{action: Deny, protocol: TCP}"
    note = "annotations: {manx.dev/log-denied: 'true'}, " if by == "policy" else ""
    if by == "configuration":
        _configure(world, annotations={"manx.dev/log-denied": "true"})
    world.apply(
        {
            "x/k": f"{{{note}podSelector: {{matchLabels: {{pod: a}}}}, ingress: [{{ports: [{{port: 80}}]}}]}}",
            "gnp g": f"{{{note}selector: pod == 'b', egress: [{{action: Allow, protocol: UDP}}, {deny_tcp}]}}",
            "tier sealed": "{order: 5}",
            "np z/n": f"{{{note}tier: sealed, selector: pod == 'c', types: [Ingress]}}",
        }
    )
    world.settle(denies="y/a>x/a:81 x/b>y/a:80 y/a>z/c:80", share=0.1)
    expected = {
        "y/a>x/a:81/TCP": "manx deny in default none of knp.np-x.k",
        "y/a>x/a:80/UDP/6": "manx deny in default none of knp.np-x.k",
        "x/b>y/a:80/TCP": "manx deny out default gnp.g[1]",
        "x/b>y/a:80/SCTP": "manx deny out default none of gnp.g",
        "y/a>z/c:80/TCP/6": "manx deny in sealed none of np.np-z.n",
    }
    asked = {str(probe): probe for probe in world.probes() if str(probe) in expected}
    for name, prefix in expected.items():
        where = name[:3] if " out " in prefix else asked[name].target
        with listening(world.prober.sources[_node_of(world, where)].namespace) as listener:
            world.prober.round([asked[name]], [])
            assert listener.hear().keys() == {prefix}, name


def _node_of(world: World, name: str) -> str:
    ns, _, short = name.partition("/")
    return str(world.cluster.kubectl.json("-n", f"np-{ns}", "get", "pod", short)["spec"]["nodeName"])


def test_established_connections_stay_when_a_policy_begins_to_deny_them(world: World) -> None:
    with talks(world, "y/a>x/a", "y/a>x/a/6", "y/b>x/a") as talking:
        world.apply({"np x/p": DENY_FROM_A})
        world.settle("y/b>x/a:80", "y/a>x/a:80", share=0.2)
        assert {name: talk.goes_on() for name, talk in talking.items()} == dict.fromkeys(talking, True)


def test_with_recheck_those_that_are_denied_end_and_no_others(world: World) -> None:
    _configure(world, annotations={"manx.dev/established-connections": "Recheck"})
    names = ("y/a>x/a", "y/a>x/a/6", "z/a>x/b", "y/b>x/a", "y/b>x/a/6", "y/a>z/a", "x/a>y/a", "node2>x/a")
    with talks(world, *names) as talking:
        world.apply({"np x/p": DENY_FROM_A})
        world.settle("y/b>x/a:80", "y/a>x/a:80", share=0.2)
        ended = ("y/a>x/a", "y/a>x/a/6", "z/a>x/b")
        world.cluster.wait_for(
            "denied connections to end", lambda: not any(talking[name].goes_on(0.5) for name in ended)
        )
        others = {name: talking[name].goes_on() for name in names if name not in ended}
        assert others == dict.fromkeys(others, True)
