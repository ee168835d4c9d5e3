"""The routing table against a plain account of everything that happened, read anew at each question."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manx_agent.bgp.accept import Net, Policy, inside, parse_net
from manx_agent.bgp.messages import Attributes
from manx_agent.bgp.peers import Peer
from manx_agent.bgp.table import END_OF_RIB_SECONDS, PeerSession, Table

OWN = "192.0.2.1"
A, B, TOR = "192.0.2.2", "192.0.2.3", "192.0.2.9"
RESTART = 120.0
PEERS = {
    A: Peer(A, "a", "Mesh", 64512, 64512, blocks=("10.0.2.0/24",)),
    B: Peer(B, "b", "Mesh", 64512, 65003, blocks=("10.0.3.0/24", "10.0.4.0/24")),
    TOR: Peer(TOR, "tor", "BGPPeer", 64512, 65009),
}
OWN6, A6, TOR6 = "2001:db8::1", "2001:db8::2", "2001:db8::9"
PEERS6 = {
    A6: Peer(A6, "a", "Mesh", 64512, 64512, blocks=("10.0.2.0/24", "fd00::40/122")),
    TOR6: Peer(TOR6, "tor6", "BGPPeer", 64512, 65009),
}
POLICY = Policy(frozenset({OWN}), 64512, frozenset({"10.0.1.0/26"}), PEERS)
BOTH = Policy(frozenset({OWN, OWN6}), 64512, frozenset({"10.0.1.0/26", "fd00::/122"}), {**PEERS, **PEERS6})
UP = PeerSession(up=True, restart_time=120)
READY = PeerSession(up=True, end_of_rib=True, restart_time=120)
CLOSED = PeerSession(lost="closed", restart_time=120)
NOTIFIED = PeerSession(lost="notified", restart_time=120)


def via(next_hop: str, preference: int = 100, path: tuple[int, ...] = (), med: int = 0, origin: int = 0) -> Attributes:
    return next_hop, preference, origin, med, path


def filled(session: PeerSession = READY) -> Table:
    table = Table()
    table.session(A, session, 0, RESTART)
    table.update(A, {"10.0.2.0/26": via(A)}, ())
    return table


@pytest.mark.parametrize(
    ("after", "at", "kept"),
    [
        (CLOSED, 0, True),
        (CLOSED, 119, True),
        (CLOSED, 120, False),
        (NOTIFIED, 0, False),
        (PeerSession(lost="closed", restart_time=None), 0, False),
        (PeerSession(lost="closed", restart_time=5), 4, True),
        (PeerSession(lost="closed", restart_time=5), 5, False),
        (PeerSession(lost="closed", restart_time=4000), 120, False),
        (PeerSession(lost="closed", restart_time=-1), 119, True),
    ],
)
def test_how_long_a_lost_sessions_routes_stay(after: PeerSession, at: float, kept: bool) -> None:
    table = filled()
    table.session(A, after, 0, RESTART)
    table.expire(at)
    assert (table.select(POLICY).routes == {"10.0.2.0/26": A}) == kept


def test_end_of_rib_ends_what_was_not_announced_again() -> None:
    table = filled()
    table.update(A, {"10.0.2.64/26": via(A)}, ())
    table.session(A, CLOSED, 0, RESTART)
    table.session(A, UP, 10, RESTART)
    assert set(table.select(POLICY).routes) == {"10.0.2.0/26", "10.0.2.64/26"}
    table.update(A, {"10.0.2.64/26": via(A)}, ())
    table.session(A, READY, 11, RESTART)
    assert table.select(POLICY).routes == {"10.0.2.64/26": A}


def test_a_peer_that_comes_back_late_has_time_for_its_updates() -> None:
    table = filled()
    table.session(A, CLOSED, 0, RESTART)
    table.session(A, UP, 119, RESTART)
    table.expire(119 + END_OF_RIB_SECONDS - 1)
    assert table.select(POLICY).routes
    table.expire(119 + END_OF_RIB_SECONDS)
    assert not table.select(POLICY).routes


def test_a_session_that_never_came_up_again_changes_nothing_by_failing() -> None:
    table = filled()
    table.session(A, CLOSED, 0, RESTART)
    for second in range(1, 100):
        table.session(A, CLOSED, second, RESTART)
    assert table.next_deadline() == RESTART


def test_without_a_relay_everything_is_stale_until_a_snapshot_confirms_it() -> None:
    table = filled()
    table.update(TOR, {"203.0.113.0/24": via(TOR)}, ())
    table.suspend(0, RESTART)
    assert len(table.select(POLICY).routes) == 2
    table.update(A, {"10.0.2.0/26": via(A)}, ())
    table.session(A, READY, 1, RESTART)
    table.session(TOR, NOTIFIED, 1, RESTART)
    table.settle(PEERS)
    assert table.select(POLICY).routes == {"10.0.2.0/26": A}
    assert table.next_deadline() is None


def test_routes_found_in_the_kernel_stay_until_their_peer_has_spoken() -> None:
    table = Table()
    table.adopt({"10.0.2.0/26": A, "10.0.3.0/26": B, "10.9.0.0/16": "192.0.2.250"}, PEERS, RESTART)
    assert len(table.select(POLICY).routes) == 3
    table.session(A, READY, 1, RESTART)
    table.settle(PEERS)
    assert table.select(POLICY).routes == {"10.0.3.0/26": B, "10.9.0.0/16": "192.0.2.250"}
    for peer in (B, TOR):
        table.session(peer, READY, 1, RESTART)
    table.settle(PEERS)
    assert table.select(POLICY).routes == {}


def test_a_peer_that_leaves_and_returns_before_its_session_ends() -> None:
    table = filled()
    table.retain([B])
    assert table.select(POLICY).routes == {"10.0.2.0/26": A}
    without = Policy(frozenset({OWN}), 64512, frozenset(), {B: PEERS[B]})
    assert table.select(without).routes == {}
    table.session(A, CLOSED, 1, RESTART)
    table.retain([B])
    assert table.count(A) == 0


@pytest.mark.parametrize(
    ("peer", "prefix", "attributes", "why"),
    [
        (A, "10.0.2.0/24", via(A), ""),
        (A, "10.0.2.128/26", via(A), ""),
        (A, "10.0.2.0/23", via(A), "not in a block of that node's MeshNode"),
        (A, "10.0.3.0/26", via(A), "not in a block of that node's MeshNode"),
        (B, "10.0.4.1/32", via(B), ""),
        (TOR, "0.0.0.0/0", via(TOR), ""),
        (TOR, "10.0.3.0/26", via(TOR), ""),
        (TOR, "10.0.1.0/26", via(TOR), "inside this node's own blocks"),
        (TOR, "10.0.1.7/32", via(TOR), "inside this node's own blocks"),
        (TOR, "10.0.0.0/16", via(TOR), ""),
        (TOR, "127.0.0.0/8", via(TOR), "no routable prefix"),
        (TOR, "224.1.0.0/16", via(TOR), "no routable prefix"),
        (TOR, "2001:db8::/32", via(TOR), "next hop 192.0.2.9 is of another IP version"),
        (TOR6, "203.0.113.0/24", via(TOR6), "next hop 2001:db8::9 is of another IP version"),
        (A6, "fd00::40/122", via(A6), ""),
        (A6, "fd00::41/128", via(A6), ""),
        (A6, "fd00::/121", via(A6), "not in a block of that node's MeshNode"),
        (A6, "fd00::80/122", via(A6), "not in a block of that node's MeshNode"),
        (A6, "::a:0:240/122", via(A6), "not in a block of that node's MeshNode"),
        (TOR6, "::/0", via(TOR6), ""),
        (TOR6, "fd00::/122", via(TOR6), "inside this node's own blocks"),
        (TOR6, "fe80::/64", via(TOR6), "no routable prefix"),
        (TOR6, "ff02::/16", via(TOR6), "no routable prefix"),
        (TOR6, "::1/128", via(TOR6), "no routable prefix"),
        (TOR6, "::ffff:10.0.0.0/104", via(TOR6), "no routable prefix"),
        (TOR6, "2001:db8:1::/48", via(OWN6), "next hop is this node"),
        (TOR6, "2001:db8:1::/48", via("::"), "next hop :: is no unicast address"),
        (TOR6, "2001:db8:1::/48", via("ff02::5"), "next hop ff02::5 is no unicast address"),
        (TOR6, "2001:db8:1::/48", via("fe80::5"), "next hop fe80::5 is no unicast address"),
        (TOR, "203.0.113.0/24", via(OWN), "next hop is this node"),
        (TOR, "203.0.113.0/24", via("0.0.0.0"), "next hop 0.0.0.0 is no unicast address"),
        (TOR, "203.0.113.0/24", via("224.0.0.5"), "next hop 224.0.0.5 is no unicast address"),
        (TOR, "203.0.113.0/24", via(TOR, path=(65009, 64512)), "own AS 64512 in AS_PATH"),
        ("192.0.2.200", "203.0.113.0/24", via(TOR), "not a peer any more"),
    ],
)
def test_what_is_accepted(peer: str, prefix: str, attributes: Attributes, why: str) -> None:
    assert BOTH.refusal(peer, prefix, attributes) == why


def test_the_link_local_next_hop_beside_a_global_one_counts_for_nothing() -> None:
    """After the relay was replaced, ExaBGP knows only that one (it keeps the last of the two)."""
    table = Table()
    table.session(TOR6, READY, 0, RESTART)
    table.update(TOR6, {"2001:db8:1::/48": via("2001:db8::7")}, ())
    table.update(TOR6, {"2001:db8:1::/48": via("fe80::7"), "2001:db8:2::/48": via("fe80::7")}, ())
    assert table.select(BOTH).routes == {"2001:db8:1::/48": "2001:db8::7", "2001:db8:2::/48": TOR6}


def test_a_link_local_gateway_found_in_the_kernel_stays_for_now() -> None:
    table = Table()
    table.adopt({"fd00::40/122": "fe80::1%2"}, PEERS6, RESTART)
    assert table.select(BOTH).routes == {"fd00::40/122": "fe80::1%2"}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (via(TOR, preference=200, path=(1, 2, 3)), via(TOR)),
        (via(TOR, path=(1,)), via(TOR, path=(1, 2))),
        (via(TOR, origin=0), via(TOR, origin=2)),
        (via(TOR, med=1), via(TOR, med=2)),
    ],
)
def test_the_order_of_the_decision_process(better: Attributes, worse: Attributes) -> None:
    assert POLICY.rank(TOR, better) < POLICY.rank(TOR, worse)


def test_external_before_internal_then_the_lower_address() -> None:
    assert POLICY.rank(TOR, via(TOR)) < POLICY.rank(A, via(A))
    assert POLICY.rank(B, via(B)) < POLICY.rank(TOR, via(TOR))


def cut(address: int, length: int, bits: int) -> Net:
    return address >> (bits - length) << (bits - length), length, bits


# --- the reference -------------------------------------------------------------------------------------------------


@dataclass
class Happened:
    """One thing: kind is "announce", "withdraw", "up", "ready", "closed" or "notified"."""

    at: int
    kind: str
    peer: str
    prefix: str
    attributes: Attributes


def counts(history: list[Happened], peer: str, prefix: str, now: int) -> Attributes | None:
    """The route of a peer for a prefix that counts now, from its whole history: slowly, but plainly."""
    route: Attributes | None = None
    deadline: float | None = None
    up = False
    for event in (event for event in history if event.peer == peer):
        if deadline is not None and event.at >= deadline:
            route = deadline = None
        if event.kind == "announce" and event.prefix == prefix:
            route, deadline = event.attributes, None
        elif event.kind == "withdraw" and event.prefix == prefix:
            route = deadline = None
        elif event.kind in ("up", "ready"):
            if not up and deadline is not None:
                deadline = max(deadline, event.at + END_OF_RIB_SECONDS)
            if event.kind == "ready" and deadline is not None:
                route = deadline = None
            up = True
        elif event.kind in ("closed", "notified"):
            if event.kind == "notified":
                route = None if up or deadline is not None else route
            elif up and route is not None and deadline is None:
                deadline = event.at + RESTART
            if route is None:
                deadline = None
            up = False
    return None if deadline is not None and now >= deadline else route


SESSIONS = {"up": UP, "ready": READY, "closed": CLOSED, "notified": NOTIFIED}
prefixes = st.sampled_from(["10.0.2.0/26", "10.0.3.0/26", "10.0.4.0/24", "203.0.113.0/24", "10.0.1.0/26"])
attributes = st.builds(
    via,
    st.sampled_from([A, B, TOR, OWN]),
    st.sampled_from([100, 200]),
    st.sampled_from([(), (65003,), (65009, 64512), (65009, 65010)]),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Happened]:
    """Announcements and withdrawals only while a session is up, as ExaBGP sees to."""
    clock = 0
    up: set[str] = set()
    history = []
    for _ in range(draw(st.integers(0, 25))):
        clock += draw(st.sampled_from([0, 1, 10, 50, 119, 121]))
        peer = draw(st.sampled_from([A, B, TOR]))
        kinds = ["announce", "announce", "withdraw", "ready", "closed", "notified"] if peer in up else ["up"]
        kind = draw(st.sampled_from(kinds))
        up = up | {peer} if kind == "up" else up - {peer} if kind in ("closed", "notified") else up
        history.append(Happened(clock, kind, peer, draw(prefixes), draw(attributes)))
    return history


@settings(max_examples=300)
@given(histories(), st.sampled_from([0, 1, 29, 31, 119, 121]))
def test_selection_equals_the_plain_account(history: list[Happened], later: int) -> None:
    table = Table()
    for event in history:
        table.expire(event.at)
        if event.kind in SESSIONS:
            table.session(event.peer, SESSIONS[event.kind], event.at, RESTART)
        elif event.kind == "announce":
            table.update(event.peer, {event.prefix: event.attributes}, ())
        else:
            table.update(event.peer, {}, (event.prefix,))
    now = (history[-1].at if history else 0) + later
    table.expire(now)
    assert table.select(POLICY).routes == plain_selection(history, now)


def plain_selection(history: list[Happened], now: int) -> dict[str, str]:
    best: dict[str, str] = {}
    for prefix in sorted({event.prefix for event in history}):
        routes = [(peer, counts(history, peer, prefix, now)) for peer in (A, B, TOR)]
        good = [(p, route) for p, route in routes if route is not None and not POLICY.refusal(p, prefix, route)]
        if good:
            best[prefix] = min(good, key=lambda pair: POLICY.rank(*pair))[1][0]
    return best


nets = st.sampled_from([32, 128]).flatmap(
    lambda bits: st.builds(cut, st.integers(0, 2**bits - 1), st.integers(0, bits), st.just(bits))
)


@given(nets, nets)
def test_inside_is_subset(inner: Net, outer: Net) -> None:
    spans = [(net[0], net[0] + 2 ** (net[2] - net[1])) for net in (inner, outer)]
    contained = spans[1][0] <= spans[0][0] and spans[0][1] <= spans[1][1]
    assert inside(inner, outer) == (inner[2] == outer[2] and contained)


def test_prefixes_with_host_bits_are_cut() -> None:
    assert parse_net("10.0.0.5/24") == parse_net("10.0.0.0/24") == (10 << 24, 24, 32)
    assert parse_net("fd00::5/120") == parse_net("fd00::/120") == (0xFD << 120, 120, 128)
