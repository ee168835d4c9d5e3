"""Reading back: the text of `iptables-save` and `ipset save`, as far as it is ours.

Owns: telling what is ours: chains and sets by the prefix of their names; in chains that are not ours, the rules that
carry our comment or lead to a chain of ours. Must not: run anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, cast

from manx_agent.render.image import COMMENT, Chains, Image, Jumps, Rules, SetImage, Table
from manx_agent.render.names import PREFIX

_TO_OURS = re.compile(rf"(?:^| )-[jg] {re.escape(PREFIX)}")


def parse_rules(text: str, ipv6: bool = False, from_end: bool = False) -> Image:
    """What is ours in the output of iptables-save, or of ip6tables-save. The image's sets are empty. `from_end`:
    positions of our rules among others' are counted from the last one, which is -1."""
    chains: dict[Table, Chains] = {}
    jumps: dict[tuple[Table, str], Jumps] = {}
    for table, lines in _tables(text):
        key = cast(Table, f"{table}6" if ipv6 else table)
        own, foreign = _chains(lines)
        if own:
            chains[key] = own
        jumps.update({(key, chain): found for chain, rules in foreign.items() if (found := _jumps(rules, from_end))})
    return Image(chains, jumps)


def _tables(text: str) -> Iterable[tuple[str, list[str]]]:
    for part in re.split(r"^\*", text, flags=re.MULTILINE)[1:]:
        name, *lines = part.splitlines()
        yield name, lines


def _chains(lines: Iterable[str]) -> tuple[dict[str, Rules], dict[str, list[str]]]:
    """A table's chains of ours, and the others."""
    own: dict[str, list[str]] = {}
    foreign: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith(f":{PREFIX}"):
            own[line[1:].split(" ", 1)[0]] = []
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            (own if chain in own else foreign).setdefault(chain, []).append(rule)
    return {name: tuple(rules) for name, rules in own.items()}, foreign


def _jumps(rules: Sequence[str], from_end: bool) -> Jumps:
    first = -len(rules) if from_end else 0
    return tuple((index, rule) for index, rule in enumerate(rules, first) if COMMENT in rule or _TO_OURS.search(rule))


def parse_sets(text: str) -> dict[str, SetImage]:
    """Our sets in the output of `ipset save`."""
    kinds: dict[str, tuple[str, Literal["inet", "inet6"]]] = {}
    members: dict[str, list[str]] = {}
    for line in text.splitlines():
        verb, _, rest = line.partition(" ")
        if not rest.startswith(PREFIX):
            continue
        name, value, *options = rest.split(" ", 2)
        if verb == "create":
            kinds[name] = value, "inet6" if "family inet6" in " ".join(options) else "inet"
            members[name] = []
        else:
            members[name].append(value)
    return {name: SetImage(kind, frozenset(members[name]), family) for name, (kind, family) in kinds.items()}


def merged(*images: Image) -> Image:
    """Several readings, of different tables, as one."""
    whole = Image({}, {}, {})
    for image in images:
        whole = Image({**whole.chains, **image.chains}, {**whole.jumps, **image.jumps}, {**whole.sets, **image.sets})
    return whole
