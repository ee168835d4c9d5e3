"""Kubernetes' LabelSelector (meta/v1) → canonical selectors.

Owns: what is legal in a LabelSelector, and its meaning.
Must not: decide what an absent selector means; that differs from field to field.

Values need not be legal label values: one that is not matches no label, which needs no rule of its own (the API server
too lets old objects keep them). Keys must be legal, because what is not one may mean something else inside Manx.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple, cast

from manx_core.api.core_v1 import LabelSelector, LabelSelectorRequirement
from manx_core.selectors.selector import EVERYTHING, Operator, Requirement, Selector, conjunction, equals

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_WITH_VALUES = ("In", "NotIn")
_KEY = re.compile(
    r"(?:(?=.{1,253}/)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?(?=.{1,63}$)[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
)


class SelectorProblem(NamedTuple):
    """What is wrong: the field, relative to the selector, and what is allowed there."""

    field: str
    message: str


class InvalidSelector(ValueError):
    """A selector that means nothing; `problems` has at least one entry."""

    def __init__(self, problems: tuple[SelectorProblem, ...]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in problems))
        self.problems = problems


def parse_label_selector(selector: LabelSelector) -> Selector:
    """meta/v1: "The result of matchLabels and matchExpressions are ANDed. An empty label selector matches all objects."

    Raises InvalidSelector where an operator is unknown, a key is no label key, In or NotIn has no values, or Exists or
    DoesNotExist has some.
    """
    problems, parsed = _read(tuple(selector.match_labels.items()), selector.match_expressions)
    if problems:
        raise InvalidSelector(problems)
    return parsed


def check_label_selector(selector: LabelSelector) -> tuple[SelectorProblem, ...]:
    """All problems of a selector; empty where it is valid."""
    return _read(tuple(selector.match_labels.items()), selector.match_expressions)[0]


@lru_cache(maxsize=8192)
def _read(
    labels: tuple[tuple[str, str], ...], expressions: tuple[LabelSelectorRequirement, ...]
) -> tuple[tuple[SelectorProblem, ...], Selector]:
    """All problems of a selector, and, where there are none, what it means. Many policies select by the same labels."""
    problems = [SelectorProblem(f"matchLabels[{key}]", "must be a label's key") for key, _ in labels if _no_key(key)]
    for number, expression in enumerate(expressions):
        problems += _check_expression(f"matchExpressions[{number}]", expression)
    if problems:
        return tuple(problems), EVERYTHING
    pairs = [equals(key, value) for key, value in labels]
    return (), conjunction([*pairs, *(Requirement(e.key, cast(Operator, e.operator), e.values) for e in expressions)])


def _check_expression(field: str, expression: LabelSelectorRequirement) -> list[SelectorProblem]:
    if expression.operator not in OPERATORS:
        return [SelectorProblem(f"{field}.operator", f"{expression.operator!r} is none of {', '.join(OPERATORS)}")]
    problems = []
    if _no_key(expression.key):
        problems.append(SelectorProblem(f"{field}.key", f"{expression.key!r} is not a label's key"))
    if bool(expression.values) != (expression.operator in _WITH_VALUES):
        allowed = "at least one value" if expression.operator in _WITH_VALUES else "no values"
        problems.append(SelectorProblem(f"{field}.values", f"{expression.operator} takes {allowed}"))
    return problems


def _no_key(key: str) -> bool:
    return _KEY.fullmatch(key) is None
