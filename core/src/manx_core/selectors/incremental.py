"""Which items do which selectors select? The fast answer, kept up to date change by change.

Owns: `IncrementalIndex`, which answers as `LinearIndex` does.
Must not: know what items are, or which grammar a selector was written in.

Why it is fast:
1. Selectors with equal keys are one expression, which is matched once. (That things with equal labels are one item is
   for whoever has them.)
2. A new item is tried only against expressions anchored at one of its labels, and those without an anchor.
3. A new expression is tried only against the items that have its anchor. Of its possible anchors it takes the one where
   items and expressions are fewest (or the first where they are very few), so that both directions stay short.
4. Who has a label is known of those labels alone by which some expression could be anchored; of others (a hash in each
   Deployment's pods, say) nothing is kept.
Orders of iteration are those of insertion: equal histories give equal results.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Generic

from manx_core.selectors.index import Change, ItemT, NameT
from manx_core.selectors.selector import Labels, Pair, Selects

_HARDLY_ANY = 4
"""Things to try at an anchor, below which no other is looked for."""


class _Held(Generic[ItemT, NameT]):
    """An item, and the expressions that match it. Dictionaries serve as ordered sets."""

    __slots__ = ("item", "labels", "matches")

    def __init__(self, item: ItemT, labels: Labels) -> None:
        self.item = item
        self.labels = labels
        self.matches: dict[_Expression[ItemT, NameT], None] = {}


class _Expression(Generic[ItemT, NameT]):
    """All selectors with the same key, and the items that they match."""

    __slots__ = ("anchor", "key", "matches", "names", "selector")

    def __init__(self, selector: Selects, anchor: tuple[Pair, ...] | None) -> None:
        self.key = selector.key
        self.selector = selector
        self.anchor = anchor
        self.names: list[NameT] = []
        """Mostly one, hardly ever more than a few."""
        self.matches: dict[_Held[ItemT, NameT], None] = {}


class _Holders(Generic[ItemT, NameT]):
    """Who has a label, by its value."""

    __slots__ = ("by_value", "count", "wanted")

    def __init__(self) -> None:
        self.by_value: dict[str, dict[_Held[ItemT, NameT], None]] = {}
        self.count = 0
        self.wanted = 0
        """How many expressions could be anchored by it."""

    def add(self, held: _Held[ItemT, NameT], value: str) -> None:
        holders = self.by_value.get(value)
        if holders is None:
            holders = self.by_value[value] = {}
        holders[held] = None
        self.count += 1

    def remove(self, held: _Held[ItemT, NameT], value: str) -> None:
        holders = self.by_value[value]
        del holders[held]
        if not holders:
            del self.by_value[value]
        self.count -= 1

    def of(self, value: str | None) -> Iterable[_Held[ItemT, NameT]]:
        """None: of any value."""
        return chain.from_iterable(self.by_value.values()) if value is None else self.by_value.get(value, ())

    def count_of(self, value: str | None) -> int:
        return self.count if value is None else len(self.by_value.get(value, ()))


class IncrementalIndex(Generic[ItemT, NameT]):
    """Every method that alters the index returns the changes of membership, in no particular order. Labels that were
    handed over must not be altered."""

    def __init__(self) -> None:
        self._items: dict[ItemT, _Held[ItemT, NameT]] = {}
        self._holders: dict[str, _Holders[ItemT, NameT]] = {}
        self._expression_of: dict[NameT, _Expression[ItemT, NameT]] = {}
        self._expressions: dict[str, _Expression[ItemT, NameT]] = {}
        self._anchored: dict[str, dict[str | None, dict[_Expression[ItemT, NameT], None]]] = {}
        """By a label's key and value; None for any."""
        self._unanchored: dict[_Expression[ItemT, NameT], None] = {}

    # --- items

    def set_item(self, item: ItemT, labels: Labels) -> list[Change[NameT, ItemT]]:
        """The item exists, with these labels."""
        old = self._items.get(item)
        if old is not None and old.labels == labels:
            return []
        new: _Held[ItemT, NameT] = _Held(item, labels)
        self._match_item(new)
        self._register(new)
        changes = _moved(item, old, new)
        self._forget(old)
        self._items[item] = new
        return changes

    def remove_item(self, item: ItemT) -> list[Change[NameT, ItemT]]:
        """The item exists no longer. No error where it did not."""
        old = self._items.pop(item, None)
        changes = _moved(item, old, None)
        self._forget(old)
        return changes

    def selectors_of(self, item: ItemT) -> frozenset[NameT]:
        """The names of the selectors that select the item."""
        return frozenset(self.selecting(item))

    def selecting(self, item: ItemT) -> Iterator[NameT]:
        """As `selectors_of`, one after the other, each once. The index must not be altered meanwhile."""
        held = self._items.get(item)
        if held is not None:
            for expression in held.matches:
                yield from expression.names

    # --- selectors

    def set_selector(self, name: NameT, selector: Selects) -> list[Change[NameT, ItemT]]:
        """The selector of that name exists, and is this."""
        old = self._expression_of.get(name)
        if old is not None and old.key == selector.key:
            return []
        new = self._expressions.get(selector.key) or self._add_expression(selector)
        new.names.append(name)
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
        return frozenset(self.selected(name))

    def selected(self, name: NameT) -> Iterator[ItemT]:
        """As `items_of`, one after the other, each once. The index must not be altered meanwhile."""
        expression = self._expression_of.get(name)
        if expression is not None:
            for held in expression.matches:
                yield held.item

    # --- items come and go

    def _match_item(self, held: _Held[ItemT, NameT]) -> None:
        for expression in self._unanchored:
            _try(held, expression)
        for key, value in held.labels.items():
            by_value = self._anchored.get(key)
            if by_value is not None:
                for expression in by_value.get(value, ()):
                    _try(held, expression)
                for expression in by_value.get(None, ()):
                    _try(held, expression)

    def _register(self, held: _Held[ItemT, NameT]) -> None:
        for key, value in held.labels.items():
            holders = self._holders.get(key)
            if holders is not None:
                holders.add(held, value)

    def _forget(self, held: _Held[ItemT, NameT] | None) -> None:
        if held is None:
            return
        for key, value in held.labels.items():
            holders = self._holders.get(key)
            if holders is not None:
                holders.remove(held, value)
        for expression in held.matches:
            del expression.matches[held]

    # --- expressions come and go

    def _add_expression(self, selector: Selects) -> _Expression[ItemT, NameT]:
        anchors = selector.anchors()
        self._want(anchors)
        anchor = self._least_crowded(anchors)
        added: _Expression[ItemT, NameT] = _Expression(selector, anchor)
        self._expressions[added.key] = added
        if anchor is None:
            self._unanchored[added] = None
        for key, value in anchor or ():
            self._anchor(added, key, value)
        for held in self._candidates(anchor):
            _try(held, added)
        return added

    def _anchor(self, expression: _Expression[ItemT, NameT], key: str, value: str | None) -> None:
        by_value = self._anchored.get(key)
        if by_value is None:
            by_value = self._anchored[key] = {}
        expressions = by_value.get(value)
        if expressions is None:
            by_value[value] = {expression: None}
        else:
            expressions[expression] = None

    def _leave_expression(self, name: NameT, expression: _Expression[ItemT, NameT] | None) -> None:
        if expression is None:
            return
        expression.names.remove(name)
        if expression.names:
            return
        del self._expressions[expression.key]
        self._unanchored.pop(expression, None)
        for pair in expression.anchor or ():
            self._unanchor(expression, *pair)
        self._unwant(expression.selector.anchors())
        for held in expression.matches:
            del held.matches[expression]

    def _unanchor(self, expression: _Expression[ItemT, NameT], key: str, value: str | None) -> None:
        by_value = self._anchored[key]
        del by_value[value][expression]
        if not by_value[value]:
            del by_value[value]
        if not by_value:
            del self._anchored[key]

    def _want(self, anchors: tuple[tuple[Pair, ...], ...]) -> None:
        """One expression more could be anchored by these."""
        for anchor in anchors:
            for key, _ in anchor:
                holders = self._holders.get(key)
                if holders is None:
                    holders = self._find_holders(key)
                holders.wanted += 1

    def _find_holders(self, key: str) -> _Holders[ItemT, NameT]:
        """Of a label that nothing could be anchored by before: every item is looked at."""
        found: _Holders[ItemT, NameT] = _Holders()
        self._holders[key] = found
        for held in self._items.values():
            if key in held.labels:
                found.add(held, held.labels[key])
        return found

    def _unwant(self, anchors: tuple[tuple[Pair, ...], ...]) -> None:
        for anchor in anchors:
            for key, _ in anchor:
                holders = self._holders[key]
                holders.wanted -= 1
                if not holders.wanted:
                    del self._holders[key]

    def _least_crowded(self, anchors: tuple[tuple[Pair, ...], ...]) -> tuple[Pair, ...] | None:
        """Where an expression is best anchored; the first where there are hardly any others. None: nowhere."""
        best, least = None, math.inf
        for anchor in anchors:
            crowd = self._crowd(anchor)
            if crowd < least:
                best, least = anchor, crowd
            if crowd <= _HARDLY_ANY:
                break
        return best

    def _crowd(self, anchor: tuple[Pair, ...]) -> int:
        """How much there is at an anchor, of what both directions would have to try."""
        crowd = 0
        for key, value in anchor:
            by_value = self._anchored.get(key)
            crowd += self._holders[key].count_of(value) + (len(by_value.get(value, ())) if by_value else 0)
        return crowd

    def _candidates(self, anchor: tuple[Pair, ...] | None) -> Iterable[_Held[ItemT, NameT]]:
        if anchor is None:
            return self._items.values()
        if len(anchor) == 1:
            key, value = anchor[0]
            return self._holders[key].of(value)
        return chain.from_iterable(self._holders[key].of(value) for key, value in anchor)


def _try(held: _Held[ItemT, NameT], expression: _Expression[ItemT, NameT]) -> None:
    if expression.selector.matches(held.labels):
        held.matches[expression] = None
        expression.matches[held] = None


def _moved(item: ItemT, old: _Held[ItemT, NameT] | None, new: _Held[ItemT, NameT] | None) -> list[Change[NameT, ItemT]]:
    """An item's changes from the old labels to the new; None where it has none."""
    if old is None and new is not None:
        return [Change(name, item, True) for e in new.matches for name in e.names]
    before, after = old.matches if old else {}, new.matches if new else {}
    left = [Change(name, item, False) for e in before if e not in after for name in e.names]
    return left + [Change(name, item, True) for e in after if e not in before for name in e.names]


def _replaced(
    name: NameT, old: _Expression[ItemT, NameT] | None, new: _Expression[ItemT, NameT] | None
) -> list[Change[NameT, ItemT]]:
    """A selector's changes from one expression to another; None where it has none."""
    if old is None and new is not None:
        return [Change(name, held.item, True) for held in new.matches]
    before, after = old.matches if old else {}, new.matches if new else {}
    left = [Change(name, held.item, False) for held in before if held not in after]
    return left + [Change(name, held.item, True) for held in after if held not in before]
