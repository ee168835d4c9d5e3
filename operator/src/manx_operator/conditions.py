"""Conditions: meta/v1, as plain objects, with their transition times kept.

Owns: merging what is found now with what was said before. Must not: read a clock (times are given) or do I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

MAX_MESSAGE = 2000
"""meta/v1 allows 32,768; people read less."""


@dataclass(frozen=True, slots=True)
class Said:
    """One condition, without times."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


def merged(
    said: Iterable[Said], before: Iterable[Mapping[str, Any]], now: str, generation: int = 0
) -> list[dict[str, Any]]:
    """The conditions to write: those said, in their places, and those of other types as they were. A transition time is
    kept while the status is. `now`: RFC 3339."""
    old = {condition.get("type"): dict(condition) for condition in before}
    dated = {condition.type: _dated(condition, old.get(condition.type, {}), now, generation) for condition in said}
    return list((old | dated).values())


def _dated(said: Said, old: Mapping[str, Any], now: str, generation: int) -> dict[str, Any]:
    kept = old.get("status") == said.status
    made: dict[str, Any] = {
        "type": said.type,
        "status": said.status,
        "reason": said.reason,
        "message": _shortened(said.message),
        "lastTransitionTime": str(old.get("lastTransitionTime") or now) if kept else now,
    }
    return made | ({"observedGeneration": generation} if generation else {})


def _shortened(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"


def some(items: Iterable[str], shown: int = 3) -> str:
    """The first few of some texts, and how many more there are."""
    listed = list(items)
    more = len(listed) - shown
    return "; ".join(listed[:shown]) + (f"; and {more} more" if more > 0 else "")
