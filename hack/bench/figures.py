"""Owns what a measurement comes to: samples beside the floor's, as a table for people and as JSON.

It must not measure, and must not call a figure good or bad: there is no threshold in here.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """Samples of one thing, in `unit` ("ms", "MB", "% of a core", "writes"), and of the least that it could be (none:
    nothing to compare with).

    `key` (dotted: "agent.start") stays the same from run to run. `peer` says in words what another project was measured
    or published at, elsewhere: no ratio is formed with it. `exact`: a count, which nothing but a change of Manx or of
    the load alters.
    """

    key: str
    name: str
    unit: str
    samples: tuple[float, ...]
    floor_name: str = ""
    floor: tuple[float, ...] = ()
    peer: str = ""
    exact: bool = False

    @property
    def ratio(self) -> float | None:
        """Median by the floor's median."""
        if not self.floor or not statistics.median(self.floor):
            return None
        return statistics.median(self.samples) / statistics.median(self.floor)

    def as_json(self) -> dict[str, Any]:
        floor = {"name": self.floor_name, **summary(self.floor)} if self.floor else None
        known = {"name": self.name, "unit": self.unit, "exact": self.exact, "peer": self.peer or None}
        return {**known, **summary(self.samples), "floor": floor, "ratio": self.ratio}


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """Lowest (on a machine that does other things, too, the best guess at a quiet one's), median, ninetieth percentile,
    highest, and the samples themselves in their order."""
    return {
        "lowest": min(samples),
        "median": statistics.median(samples),
        "p90": percentile(samples, 90),
        "highest": max(samples),
        "samples": [round(sample, 3) for sample in samples],
    }


def percentile(samples: Sequence[float], share: int) -> float:
    """The lowest sample that at least `share` per cent of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines, each floor (and what others were measured at) below what it belongs to."""
    head = f"{'':60} {'lowest':>9} {'median':>9} {'p90':>9} {'highest':>9} {'':11} {'ratio':>6}"
    return "\n".join([head, *(line for figure in figures for line in _lines(figure))])


def _lines(figure: Figure) -> list[str]:
    ratio = f"{figure.ratio:6.1f}" if figure.ratio is not None else ""
    lines = [_line(figure.name, figure.samples, figure.unit, ratio)]
    if figure.floor:
        lines.append(_line(f"  floor: {figure.floor_name}", figure.floor, figure.unit, ""))
    if figure.peer:
        lines.append(f"  elsewhere: {figure.peer}")
    return lines


def _line(name: str, samples: Sequence[float], unit: str, ratio: str) -> str:
    columns = (min(samples), statistics.median(samples), percentile(samples, 90), max(samples))
    return f"{name:60} {' '.join(f'{value:9.2f}' for value in columns)} {unit:11} {ratio}".rstrip()


def markdown(figures: Sequence[Figure]) -> str:
    """The figures as a table for a document, each with its floor beside it."""
    rows = [_row(figure) for figure in figures]
    head = ["| | lowest | median | highest | floor | ratio | elsewhere |", "|---|--:|--:|--:|--:|--:|---|"]
    return "\n".join([*head, *rows, ""])


def _row(figure: Figure) -> str:
    samples = figure.samples
    least = f"{_number(statistics.median(figure.floor))} ({figure.floor_name})" if figure.floor else ""
    ratio = f"{figure.ratio:.1f}" if figure.ratio is not None else ""
    highest = _number(max(samples)) if len(samples) > 1 else ""
    lowest = _number(min(samples)) if len(samples) > 1 else ""
    median = f"{_number(statistics.median(samples))} {figure.unit}"
    return f"| {figure.name.strip()} | {lowest} | {median} | {highest} | {least} | {ratio} | {figure.peer} |"


def _number(value: float) -> str:
    """With three digits that count, whole where it is large."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def machine() -> dict[str, Any]:
    """What the figures were taken on, and how busy that was just now."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = next(
        (
            line.split("=", 1)[1].strip('"')
            for line in Path("/etc/os-release").read_text().splitlines()
            if line.startswith("PRETTY_NAME=")
        ),
        platform.system(),
    )
    return {
        "cores": os.cpu_count(),
        "memoryGiB": round(memory, 1),
        "kernel": platform.release(),
        "system": system,
        "python": platform.python_version(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }
