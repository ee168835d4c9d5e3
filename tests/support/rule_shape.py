"""The shape of a rule: what it asks and what it does, without what differs between two rules of the same make.

Owns: taking a rule's text apart into matches (`parts`), and saying each of them, targets and chains without operands.
Must not: know which shapes there are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from manx_agent.render.image import unsealed

_TWO = ("--match-set", "--tcp-flags")
"""Options with two operands; all others have one."""


class Part(NamedTuple):
    """One match of a rule."""

    shape: str
    words: tuple[str, ...]
    """As they stand in the rule, with their negation."""


class Shape(NamedTuple):
    """A rule, taken apart."""

    parts: tuple[Part, ...]
    target: str

    @property
    def text(self) -> str:
        return " ".join([*(part.shape for part in self.parts), self.target])


@lru_cache(maxsize=65536)
def shape_of(rule: str) -> Shape:
    """Takes a rule apart, with or without its comment."""
    words = shlex.split(unsealed(rule))
    end = next(at for at, word in enumerate(words) if word in ("-j", "-g"))
    return Shape(tuple(_parts(words[:end])), _target(words[end:]))


def _parts(words: list[str]) -> list[Part]:
    found, at, module, negation = [], 0, "", ""
    while at < len(words):
        if words[at] == "!":
            at, negation = at + 1, "! "
        elif words[at] == "-m":
            at, module = at + 2, f"-m {words[at + 1]} "
        else:
            option, count = words[at], 1 + (words[at] in _TWO)
            operands = words[at + 1 : at + 1 + count]
            said = _OPERANDS.get(option, " ".join)(operands)
            taken = (*(["!"] if negation else []), option, *operands)
            found.append(Part(f"{module}{negation}{option} {said}", taken))
            at, module, negation = at + 1 + count, "" if option.startswith("-") else module, ""
    return found


def kind_of_chain(name: str) -> str:
    """A chain's name without the hash that tells it from its like."""
    return re.sub(r"^(manx-[cpt][ei])-.*", r"\1-…", name)


def _kind_of_set(name: str) -> str:
    return re.sub(r"^manx-(?:6-)?(g|p|n|c|own|links)-.*", r"\1-…", name)


def _ports(operands: list[str]) -> str:
    ports = operands[0].split(",")
    ranges = "with a range" if ":" in operands[0] else "numbers"
    return ranges if len(ports) > 1 else f"one of {ranges}"


def _protocol(operands: list[str]) -> str:
    return "NUMBER" if operands[0].isdecimal() else operands[0]


_OPERANDS: dict[str, Callable[[list[str]], str]] = {
    "-s": lambda _: "NET",
    "-d": lambda _: "NET",
    "-p": _protocol,
    "--ctproto": lambda _: "NUMBER",
    "--match-set": lambda operands: f"{_kind_of_set(operands[0])} {operands[1]}",
    "--dports": _ports,
    "--sports": _ports,
    "--icmp-type": lambda operands: "TYPE/CODE" if "/" in operands[0] else "TYPE",
    "--icmpv6-type": lambda operands: "TYPE/CODE" if "/" in operands[0] else "TYPE",
    "--mark": lambda _: "BIT",
    "--bytecode": lambda _: "PROGRAM",
}


def _target(words: list[str]) -> str:
    said = f"{words[0]} {kind_of_chain(words[1])}"
    for option, value in zip(words[2::2], words[3::2], strict=False):
        if option == "--set-xmark":
            said += f" {option} {'CLEAR' if value.startswith('0x0/') else 'BIT'}"
        elif option == "--reject-with":
            said += f" {option} {value}"
        else:
            said += f" {option} …"
    return said + (f" {words[-1]}" if len(words) % 2 else "")


def purpose(target: str) -> str:
    """What a target of a policy's chain is for, however the settings word it."""
    if " LOG " in target or " NFLOG " in target:
        return target.split()[1]
    if "manx-pass" in target:
        return "Pass"
    return "Deny" if "DROP" in target or "REJECT" in target else "Allow"
