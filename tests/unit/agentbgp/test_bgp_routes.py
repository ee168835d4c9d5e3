"""The kernel driver's pure part: which writes lead from one set of routes to another."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from manx_agent.drivers.netlink_codec import RTMSG, attributes, packed, parsed
from manx_agent.drivers.route_messages import BLACKHOLE, Change, own_route
from manx_agent.drivers.routes import plan

routes = st.dictionaries(
    st.sampled_from(["10.0.0.0/26", "10.0.0.64/26", "0.0.0.0/0"]),
    st.sampled_from(["192.0.2.2", "192.0.2.3", BLACKHOLE]),
)


def kernel(have: dict[str, str], changes: list[Change]) -> dict[str, str]:
    """As Linux does it: add refuses what is there, replace keeps the kind, del takes what is named."""
    now = dict(have)
    for change in changes:
        match change.verb:
            case "add":
                assert change.prefix not in now
                now[change.prefix] = change.gateway
            case "replace":
                assert BLACKHOLE not in (now[change.prefix], change.gateway)
                now[change.prefix] = change.gateway
            case "del":
                assert now.pop(change.prefix) == change.gateway
    return now


@given(routes, routes)
def test_the_plan_leads_there_and_touches_nothing_else(have: dict[str, str], want: dict[str, str]) -> None:
    changes = plan(have, want)
    assert kernel(have, changes) == want
    assert {change.prefix for change in changes} == {p for p in have | want if have.get(p) != want.get(p)}


def test_removals_come_last() -> None:
    assert [change.verb for change in plan({"a": "1", "c": "1"}, {"b": "1", "c": "2"})] == ["add", "replace", "del"]


def asked(change: Change) -> tuple[tuple[int, ...], dict[int, bytes]]:
    """The header and the attributes of its message."""
    body = change.message().body
    return RTMSG.unpack_from(body), parsed(body, RTMSG.size)


def test_lines_and_messages_say_the_same() -> None:
    route = Change("replace", "10.0.0.0/26", "192.0.2.2")
    assert route.batch_line() == "route replace 10.0.0.0/26 via 192.0.2.2 proto 77 metric 77"
    address, metric = bytes((10, 0, 0, 0)), struct.pack("=I", 77)
    assert asked(route) == ((2, 26, 0, 0, 254, 77, 0, 1, 0), {1: address, 6: metric, 5: bytes((192, 0, 2, 2))})
    hole = Change("del", "10.0.0.0/26", BLACKHOLE)
    assert hole.batch_line() == "route del blackhole 10.0.0.0/26 proto 77 metric 77"
    assert asked(hole) == ((2, 26, 0, 0, 254, 77, 255, 6, 0), {1: address, 6: metric})


def test_ipv6_has_a_metric_above_everybody_elses_and_link_local_gateways_their_interface() -> None:
    route = Change("add", "fd00::/122", "2001:db8::2")
    common = {1: packed("fd00::"), 6: struct.pack("=I", 1077)}
    assert route.batch_line() == "route add fd00::/122 via 2001:db8::2 proto 77 metric 1077"
    assert asked(route) == ((10, 122, 0, 0, 254, 77, 0, 1, 0), {**common, 5: packed("2001:db8::2")})
    local = Change("add", "fd00::/122", "fe80::1%3")
    assert local.batch_line() == "route add fd00::/122 via fe80::1 dev if3 proto 77 metric 1077"
    assert asked(local)[1] == {**common, 5: packed("fe80::1"), 4: struct.pack("=I", 3)}


@given(routes)
def test_what_is_written_is_read_as_ours(wanted: dict[str, str]) -> None:
    written = [Change("add", prefix, gateway).message().body for prefix, gateway in wanted.items()]
    assert dict(filter(None, map(own_route, written))) == wanted


def test_attributes_cut_short_are_left_out() -> None:
    body = attributes((1, b"abcd"), (2, 7))
    assert [parsed(body[:length], 0) for length in (0, 3, 8, 16)] == [{}, {}, {1: b"abcd"}, {1: b"abcd", 2: body[12:]}]
