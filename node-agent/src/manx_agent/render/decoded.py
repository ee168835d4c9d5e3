"""Rules as python-iptables decodes them.

Owns: what each of our rendered rules should look like there. Must not: import python-iptables (memory), or understand
more of iptables' language than we write.

A decoded rule is a dictionary as `iptc.easy.decode_iptc_rule` makes it, without counters: one key for each thing that
is matched, `target` for what is done.
"""

from __future__ import annotations

import shlex
from typing import Any

from manx_agent.render.compare import place
from manx_agent.render.image import Image, Rules, Table

Decoded = dict[str, Any]

_ADDRESSES = {"-s": "src", "-d": "dst", "-i": "in-interface", "-o": "out-interface", "-p": "protocol"}
_PROTOCOLS = {"ipv6-icmp": "icmpv6", "udplite": "136"}
"""Those that the library names otherwise than iptables-save does."""


def decode(rule: str) -> Decoded:
    """One rule of ours, in the form MATCHES -j TARGET or -g CHAIN."""
    words = shlex.split(rule)
    decoded: Decoded = {}
    at = 0
    while words[at] not in ("-j", "-g"):
        negated = words[at] == "!"
        at += negated
        if words[at] == "-m":
            at = _match(words, at + 1, decoded)
        else:
            value = _PROTOCOLS.get(words[at + 1], words[at + 1])
            decoded[_ADDRESSES[words[at]]] = ("!" if negated else "") + value
            at += 2
    decoded["target"] = _target(words[at], words[at + 1], words[at + 2 :])
    return decoded


def _match(words: list[str], at: int, decoded: Decoded) -> int:
    """Reads one match with its one option; returns where the next word is."""
    name, at = words[at], at + 1
    values = ["!"] if words[at] == "!" else []
    at += len(values)
    option, at = words[at].removeprefix("--"), at + 1
    while not words[at].startswith("-") and words[at] != "!":
        values.append(words[at])
        at += 1
    _add(decoded, name, {option: values[0] if len(values) == 1 else values})
    return at


def _add(decoded: Decoded, name: str, match: Decoded) -> None:
    """A match that occurs more than once is a list."""
    if name not in decoded:
        decoded[name] = match
    elif isinstance(decoded[name], list):
        decoded[name].append(match)
    else:
        decoded[name] = [decoded[name], match]


def _target(verb: str, name: str, words: list[str]) -> str | Decoded:
    if verb == "-g":
        return {"goto": name}
    options: Decoded = {}
    for word in words:
        if word.startswith("--"):
            options[word.removeprefix("--")] = ""
        else:
            options[list(options)[-1]] = word
    return {name: options} if options else name


def disagreements(wanted: Image, decoded: dict[str, dict[str, list[Decoded] | None]]) -> dict[tuple[Table, str], str]:
    """Compares rendered chains with what python-iptables decoded: a sentence for each (table, chain) that differs. A
    chain that is there as None could not be decoded, and is not spoken of."""
    found = {}
    for table, chains in wanted.chains.items():
        for chain, rules in chains.items():
            seen = decoded.get(table, {}).get(chain, ())
            said = "" if seen is None else _disagreement(rules, list(seen) if seen != () else None)
            if said:
                found[table, chain] = f"{place(table)}: chain {chain}: {said}"
    return found


def _disagreement(rules: Rules, decoded: list[Decoded] | None) -> str:
    if decoded is None:
        return "was missing"
    for position, (rule, seen) in enumerate(zip(rules, decoded, strict=False)):
        if decode(rule) != seen:
            return f"rule {position + 1} was decoded as {_told(seen)} instead of {_told(decode(rule))}"
    if len(rules) > len(decoded):
        return f"rule {len(decoded) + 1} {_told(decode(rules[len(decoded)]))} was missing"
    if len(rules) < len(decoded):
        return f"rule {len(rules) + 1} {_told(decoded[len(rules)])} should not exist"
    return ""


def _told(rule: Decoded) -> str:
    return " ".join(f"{key}={value}" for key, value in rule.items() if key != "comment")
