"""Owns which figures a run owes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench.figures import Figure


def broken(measures: Iterable[str], figures: Sequence[Figure], size: str) -> list[str]:
    return []


def as_json(figure: Figure) -> dict[str, Any]:
    return figure.as_json()
