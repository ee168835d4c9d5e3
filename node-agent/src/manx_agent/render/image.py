"""What the kernel holds, or should hold, of ours: chains, the jumps to them, and sets.

Owns: the types that rendering, planning and reading back share, and the hash in each rule's comment.
Must not: do I/O, or know what any rule is for.

A rule is text as `iptables-save` prints it, without its leading `-A CHAIN`: what we wanted and what the kernel says can
be compared as they stand, and what we read can be written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Table = Literal["raw", "filter", "nat", "raw6", "filter6"]
"""A table of IPv4, or with a 6 at its end of IPv6."""

TABLES: tuple[Table, ...] = ("raw", "filter", "nat")
TABLES6: tuple[Table, ...] = ("raw6", "filter6")

Rules = tuple[str, ...]
"""A chain's rules, in order."""
Chains = Mapping[str, Rules]

Jumps = tuple[tuple[int, str], ...]
"""Our rules in a chain that is not ours: (position from 0, rule)."""

SetKind = Literal["hash:net", "hash:ip,port", "hash:net,iface"]

COMMENT = '-m comment --comment "manx:'


@dataclass(frozen=True, slots=True)
class SetImage:
    """An ipset. `members` are written as `ipset save` prints them."""

    kind: str
    members: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Image:
    """All of ours in one kernel, either as it should be or as it was read."""

    chains: Mapping[Table, Chains] = field(default_factory=dict)
    jumps: Mapping[tuple[Table, str], Jumps] = field(default_factory=dict)
    """By table and built-in chain. A built-in chain in which we have no rule is absent."""
    sets: Mapping[str, SetImage] = field(default_factory=dict)


def seal(chain: str, rules: Iterable[str]) -> Rules:
    """Adds to each rule, before its target, a comment with a hash of the chain, the position and the rule.

    Rules are given as "MATCHES -j TARGET" or "MATCHES -g CHAIN"; the matches may be empty.
    """
    return tuple(_sealed(f"{chain} {position} {rule}", rule) for position, rule in enumerate(rules))


def _sealed(identity: str, rule: str) -> str:
    mark = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    matches, target = _split_target(rule)
    return f'{matches}{COMMENT}{mark}" {target}'


def unsealed(rule: str) -> str:
    """The rule without our comment."""
    before, found, after = rule.partition(COMMENT)
    return before + after.partition('" ')[2] if found else rule


def hash_of(rule: str) -> str:
    """The hash in the rule's comment; empty where there is none."""
    return rule.partition(COMMENT)[2].partition('"')[0]


def _split_target(rule: str) -> tuple[str, str]:
    """A rule's matches, ending in a space unless empty, and its target."""
    at = max(rule.rfind("-j "), rule.rfind("-g "))
    return rule[:at], rule[at:]
