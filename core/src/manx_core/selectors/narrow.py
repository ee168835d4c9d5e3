"""Requirements on one label, and the least that says the same as several of them.

Owns: what a requirement means, and the canonical form of all requirements on one key.
Must not: know other keys, or parse.

The canonical form is one of: In (the values that are possible); DoesNotExist; or any of Exists, tests of the value's
text and NotIn, without those that the others imply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

Labels = Mapping[str, str]
Operator = Literal[
    "In", "NotIn", "Exists", "DoesNotExist",
    "Contains", "StartsWith", "EndsWith", "NotContains", "NotStartsWith", "NotEndsWith",
]  # fmt: skip

_TEXT_TESTS: dict[str, Callable[[str, str], bool]] = {
    "Contains": str.__contains__,
    "StartsWith": str.startswith,
    "EndsWith": str.endswith,
}
_TEXT_WORDS = {"Contains": "contains", "StartsWith": "starts with", "EndsWith": "ends with"}
_OPPOSITE: dict[Operator, Operator] = {
    "In": "NotIn", "Exists": "DoesNotExist",
    "Contains": "NotContains", "StartsWith": "NotStartsWith", "EndsWith": "NotEndsWith",
}  # fmt: skip
_OPPOSITE |= {negative: positive for positive, negative in _OPPOSITE.items()}
HOLD_FOR_NONE = frozenset({"NotIn", "DoesNotExist", "NotContains", "NotStartsWith", "NotEndsWith"})
_PLAIN = re.compile(r"[A-Za-z0-9_./:-]+")


class Requirement(NamedTuple):
    """One requirement on one label. In matches nothing where `values` is empty; NotIn, and the other negations, match
    where the label is absent (Kubernetes: "and all resources with no labels with the key"). Tests of text have one
    value."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        return self.holds(labels.get(self.key))

    def holds(self, value: str | None) -> bool:
        """Of the label's value; None where it is absent."""
        if self.operator == "In":
            return value is not None and value in self.values
        if self.operator == "NotIn":
            return value is None or value not in self.values
        if self.operator in ("Exists", "DoesNotExist"):
            return (value is not None) == (self.operator == "Exists")
        if self.operator in _TEXT_TESTS:
            return value is not None and _TEXT_TESTS[self.operator](value, self.values[0])
        return value is None or not _TEXT_TESTS[_OPPOSITE[self.operator]](value, self.values[0])

    @property
    def holds_for_none(self) -> bool:
        """Whether it matches where the label is absent."""
        return self.operator in HOLD_FOR_NONE

    @property
    def is_text(self) -> bool:
        """Whether it tests the value's text rather than whole values."""
        return self.operator in _TEXT_TESTS or _OPPOSITE[self.operator] in _TEXT_TESTS

    def opposite(self) -> Requirement:
        """What matches exactly where this does not."""
        return self._replace(operator=_OPPOSITE[self.operator])

    def __str__(self) -> str:
        key, values = _quote(self.key), ",".join(map(_quote, self.values))
        if self.operator == "In":
            return f"{key}={values}" if len(self.values) == 1 else f"{key} in ({values})"
        if self.operator == "NotIn":
            return f"{key}!={values}" if len(self.values) == 1 else f"{key} notin ({values})"
        if self.operator in ("Exists", "DoesNotExist"):
            return key if self.operator == "Exists" else f"!{key}"
        if self.operator in _TEXT_TESTS:
            return f"{key} {_TEXT_WORDS[self.operator]} {values}"
        return f"!{key} {_TEXT_WORDS[_OPPOSITE[self.operator]]} {values}"


def narrow(key: str, requirements: Iterable[Requirement]) -> tuple[Requirement, ...] | None:
    """The least that says the same as all of them, which are on that key; None for a contradiction."""
    found = [_without_empty_text(requirement) for requirement in requirements]
    if len(found) == 1 and (not found[0].values or found[0].operator == "In"):
        return _alone(found[0])
    absent_allowed = all(requirement.holds_for_none for requirement in found)
    if any(requirement.operator == "DoesNotExist" for requirement in found):
        return (Requirement(key, "DoesNotExist"),) if absent_allowed else None
    if any(requirement.operator == "In" for requirement in found):
        return _possible_values(key, found)
    texts = _needed_texts([requirement for requirement in found if requirement.is_text])
    if texts is None:
        return None
    excluded = _excluded(key, found, texts)
    implied = any(requirement.operator in _TEXT_TESTS for requirement in texts)
    existence = () if absent_allowed or implied else (Requirement(key, "Exists"),)
    return (*existence, *texts, *excluded)


def _alone(requirement: Requirement) -> tuple[Requirement, ...] | None:
    """Of one that is no test of text: values sorted, each once."""
    if requirement.operator == "In":
        values = requirement.values
        if not values:
            return None
        return (requirement if len(values) == 1 else requirement._replace(values=tuple(sorted(set(values)))),)
    return () if requirement.operator == "NotIn" else (requirement,)


def _without_empty_text(requirement: Requirement) -> Requirement:
    """Every value contains, starts with and ends with the empty text."""
    if requirement.is_text and requirement.values == ("",):
        return Requirement(requirement.key, "DoesNotExist" if requirement.holds_for_none else "Exists")
    return requirement


def _possible_values(key: str, requirements: list[Requirement]) -> tuple[Requirement, ...] | None:
    named = {value for requirement in requirements if requirement.operator == "In" for value in requirement.values}
    possible = sorted(value for value in named if all(requirement.holds(value) for requirement in requirements))
    return (Requirement(key, "In", tuple(possible)),) if possible else None


def _excluded(key: str, requirements: list[Requirement], texts: list[Requirement]) -> tuple[Requirement, ...]:
    """NotIn of the values that nothing else excludes."""
    named = {value for requirement in requirements if requirement.operator == "NotIn" for value in requirement.values}
    excluded = sorted(value for value in named if all(text.holds(value) for text in texts))
    return (Requirement(key, "NotIn", tuple(excluded)),) if excluded else ()


def _needed_texts(texts: Iterable[Requirement]) -> list[Requirement] | None:
    """Those that no other implies, sorted; None for a contradiction."""
    found = sorted(set(texts))
    if any(_implies(one, other.opposite()) for one in found for other in found):
        return None
    return [one for one in found if not any(_implies(other, one) for other in found if other != one)]


def _implies(one: Requirement, other: Requirement) -> bool:
    """Whether a test of text holds wherever the first does, as far as their texts alone tell."""
    if one.operator in _TEXT_TESTS and other.operator in _TEXT_TESTS:
        same_end = one.operator == other.operator or other.operator == "Contains"
        return same_end and _TEXT_TESTS[other.operator](one.values[0], other.values[0])
    if one.operator in _TEXT_TESTS or other.operator in _TEXT_TESTS:
        return False
    return _implies(other.opposite(), one.opposite())


def _quote(text: str) -> str:
    """Legal keys and values stay as they are; anything else is quoted, so that no two selectors share a text."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
