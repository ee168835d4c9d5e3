"""The node's report: each state gives its sentence, and transition times move only when a status does."""

from __future__ import annotations

import pytest

from manx_agent.model import BgpOutcome, PolicyOutcome
from manx_agent.policy_loop import PolicyStatus
from manx_agent.probes import response
from manx_agent.report import Inputs, node_report, timestamp
from manx_agent.state.share import Share
from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.v1alpha1 import Condition, NodeReportStatus, NodeState, NodeStateSpec, PeerStatus


def share(present: bool = True, ipv4: str = "192.0.2.1") -> Share:
    made = Share("n1")
    made.set_node_state(NodeState(metadata=ObjectMeta(name="n1"), spec=NodeStateSpec(epoch=1, ipv4=ipv4)))
    if not present:
        made.set_node_state(None)
    return made


def peer(state: str) -> PeerStatus:
    return PeerStatus(name="n2", address="192.0.2.2", as_number=64512, local_as_number=64512, state=state)


GOOD = PolicyStatus(outcome=PolicyOutcome("nft"))


def conditions(report: NodeReportStatus) -> dict[str, Condition]:
    return {condition.type: condition for condition in report.conditions}


CASES = {
    "all well": (Inputs("1", 0, share(), GOOD, BgpOutcome(peers=(peer("Established"),))), {}),
    "nothing applied yet": (Inputs("1", 0, share(), PolicyStatus(), BgpOutcome()), {"Policy": "Starting"}),
    "no node state": (Inputs("1", 0, share(present=False), GOOD, BgpOutcome()), {"Policy": "NoNodeState"}),
    "apply failed": (
        Inputs("1", 0, share(), PolicyStatus(outcome=PolicyOutcome("nft"), error="line 3"), BgpOutcome()),
        {"Policy": "ApplyFailed"},
    ),
    "missing": (
        Inputs("1", 0, share(), PolicyStatus(outcome=PolicyOutcome("nft", missing=frozenset({"g"}))), BgpOutcome()),
        {"Policy": "Missing"},
    ),
    "session down": (
        Inputs("1", 0, share(), GOOD, BgpOutcome(peers=(peer("Established"), peer("Active")))),
        {"BGP": "NotEstablished"},
    ),
    "no address": (Inputs("1", 0, share(ipv4=""), GOOD, BgpOutcome()), {"BGP": "NoAddress"}),
    "routes": (Inputs("1", 0, share(), GOOD, BgpOutcome(errors=("no route",))), {"Routes": "ApplyFailed"}),
    "no addresses": (Inputs("1", 0, share(), GOOD, BgpOutcome(), ipam_problem="full"), {"IPAM": "NoAddresses"}),
    "bad object": (Inputs("1", 0, share(), GOOD, BgpOutcome(), bad_objects=("x",)), {"Policy": "BadObject"}),
}


@pytest.mark.parametrize("name", CASES)
def test_each_state_has_its_condition(name: str) -> None:
    inputs, wrong = CASES[name]
    found = conditions(node_report(inputs, NodeReportStatus(), 0))
    assert {kind: c.reason for kind, c in found.items() if c.status != "True" and kind != "Ready"} == wrong
    assert found["Ready"].status == ("False" if wrong else "True")


def test_transition_times_move_only_with_the_status() -> None:
    inputs = CASES["all well"][0]
    first = node_report(inputs, NodeReportStatus(), 1000)
    again = node_report(inputs, first, 2000)
    assert again == first
    worse = node_report(CASES["session down"][0], first, 3000)
    assert conditions(worse)["BGP"].last_transition_time == timestamp(3000)
    assert conditions(worse)["Policy"].last_transition_time == timestamp(1000)
    assert (worse.peers_summary, first.peers_summary) == ("1/2", "1/1")


@pytest.mark.parametrize(
    ("line", "problem", "status"),
    [
        (b"GET /livez HTTP/1.1\r\n", "starting", b"200"),
        (b"GET /readyz HTTP/1.1\r\n", "", b"200"),
        (b"GET /readyz HTTP/1.1\r\n", "policy was not applied yet", b"503"),
        (b"GET / HTTP/1.1\r\n", "", b"404"),
        (b"POST /livez HTTP/1.1\r\n", "", b"404"),
        (b"\r\n", "", b"404"),
    ],
)
def test_probes(line: bytes, problem: str, status: bytes) -> None:
    answer = response(line, lambda: problem)
    assert answer.split()[1] == status
    assert problem.encode() in answer or status != b"503"
