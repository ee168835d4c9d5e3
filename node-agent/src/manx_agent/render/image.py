"""What the kernel holds, or should hold, of ours: chains, the jumps to them, and sets.

Owns: the types that rendering, planning and reading back share, and the hash in each rule's comment.
Must not: do I/O, or know what any rule is for.

A rule is text as `iptables-save` prints it, without its leading `-A CHAIN`: what we wanted and what the kernel says can
be compared as they stand, and what we read can be written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Literal

Table = Literal["raw", "filter", "nat", "raw6", "filter6", "nat6"]
"""A table of IPv4, or with a 6 at its end of IPv6."""

Rules = tuple[str, ...]
"""A chain's rules, in order."""
Chains = Mapping[str, Rules]

Jumps = tuple[tuple[int, str], ...]
"""Our rules in a chain that is not ours: (position, rule), positions counted from 0, or where ours are to stand last
from -1 backwards."""

FIRST, LAST = 0, -1

SetKind = Literal["hash:net", "hash:ip,port", "hash:net,iface"]

COMMENT = '-m comment --comment "manx:'


@dataclass(frozen=True, slots=True)
class SetImage:
    """An ipset. `members` are written as `ipset save` prints them."""

    kind: str
    members: frozenset[str] = frozenset()
    family: Literal["inet", "inet6"] = "inet"


def changes(have: frozenset[str], wanted: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The members to add and those to remove. Where there are only the ones or only the others, as is the rule, large
    sets are gone through once: the counts say that nothing is left."""
    if len(wanted) < len(have):
        removed, added = changes(wanted, have)
        return added, removed
    added = wanted - have
    removed = have - wanted if len(have) + len(added) > len(wanted) else frozenset()
    return added, removed


@dataclass(frozen=True, slots=True)
class Image:
    """All of ours in one kernel, either as it should be or as it was read."""

    chains: Mapping[Table, Chains] = field(default_factory=dict)
    jumps: Mapping[tuple[Table, str], Jumps] = field(default_factory=dict)
    """By table and built-in chain. A built-in chain in which we have no rule is absent."""
    sets: Mapping[str, SetImage] = field(default_factory=dict)


def seal(chain: str, rules: Iterable[str], labels: Sequence[str] = ()) -> Rules:
    """Adds to each rule, before its target, a comment with a hash of the chain, the position and the rule, and with its
    label, for people, where there is one.

    Rules are given as "MATCHES -j TARGET" or "MATCHES -g CHAIN"; the matches may be empty.
    """
    named = zip_longest(rules, labels, fillvalue="")
    return tuple(_sealed(f"{chain} {position} {rule}", rule, label) for position, (rule, label) in enumerate(named))


def _sealed(identity: str, rule: str, label: str) -> str:
    mark = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    matches, target = _split_target(rule)
    said = f" {label}" if label else ""
    return f'{matches}{COMMENT}{mark}{said}" {target}'


def unsealed(rule: str) -> str:
    """The rule without our comment."""
    before, found, after = rule.partition(COMMENT)
    return before + after.partition('" ')[2] if found else rule


def hash_of(rule: str) -> str:
    """The hash in the rule's comment; empty where there is none."""
    return _comment(rule).partition(" ")[0]


def label_of(rule: str) -> str:
    """The label in the rule's comment; empty where there is none."""
    return _comment(rule).partition(" ")[2]


def _comment(rule: str) -> str:
    return rule.partition(COMMENT)[2].partition('"')[0]


_TARGET = re.compile(r"(?:^|(?<= ))-[jg] ")


def _split_target(rule: str) -> tuple[str, str]:
    """A rule's matches, ending in a space unless empty, and its target."""
    found = _TARGET.search(rule)
    at = found.start() if found else len(rule)
    return rule[:at], rule[at:]
