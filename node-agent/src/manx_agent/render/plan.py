"""From what the kernel holds to what it should hold: which programs to run, on what input, in which order.

Owns: make before break. Must not: run anything, or know what any rule is for, save which chains dispatch by class.

1. `ipset restore`: new sets, filled; the changed members of sets that rules refer to, additions first; endpoints that
   are not isolated any more, into the sets of those, for step 2 may take the dispatch of their class away. (Endpoints'
   named ports come here, too.)
2. One `iptables-restore`, all tables: new and changed chains, the dispatch among them, and what is no longer referred
   to. A table's changes come into force at once.
3. `ipset restore`: endpoints in and out of their sets: into the new class before out of the old, and before out of
   the sets of those not isolated; an endpoint that goes, out of the set of all endpoints before out of its class, and
   its named ports last.
4. Only where an endpoint leaves a class that goes for one that was there already: the removal of that class from the
   dispatch, and of its chains. (In step 2 both classes are dispatched, and either decides about the endpoint until
   step 3 is through.)
5. Destroying the sets that nothing refers to any more.

Every step leaves a state in which each packet is judged by the old policy or by the new. Steps with nothing to do are
left out: a new endpoint of a known class is step 3 alone, a changed policy step 2 alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from manx_agent.render import names
from manx_agent.render.image import Chains, Image, Rules, SetImage, Table, changes, seal, unsealed

MAX_MEMBERS = 1048576
"""Members that a set may grow to; memory is taken only for those that there are."""

_SWAP_FROM = 1000
"""Changes from which on a set may be cheaper to build anew."""


@dataclass(frozen=True, slots=True)
class Step:
    """One program to run: "sets" is `ipset -exist restore`, "rules" iptables-restore and "rules6" ip6tables-restore,
    each with --noflush; "destroy" is one set's name a line (they may be busy)."""

    kind: Literal["sets", "rules", "rules6", "destroy"]
    text: str


def plan(known: Image, desired: Image) -> tuple[Step, ...]:
    """The steps from one image to another. Nothing to do: no steps."""
    halfway = _halfway(known, desired)
    references, members = _set_lines(known.sets, desired.sets)
    rules = _rule_steps(known, halfway or desired, removing=halfway is None)
    steps = [_step("sets", [*references, *([] if rules else members)]), *rules]
    steps.append(_step("sets", members if rules else []))
    if halfway is not None:
        steps.extend(_rule_steps(halfway, desired, removing=True))
    steps.append(_step("destroy", sorted(known.sets.keys() - desired.sets.keys())))
    return tuple(step for step in steps if step is not None)


def _step(kind: Literal["sets", "destroy"], lines: Iterable[str]) -> Step | None:
    text = "".join(f"{line}\n" for line in lines)
    return Step(kind, text) if text else None


# --- Sets ----------------------------------------------------------------------------------------------------------


def _set_lines(known: Mapping[str, SetImage], desired: Mapping[str, SetImage]) -> tuple[list[str], list[str]]:
    """The lines of step 1 and those of step 3."""
    references: list[str] = []
    additions: list[str] = []
    removals: list[str] = []
    moves = _Moves()
    for name, wanted in [(name, wanted) for name, wanted in desired.items() if known.get(name) is not wanted]:
        have = known.get(name)
        if have is None:
            references.extend(_creation(name, wanted))
            continue
        come, gone = changes(have.members, wanted.members)
        adds = [f"add {name} {member}" for member in sorted(come)]
        dels = [f"del {name} {member}" for member in sorted(gone)]
        if names.is_open_set(name):
            additions += adds
            moves.out_of_class += dels
        elif names.is_own_ports(name):
            additions += adds
            moves.out_of_ports += dels
        elif names.is_endpoint_set(name):
            moves.add(name, adds, dels)
        elif len(adds) + len(dels) >= max(_SWAP_FROM, len(wanted.members) + 1):
            references.extend(_rebuilding(name, wanted))
        else:
            additions += adds
            removals += dels
    return [*references, *additions, *removals], moves.lines()


def _creation(name: str, wanted: SetImage) -> list[str]:
    lines = [f"create {name} {wanted.kind} family {wanted.family} hashsize 64 maxelem {MAX_MEMBERS}"]
    return lines + [f"add {name} {member}" for member in sorted(wanted.members)]


def _rebuilding(name: str, wanted: SetImage) -> list[str]:
    other = names.temporary(name)
    create, *adds = _creation(other, wanted)
    return [create, f"flush {other}", *adds, f"swap {other} {name}", f"destroy {other}"]


