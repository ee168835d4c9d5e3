"""Figures: what samples come to, beside a floor."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Figure, machine, markdown, percentile, table


@pytest.mark.parametrize(
    ("samples", "share", "found"),
    [((5.0,), 90, 5.0), ((3.0, 1.0, 2.0), 50, 2.0), (range(1, 11), 90, 9), (range(1, 12), 90, 10), ((1, 2), 100, 2)],
)
def test_percentile_is_a_sample(samples: tuple[float, ...], share: int, found: float) -> None:
    assert percentile(tuple(samples), share) == found


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_percentile_is_the_lowest_sample_that_so_many_do_not_exceed(samples: list[float], share: int) -> None:
    found = percentile(samples, share)
    not_above = sum(sample <= found for sample in samples)
    below = sum(sample < found for sample in samples)
    assert not_above * 100 >= share * len(samples) > below * 100


def test_a_figure_beside_its_floor() -> None:
    figure = Figure("p", "policy", "ms", (100.0, 300.0, 200.0), "bare", (10.0, 20.0, 30.0), peer="Other: 5 ms")
    assert figure.ratio == 10.0
    head, own, floor, elsewhere = table([figure]).splitlines()
    assert head.split() == ["lowest", "median", "p90", "highest", "ratio"]
    assert own.split() == ["policy", "100.00", "200.00", "300.00", "300.00", "ms", "10.0"]
    assert floor.split() == ["floor:", "bare", "10.00", "20.00", "30.00", "30.00", "ms"]
    assert elsewhere.split() == ["elsewhere:", "Other:", "5", "ms"]


@pytest.mark.parametrize("floor", [(), (0.0, 0.0)])
def test_without_a_floor_there_is_no_ratio(floor: tuple[float, ...]) -> None:
    assert Figure("i", "idle", "% of a core", (0.5,), "nothing", floor).ratio is None


def test_json_has_what_the_table_has_and_the_samples() -> None:
    written = json.loads(json.dumps(Figure("p", "policy", "ms", (1.0, 2.0), "bare", (1.0,)).as_json()))
    assert written["samples"] == [1.0, 2.0]
    assert written["ratio"] == 1.5
    assert written["floor"]["name"] == "bare"
    assert Figure("a", "alone", "MB", (1.0,)).as_json()["floor"] is None
    assert machine()["cores"] >= 1


def test_a_table_for_a_document_has_a_row_for_each_figure_and_its_floor_in_it() -> None:
    one = Figure("a", "  a thing", "ms", (1.0, 2.0, 1234.0), "bare", (0.5,), peer="Other: 5 ms")
    alone = Figure("b", "writes", "writes", (3.0,))
    *_, first, second = markdown([one, alone]).splitlines()
    assert first == "| a thing | 1 | 2 ms | 1234 | 0.5 (bare) | 4.0 | Other: 5 ms |"
    assert second == "| writes |  | 3 writes |  |  |  |  |"
