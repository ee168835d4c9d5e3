"""ExaBGP's lines, as ExaBGP 5.0.15 was recorded to write them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manx_agent.bgp import messages
from manx_agent.bgp.messages import (
    EndOfRib,
    Event,
    Fence,
    Neighbors,
    NeighborState,
    OpenReceived,
    RibEntry,
    RoutesReceived,
    SessionId,
    StateChanged,
)

HEAD = '{ "exabgp": "5.0.0", "time": 1795319844.7, "host" : "vm", "pid" : 7524, "ppid" : 1, "counter": 1, '
NEIGHBOR = (
    '"neighbor": { "address": { "local": "198.51.100.1", "peer": "198.51.100.2" }, '
    '"asn": { "local": 64512, "peer": 65000 }, "router-id": "198.51.100.1" , '
)
SESSION = SessionId("198.51.100.2", 64512, 65000)
NEIGHBOR6 = (
    '"neighbor": { "address": { "local": "2001:db8:51::1", "peer": "2001:db8:51::9" }, '
    '"asn": { "local": 64512, "peer": 65009 }, "router-id": "198.51.100.1" , '
)
SESSION6 = SessionId("2001:db8:51::9", 64512, 65009)
RIB6 = (
    "neighbor 2001:db8:51::9 local-ip 2001:db8:51::1 local-as 64512 peer-as 65009 router-id 198.51.100.1 "
    "family-allowed in-open ipv6 unicast 2001:db8:203::/48 "
)
RIB = (
    "neighbor 198.51.100.2 local-ip 198.51.100.1 local-as 64512 peer-as 65000 router-id 198.51.100.1 "
    "family-allowed in-open ipv4 unicast 10.244.0.0/26 next-hop 198.51.100.2 "
)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (HEAD + '"type": "state", ' + NEIGHBOR + '"state": "up" } }', StateChanged(SESSION, "up")),
        (
            HEAD + '"type": "state", ' + NEIGHBOR + '"state": "down", "reason": "notification sent (4,0)" } }',
            StateChanged(SESSION, "down", "notification sent (4,0)"),
        ),
        (
            HEAD
            + '"type": "open", '
            + NEIGHBOR
            + '"direction": "receive", "open": { "version": 4, "asn": 65000, "hold_time": 9, '
            '"router_id": "198.51.100.2", "capabilities": '
            '{ "64": { "name": "graceful restart", "time": 20, "address-family-flags": '
            '{ "ipv4/unicast": [ "restart" ] }, "restart-flags": [ "forwarding" ]  } } } } }',
            OpenReceived(SESSION, 20),
        ),
        (
            HEAD
            + '"type": "open", '
            + NEIGHBOR
            + '"direction": "receive", "open": { "version": 4, "asn": 65000, "hold_time": 9, '
            '"router_id": "198.51.100.2", "capabilities": { } } } }',
            OpenReceived(SESSION, None),
        ),
        (
            HEAD
            + '"type": "update", '
            + NEIGHBOR
            + '"direction": "receive", "message": { "update": { "attribute": { "origin": "igp", "as-path": '
            '{ "0": { "element": "as-sequence", "value": [ 65000, 65001 ] } }, "med": 7, "local-preference": 200 }, '
            '"announce": { "ipv4 unicast": { "198.51.100.2": [ { "nlri": "10.244.0.0/26" }, '
            '{ "nlri": "10.244.0.64/26" } ] } }, "withdraw": { "ipv4 unicast": [ { "nlri": "10.9.0.0/16" } ] } } } } }',
            RoutesReceived(
                SESSION,
                dict.fromkeys(("10.244.0.0/26", "10.244.0.64/26"), ("198.51.100.2", 200, 0, 7, (65000, 65001))),
                ("10.9.0.0/16",),
            ),
        ),
        (
            HEAD
            + '"type": "update", '
            + NEIGHBOR
            + '"direction": "receive", "message": { "eor": { "afi" : "ipv4", "safi" : "unicast" } } } }',
            EndOfRib(SESSION),
        ),
        (
            RIB + "origin igp as-path ( 65000 65001 ) med 7 local-preference 200",
            RibEntry(SESSION, "10.244.0.0/26", ("198.51.100.2", 200, 0, 7, (65000, 65001))),
        ),
        (
            RIB + "origin igp as-path ( 65000 ) [ 65001 65002 ] med 7",
            RibEntry(SESSION, "10.244.0.0/26", ("198.51.100.2", 100, 0, 7, (65000, 65001, 65002))),
        ),
        (
            RIB + "origin igp as-path ( 65000 )",
            RibEntry(SESSION, "10.244.0.0/26", ("198.51.100.2", 100, 0, 0, (65000,))),
        ),
        (
            HEAD
            + '"type": "update", '
            + NEIGHBOR6
            + '"direction": "receive", "message": { "update": { "attribute": { "origin": "igp", "as-path": '
            '{"0": {"element": "as-sequence", "value": [65009]}} }, "announce": { "ipv6 unicast": '
            '{ "2001:db8:51::9": [ { "nlri": "2001:db8:203::/48" } ], '
            '"fe80::909e:b4ff:fed4:6b95": [ { "nlri": "2001:db8:203::/48" } ] } }, '
            '"withdraw": { "ipv6 unicast": [ { "nlri": "2001:db8:204::/48" } ] } } } } }',
            RoutesReceived(
                SESSION6, {"2001:db8:203::/48": ("2001:db8:51::9", 100, 0, 0, (65009,))}, ("2001:db8:204::/48",)
            ),
        ),
        (
            HEAD
            + '"type": "update", '
            + NEIGHBOR6
            + '"direction": "receive", "message": { "eor": { "afi" : "ipv6", "safi" : "unicast" } } } }',
            EndOfRib(SESSION6),
        ),
        (
            RIB6 + "next-hop fe80::50fa:56ff:fea2:afc9 origin igp as-path ( 65009 )",
            RibEntry(SESSION6, "2001:db8:203::/48", ("fe80::50fa:56ff:fea2:afc9", 100, 0, 0, (65009,))),
        ),
        (
            RIB + "origin incomplete local-preference 100",
            RibEntry(SESSION, "10.244.0.0/26", ("198.51.100.2", 100, 2, 0, ())),
        ),
        ("Peer            AS        up/down state       |     #sent     #recvd", Fence()),
        ("done", None),
        ("error", None),
        ("exabgp 5.0.15", None),
        ('{ "exabgp": "5.0.0", "type": "notification", "notification": "shutdown" }', None),
        ("{ not JSON", None),
        ("[ 1 ]", None),
        ("neighbor 198.51.100.2", None),
        (RIB.replace("ipv4 unicast", "ipv6 unicast"), None),
    ],
)
def test_lines(line: str, event: Event | None) -> None:
    assert messages.parse(line + "\n") == event


def test_neighbors() -> None:
    entry = {
        "duration": 31,
        "fsm": "ESTABLISHED",
        "local": {"as": 64512, "id": "198.51.100.1"},
        "peer": {"address": "198.51.100.2", "as": 65000, "capabilities": {"graceful-restart": True}},
    }
    assert messages.parse(json.dumps([entry])) == Neighbors((NeighborState(SESSION, "198.51.100.1", True, 31, True),))
    assert messages.parse("[]") == Neighbors(())


@given(st.text())
def test_no_line_is_an_exception(text: str) -> None:
    messages.parse(text)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)))
def test_no_json_is_an_exception(value: object) -> None:
    messages.parse(json.dumps(value))
    messages.parse(json.dumps({"type": "update", "neighbor": value}))


def test_what_several_sessions_are_told_is_told_in_one_line() -> None:
    other = messages.SessionId("198.51.100.3", 64512, 64512)
    assert list(messages.withdraw([SESSION, other], {"10.0.1.0/24", "10.0.0.0/24"})) == [
        "neighbor 198.51.100.2 local-as 64512 peer-as 65000 , neighbor 198.51.100.3 local-as 64512 peer-as 64512 "
        "withdraw attributes next-hop self nlri 10.0.0.0/24 10.0.1.0/24"
    ]


@given(st.integers(0, 3 * messages.SESSIONS_PER_LINE))
def test_every_session_is_named_once_however_many_there_are(count: int) -> None:
    sessions = [messages.SessionId(f"10.0.{n // 256}.{n % 256}", 64512, 64512) for n in range(count)]
    commands = list(messages.announce(sessions, {"10.1.0.0/24"}))
    named = [part for command in commands for part in command.split(" announce ")[0].split(" , ")]
    assert named == [session.selector for session in sessions]


@given(st.frozensets(st.integers(0, 999).map(lambda n: f"10.{n // 256}.{n % 256}.0/24")))
def test_commands_name_every_prefix_once_and_fit_exabgps_lines(prefixes: frozenset[str]) -> None:
    commands = list(messages.announce([SESSION], prefixes))
    named = [word for command in commands for word in command.split(" nlri ")[1].split()]
    assert sorted(named) == sorted(prefixes)
    assert all(len(command.split(" nlri ")[1].split()) <= messages.NLRI_PER_LINE for command in commands)
    assert all(
        command.startswith("neighbor 198.51.100.2 local-as 64512 peer-as 65000 announce attributes next-hop self")
        for command in commands
    )
