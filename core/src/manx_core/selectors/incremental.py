"""Which items do which selectors select? The fast answer, kept up to date change by change.

Owns: `IncrementalIndex`, which answers as `LinearIndex` does.
Must not: know what items are, or which grammar a selector was written in.

Why it is fast:
1. Items with equal labels are one label set, selectors with equal keys one expression: each such pair is matched once.
2. A new label set is tried only against expressions anchored at one of its labels, and those without an anchor.
3. A new expression is tried only against the label sets that have its anchor. Of its possible anchors it takes the one
   where label sets and expressions are fewest, so that both directions stay short.
Orders of iteration are those of insertion: equal histories give equal results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Generic, TypeVar

from manx_core.selectors.index import Change, ItemT, NameT
from manx_core.selectors.selector import Labels, Pair, Selects

HeldT = TypeVar("HeldT")


class _LabelSet(Generic[ItemT, NameT]):
    """All items with the same labels, and the expressions that match them. Dictionaries serve as ordered sets."""

    __slots__ = ("items", "key", "labels", "matches")

    def __init__(self, key: frozenset[tuple[str, str]]) -> None:
        self.key = key
        self.labels = dict(key)
        self.items: dict[ItemT, None] = {}
        self.matches: dict[_Expression[ItemT, NameT], None] = {}

    def pairs(self) -> Iterator[Pair]:
        for key, value in self.labels.items():
            yield (key, value)
            yield (key, None)


class _Expression(Generic[ItemT, NameT]):
    """All selectors with the same key, and the label sets that they match."""

    __slots__ = ("anchor", "key", "matches", "names", "selector")

    def __init__(self, key: str, selector: Selects, anchor: tuple[Pair, ...] | None) -> None:
        self.key = key
        self.selector = selector
        self.anchor = anchor
        self.names: dict[NameT, None] = {}
        self.matches: dict[_LabelSet[ItemT, NameT], None] = {}


class IncrementalIndex(Generic[ItemT, NameT]):
    """Every method that alters the index returns the changes of membership, in no particular order."""

    def __init__(self) -> None:
        self._set_of: dict[ItemT, _LabelSet[ItemT, NameT]] = {}
        self._sets: dict[frozenset[tuple[str, str]], _LabelSet[ItemT, NameT]] = {}
        self._sets_with: dict[Pair, dict[_LabelSet[ItemT, NameT], None]] = {}
        self._expression_of: dict[NameT, _Expression[ItemT, NameT]] = {}
        self._expressions: dict[str, _Expression[ItemT, NameT]] = {}
        self._anchored: dict[Pair, dict[_Expression[ItemT, NameT], None]] = {}
        self._unanchored: dict[_Expression[ItemT, NameT], None] = {}

    # --- items

    def set_item(self, item: ItemT, labels: Labels) -> list[Change[NameT, ItemT]]:
        """The item exists, with these labels."""
        old = self._set_of.get(item)
        key = frozenset(labels.items())
        if old is not None and old.key == key:
            return []
        new = self._sets.get(key) or self._add_set(key)
        new.items[item] = None
        self._set_of[item] = new
        changes = _moved(item, old, new)
        self._leave_set(item, old)
        return changes

    def remove_item(self, item: ItemT) -> list[Change[NameT, ItemT]]:
        """The item exists no longer. No error where it did not."""
        old = self._set_of.pop(item, None)
        changes = _moved(item, old, None)
        self._leave_set(item, old)
        return changes

    def selectors_of(self, item: ItemT) -> frozenset[NameT]:
        """The names of the selectors that select the item."""
        label_set = self._set_of.get(item)
        if label_set is None:
            return frozenset()
        return frozenset(name for expression in label_set.matches for name in expression.names)

    # --- selectors

    def set_selector(self, name: NameT, selector: Selects) -> list[Change[NameT, ItemT]]:
        """The selector of that name exists, and is this."""
        old = self._expression_of.get(name)
        key = selector.key
        if old is not None and old.key == key:
            return []
        new = self._expressions.get(key) or self._add_expression(key, selector)
        new.names[name] = None
        self._expression_of[name] = new
        changes = _replaced(name, old, new)
        self._leave_expression(name, old)
        return changes

    def remove_selector(self, name: NameT) -> list[Change[NameT, ItemT]]:
        """No selector has that name any more. No error where none had."""
        old = self._expression_of.pop(name, None)
        changes = _replaced(name, old, None)
        self._leave_expression(name, old)
        return changes

    def items_of(self, name: NameT) -> frozenset[ItemT]:
        """The items that the selector of that name selects."""
        expression = self._expression_of.get(name)
        if expression is None:
            return frozenset()
        return frozenset(item for label_set in expression.matches for item in label_set.items)

    # --- label sets and expressions come and go

    def _add_set(self, key: frozenset[tuple[str, str]]) -> _LabelSet[ItemT, NameT]:
        added: _LabelSet[ItemT, NameT] = _LabelSet(key)
        self._sets[key] = added
        anchored = [self._anchored.get(pair, ()) for pair in added.pairs()]
        for expression in chain(self._unanchored, *anchored):
            if expression.selector.matches(added.labels):
                _match(added, expression)
        for pair in added.pairs():
            self._sets_with.setdefault(pair, {})[added] = None
        return added

    def _leave_set(self, item: ItemT, label_set: _LabelSet[ItemT, NameT] | None) -> None:
        if label_set is None:
            return
        del label_set.items[item]
        if label_set.items:
            return
        del self._sets[label_set.key]
        for pair in label_set.pairs():
            _discard(self._sets_with, pair, label_set)
        for expression in label_set.matches:
            del expression.matches[label_set]

    def _add_expression(self, key: str, selector: Selects) -> _Expression[ItemT, NameT]:
        anchor = min(selector.anchors(), key=self._crowd, default=None)
        added: _Expression[ItemT, NameT] = _Expression(key, selector, anchor)
        self._expressions[key] = added
        if anchor is None:
            self._unanchored[added] = None
        for pair in anchor or ():
            self._anchored.setdefault(pair, {})[added] = None
        for label_set in self._candidates(anchor):
            if selector.matches(label_set.labels):
                _match(label_set, added)
        return added

    def _leave_expression(self, name: NameT, expression: _Expression[ItemT, NameT] | None) -> None:
        if expression is None:
            return
        del expression.names[name]
        if expression.names:
            return
        del self._expressions[expression.key]
        self._unanchored.pop(expression, None)
        for pair in expression.anchor or ():
            _discard(self._anchored, pair, expression)
        for label_set in expression.matches:
            del label_set.matches[expression]

    def _crowd(self, anchor: tuple[Pair, ...]) -> int:
        """How much there is at an anchor, of what both directions would have to try."""
        return sum(len(self._sets_with.get(pair, ())) + len(self._anchored.get(pair, ())) for pair in anchor)

    def _candidates(self, anchor: tuple[Pair, ...] | None) -> Iterable[_LabelSet[ItemT, NameT]]:
        if anchor is None:
            return self._sets.values()
        return chain.from_iterable(self._sets_with.get(pair, ()) for pair in anchor)


def _match(label_set: _LabelSet[ItemT, NameT], expression: _Expression[ItemT, NameT]) -> None:
    label_set.matches[expression] = None
    expression.matches[label_set] = None


def _moved(
    item: ItemT, old: _LabelSet[ItemT, NameT] | None, new: _LabelSet[ItemT, NameT] | None
) -> list[Change[NameT, ItemT]]:
    """An item's changes from one label set to another; None where it has none."""
    before, after = old.matches if old else {}, new.matches if new else {}
    left = [Change(name, item, False) for e in before if e not in after for name in e.names]
    return left + [Change(name, item, True) for e in after if e not in before for name in e.names]


def _replaced(
    name: NameT, old: _Expression[ItemT, NameT] | None, new: _Expression[ItemT, NameT] | None
) -> list[Change[NameT, ItemT]]:
    """A selector's changes from one expression to another; None where it has none."""
    before, after = old.matches if old else {}, new.matches if new else {}
    left = [Change(name, item, False) for s in before if s not in after for item in s.items]
    return left + [Change(name, item, True) for s in after if s not in before for item in s.items]


def _discard(table: dict[Pair, dict[HeldT, None]], pair: Pair, held: HeldT) -> None:
    holders = table[pair]
    del holders[held]
    if not holders:
        del table[pair]
