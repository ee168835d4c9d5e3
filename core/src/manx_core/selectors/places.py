"""What an incremental index is made of: items, selectors, and the labels by which they find each other.

Owns: who has a label, and which selectors are looked for there. Must not: decide which anchor a selector takes, or what
matches (incremental.py does).

Dictionaries serve as ordered sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Generic

from manx_core.selectors.index import ItemT, NameT
from manx_core.selectors.selector import Labels, Pair, Selects


class Held(Generic[ItemT, NameT]):
    """An item, and what matches it."""

    __slots__ = ("item", "labels", "matches")

    def __init__(self, item: ItemT, labels: Labels) -> None:
        self.item = item
        self.labels = labels
        self.matches: dict[Matcher[ItemT, NameT], None] = {}


class Matcher(Generic[ItemT, NameT]):
    """All selectors with the same key, and the items that they match."""

    __slots__ = ("anchor", "key", "matches", "names", "selector")

    def __init__(self, selector: Selects, anchor: tuple[Pair, ...] | None) -> None:
        self.key = selector.key
        self.selector = selector
        self.anchor = anchor
        self.names: list[NameT] = []
        """Mostly one, hardly ever more than a few."""
        self.matches: dict[Held[ItemT, NameT], None] = {}

    def try_on(self, held: Held[ItemT, NameT]) -> None:
        """Note it where the item is matched."""
        if self.selector.matches(held.labels):
            held.matches[self] = None
            self.matches[held] = None


class Label(Generic[ItemT, NameT]):
    """A label by which some selector could be anchored, whatever its value."""

    __slots__ = ("_holders", "anchored", "anywhere", "count", "wanted")

    def __init__(self) -> None:
        self._holders: dict[str, dict[Held[ItemT, NameT], None]] = {}
        """Who has it, by its value."""
        self.count = 0
        """How many have it."""
        self.anchored: dict[str, dict[Matcher[ItemT, NameT], None]] = {}
        """What is anchored at a value of it."""
        self.anywhere: dict[Matcher[ItemT, NameT], None] = {}
        """What is anchored at any value of it."""
        self.wanted = 0
        """How many anchors it could be."""

    def add(self, held: Held[ItemT, NameT], value: str) -> None:
        """The item has it."""
        holders = self._holders.get(value)
        if holders is None:
            self._holders[value] = {held: None}
        else:
            holders[held] = None
        self.count += 1

    def remove(self, held: Held[ItemT, NameT], value: str) -> None:
        """The item has it no more."""
        holders = self._holders[value]
        del holders[held]
        if not holders:
            del self._holders[value]
        self.count -= 1

    def anchor(self, matcher: Matcher[ItemT, NameT], value: str | None) -> None:
        """The selector is looked for there; None: at any value."""
        if value is None:
            self.anywhere[matcher] = None
            return
        here = self.anchored.get(value)
        if here is None:
            self.anchored[value] = {matcher: None}
        else:
            here[matcher] = None

    def unanchor(self, matcher: Matcher[ItemT, NameT], value: str | None) -> None:
        """The selector is looked for there no more."""
        if value is None:
            del self.anywhere[matcher]
            return
        here = self.anchored[value]
        del here[matcher]
        if not here:
            del self.anchored[value]

    def holders(self, value: str | None) -> Iterable[Held[ItemT, NameT]]:
        """None: of any value."""
        return chain.from_iterable(self._holders.values()) if value is None else self._holders.get(value, ())

    def crowd(self, value: str | None) -> int:
        """How many items and selectors are there; None: at any value."""
        if value is None:
            return self.count + len(self.anywhere)
        return len(self._holders.get(value, ())) + len(self.anchored.get(value, ()))
