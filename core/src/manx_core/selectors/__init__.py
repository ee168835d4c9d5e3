"""Selectors over labels: parsing, evaluation, and matching many of them against many label sets.

Owns: the canonical form in which selectors are compared, and the two indices (a plain one and a fast one).
Must not: know what carries the labels, or what a match is good for.

Why a room of its own: every policy kind selects by labels, with a grammar of its own. Each grammar is parsed into
something that has the four members of `Selects`; matching knows no more than that.
"""

from manx_core.selectors.incremental import IncrementalIndex
from manx_core.selectors.index import Change, LinearIndex
from manx_core.selectors.kubernetes import (
    InvalidSelector,
    SelectorProblem,
    check_label_selector,
    parse_label_selector,
)
from manx_core.selectors.normal import normalize
from manx_core.selectors.selector import (
    EVERYTHING,
    NOTHING,
    Blank,
    Labels,
    Pair,
    Requirement,
    Selector,
    Selects,
    conjunction,
    equals,
    exists,
)

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "Blank",
    "Change",
    "IncrementalIndex",
    "InvalidSelector",
    "Labels",
    "LinearIndex",
    "Pair",
    "Requirement",
    "Selector",
    "SelectorProblem",
    "Selects",
    "check_label_selector",
    "conjunction",
    "equals",
    "exists",
    "normalize",
    "parse_label_selector",
]