class _Moves:
    """The changes of endpoints' sets, each kind of them to be done before the next."""

    def __init__(self) -> None:
        self.into_class: list[str] = []
        self.into_all: list[str] = []
        self.out_of_all: list[str] = []
        self.out_of_class: list[str] = []
        self.out_of_ports: list[str] = []

    def add(self, name: str, adds: Iterable[str], dels: Iterable[str]) -> None:
        everyone = names.is_everyone(name)
        into, out = (self.into_all, self.out_of_all) if everyone else (self.into_class, self.out_of_class)
        into.extend(adds)
        out.extend(dels)

    def lines(self) -> list[str]:
        return [*self.into_class, *self.into_all, *self.out_of_all, *self.out_of_class, *self.out_of_ports]


# --- Rules ---------------------------------------------------------------------------------------------------------


def _rule_steps(known: Image, desired: Image, removing: bool) -> list[Step]:
    """At most one step for each family of addresses."""
    texts: dict[Literal["rules", "rules6"], str] = {"rules": "", "rules6": ""}
    tables = [*desired.chains, *(table for table in known.chains if table not in desired.chains)]
    tables += sorted({table for table, _ in known.jumps if table not in tables})
    for table in tables:
        lines = _table_lines(table, known, desired, removing)
        if lines:
            body = "".join(f"{line}\n" for line in lines)
            texts["rules6" if table.endswith("6") else "rules"] += f"*{table.rstrip('6')}\n{body}COMMIT\n"
    return [Step(kind, text) for kind, text in texts.items() if text]


def _table_lines(table: Table, known: Image, desired: Image, removing: bool) -> list[str]:
    """One table's part of an iptables-restore. Chains are declared (which empties them), then jumps moved, then rules
    written, then what is left over deleted, so that no line refers to what is not there."""
    have, want = known.chains.get(table, {}), desired.chains.get(table, {})
    if have is want and known.jumps is desired.jumps:
        return []
    changed = [name for name, rules in want.items() if name not in have or not _same(have[name], rules)]
    gone = sorted(have.keys() - want.keys()) if removing else []
    lines = [f":{name} - [0:0]" for name in (*changed, *gone)]
    lines += _jump_lines(table, known, desired, removing)
    lines += [f"-A {name} {rule}" for name in changed for rule in want[name]]
    return lines + [f"-X {name}" for name in gone]


def _same(have: Rules, want: Rules) -> bool:
    return have is want or have == want


def _jump_lines(table: Table, known: Image, desired: Image, removing: bool) -> list[str]:
    lines = []
    places = {place for place in (*known.jumps, *desired.jumps) if place[0] == table}
    for place in sorted(places):
        have, want = known.jumps.get(place, ()), desired.jumps.get(place, ())
        if have != want and (want or removing):
            lines += [f"-D {place[1]} {rule}" for _, rule in have]
            lines += [
                f"-A {place[1]} {rule}" if index < 0 else f"-I {place[1]} {index + 1} {rule}" for index, rule in want
            ]
    return lines


# --- Classes that go while endpoints leave them --------------------------------------------------------------------

_DISPATCHED = re.compile(r"--match-set (\S+) ")
_DISPATCH = (names.FROM, names.INBOUND)


def _halfway(known: Image, desired: Image) -> Image | None:
    """The desired image, with the dispatch also of those classes that go and that endpoints leave for another. None
    where there are none."""
    leaving = _leaving(known.sets, desired.sets)
    if not leaving:
        return None
    chains: dict[Table, Chains] = {
        table: {**known.chains.get(table, {}), **desired.chains.get(table, {})}
        for table in dict.fromkeys((*desired.chains, *known.chains))
    }
    for table in ("filter", "filter6"):
        chains[table] = {**chains.get(table, {}), **_dispatch(table, known, desired, leaving)}
    return replace(desired, chains=chains, jumps={**known.jumps, **desired.jumps})


def _dispatch(table: Table, known: Image, desired: Image, leaving: set[str]) -> Chains:
    have, want = known.chains.get(table, {}), desired.chains.get(table, {})
    return {name: _merged(name, have.get(name, ()), want[name], leaving) for name in _DISPATCH if name in want}


def _leaving(known: Mapping[str, SetImage], desired: Mapping[str, SetImage]) -> set[str]:
    """The sets of classes that go and have a member that step 3 puts elsewhere. (A member of a new set is there from
    step 1 on.)"""
    going = {name for name in known.keys() - desired.keys() if names.is_class_set(name)}
    if not going:
        return going
    shared = [name for name in known.keys() & desired.keys() if names.is_class_set(name)]
    moving = frozenset().union(*(desired[name].members - known[name].members for name in shared))
    return {name for name in going if known[name].members & moving}


def _merged(chain: str, have: Rules, want: Rules, leaving: set[str]) -> Rules:
    """The wanted chain with the old dispatch of `leaving`, before the denial at its end."""
    old = [rule for rule in map(unsealed, have) if (found := _DISPATCHED.search(rule)) and found[1] in leaving]
    rules = [*map(unsealed, want)]
    end = next(at for at, rule in enumerate(rules) if rule.startswith("-j "))
    return seal(chain, [*rules[:end], *old, *rules[end:]])
