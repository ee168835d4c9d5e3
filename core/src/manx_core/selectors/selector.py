"""Selectors in canonical form: conjunctions of requirements on labels.

Owns: what a selector means, and the one form that all equivalent conjunctions share.
Must not: parse any user's grammar (kubernetes.py and calico.py do), combine by "or" (normal.py does) or index anything.

Why canonical: selectors that are written differently and mean the same share one group, one match and one kernel set.
For that each key's requirements are narrowed (narrow.py) to the least that says the same; a contradiction makes the
whole selector NOTHING.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from manx_core.selectors.narrow import HOLD_FOR_NONE, Labels, Operator, Requirement, narrow

__all__ = [
    "EVERYTHING", "NOTHING", "Blank", "Labels", "Operator", "Pair", "Requirement", "Selector", "Selects", "conjunction",
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


class Selector:
    """A conjunction in canonical form. Made by `conjunction`; the constructor takes requirements as they are. Never
    altered; equal where the requirements are."""

    __slots__ = ("_by_key", "_key", "requirements")

    def __init__(self, requirements: tuple[Requirement, ...] = (), key: str | None = None) -> None:
        """`key`: the canonical text, where it is known already."""
        self.requirements = requirements
        self._key = key
        self._by_key: dict[str, tuple[Requirement, ...]] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and self.requirements == other.requirements

    def __hash__(self) -> int:
        return hash(self.requirements)

    def __repr__(self) -> str:
        return f"Selector<{self.key}>"

    @property
    def key(self) -> str:
        """The canonical text, as kubectl would take it where every key and value is legal; "all()" and "none()"."""
        if self._key is None:
            self._key = "none()" if self == NOTHING else ",".join(map(_text, self.requirements)) or "all()"
        return self._key

    @property
    def reads(self) -> frozenset[str]:
        return _all_of(tuple([requirement[0] for requirement in self.requirements]))

    @property
    def by_key(self) -> dict[str, tuple[Requirement, ...]]:
        """The requirements on each key, in their order."""
        if self._by_key is None:
            self._by_key = {}
            for requirement in self.requirements:
                self._by_key[requirement.key] = (*self._by_key.get(requirement.key, ()), requirement)
        return self._by_key

    def matches(self, labels: Labels) -> bool:
        for requirement in self.requirements:  # (a generator costs more than the requirements)
            key, operator, values = requirement
            if operator == "In":
                if labels.get(key) not in values:
                    return False
            elif not requirement.matches(labels):
                return False
        return True

    def anchors(self) -> tuple[tuple[Pair, ...], ...]:
        return tuple([_anchor(one) for one in self.requirements if one[1] not in HOLD_FOR_NONE])

    def prefixed(self, prefix: str) -> Selector:
        """The same requirements on the labels whose keys have that prefix."""
        return Selector(tuple(r._replace(key=prefix + r.key) for r in self.requirements))

    def narrowed(self, others: Sequence[Requirement]) -> Selector:
        """What matches this and the others, which are canonical, and on keys that this does not read."""
        if self == NOTHING:
            return self
        return Selector(tuple(sorted([*self.requirements, *others], key=_key)))


class Blank:
    """A conjunction in which one label's one value is left open: what many namespaces' selectors have in common."""

    __slots__ = ("_after", "_before", "_label", "_texts")

    def __init__(self, selector: Selector, label: str) -> None:
        """`selector` asks that this label be one value, whichever. Raises ValueError where it does not."""
        asked = selector.by_key.get(label, ())
        if len(asked) != 1 or asked[0].operator != "In" or len(asked[0].values) != 1:
            raise ValueError(f"{selector} does not ask for one value of {label!r}")
        place = selector.requirements.index(asked[0])
        self._label = label
        self._before, self._after = selector.requirements[:place], selector.requirements[place + 1 :]
        self._texts = (
            "".join(_text(one) + "," for one in self._before),
            "".join("," + _text(one) for one in self._after),
        )

    def filled(self, value: str) -> Selector:
        """The selector with this value."""
        asked, text = _equals(self._label, value)
        before, after = self._texts
        return Selector((*self._before, asked, *self._after), f"{before}{text}{after}")


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


@lru_cache(maxsize=1024)
def _equals(key: str, value: str) -> tuple[Requirement, str]:
    """A requirement, and its text."""
    asked = equals(key, value)
    return asked, str(asked)


@lru_cache(maxsize=8192)
def _text(requirement: Requirement) -> str:
    return str(requirement)


@lru_cache(maxsize=8192)
def _all_of(keys: tuple[str, ...]) -> frozenset[str]:
    """One value for all selectors that read the same."""
    return frozenset(keys)


def _key(requirement: Requirement) -> str:
    return requirement.key


@lru_cache(maxsize=8192)
def _anchor(requirement: Requirement) -> tuple[Pair, ...]:
    if requirement.operator == "In":
        return tuple((requirement.key, value) for value in requirement.values)
    return ((requirement.key, None),)
