"""From what the kernel holds to what it should hold: which programs to run, on what input, in which order.

Owns: make before break. Must not: run anything, or know what any rule is for, save which chains dispatch by class.

1. `ipset restore`: new sets, filled; the changed members of sets that rules refer to, additions first. (Endpoints'
   named ports come here, too.)
2. Only where endpoints become isolated: what they need for that and is not there, that is new chains, and the dispatch
   of classes in directions in which there was none. Nothing that there is becomes another.
3. `ipset restore`, what closes: endpoints into their new classes, those that go out of the set of all endpoints, those
   that are isolated now out of the sets of those not isolated.
4. One `iptables-restore`, all tables: all that changes, the dispatch among them, and what is no longer referred to. A
   table's changes come into force at once. Where endpoints are not isolated any more, what isolates them stays.
5. `ipset restore`, what opens: endpoints into the sets of those not isolated and into the set of all; then out of their
   old classes; their named ports last.
6. What has stayed in step 4 goes.
7. Destroying the sets that nothing refers to any more.

Every step leaves a state in which each packet is judged by the old policy or by the new. That takes closing before
opening: a packet between two pods of this node is let through by both, and a policy that isolated the receiver and now
isolates the sender denies it before and after, but not between an opening of the one and the closing of the other.

Steps with nothing to do are left out: a new endpoint of a known class is step 5 alone (with what of step 3 it needs), a
changed policy step 4 alone, pods isolated by their first policy 1, 2 and 3, pods that have lost their last 5 and 6.
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
    references, moves = _set_lines(known.sets, desired.sets)
    added = _with_additions(known, desired) if moves.closed else known
    halfway = _with_remains(known, desired) if moves.opened else desired
    steps = [
        *_steps("sets", references),
        *_rule_steps(known, added, removing=False),
        *_steps("sets", moves.before()),
        *_rule_steps(added, halfway, removing=halfway is desired),
        *_steps("sets", moves.after()),
        *_rule_steps(halfway, desired, removing=True),
    ]
    return (*_run_together(steps), *_steps("destroy", sorted(known.sets.keys() - desired.sets.keys())))


def _steps(kind: Literal["sets", "destroy"], lines: Iterable[str]) -> list[Step]:
    text = "".join(f"{line}\n" for line in lines)
    return [Step(kind, text)] if text else []


def _run_together(steps: Iterable[Step]) -> list[Step]:
    """Of changes to sets that follow each other, one."""
    found: list[Step] = []
    for step in steps:
        if found and step.kind == found[-1].kind == "sets":
            step = Step("sets", found.pop().text + step.text)
        found.append(step)
    return found


# --- Sets ----------------------------------------------------------------------------------------------------------


def _set_lines(known: Mapping[str, SetImage], desired: Mapping[str, SetImage]) -> tuple[list[str], _Moves]:
    """The lines of step 1, and the moves of steps 3 and 5."""
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
        if names.is_own_ports(name):
            additions += adds
            moves.out_of_ports += dels
        elif names.is_endpoint_set(name):
            moves.add(name, adds, dels)
        elif len(adds) + len(dels) >= max(_SWAP_FROM, len(wanted.members) + 1):
            references.extend(_rebuilding(name, wanted))
        else:
            additions += adds
            removals += dels
    return [*references, *additions, *removals], moves


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
        self.out_of_all: list[str] = []
        self.closed: list[str] = []
        self.opened: list[str] = []
        self.into_all: list[str] = []
        self.out_of_class: list[str] = []
        self.out_of_ports: list[str] = []

    def add(self, name: str, adds: Iterable[str], dels: Iterable[str]) -> None:
        into, out = self.into_class, self.out_of_class
        if names.is_everyone(name):
            into, out = self.into_all, self.out_of_all
        elif names.is_open_set(name):
            into, out = self.opened, self.closed
        into.extend(adds)
        out.extend(dels)

    def before(self) -> list[str]:
        """Those of step 3."""
        return [*self.into_class, *self.out_of_all, *self.closed]

    def after(self) -> list[str]:
        """Those of step 5."""
        return [*self.opened, *self.into_all, *self.out_of_class, *self.out_of_ports]


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


# --- What is there beside what shall be ----------------------------------------------------------------------------

_ASKED = re.compile(r"--match-set (\S+) ")


def _with_additions(known: Image, desired: Image) -> Image:
    """The known image with what the desired one has and it has not."""
    return replace(known, chains=_joined(known.chains, desired.chains))


def _with_remains(known: Image, desired: Image) -> Image:
    """The desired image with what the known one has and it has not."""
    jumps = {**known.jumps, **desired.jumps}
    return replace(desired, chains=_joined(desired.chains, known.chains), jumps=jumps)


def _joined(first: Mapping[Table, Chains], other: Mapping[Table, Chains]) -> dict[Table, Chains]:
    """`first`, and of `other` the chains that it has not, and the dispatch of classes that it does not dispatch."""
    joined: dict[Table, Chains] = {}
    for table in dict.fromkeys((*first, *other)):
        own, others = first.get(table, {}), other.get(table, {})
        joined[table] = {**others, **own, **_dispatch(names.FROM, own, others), **_dispatch(names.INBOUND, own, others)}
    return joined


def _dispatch(chain: str, first: Chains, other: Chains) -> Chains:
    """Where `other` dispatches all that `first` does and more, that of `other`, for the order and the signs of which
    there shall not be another step; else that of `first`, with what it lacks."""
    mine, others = _classes(first.get(chain, ())), _classes(other.get(chain, ()))
    if mine.keys() < others.keys():
        return {name: rules for name, rules in other.items() if name == chain or name.startswith(f"{chain}-")}
    lacking = [rule for name, rule in others.items() if name not in mine]
    return {chain: _with(chain, first[chain], lacking)} if lacking else {}


def _classes(rules: Rules) -> dict[str, str]:
    """The rules that lead to a class's chain, by the class's set."""
    found = ((_ASKED.search(rule), rule) for rule in rules)
    return {asked[1]: rule for asked, rule in found if asked and names.is_class_set(asked[1])}


def _with(chain: str, rules: Rules, more: Iterable[str]) -> Rules:
    """A chain that dispatches, with more rules before the denial at its end."""
    bare = [*map(unsealed, rules)]
    end = next(at for at, rule in enumerate(bare) if rule.startswith("-j "))
    return seal(chain, [*bare[:end], *map(unsealed, more), *bare[end:]])
