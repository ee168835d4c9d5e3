"""Conjunctions joined by "or": the fewest that say the same.

Owns: the dropping of conjunctions that imply others, and the union of those that differ in one key only.
Must not: look for the least form there is (that is hard); it finds what people write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from manx_core.selectors.narrow import narrow
from manx_core.selectors.selector import NOTHING, Requirement, Selector, conjunction

_PASSES = 8
_MOST_COMPARED = 200
"""Of more terms than these, not each is compared with each: that is quadratic."""


class _Values(NamedTuple):
    """What one label may be: absent, or one of `values`, or (where `but`) anything but those."""

    absent: bool
    but: bool
    values: frozenset[str]


def unite(terms: Iterable[Selector]) -> list[Selector]:
    """Conjunctions of which one matches exactly where one of the terms does, none of them needless."""
    found = _needed(terms)
    for _ in range(_PASSES):
        before = found
        for key in _keys_of_several(found):
            found = _united_on(key, found)
        if found == before:
            break
        found = _needed(found)
    return found


def _keys_of_several(terms: list[Selector]) -> list[str]:
    """The keys that two terms or more read, sorted."""
    if len(terms) < 2:
        return []
    counts = Counter(key for term in terms for key in term.reads)
    return sorted(key for key, count in counts.items() if count > 1)


def _needed(terms: Iterable[Selector]) -> list[Selector]:
    """Those that imply no other, sorted."""
    found = [term for term in dict.fromkeys(terms) if term != NOTHING]
    if len(found) < 2:
        return found
    found.sort(key=lambda term: term.key)
    if len(found) > _MOST_COMPARED:
        return found
    return [one for one in found if not any(_implies(one, other) for other in found if other != one)]


def _implies(one: Selector, other: Selector) -> bool:
    """Whether the first matches nothing that the second does not. May miss it, never invents it."""
    if not other.reads <= one.reads:
        return False
    mine = one.by_key
    return all(mine[key] == asked or narrow(key, mine[key] + asked) == mine[key] for key, asked in other.by_key.items())


def _united_on(key: str, terms: list[Selector]) -> list[Selector]:
    """Those that are alike but for what they ask of that key, as one, where that can be said; else the list itself."""
    alike: dict[tuple[Requirement, ...], list[Selector]] = {}
    for term in terms:
        on_key = [requirement for requirement in term.requirements if requirement.key == key]
        if on_key and not any(requirement.is_text for requirement in on_key):
            rest = tuple(requirement for requirement in term.requirements if requirement.key != key)
            alike.setdefault(rest, []).append(term)
    united = list(terms)
    for rest, several in alike.items():
        if len(several) > 1:
            union = _requirements(key, _union([_values(key, term) for term in several]))
            united = [term for term in united if term not in several]
            united += [conjunction([*rest, *requirements]) for requirements in union]
    return terms if set(united) == set(terms) else united


def _values(key: str, term: Selector) -> _Values:
    absent, but, values = True, True, frozenset[str]()
    for requirement in (one for one in term.requirements if one.key == key):
        absent = absent and requirement.holds_for_none
        if requirement.operator != "Exists":
            but = requirement.operator == "NotIn"
            values = frozenset(requirement.values)
    return _Values(absent, but, values)


def _union(several: list[_Values]) -> _Values:
    absent = any(one.absent for one in several)
    named = frozenset[str]().union(*(one.values for one in several if not one.but))
    excepted = [one.values for one in several if one.but]
    if excepted:
        return _Values(absent, True, frozenset.intersection(*excepted) - named)
    return _Values(absent, False, named)


def _requirements(key: str, values: _Values) -> list[list[Requirement]]:
    """The conjunctions of requirements of which one must hold."""
    listed = tuple(sorted(values.values))
    if values.but:
        exclusion = [Requirement(key, "NotIn", listed)] if listed else []
        return [exclusion if values.absent else [Requirement(key, "Exists"), *exclusion]]
    named = [[Requirement(key, "In", listed)]] if listed else []
    return [*named, [Requirement(key, "DoesNotExist")]] if values.absent else named
