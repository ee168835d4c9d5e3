"""Finding an endpoint's class in few rules, however many classes a node has.

Owns: signs, the chains that ask for them, and who has which. Must not: decide anything about a packet. Whatever is
wrong in here costs time alone: only the set of a class leads to its chains, and what is not found here comes back.

Each class has two of some signs, chosen by a hash of its name, and each sign has a set of the endpoints of its classes.
A chain that dispatches asks for the first sign, then for the second, then for the few classes that have both:

```
manx-in          sign 0 → manx-in-0  … sign 11 → manx-in-11; what comes back: all classes, one after another
manx-in-3        sign 4 → manx-in-3-4  … sign 11 → manx-in-3-11
manx-in-3-7      a class's set → manx-ci-CLASS; another's …
```

- Of 250 classes the last one is found in some 20 rules instead of 250. A class alone behind a sign takes its place.
- An endpoint that moves to another class has signs of both for a moment. Then it may be found by none, comes back, and
  is decided by the dispatch that asks for all classes; it holds while sets change in whatever order.
- Two signs and no more: nf_tables lets chains be nested 15 deep, gotos included (NFT_JUMP_STACK_SIZE), and a packet
  between two pods of this node now takes all of them.
- There is nothing of it where packets that a class allows have to return to the built-in chain: they would come back
  in here, and meet their class a second time.
- A class's signs depend on its name and on the number of classes, by powers of two: as a rule a class that comes or
  goes changes no other's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import combinations

from manx_agent.render import names
from manx_agent.render.family import Family
from manx_agent.render.image import Rules, seal

FEW = 16
"""Classes that are asked for one after another."""
_SHARE = 4
"""Classes to a pair of signs, at most, on an average."""


@lru_cache(maxsize=1024)
def signs_for(classes: int) -> int:
    """How many signs there are for a number of classes; 0 for none."""
    if classes <= FEW:
        return 0
    wanted = (1 << (classes - 1).bit_length()) // _SHARE
    return next(signs for signs in range(2, classes + 2) if signs * (signs - 1) // 2 >= wanted)


@lru_cache(maxsize=64)
def _pairs(signs: int) -> tuple[tuple[int, int], ...]:
    """Those that are come to early more than once, for they may lead to more classes."""
    return tuple(pair for pair in combinations(range(signs), 2) for _ in range(signs - pair[1]))


@lru_cache(maxsize=65536)
def signs_of(name: str, signs: int) -> tuple[int, int]:
    """A class's two signs of so many, the lower one first."""
    pairs = _pairs(signs)
    return pairs[int(names.digest(name), 16) % len(pairs)]


def sign_members(members: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """The sets of signs, by name, given the members of the classes that are asked for."""
    signs = signs_for(len(members))
    sets: dict[str, set[str]] = {names.sign_set(signs, number): set() for number in range(signs)}
    if signs:
        for name, own in members.items():
            for number in signs_of(name, signs):
                sets[names.sign_set(signs, number)].update(own)
    return sets


def asking(
    chain: str, family: Family, side: str, signs: int, rules: Mapping[str, str]
) -> tuple[list[str], dict[str, Rules]]:
    """What stands in `chain` before the dispatch of `rules` (by class), and the chains below it. `side`: src or dst."""
    if not signs or len(rules) <= FEW:
        return [], {}
    below: dict[str, Rules] = {}

    def ask(number: int, verb: str, target: str, found: list[str]) -> str:
        below[target] = seal(target, found)
        return f"-m set --match-set {family.set(names.sign_set(signs, number))} {side},{side} {verb} {target}"

    front = []
    for first, of_second in _shared(rules, signs).items():
        under = f"{chain}-{first}"
        found = [rule for group in of_second.values() for rule in group]
        if len(of_second) > 1:
            found = [
                group[0] if len(group) == 1 else ask(second, "-g", f"{under}-{second}", group)
                for second, group in of_second.items()
            ]
        front.append(found[0] if len(found) == 1 else ask(first, "-j", under, found))
    return front, below


def _shared(rules: Mapping[str, str], signs: int) -> dict[int, dict[int, list[str]]]:
    """By first sign and by second, each in order."""
    found: dict[int, dict[int, list[str]]] = {}
    for (first, second), rule in sorted((signs_of(name, signs), rule) for name, rule in rules.items()):
        found.setdefault(first, {}).setdefault(second, []).append(rule)
    return found
