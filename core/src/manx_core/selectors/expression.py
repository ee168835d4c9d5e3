"""Selector expressions as trees, whatever grammar they were written in.

Owns: the nodes, what each of them means, and the rewriting of labels' keys. Must not: parse, or simplify.

An absent label makes `not in` true and every other test false.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from manx_core.selectors.selector import Labels

TestOperator = Literal["in", "not in", "contains", "starts with", "ends with", "has"]


@dataclass(frozen=True, slots=True)
class All:
    """Selects everything: `all()`."""


@dataclass(frozen=True, slots=True)
class Global:
    """Selects everything; where namespaces are selected: what is in none. `global()`."""


@dataclass(frozen=True, slots=True)
class LabelTest:
    """A test of one label. `==` is `in` with one value, `!=` is `not in` with one; `has` has no values, the other
    operators have one."""

    label: str
    operator: TestOperator
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    part: Expression


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Expression, ...]


Expression = All | Global | LabelTest | Not | And | Or


def holds(expression: Expression, labels: Labels) -> bool:
    """Whether the expression selects what has these labels: the plain meaning."""
    if isinstance(expression, LabelTest):
        return _test_holds(expression, labels.get(expression.label))
    if isinstance(expression, Not):
        return not holds(expression.part, labels)
    if isinstance(expression, And):
        return all(holds(part, labels) for part in expression.parts)
    if isinstance(expression, Or):
        return any(holds(part, labels) for part in expression.parts)
    return True


def rewrite(
    expression: Expression, key: Callable[[str], str], everything: Expression = All(), nowhere: Expression = Global()
) -> Expression:
    """The same expression over labels with other keys, and with other expressions for `all()` and `global()`."""
    if isinstance(expression, LabelTest):
        return LabelTest(key(expression.label), expression.operator, expression.values)
    if isinstance(expression, Not):
        return Not(rewrite(expression.part, key, everything, nowhere))
    if isinstance(expression, And | Or):
        return type(expression)(tuple(rewrite(part, key, everything, nowhere) for part in expression.parts))
    return everything if isinstance(expression, All) else nowhere


def labels_read(expression: Expression) -> frozenset[str]:
    """The labels that the expression names."""
    if isinstance(expression, LabelTest):
        return frozenset({expression.label})
    if isinstance(expression, Not):
        return labels_read(expression.part)
    if isinstance(expression, And | Or):
        return frozenset().union(*map(labels_read, expression.parts))
    return frozenset()


def _test_holds(test: LabelTest, value: str | None) -> bool:
    if test.operator == "not in":
        return value is None or value not in test.values
    if value is None:
        return False
    if test.operator == "in":
        return value in test.values
    if test.operator == "contains":
        return test.values[0] in value
    if test.operator == "starts with":
        return value.startswith(test.values[0])
    return test.operator == "has" or value.endswith(test.values[0])
