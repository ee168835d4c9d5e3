"""Owns the counts that must not change unnoticed: writes, events, bytes, rules walked, in the quick size.

It must not hold a time: those differ from machine to machine, counts do not. counts.json is written by
`hack/bench/run --write-counts`, read by `--check`, and its difference is read by people.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Figure

FILE = Path(__file__).parent / "counts.json"


def write(figures: Sequence[Figure], file: Path = FILE) -> None:
    """Keeps what is known of measures that were not run."""
    known = {**read(file), **of(figures)}
    file.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def read(file: Path = FILE) -> dict[str, list[float]]:
    """Key → samples."""
    return dict(json.loads(file.read_text())) if file.exists() else {}


def of(figures: Sequence[Figure]) -> dict[str, list[float]]:
    """The counts among the figures."""
    return {figure.key: list(figure.samples) for figure in figures if figure.exact}


def differences(figures: Sequence[Figure], file: Path = FILE) -> list[str]:
    """What is not as it was, a line each. A count that is known and was not measured is no difference: not every run
    measures everything."""
    known = read(file)
    return [
        f"{key}: {_text(found)}, where it was {_text(known[key]) if key in known else 'never counted'} "
        "(meant? then ./hack/bench/run --write-counts)"
        for key, found in of(figures).items()
        if known.get(key) != found
    ]


def _text(samples: Sequence[float]) -> str:
    return ", ".join(f"{sample:g}" for sample in samples)
