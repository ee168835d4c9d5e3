"""Which items do which selectors select? The plain answer.

Owns: the meaning of an index: what its methods do, and `LinearIndex`, which does it in the plainest way.
Must not: be fast. It is the reference for `IncrementalIndex`, which has the same methods.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from manx_core.selectors.selector import Labels, Selects

ItemT = TypeVar("ItemT", bound=Hashable)
NameT = TypeVar("NameT", bound=Hashable)


class Change(NamedTuple, Generic[NameT, ItemT]):
    """An item came to be selected (`joined`), or is selected no longer."""

    selector: NameT
    item: ItemT
    joined: bool


class LinearIndex(Generic[ItemT, NameT]):
    """Every method that alters the index returns the changes of membership, in no particular order."""

    def __init__(self) -> None:
        self._items: dict[ItemT, Labels] = {}
        self._selectors: dict[NameT, Selects] = {}

    def set_item(self, item: ItemT, labels: Labels) -> list[Change[NameT, ItemT]]:
        """The item exists, with these labels."""
        before = self.selectors_of(item)
        self._items[item] = dict(labels)
        return _item_changes(item, before, self.selectors_of(item))

    def remove_item(self, item: ItemT) -> list[Change[NameT, ItemT]]:
        """The item exists no longer. No error where it did not."""
        before = self.selectors_of(item)
        self._items.pop(item, None)
        return _item_changes(item, before, frozenset())

    def set_selector(self, name: NameT, selector: Selects) -> list[Change[NameT, ItemT]]:
        """The selector of that name exists, and is this."""
        before = self.items_of(name)
        self._selectors[name] = selector
        return _selector_changes(name, before, self.items_of(name))

    def remove_selector(self, name: NameT) -> list[Change[NameT, ItemT]]:
        """No selector has that name any more. No error where none had."""
        before = self.items_of(name)
        self._selectors.pop(name, None)
        return _selector_changes(name, before, frozenset())

    def selectors_of(self, item: ItemT) -> frozenset[NameT]:
        """The names of the selectors that select the item."""
        if item not in self._items:
            return frozenset()
        return frozenset(name for name, selector in self._selectors.items() if selector.matches(self._items[item]))

    def items_of(self, name: NameT) -> frozenset[ItemT]:
        """The items that the selector of that name selects."""
        if name not in self._selectors:
            return frozenset()
        return frozenset(item for item, labels in self._items.items() if self._selectors[name].matches(labels))


def _item_changes(item: ItemT, before: frozenset[NameT], after: frozenset[NameT]) -> list[Change[NameT, ItemT]]:
    left = [Change(name, item, False) for name in before - after]
    return left + [Change(name, item, True) for name in after - before]


def _selector_changes(name: NameT, before: frozenset[ItemT], after: frozenset[ItemT]) -> list[Change[NameT, ItemT]]:
    left = [Change(name, item, False) for item in before - after]
    return left + [Change(name, item, True) for item in after - before]
