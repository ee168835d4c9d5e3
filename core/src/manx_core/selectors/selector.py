"""Selectors in canonical form: conjunctions of requirements on labels.

Owns: what a selector means, and the one form that all equivalent conjunctions share.
Must not: parse any user's grammar (kubernetes.py and calico.py do), combine by "or" (normal.py does) or index anything.

Why canonical: selectors that are written differently and mean the same share one group, one match and one kernel set.
For that each key's requirements are narrowed (narrow.py) to the least that says the same; a contradiction makes the
whole selector NOTHING.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from manx_core.selectors.narrow import Labels, Operator, Requirement, narrow

__all__ = [
    "EVERYTHING", "NOTHING", "Labels", "Operator", "Pair", "Requirement", "Selector", "Selects", "conjunction",
    "equals", "exists",
]  # fmt: skip

Pair = tuple[str, str | None]
"""A label's key and value; None for any value."""


class Selects(Protocol):
    """What matching needs of a selector, of whatever grammar."""

    @property
    def key(self) -> str:
        """The canonical text: selectors with the same text match the same labels."""
        ...

    @property
    def reads(self) -> frozenset[str]:
        """The label keys on which the answer depends."""
        ...

    def matches(self, labels: Labels) -> bool: ...

    def anchors(self) -> tuple[tuple[Pair, ...], ...]:
        """Each member is a set of pairs of which labels that match have at least one. Empty: no such set is known."""
        ...


@dataclass(frozen=True)
class Selector:
    """A conjunction in canonical form. Made by `conjunction`; the constructor takes requirements as they are."""

    requirements: tuple[Requirement, ...] = ()

    @cached_property
    def key(self) -> str:
        """The canonical text, as kubectl would take it where every key and value is legal; "all()" and "none()"."""
        if self == NOTHING:
            return "none()"
        return ",".join(map(str, self.requirements)) or "all()"

    @cached_property
    def reads(self) -> frozenset[str]:
        return frozenset(requirement.key for requirement in self.requirements)

    @cached_property
    def by_key(self) -> dict[str, tuple[Requirement, ...]]:
        """The requirements on each key, in their order."""
        found: dict[str, tuple[Requirement, ...]] = {}
        for requirement in self.requirements:
            found[requirement.key] = (*found.get(requirement.key, ()), requirement)
        return found

    def matches(self, labels: Labels) -> bool:
        for requirement in self.requirements:  # noqa: SIM110 (a generator costs more than the requirements)
            if not requirement.matches(labels):
                return False
        return True

    def anchors(self) -> tuple[tuple[Pair, ...], ...]:
        return tuple(_anchor(requirement) for requirement in self.requirements if _needs_label(requirement))

    def prefixed(self, prefix: str) -> Selector:
        """The same requirements on the labels whose keys have that prefix."""
        return Selector(tuple(r._replace(key=prefix + r.key) for r in self.requirements))


EVERYTHING = Selector()
NOTHING = Selector((Requirement("", "In"),))


def conjunction(requirements: Iterable[Requirement]) -> Selector:
    """The canonical selector of all that matches every requirement."""
    by_key: dict[str, list[Requirement]] = {}
    for requirement in requirements:
        by_key.setdefault(requirement.key, []).append(requirement)
    narrowed = [narrow(key, by_key[key]) for key in sorted(by_key)]
    if any(part is None for part in narrowed):
        return NOTHING
    return Selector(tuple(requirement for part in narrowed if part for requirement in part))


def equals(key: str, value: str) -> Requirement:
    return Requirement(key, "In", (value,))


def exists(key: str) -> Requirement:
    return Requirement(key, "Exists")


def _needs_label(requirement: Requirement) -> bool:
    return not requirement.holds_for_none


def _anchor(requirement: Requirement) -> tuple[Pair, ...]:
    if requirement.operator == "In":
        return tuple((requirement.key, value) for value in requirement.values)
    return ((requirement.key, None),)
