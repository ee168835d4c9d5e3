"""The kernel driver's pure part: which writes lead from one set of routes to another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from manx_agent.drivers.routes import BLACKHOLE, Change, plan

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


def test_lines_and_requests_say_the_same() -> None:
    route = Change("replace", "10.0.0.0/26", "192.0.2.2")
    assert route.batch_line() == "route replace 10.0.0.0/26 via 192.0.2.2 proto 77 metric 77"
    assert route.request() == {"dst": "10.0.0.0/26", "proto": 77, "priority": 77, "gateway": "192.0.2.2"}
    hole = Change("del", "10.0.0.0/26", BLACKHOLE)
    assert hole.batch_line() == "route del blackhole 10.0.0.0/26 proto 77 metric 77"
    assert hole.request() == {"dst": "10.0.0.0/26", "proto": 77, "priority": 77, "type": "blackhole"}
