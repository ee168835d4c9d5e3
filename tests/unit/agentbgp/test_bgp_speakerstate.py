"""The relay's decisions, against an ExaBGP that remembers what it was told."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from manx_agent.bgp.files import MARKER_ADDRESS, Desired
from manx_agent.bgp.messages import (
    EndOfRib,
    Fence,
    Neighbors,
    NeighborState,
    OpenReceived,
    RibEntry,
    RoutesReceived,
    SessionId,
    StateChanged,
)
from manx_agent.bgp.speakerstate import NOT_LOADED, RELOADS_UNTIL_TROUBLE, SpeakerState

A, B = "192.0.2.2", "192.0.2.3"
C = "2001:db8::2"
BLOCKS = ["fd00::40/122", "10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26"]
ROUTE = (A, 100, 0, 0, ())


def sid(peer: str, as_number: int = 64512) -> SessionId:
    return SessionId(peer, as_number, as_number)


def marker(router_id: str) -> NeighborState:
    return NeighborState(SessionId(MARKER_ADDRESS, 64512, 64512), router_id, False, 0, False)


def ready(desired: Desired, *found: NeighborState) -> SpeakerState:
    """A relay that has learned what there was."""
    state = SpeakerState()
    state.want(desired)
    state.take_commands()
    state.handle(Neighbors((marker(desired.marker), *found)), 0)
    state.handle(Fence(), 0)
    return state


@dataclass
class Peers:
    """What each peer holds of us, by the commands that ExaBGP got; only an established session may be commanded."""

    up: set[SessionId] = field(default_factory=set)
    holds: dict[str, set[str]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def take(self, commands: Iterable[str]) -> None:
        for command in commands:
            found = re.fullmatch(r"(neighbor .*) (announce|withdraw) (.*)", command)
            if found is None:
                assert command in ("reload", "show neighbor json"), command
                continue
            for peer, local_as, peer_as in re.findall(r"neighbor (\S+) local-as (\d+) peer-as (\d+)", found[1]):
                session = SessionId(peer, int(local_as), int(peer_as))
                assert session in self.up, "a command for a session that is not established"
                self._tell(session.peer, found[2], found[3])

    def _tell(self, peer: str, verb: str, rest: str) -> None:
        if rest.startswith("eor "):
            assert rest == f"eor ipv{6 if peer == C else 4} unicast"
            self.ended.add(peer)
            return
        prefixes = set(rest.split(" nlri ")[1].split())
        assert all((":" in prefix) == (peer == C) for prefix in prefixes), "a prefix of another family"
        held = self.holds.setdefault(peer, set())
        self.holds[peer] = held | prefixes if verb == "announce" else held - prefixes


class Simulation:
    """A relay between its agent's wishes and ExaBGP's sessions."""

    def __init__(self) -> None:
        self.desired = Desired("1.1.1.1", frozenset({A, B, C}), frozenset(BLOCKS[:2]))
        self.state = ready(self.desired)
        self.peers = Peers()

    def want(self, **changed: Any) -> None:
        self.desired = replace(self.desired, **changed)
        self.state.want(self.desired)
        self.peers.take(self.state.take_commands())

    def up(self, session: SessionId) -> None:
        self.peers.up = {other for other in self.peers.up if other.peer != session.peer} | {session}
        self.peers.holds[session.peer] = set()
        self.peers.ended.discard(session.peer)
        self.state.handle(StateChanged(session, "up"), 1)
        self.peers.take(self.state.take_commands())

    def down(self, session: SessionId) -> None:
        self.peers.up.discard(session)
        self.state.handle(StateChanged(session, "down", "closing connection"), 2)
        self.peers.take(self.state.take_commands())

    def replace_relay(self) -> None:
        leftover = self.state.everything_announced()
        self.state = SpeakerState(leftover)
        assert self.state.take_commands() == [
            "show neighbor json",
            "show adj-rib in extensive",
            "show neighbor summary",
        ]
        self.state.want(self.desired)
        found = tuple(NeighborState(s, "192.0.2.1", True, 60, True) for s in sorted(self.peers.up, key=str))
        self.state.handle(Neighbors((marker("1.1.1.1"), *found)), 3)
        self.state.handle(Fence(), 3)
        self.peers.take(self.state.take_commands())


sessions = st.builds(sid, st.sampled_from([A, B, C]), st.sampled_from([64512, 63400]))
steps = st.one_of(
    st.tuples(st.just("announce"), st.frozensets(st.sampled_from(BLOCKS))),
    st.tuples(st.just("peers"), st.frozensets(st.sampled_from([A, B, C]))),
    st.tuples(st.just("up"), sessions),
    st.tuples(st.just("down"), sessions),
    st.tuples(st.just("replace"), st.none()),
)


@given(st.lists(steps, max_size=30))
def test_each_established_peer_holds_what_is_wanted_whatever_happened(script: list[tuple[str, Any]]) -> None:
    simulation = Simulation()
    for what, given_value in script:
        match what:
            case "announce":
                simulation.want(announce=given_value)
            case "peers":
                simulation.want(peers=given_value)
            case "up" if not any(up.peer == given_value.peer for up in simulation.peers.up):
                simulation.up(given_value)
            case "down" if given_value in simulation.peers.up:
                simulation.down(given_value)
            case "replace":
                simulation.replace_relay()
    for session in simulation.peers.up:
        family = {prefix for prefix in simulation.desired.announce if (":" in prefix) == (session.peer == C)}
        wanted = family if session.peer in simulation.desired.peers else set()
        assert simulation.peers.holds[session.peer] == wanted
        assert session.peer in simulation.peers.ended or session.peer not in simulation.desired.peers


def test_end_of_rib_comes_last() -> None:
    state = ready(Desired("1.1.1.1", frozenset({A}), frozenset(BLOCKS)))
    state.handle(StateChanged(sid(A), "up"), 1)
    commands = state.take_commands()
    assert "announce attributes" in commands[0]
    assert commands[-1].endswith("announce eor ipv4 unicast")


def test_notes_follow_a_session() -> None:
    state = ready(Desired("1.1.1.1", frozenset({A}), frozenset()))
    state.take_notes()
    state.handle(StateChanged(sid(A), "connected"), 1)
    state.handle(OpenReceived(sid(A), 20), 1)
    state.handle(StateChanged(sid(A), "up"), 2)
    state.handle(RoutesReceived(sid(A), {"10.0.2.0/26": ROUTE}, ()), 3)
    state.handle(EndOfRib(sid(A)), 3)
    state.handle(StateChanged(sid(A), "down", "notification sent (4,0)"), 4)
    notes = state.take_notes()
    assert [note["type"] for note in notes] == ["session", "session", "routes", "session", "session"]
    assert [note.get("state") for note in notes] == ["OpenSent", "Established", None, "Established", "Connect"]
    assert (notes[-1]["lost"], notes[-1]["reason"]) == ("notified", "notification sent (4,0)")
    assert (notes[3]["end_of_rib"], notes[3]["restart_time"]) == (True, 20)


def test_a_session_that_fails_before_it_is_up_is_not_lost() -> None:
    state = ready(Desired("1.1.1.1", frozenset({A}), frozenset()))
    state.handle(StateChanged(sid(A), "up"), 1)
    state.handle(StateChanged(sid(A), "down", "closing connection"), 2)
    state.handle(StateChanged(sid(A), "connected"), 3)
    state.handle(StateChanged(sid(A), "down", "notification sent (2,2)"), 3)
    session = state.sessions[A]
    assert (session.lost, session.reason) == ("closed", "notification sent (2,2)")


def test_the_end_of_a_former_as_number_does_not_end_the_session_of_the_new() -> None:
    state = ready(Desired("1.1.1.1", frozenset({A}), frozenset(BLOCKS)))
    state.handle(StateChanged(sid(A, 63400), "up"), 1)
    state.handle(StateChanged(sid(A, 64512), "down", "stop, message [removed]"), 2)
    assert state.sessions[A].up
    assert state.sessions[A].local_as == 63400


def test_what_happens_while_a_new_relay_learns_wins_over_what_it_is_told() -> None:
    state = SpeakerState()
    state.want(Desired("1.1.1.1", frozenset({A}), frozenset()))
    state.handle(Neighbors((marker("1.1.1.1"), NeighborState(sid(A), "192.0.2.1", True, 60, True))), 0)
    state.handle(RoutesReceived(sid(A), {}, ("10.0.2.0/26",)), 1)
    state.handle(RibEntry(sid(A), "10.0.2.0/26", ROUTE), 1)
    state.handle(RibEntry(sid(A), "10.0.2.64/26", ROUTE), 1)
    assert state.take_notes() == []
    state.handle(Fence(), 1)
    assert state.received == {A: {"10.0.2.64/26": ROUTE}}
    kinds = [note["type"] for note in state.take_notes()]
    assert kinds == ["begin", "routes", "session", "trouble", "end"]
    assert state.sessions[A].end_of_rib


def test_a_reload_is_believed_on_the_second_answer_only() -> None:
    state = ready(Desired("1.1.1.1", frozenset(), frozenset()))
    assert not state.reload_due
    state.want(Desired("2.2.2.2", frozenset(), frozenset()))
    assert state.reload_due
    state.reload()
    assert state.take_commands() == ["reload", "show neighbor json"]
    assert not state.reload_due
    state.want(Desired("1.1.1.1", frozenset(), frozenset()))
    state.handle(Neighbors((marker("1.1.1.1"),)), 1)
    assert state.take_commands() == ["show neighbor json"]
    state.handle(Neighbors((marker("2.2.2.2"),)), 1)
    assert state.reload_due


def test_reloads_that_do_not_work_become_trouble_and_end_it() -> None:
    state = ready(Desired("1.1.1.1", frozenset(), frozenset()))
    state.want(Desired("2.2.2.2", frozenset(), frozenset()))
    state.take_notes()
    for _ in range(RELOADS_UNTIL_TROUBLE):
        state.reload()
        for _ in range(2):
            state.handle(Neighbors((marker("1.1.1.1"),)), 1)
    assert state.take_notes() == [{"type": "trouble", "text": NOT_LOADED}]
    state.reload()
    for _ in range(2):
        state.handle(Neighbors((marker("2.2.2.2"),)), 1)
    assert state.take_notes() == [{"type": "trouble", "text": ""}]


def test_an_exabgp_without_any_neighbor_has_given_up() -> None:
    state = ready(Desired("1.1.1.1", frozenset({A}), frozenset()))
    assert not state.abandoned
    state.handle(Neighbors(()), 1)
    assert state.abandoned


def test_peers_that_are_configured_no_more_are_forgotten() -> None:
    state = ready(Desired("1.1.1.1", frozenset({A}), frozenset()))
    state.handle(StateChanged(sid(A), "connected"), 1)
    state.take_notes()
    state.handle(Neighbors((marker("1.1.1.1"),)), 1)
    assert state.take_notes() == [{"type": "gone", "peer": A}]
    assert state.sessions == {}
