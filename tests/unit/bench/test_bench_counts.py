"""Counts that must not change unnoticed, and the picture of all ratios."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from bench import counts, picture
from bench.figures import Figure

WRITES = Figure("a.writes", "writes of a relabel", "writes", (3.0,), exact=True)
TIME = Figure("a.time", "time of a relabel", "ms", (3.5, 3.0), "bare <floor>", (1.0, 1.0))


def test_only_counts_are_kept_and_what_was_not_run_stays(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"
    counts.write([WRITES, TIME], file)
    counts.write([Figure("b.bytes", "bytes", "bytes", (7.0, 8.0), exact=True)], file)
    assert counts.read(file) == {"a.writes": [3.0], "b.bytes": [7.0, 8.0]}


def test_a_changed_and_an_unknown_count_are_differences_and_a_time_is_none(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"
    counts.write([WRITES], file)
    assert counts.differences([WRITES, TIME], file) == []
    more = Figure("a.writes", "writes of a relabel", "writes", (4.0,), exact=True)
    fresh = Figure("c.events", "events", "events", (1.0,), exact=True)
    changed, unknown = counts.differences([more, fresh, TIME], file)
    assert changed.startswith("a.writes: 4, where it was 3")
    assert unknown.startswith("c.events: 1, where it was never counted")


def test_the_picture_has_a_bar_for_each_ratio() -> None:
    root = ElementTree.fromstring(picture.svg({"a": [WRITES, TIME], "b": [WRITES]}))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}rect")) == 1
    texts = [element.text for element in root.findall(f"{space}text")]
    assert "time of a relabel" in texts
    assert "3.2" in texts  # the median of both, 3.25
    assert "b" not in texts


def test_a_picture_of_nothing_says_so() -> None:
    assert "nothing has a floor" in picture.svg({"a": [WRITES]})
