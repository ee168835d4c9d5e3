"""A mapping that changes, and copies of it that do not.

Owns: when a copy has to be made. Must not: know what is in it.

Why: views are values, and what is made from them asks first whether it is the same object as before: that is what keeps
a change of one group from costing a look at everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

V = TypeVar("V")


class Table(Generic[V]):
    """By name."""

    def __init__(self) -> None:
        self.now: dict[str, V] = {}
        """To be read only."""
        self._copy: Mapping[str, V] | None = None

    def put(self, name: str, value: V) -> None:
        self.now[name] = value
        self._copy = None

    def drop(self, name: str) -> bool:
        """Whether there was one of this name."""
        if name not in self.now:
            return False
        del self.now[name]
        self._copy = None
        return True

    def copy(self) -> Mapping[str, V]:
        """As it is now; the same object as long as nothing has changed."""
        if self._copy is None:
            self._copy = dict(self.now)
        return self._copy
