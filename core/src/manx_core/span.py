"""Spans: which nodes an object concerns, as labels that an agent's watch selects by.

Owns: the label keys, and when one label for every node replaces one for each.
Must not: know what the objects are.

Why labels: the API server filters a watch by them, so that an agent hears only its node's share without any server of
our own. A node's name may be longer than a label's, hence the hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from functools import lru_cache

PREFIX = "node.manx.dev/"
EVERYWHERE = "manx.dev/everywhere"
WIDEN_ABOVE = 50
NARROW_BELOW = 35


@lru_cache(maxsize=20_000)
def span_label(node: str) -> str:
    """The label key that a node's agent selects by: PREFIX and 16 hexadecimal digits of SHA-256 of its name."""
    return PREFIX + hashlib.sha256(node.encode()).hexdigest()[:16]


def span_labels(nodes: Collection[str], was_everywhere: bool) -> dict[str, str]:
    """Labels of an object that these nodes need; `was_everywhere` gives the hysteresis between the two forms."""
    limit = NARROW_BELOW - 1 if was_everywhere else WIDEN_ABOVE
    return {EVERYWHERE: ""} if len(nodes) > limit else _single(frozenset(nodes)).copy()


@lru_cache(maxsize=4096)
def _single(nodes: frozenset[str]) -> dict[str, str]:
    """What the same nodes need has the same labels, and is asked for them again and again."""
    return {span_label(node): "" for node in sorted(nodes)}


def spans(labels: Mapping[str, str], node: str) -> bool:
    """Whether an object with these labels is part of the node's share."""
    return EVERYWHERE in labels or span_label(node) in labels
