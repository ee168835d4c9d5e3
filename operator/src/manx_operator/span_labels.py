"""Which span labels an object shall carry, and when those that it no longer needs go.

Owns: the dates at which labels go. Must not: compute spans (the model does) or write.

Why they go late and not at once: pods come back to nodes that they left, and a label that stays costs nothing but the
object's changes being sent to one node more. The label for every node and those for single ones replace each other in
the same way, new ones first, so that no agent is without the object for a moment. Dates are rounded up, so that labels
that became unnecessary one after another go together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from manx_core.span import EVERYWHERE, PREFIX, span_labels
from manx_operator.observed import Key

ROUNDS = 6
"""Dates are multiples of the lingering time divided by this."""


def is_span_label(label: str) -> bool:
    return label == EVERYWHERE or label.startswith(PREFIX)


class SpanLabels:
    """`linger`: seconds; `clock`: monotonic; `later(key, seconds)` asks for the object to be looked at again then."""

    def __init__(self, linger: float, clock: Callable[[], float], later: Callable[[Key, float], None]) -> None:
        self._linger = linger
        self._clock = clock
        self._later = later
        self._dates: dict[Key, dict[str, float]] = {}

    def labels(
        self, key: Key, nodes: Collection[str], have: Mapping[str, str], in_use: Callable[[str], bool]
    ) -> dict[str, str]:
        """All labels the object shall carry now: others' as they are, those its nodes need, and those whose date has
        not come. `in_use(label)`: whether its node's own NodeState still leads to the object."""
        wanted = span_labels(nodes, EVERYWHERE in have)
        others = have.keys() - wanted.keys()
        kept = {label: have[label] for label in others if not is_span_label(label)}
        staying = self._staying(key, sorted(others - kept.keys()), in_use)
        return kept | staying | wanted

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._dates.pop(key, None)

    def _staying(self, key: Key, extra: list[str], in_use: Callable[[str], bool]) -> dict[str, str]:
        if not extra:
            self._dates.pop(key, None)
            return {}
        now, before = self._clock(), self._dates.get(key, {})
        dates = self._dates[key] = {label: before.get(label) or self._date(now) for label in extra}
        staying = {label for label, date in dates.items() if date > now or in_use(label)}
        if staying:
            waiting = [dates[label] - now for label in staying if dates[label] > now]
            self._later(key, min(waiting, default=self._linger))
        return dict.fromkeys(staying, "")

    def _date(self, now: float) -> float:
        step = self._linger / ROUNDS
        return math.ceil((now + self._linger) / step) * step if step else now
