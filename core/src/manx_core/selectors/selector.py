"""Selectors in canonical form: conjunctions of requirements on labels.

Owns: what a selector means, and the one form that all equivalent conjunctions share.
Must not: parse any user's grammar (kubernetes.py does) or index anything.

Why canonical: selectors that are written differently and mean the same share one group, one match and one kernel set.
For that each key's requirements are narrowed to the least that says the same: In (values that are possible), Exists
and NotIn, or DoesNotExist; a contradiction makes the whole selector NOTHING.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Labels = Mapping[str, str]
Pair = tuple[str, str | None]
"""A label's key and value; None for any value."""
Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]

_PLAIN = re.compile(r"[A-Za-z0-9_./:-]+")


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


class Requirement(NamedTuple):
    """One requirement on one label. In matches nothing where `values` is empty; NotIn matches where the label is
    absent (Kubernetes: "and all resources with no labels with the key")."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        if self.operator == "In":
            return value is not None and value in self.values
        if self.operator == "NotIn":
            return value is None or value not in self.values
        return (value is not None) == (self.operator == "Exists")

    def __str__(self) -> str:
        key, values = _quote(self.key), ",".join(map(_quote, self.values))
        if self.operator == "In":
            return f"{key}={values}" if len(self.values) == 1 else f"{key} in ({values})"
        if self.operator == "NotIn":
            return f"{key}!={values}" if len(self.values) == 1 else f"{key} notin ({values})"
        return key if self.operator == "Exists" else f"!{key}"


@dataclass(frozen=True, slots=True)
class Selector:
    """A conjunction in canonical form. Made by `conjunction`; the constructor takes requirements as they are."""

    requirements: tuple[Requirement, ...] = ()

    @property
    def key(self) -> str:
        """The canonical text, as kubectl would take it where every key and value is legal; "all()" and "none()"."""
        if self == NOTHING:
            return "none()"
        return ",".join(map(str, self.requirements)) or "all()"

    @property
    def reads(self) -> frozenset[str]:
        return frozenset(requirement.key for requirement in self.requirements)

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
    narrowed = [_narrow(key, by_key[key]) for key in sorted(by_key)]
    if any(part is None for part in narrowed):
        return NOTHING
    return Selector(tuple(requirement for part in narrowed if part for requirement in part))


def equals(key: str, value: str) -> Requirement:
    return Requirement(key, "In", (value,))


def exists(key: str) -> Requirement:
    return Requirement(key, "Exists")


def _narrow(key: str, requirements: list[Requirement]) -> tuple[Requirement, ...] | None:
    """The least that says the same of one key; None for a contradiction."""
    allowed = [frozenset(r.values) for r in requirements if r.operator == "In"]
    excluded = frozenset(v for r in requirements if r.operator == "NotIn" for v in r.values)
    present = bool(allowed) or any(r.operator == "Exists" for r in requirements)
    if any(r.operator == "DoesNotExist" for r in requirements):
        return None if present else (Requirement(key, "DoesNotExist"),)
    if allowed:
        possible = frozenset.intersection(*allowed) - excluded
        return (Requirement(key, "In", tuple(sorted(possible))),) if possible else None
    return _without_values(key, present, excluded)


def _without_values(key: str, present: bool, excluded: frozenset[str]) -> tuple[Requirement, ...]:
    existence = (Requirement(key, "Exists"),) if present else ()
    exclusion = (Requirement(key, "NotIn", tuple(sorted(excluded))),) if excluded else ()
    return existence + exclusion


def _needs_label(requirement: Requirement) -> bool:
    return requirement.operator in ("In", "Exists")


def _anchor(requirement: Requirement) -> tuple[Pair, ...]:
    if requirement.operator == "Exists":
        return ((requirement.key, None),)
    return tuple((requirement.key, value) for value in requirement.values)


def _quote(text: str) -> str:
    """Legal keys and values stay as they are; anything else is quoted, so that no two selectors share a text."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
