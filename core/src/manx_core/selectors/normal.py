"""Selector expressions → canonical selectors, so that equal ones share a key however they were written.

Owns: the canonical form of expressions with "or" and "not". Must not: parse, or know labels of any kind.

The form is a disjunction of conjunctions (`Selector`): negations are pushed down to single tests, "and" is multiplied
out, contradictions vanish, conjunctions that imply another of them are dropped, and those that differ in one key's
values only become one. A single conjunction is that `Selector` itself, as Kubernetes' selectors are. Where multiplying
out would give more than MOST_TERMS, the factors stay beside each other (`AllOf`): still right, only less often shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from manx_core.selectors.expression import And, Expression, LabelTest, Not, Or, TestOperator
from manx_core.selectors.selector import (
    EVERYTHING,
    NOTHING,
    Labels,
    Operator,
    Pair,
    Requirement,
    Selector,
    Selects,
    conjunction,
)
from manx_core.selectors.unite import unite

MOST_TERMS = 32

_OPERATORS: dict[TestOperator, Operator] = {
    "in": "In",
    "not in": "NotIn",
    "has": "Exists",
    "contains": "Contains",
    "starts with": "StartsWith",
    "ends with": "EndsWith",
}


class _Compound:
    """Several selectors as one. Equal where the keys are."""

    __slots__ = ("key", "parts", "reads")

    def __init__(self, parts: Iterable[Selects], glue: str) -> None:
        self.parts = tuple(sorted(parts, key=_key))
        self.key = glue.join(f"({part.key})" for part in self.parts)
        self.reads: frozenset[str] = frozenset().union(*(part.reads for part in self.parts))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Compound) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}<{self.key}>"


class AnyOf(_Compound):
    """What any of two or more selectors selects."""

    def __init__(self, parts: Iterable[Selects]) -> None:
        super().__init__(parts, " || ")

    def matches(self, labels: Labels) -> bool:
        return any(part.matches(labels) for part in self.parts)

    def anchors(self) -> tuple[tuple[Pair, ...], ...]:
        """One anchor of every part together; those on one key where all parts have one, and the tightest mixed one."""
        choices = [part.anchors() for part in self.parts]
        if not all(choices):
            return ()
        shared = frozenset.intersection(*(frozenset(map(_anchor_key, anchors)) for anchors in choices))
        keys = sorted(key for key in shared if key is not None)
        found = [_together(_on_key(anchors, key) for anchors in choices) for key in keys]
        found.append(_together(min(anchors, key=_looseness) for anchors in choices))
        return tuple(dict.fromkeys(found))


class AllOf(_Compound):
    """What all of two or more selectors select, one of them at least being an `AnyOf`."""

    def __init__(self, parts: Iterable[Selects]) -> None:
        super().__init__(parts, " && ")

    def matches(self, labels: Labels) -> bool:
        return all(part.matches(labels) for part in self.parts)

    def anchors(self) -> tuple[tuple[Pair, ...], ...]:
        return tuple(dict.fromkeys(anchor for part in self.parts for anchor in part.anchors()))


@lru_cache(maxsize=8192)
def normalize(expression: Expression) -> Selects:
    """The canonical selector of an expression. `global()` left in it counts as `all()`."""
    return _one_of(_terms(expression, False))


# --- terms: a disjunction, as the list of its parts ----------------------------------------------------------------


def _terms(expression: Expression, negated: bool) -> list[Selects]:
    if isinstance(expression, Not):
        return _terms(expression.part, not negated)
    if isinstance(expression, LabelTest):
        found = _test(expression, negated)
        return [] if found == NOTHING else [found]
    if isinstance(expression, And | Or):
        parts = [_terms(part, negated) for part in expression.parts]
        if isinstance(expression, And) != negated:
            return _product(parts)
        return _simplest([term for part in parts for term in part])
    return [] if negated else [EVERYTHING]


def _test(test: LabelTest, negated: bool) -> Selector:
    requirement = Requirement(test.label, _OPERATORS[test.operator], test.values)
    return conjunction([requirement.opposite() if negated else requirement])


def _product(parts: list[list[Selects]]) -> list[Selects]:
    """What is in all parts: multiplied out as far as that stays small, the smallest parts first."""
    terms: list[Selects] = _conjoined(parts)
    factors: list[Selects] = []
    several = (part for part in parts if len(part) != 1 or not isinstance(part[0], Selector))
    for part in sorted(several, key=lambda part: (len(part), [term.key for term in part])):
        if len(terms) * len(part) <= MOST_TERMS and all(isinstance(term, Selector) for term in part):
            terms = _simplest([_both(one, other) for one in terms for other in part])
        else:
            factors.append(_one_of(part))
    if not factors or not terms:
        return terms
    whole = _one_of(terms)
    beside = [] if whole == EVERYTHING else [whole]
    return [_all_of([*beside, *factors])]


def _conjoined(parts: list[list[Selects]]) -> list[Selects]:
    """What is in all parts that are one conjunction each."""
    alone = [part[0] for part in parts if len(part) == 1]
    whole = conjunction(r for term in alone if isinstance(term, Selector) for r in term.requirements)
    return [] if whole == NOTHING else [whole]


def _both(one: Selects, other: Selects) -> Selector:
    if not (isinstance(one, Selector) and isinstance(other, Selector)):
        raise TypeError("only conjunctions are multiplied out")
    return conjunction(one.requirements + other.requirements)


def _one_of(terms: Sequence[Selects]) -> Selects:
    if not terms:
        return NOTHING
    return terms[0] if len(terms) == 1 else AnyOf(terms)


def _all_of(factors: Iterable[Selects]) -> Selects:
    """Factors of factors are factors; each once."""
    flat: dict[str, Selects] = {}
    for factor in factors:
        for part in factor.parts if isinstance(factor, AllOf) else (factor,):
            flat[part.key] = part
    return next(iter(flat.values())) if len(flat) == 1 else AllOf(flat.values())


def _simplest(terms: Iterable[Selects]) -> list[Selects]:
    """The terms that are needed, sorted by key."""
    terms = list(terms)
    if len(terms) < 2:
        return [term for term in terms if term != NOTHING]
    conjunctions = unite(term for term in terms if isinstance(term, Selector))
    if EVERYTHING in conjunctions:
        return [EVERYTHING]
    others = {term.key: term for term in terms if not isinstance(term, Selector)}
    return sorted([*conjunctions, *others.values()], key=_key)


# --- anchors ----------------------------------------------------------------------------------------------------------


def _key(selector: Selects) -> str:
    return selector.key


def _together(anchors: Iterable[tuple[Pair, ...]]) -> tuple[Pair, ...]:
    return tuple(dict.fromkeys(pair for anchor in anchors for pair in anchor))


def _anchor_key(anchor: tuple[Pair, ...]) -> str | None:
    """The one key of all its pairs; None where there are several."""
    keys = {key for key, _ in anchor}
    return keys.pop() if len(keys) == 1 else None


def _on_key(anchors: tuple[tuple[Pair, ...], ...], key: str) -> tuple[Pair, ...]:
    return min((anchor for anchor in anchors if _anchor_key(anchor) == key), key=_looseness)


def _looseness(anchor: tuple[Pair, ...]) -> tuple[int, int]:
    """Labels of any value are worse than any number of values."""
    return sum(value is None for _, value in anchor), len(anchor)
