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
from manx_core.selectors.places import Held, Label, Matcher
from manx_core.selectors.selector import Labels, Pair, Selects

_HARDLY_ANY = 4
"""Things to try at an anchor, below which no other is looked for."""


class IncrementalIndex(Generic[ItemT, NameT]):
    """Every method that alters the index returns the changes of membership, in no particular order. Labels that were
    handed over must not be altered."""

    def __init__(self) -> None:
        self._items: dict[ItemT, Held[ItemT, NameT]] = {}
        self._labels: dict[str, Label[ItemT, NameT]] = {}
        """By their keys: those by which something could be anchored."""
        self._matcher_of: dict[NameT, Matcher[ItemT, NameT]] = {}
        self._matchers: dict[str, Matcher[ItemT, NameT]] = {}
        self._unanchored: dict[Matcher[ItemT, NameT], None] = {}

    # --- items

    def set_item(self, item: ItemT, labels: Labels) -> list[Change[NameT, ItemT]]:
        """The item exists, with these labels."""
        old = self._items.get(item)
        if old is not None and old.labels == labels:
            return []
        new: Held[ItemT, NameT] = Held(item, labels)
        self._find_matches(new)
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
            for matcher in held.matches:
                yield from matcher.names

    # --- selectors

    def set_selector(self, name: NameT, selector: Selects) -> list[Change[NameT, ItemT]]:
        """The selector of that name exists, and is this."""
        old = self._matcher_of.get(name)
        if old is not None and old.key == selector.key:
            return []
        new = self._matchers.get(selector.key) or self._add_matcher(selector)
        new.names.append(name)
        self._matcher_of[name] = new
        changes = _replaced(name, old, new)
        self._leave(name, old)
        return changes

    def remove_selector(self, name: NameT) -> list[Change[NameT, ItemT]]:
        """No selector has that name any more. No error where none had."""
        old = self._matcher_of.pop(name, None)
        changes = _replaced(name, old, None)
        self._leave(name, old)
        return changes

    def items_of(self, name: NameT) -> frozenset[ItemT]:
        """The items that the selector of that name selects."""
        return frozenset(self.selected(name))

    def selected(self, name: NameT) -> Iterator[ItemT]:
        """As `items_of`, one after the other, each once. The index must not be altered meanwhile."""
        matcher = self._matcher_of.get(name)
        if matcher is not None:
            for held in matcher.matches:
                yield held.item

    # --- items come and go

    def _find_matches(self, held: Held[ItemT, NameT]) -> None:
        for matcher in self._unanchored:
            matcher.try_on(held)
        for key, value in held.labels.items():
            label = self._labels.get(key)
            if label is not None:
                label.add(held, value)
                for matcher in label.anchored.get(value, ()):
                    matcher.try_on(held)
                for matcher in label.anywhere:
                    matcher.try_on(held)

    def _forget(self, held: Held[ItemT, NameT] | None) -> None:
        if held is None:
            return
        for key, value in held.labels.items():
            label = self._labels.get(key)
            if label is not None:
                label.remove(held, value)
        for matcher in held.matches:
            del matcher.matches[held]

    # --- matchers come and go

    def _add_matcher(self, selector: Selects) -> Matcher[ItemT, NameT]:
        anchors = selector.anchors()
        self._want(anchors)
        anchor = self._least_crowded(anchors)
        added: Matcher[ItemT, NameT] = Matcher(selector, anchor)
        self._matchers[added.key] = added
        if anchor is None:
            self._unanchored[added] = None
        for key, value in anchor or ():
            self._labels[key].anchor(added, value)
        for held in self._candidates(anchor):
            added.try_on(held)
        return added

    def _leave(self, name: NameT, matcher: Matcher[ItemT, NameT] | None) -> None:
        if matcher is None:
            return
        matcher.names.remove(name)
        if matcher.names:
            return
        del self._matchers[matcher.key]
        self._unanchored.pop(matcher, None)
        for key, value in matcher.anchor or ():
            self._labels[key].unanchor(matcher, value)
        self._unwant(matcher.selector.anchors())
        for held in matcher.matches:
            del held.matches[matcher]

    def _want(self, anchors: tuple[tuple[Pair, ...], ...]) -> None:
        """Something more could be anchored by these."""
        for anchor in anchors:
            for key, _ in anchor:
                label = self._labels.get(key)
                if label is None:
                    label = self._add_label(key)
                label.wanted += 1

    def _unwant(self, anchors: tuple[tuple[Pair, ...], ...]) -> None:
        for anchor in anchors:
            for key, _ in anchor:
                label = self._labels[key]
                label.wanted -= 1
                if not label.wanted:
                    del self._labels[key]

    def _add_label(self, key: str) -> Label[ItemT, NameT]:
        """One that nothing could be anchored by before: every item is looked at."""
        added: Label[ItemT, NameT] = Label()
        self._labels[key] = added
        for held in self._items.values():
            if key in held.labels:
                added.add(held, held.labels[key])
        return added

    def _least_crowded(self, anchors: tuple[tuple[Pair, ...], ...]) -> tuple[Pair, ...] | None:
        """Where a selector is best anchored; the first where there is hardly anything else. None: nowhere."""
        best, least = None, math.inf
        for anchor in anchors:
            crowd = 0
            for key, value in anchor:
                crowd += self._labels[key].crowd(value)
            if crowd < least:
                best, least = anchor, crowd
            if crowd <= _HARDLY_ANY:
                break
        return best

    def _candidates(self, anchor: tuple[Pair, ...] | None) -> Iterable[Held[ItemT, NameT]]:
        if anchor is None:
            return self._items.values()
        if len(anchor) == 1:
            key, value = anchor[0]
            return self._labels[key].holders(value)
        return chain.from_iterable(self._labels[key].holders(value) for key, value in anchor)


def _moved(item: ItemT, old: Held[ItemT, NameT] | None, new: Held[ItemT, NameT] | None) -> list[Change[NameT, ItemT]]:
    """An item's changes from the old labels to the new; None where it has none."""
    if old is None and new is not None:
        return [Change(name, item, True) for e in new.matches for name in e.names]
    before, after = old.matches if old else {}, new.matches if new else {}
    left = [Change(name, item, False) for e in before if e not in after for name in e.names]
    return left + [Change(name, item, True) for e in after if e not in before for name in e.names]


def _replaced(
    name: NameT, old: Matcher[ItemT, NameT] | None, new: Matcher[ItemT, NameT] | None
) -> list[Change[NameT, ItemT]]:
    """A selector's changes from one matcher to another; None where it has none."""
    if old is None and new is not None:
        return [Change(name, held.item, True) for held in new.matches]
    before, after = old.matches if old else {}, new.matches if new else {}
    left = [Change(name, held.item, False) for held in before if held not in after]
    return left + [Change(name, held.item, True) for held in after if held not in before]
