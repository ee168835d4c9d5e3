"""Counting rules: on paper, in a simulated kernel, and from what a kernel's counters say matched."""

from __future__ import annotations

from bench.kernel import calico, load, walked


def test_rules_gone_through_are_told_from_those_that_matched() -> None:
    rules = {
        ("filter", "FORWARD"): ["-i x -j ACCEPT", "-j a", "-j DROP"],
        ("filter", "a"): ["-p udp -j DROP", "-m mark -j b", "-g c", "-j DROP"],
        ("filter", "b"): ["-p tcp -j RETURN", "-j DROP"],
        ("filter", "c"): ["-p udp -j DROP", "-p tcp -j ACCEPT", "-j DROP"],
    }
    met = {("filter", chain, at) for chain, at in (("FORWARD", 1), ("a", 1), ("b", 0), ("a", 2), ("c", 1))}
    assert walked._through(rules, met, "filter", "FORWARD") == (2 + 3 + 1 + 2, True)
    assert walked._through(rules, {("filter", "FORWARD", 1)}, "filter", "FORWARD") == (3 + 4, False)


def test_calico_on_paper() -> None:
    interfaces = ["cali1a", "cali1b", "cali2a", "cali3a", "cali3b", "cali3c"]
    assert [calico.dispatched(interfaces, one) for one in interfaces] == [2, 3, 2, 4, 5, 6]
    assert calico.policies(each=2, rules=3) == 1 + 2 * 2 + 2 * 3 * 2
    to_a_pod = calico.walked(interfaces, "", "cali2a", each=1, rules=1, egress=False)
    assert to_a_pod == 7 + 3 + 2 + 3 + 2 + 3 + (1 + 2 + 2)
    between = calico.walked(interfaces, "cali1a", "cali2a", each=1, rules=1, egress=True)
    assert between == to_a_pod + 2 + 5 + (1 + 2 + 2)


def test_a_packet_that_is_let_through_meets_every_rule_of_its_pod() -> None:
    node = load.Node(pods=20, policies=40, kinds=20, egress=True)
    kernel = walked.simulated(node)
    least = 2 * (node.each + node.each * 2)
    assert all(walked.count(kernel, pod, (pod + 1) % 20) > least for pod in range(20))
