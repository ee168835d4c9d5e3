"""What holds a burst's writes to its change: the counting of differences, and of writes in a second."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scale.pulse import most_beyond, most_in_a_second
from bench.scale.snapshots import Difference, difference, elements
from manx_core.api.lines import text_of
from manx_kube.resources import ADDRESS_GROUPS, NODE_STATES, POLICY_CLASSES, POLICY_PROGRAMS
from manx_operator.limiter import TokenBucket


def chunk(*members: str, labels: tuple[str, ...] = (), epoch: int = 1) -> frozenset[str]:
    spec = {"epoch": epoch, "group": "g", "chunk": 0, "members": text_of(members)}
    return elements(ADDRESS_GROUPS, {"metadata": {"labels": dict.fromkeys(labels, "")}, "spec": spec})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": chunk("1", "2")}, {"a": chunk("2", "1", epoch=2)}, Difference(0, 0)),
        ({"a": chunk("1", "2")}, {"a": chunk("2", "3")}, Difference(1, 2)),
        ({"a": chunk("1"), "b": chunk("1")}, {"a": chunk("1", labels=("x", "y")), "b": chunk()}, Difference(2, 3)),
        ({}, {"a": chunk("1")}, Difference(1, 2)),
        ({"a": chunk("1", labels=("x",))}, {}, Difference(1, 3)),
    ],
)
def test_a_difference_counts_objects_and_what_of_them_is_another(
    before: dict[str, Any], after: dict[str, Any], expected: Difference
) -> None:
    assert difference({("k", k): v for k, v in before.items()}, {("k", k): v for k, v in after.items()}) == expected


def test_endpoints_count_each_and_a_program_as_one() -> None:
    one, two = ({"metadata": {}, "spec": {"pods": text_of(uids), "mtu": mtu}} for uids, mtu in (("ab", 1), ("abc", 2)))
    found = difference({("n", "x"): elements(NODE_STATES, one)}, {("n", "x"): elements(NODE_STATES, two)})
    assert found == Difference(1, 3)  # the rest of the spec goes, comes, and an endpoint comes
    rules = [{"metadata": {}, "spec": {"ingress": [{"ports": [n]}]}} for n in (1, 2)]
    before, after = ({("p", "x"): elements(POLICY_PROGRAMS, rule)} for rule in rules)
    assert difference(before, after) == Difference(1, 2)


def test_a_class_counts_its_tiers_and_each_program_inside() -> None:
    def pod_class(*programs: str) -> frozenset[str]:
        inside = [{"name": name, "spec": {"epoch": 0}} for name in programs]
        spec = {"epoch": 1, "tiers": [{"name": "default", "policies": ["a", "b", "c"]}], "programs": inside}
        return elements(POLICY_CLASSES, {"metadata": {}, "spec": spec})

    found = difference({("c", "x"): pod_class("a", "b")}, {("c", "x"): pod_class("b", "c", "a")})
    assert found == Difference(1, 1)


@pytest.mark.parametrize(
    ("times", "most"), [([], 0), ([5.0], 1), ([0.0, 0.9, 1.8], 2), ([3.0, 1.0, 2.0], 2), ([0.0, 0.2, 0.4, 2.0, 2.1], 3)]
)
def test_the_second_that_has_most_may_begin_anywhere(times: list[float], most: int) -> None:
    assert most_in_a_second(times) == most


@pytest.mark.parametrize(
    ("times", "burst"),
    [([], 0), ([5.0], 1), ([1.0, 1.0, 1.0], 3), ([0.0, 0.5, 1.0], 1), ([0.0, 0.0, 1.0, 1.0], 2), ([9.0, 0, 0.1], 1.8)],
)
def test_the_burst_that_times_need_beside_a_rate(times: list[float], burst: float) -> None:
    assert most_beyond(times, rate=2.0) == pytest.approx(burst)


@given(st.lists(st.integers(0, 400).map(lambda at: at / 100)))
def test_a_bucket_of_that_burst_lets_them_through_and_a_smaller_one_does_not(times: list[float]) -> None:
    def held_up(burst: float) -> bool:
        at = times[0]
        bucket = TokenBucket(2.0, burst, lambda: at)
        for at in times:  # noqa: B007
            if bucket.delay() > 1e-9:
                return True
            bucket.take()
        return False

    times.sort()
    needed = most_beyond(times, rate=2.0)
    assert not times or not held_up(needed)
    assert needed <= 1.0 or held_up(needed - 0.01)
