"""Saying how the kernel differs from what it should hold.

Owns: the sentences. Must not: decide what is done about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from manx_agent.render.image import FIRST, Chains, Image, Rules, SetImage, Table

_NAMED = 3
"""Members of a set that one sentence names."""


def differences(wanted: Image, found: Image) -> tuple[str, ...]:
    """What is otherwise in `found`, one sentence for each chain, built-in chain and set."""
    if found == wanted:  # nearly always: what was not read again is the same object
        return ()
    return (*_chains(wanted, found), *_jumps(wanted, found), *_sets(wanted.sets, found.sets))


def _chains(wanted: Image, found: Image) -> Iterable[str]:
    for table in sorted({*wanted.chains, *found.chains}):
        yield from _table(table, wanted.chains.get(table, {}), found.chains.get(table, {}))


def _table(table: Table, wanted: Chains, found: Chains) -> Iterable[str]:
    for name in sorted({*wanted, *found}):
        said = f"{place(table)}: chain {name}"
        if name not in found:
            yield f"{said} was missing"
        elif name not in wanted:
            yield f"{said} should not exist"
        elif wanted[name] != found[name]:
            yield f"{said}: {_rules(wanted[name], found[name])}"


def _rules(wanted: Rules, found: Rules) -> str:
    """The first rule that differs, and how."""
    missing, extra = set(wanted) - set(found), set(found) - set(wanted)
    at = next((i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), min(len(wanted), len(found)))
    if missing and extra and at < min(len(wanted), len(found)):
        return f"rule {at + 1} was {found[at]!r} instead of {wanted[at]!r}"
    if extra or len(found) > len(wanted):
        return f"rule {at + 1} {found[at]!r} should not exist"
    if missing or len(found) < len(wanted):
        return f"rule {at + 1} {wanted[at]!r} was missing"
    return f"rule {at + 1} was out of order"


def _jumps(wanted: Image, found: Image) -> Iterable[str]:
    for where in sorted({*wanted.jumps, *found.jumps}):
        have, want = found.jumps.get(where, ()), wanted.jumps.get(where, ())
        if have == want:
            continue
        said = f"{place(where[0])}: chain {where[1]}"
        if not have:
            yield f"{said}: the jump to Manx's chains was missing"
        elif [rule for _, rule in have] == [rule for _, rule in want]:
            place_wanted = "first" if want[0][0] == FIRST else "last"
            yield f"{said}: the jump to Manx's chains was not the {place_wanted} rule"
        else:
            yield f"{said}: rule {have[0][1]!r} should not be there"


def place(table: Table) -> str:
    """How a table is named to people."""
    return f"ip6tables {table[:-1]}" if table.endswith("6") else f"iptables {table}"


def _sets(wanted: Mapping[str, SetImage], found: Mapping[str, SetImage]) -> Iterable[str]:
    for name in sorted({*wanted, *found}):
        if name not in found:
            yield f"ipset {name} was missing"
        elif name not in wanted:
            yield f"ipset {name} should not exist"
        elif wanted[name] != found[name]:
            yield f"ipset {name}: {_members(wanted[name], found[name])}"


def _members(wanted: SetImage, found: SetImage) -> str:
    if wanted.kind != found.kind:
        return f"was of type {found.kind} instead of {wanted.kind}"
    missing, extra = wanted.members - found.members, found.members - wanted.members
    parts = [f"{_some(missing)} missing"] if missing else []
    return ", ".join([*parts, f"{_some(extra)} should not be there"] if extra else parts)


def _some(members: frozenset[str]) -> str:
    first = sorted(members)[:_NAMED]
    more = len(members) - len(first)
    return " ".join(first) + (f" and {more} more" if more else "")
