"""`python -m manx_agent counters`: packets and bytes of each rule of each policy, as this node has counted them.

Owns: finding policies and rules again in the text of iptables-save (their names are in the rules' comments), and
printing them. Must not: need anything but the kernel: no API server, no running agent.

What is counted is packets that a policy decided about: of a connection, the first one; what belongs to an established
connection passes before. A rule of a policy that became several in the kernel is one line. What a tier denied because
no rule of its policies allowed it is counted for each class of pods, and told with each of those policies.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from manx_agent.drivers.iptables import Iptables, has_ipv6
from manx_agent.drivers.process import ProcessError
from manx_agent.model import Backend
from manx_agent.render.image import label_of

_COUNTED = re.compile(r"\[(\d+):(\d+)\] -A (manx-\S+) (.*)")
_RULE = re.compile(r"(\S+) (ingress|egress)\[(\d+)\] (\w+)")
_DENIAL = re.compile(r"tier (\S+) (ingress|egress) denial")
_JUMP = re.compile(r"-j (manx-p[ie]-\S+)$")


@dataclass(frozen=True, slots=True)
class Count:
    """One line of output. Either a policy's rule, or (`rule` -1) what a tier denied to a class of pods."""

    family: Literal[4, 6]
    direction: str
    policies: tuple[str, ...]
    """The policy; of a tier's denial, all those of which none allowed the packet."""
    rule: int
    """The position in the user's list of rules."""
    action: str
    packets: int
    bytes: int
    tier: str = ""
    """Of a tier's denial."""
    chain: str = ""
    """Of a tier's denial: the class's chain."""


def counts(text: str, family: Literal[4, 6]) -> list[Count]:
    """Reads the output of `iptables-save -c` or `ip6tables-save -c`."""
    lines = [found.groups() for line in text.splitlines() if (found := _COUNTED.match(line))]
    of_chain = _policies([(chain, rule) for _, _, chain, rule in lines])
    summed: dict[tuple[str, ...], Count] = {}
    for packets, size, chain, rule in lines:
        made = _count(chain, rule, family, of_chain, int(packets), int(size))
        if made is not None:
            key = (*made.policies, made.direction, str(made.rule), made.action, made.chain)
            summed[key] = _sum(summed[key], made) if key in summed else made
    return list(summed.values())


def _policies(rules: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """The policies that each class's chain jumps to."""
    named = {chain: found[1] for chain, rule in rules if (found := _RULE.match(label_of(rule)))}
    jumps: dict[str, list[str]] = {}
    for chain, rule in rules:
        if found := _JUMP.search(rule):
            jumps.setdefault(chain, []).append(named.get(found[1], found[1]))
    return {chain: tuple(listed) for chain, listed in jumps.items()}


def _count(
    chain: str, rule: str, family: Literal[4, 6], of_chain: Mapping[str, tuple[str, ...]], packets: int, size: int
) -> Count | None:
    """None for rules that decide nothing, as those that note what the next one denies."""
    label = label_of(rule)
    if " -j NFLOG " in rule:
        return None
    if own := _RULE.fullmatch(label):
        return Count(family, own[2], (own[1],), int(own[3]), own[4], packets, size)
    if tier := _DENIAL.fullmatch(label):
        return Count(family, tier[2], of_chain.get(chain, ()), -1, "Deny", packets, size, tier[1], chain)
    return None


def _sum(one: Count, other: Count) -> Count:
    fields = {name: getattr(one, name) for name in Count.__slots__}
    return Count(**{**fields, "packets": one.packets + other.packets, "bytes": one.bytes + other.bytes})


def concerns(count: Count, wanted: str) -> bool:
    """Whether a line is about a policy, named in full ("knp.shop.web") or as users do ("shop/web", "web")."""
    return any(wanted in (name, *_spoken(name)) for name in count.policies)


def _spoken(name: str) -> tuple[str, str]:
    _, _, rest = name.partition(".")
    return rest, rest.replace(".", "/", 1)


def table(found: Sequence[Count]) -> str:
    """For people."""
    rows = [("POLICY", "DIRECTION", "RULE", "ACTION", "FAMILY", "PACKETS", "BYTES")]
    for one in found:
        name = one.policies[0] if one.rule >= 0 else f"tier {one.tier}: none of {', '.join(one.policies)}"
        rule = str(one.rule) if one.rule >= 0 else "-"
        rows.append((name, one.direction, rule, one.action, f"IPv{one.family}", str(one.packets), str(one.bytes)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


async def read() -> list[Count]:
    """This node's counters. Raises ProcessError where neither back end can be read."""
    found: list[Count] = []
    failures: list[ProcessError] = []
    for backend in get_args(Backend):
        try:
            found += await _read(backend)
        except ProcessError as error:
            failures.append(error)
    if len(failures) == len(get_args(Backend)):
        raise failures[0]
    return found


async def _read(backend: Backend) -> list[Count]:
    found = counts(await Iptables(backend).save(counters=True), 4)
    if has_ipv6():
        found += counts(await Iptables(backend, ipv6=True).save(counters=True), 6)
    return found


def main(arguments: Sequence[str]) -> int:
    """Prints the counters. Returns 0; 1 where the kernel cannot be read, 2 where the policy has no rule here."""
    parser = argparse.ArgumentParser(prog="manx-agent counters", description="Packets and bytes of each policy's rules")
    parser.add_argument("--policy", default="", help='of this one only: "shop/web", "web" or "knp.shop.web"')
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    try:
        found = asyncio.run(read())
    except ProcessError as error:
        print(f"manx-agent: {error}")
        return 1
    if options.policy:
        found = [one for one in found if concerns(one, options.policy)]
        if not found:
            print(f"manx-agent: no rule of a policy {options.policy!r} is in force on this node")
            return 2
    print(json.dumps([asdict(one) for one in found], indent=2) if options.json else table(found), end="")
    return 0
