"""Which of ExaBGP's neighbors a command names.

Owns: that comparison. Must not: import anything beyond the standard library. ExaBGP's own compares each neighbor with
each description by regular expressions: with 200 neighbors half of the time that an announcement to all of them takes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

ANY = "neighbor *"


def match_neighbors(names: Iterable[str], descriptions: Sequence[Sequence[str]]) -> list[str]:
    """Those of `names` ("neighbor 192.0.2.1 local-ip 192.0.2.2 local-as 64512 …") that have every part of one of the
    descriptions (["neighbor 192.0.2.1", "local-as 64512"]), in their order; all of them where there is none."""
    if not descriptions:
        return list(names)
    asked: dict[str, list[frozenset[str]]] = {}
    for description in descriptions:
        parts = frozenset(part.strip() for part in description)
        first = next((part for part in parts if part.startswith("neighbor ")), ANY)
        asked.setdefault(first, []).append(frozenset() if ANY in parts else parts)
    anybody = asked.get(ANY, [])
    return [name for name in names if _named(_parts(name), asked.get(_first(name), []), anybody)]


def _named(parts: frozenset[str], *descriptions: list[frozenset[str]]) -> bool:
    return any(one <= parts for some in descriptions for one in some)


@functools.lru_cache(maxsize=8192)
def _parts(name: str) -> frozenset[str]:
    words = name.split()
    return frozenset(f"{key} {value}" for key, value in zip(words[::2], words[1::2], strict=False))


@functools.lru_cache(maxsize=8192)
def _first(name: str) -> str:
    return " ".join(name.split(maxsplit=2)[:2])
