"""Calico's selectors, as far as they are evaluated today: those that select everything.

Owns: telling whether a selector selects everything. Must not: guess about any other.
"""

from __future__ import annotations


def selects_all(selector: str) -> bool:
    """Whether a selector is empty or `all()` (in whatever spacing), which both select everything."""
    return "".join(selector.split()) in ("", "all()")


def not_all(selector: str) -> str:
    """What to say of a selector that does not select everything."""
    return f"{selector!r} is not supported yet; must be all() or empty"
