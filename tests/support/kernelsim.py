"""A kernel's packet filter, as far as Manx uses it: runs plans, and judges packets by the chains and sets it holds.

Owns: an interpreter of the rules that we write, strict about what a real kernel would refuse (rules that name a set or
chain that is not there, sets destroyed or chains deleted while something refers to them). Must not: share code with
what it checks, save the types of images and steps.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from manx_agent.render.image import Image, SetImage
from manx_agent.render.plan import Step

Verdict = Literal["ACCEPT", "DROP"]
BUILT_IN = {
    "raw": ("PREROUTING",),
    "filter": ("INPUT", "FORWARD"),
    "nat": ("POSTROUTING",),
    "raw6": ("PREROUTING",),
    "filter6": ("FORWARD",),
}


@lru_cache(maxsize=4096)
def _words(rule: str) -> list[str]:
    return shlex.split(rule)


@lru_cache(maxsize=4096)
def _holds(network: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


class Refused(Exception):
    """What a kernel would not do."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet as a node forwards it (`out` set) or takes it in (`out` empty)."""

    source: str
    destination: str
    into: str = "eth0"
    out: str = ""
    protocol: str = "tcp"
    port: int = 0
    state: Literal["NEW", "ESTABLISHED", "INVALID"] = "NEW"


@dataclass(slots=True)
class _Set:
    kind: str
    members: set[str]


class KernelSim:
    """Tables by name (a 6 at the end for IPv6) and sets."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, list[str]]] = {
            table: {chain: [] for chain in chains} for table, chains in BUILT_IN.items()
        }
        self.sets: dict[str, _Set] = {}
        self.programs_run = 0

    # --- running plans ---------------------------------------------------------------------------------------------

    def run(self, step: Step, seen: Callable[[], None] = lambda: None) -> None:
        """Runs one step; calls `seen` whenever packets would be judged by another state."""
        self.programs_run += 1
        if step.kind == "sets":
            for line in step.text.splitlines():
                self._set_line(line)
                seen()
        elif step.kind == "destroy":
            for name in step.text.split():
                self._destroy(name)
        else:
            for table, lines in _blocks(step.text, "6" if step.kind == "rules6" else ""):
                self._commit(table, lines)
                seen()

    def _set_line(self, line: str) -> None:
        verb, name, *words = line.split()
        if verb == "create":
            if name in self.sets and self.sets[name].kind != words[0]:
                raise Refused(f"{line}: exists with another type")
            self.sets.setdefault(name, _Set(words[0], set()))
        elif name not in self.sets:
            raise Refused(f"{line}: no such set")
        elif verb == "add":
            if words[0].endswith("/0"):
                raise Refused(f"{line}: prefix length 0")
            self.sets[name].members.add(words[0])
        elif verb == "del":
            self.sets[name].members.discard(words[0])
        elif verb == "flush":
            self.sets[name].members.clear()
        elif verb == "swap":
            self.sets[name], self.sets[words[0]] = self.sets[words[0]], self.sets[name]
        elif verb == "destroy":
            self._destroy(name)
        else:
            raise Refused(line)

    def _destroy(self, name: str) -> None:
        if any(f"--match-set {name} " in rule for _, _, rule in self._rules()):
            raise Refused(f"destroy {name}: in use")
        self.sets.pop(name, None)

    def _rules(self) -> Iterator[tuple[str, str, str]]:
        for table, chains in self.tables.items():
            for chain, rules in chains.items():
                yield from ((table, chain, rule) for rule in rules)

    def _commit(self, table: str, lines: list[str]) -> None:
        chains = {name: list(rules) for name, rules in self.tables[table].items()}
        for line in lines:
            _rule_line(chains, line)
        self._check(chains)
        self.tables[table] = chains

    def _check(self, chains: dict[str, list[str]]) -> None:
        for chain, rules in chains.items():
            for rule in rules:
                words = _words(rule)
                target = words[words.index("-g" if "-g" in words else "-j") + 1]
                if target not in chains and target not in ("ACCEPT", "DROP", "MASQUERADE"):
                    raise Refused(f"{chain}: {rule}: no chain {target}")
                for at, word in enumerate(words):
                    if word == "--match-set" and words[at + 1] not in self.sets:
                        raise Refused(f"{chain}: {rule}: no set {words[at + 1]}")

    def image(self) -> Image:
        """What there is of ours."""
        chains = {
            table: own
            for table, all_chains in self.tables.items()
            if (own := {name: tuple(rules) for name, rules in all_chains.items() if name.startswith("manx-")})
        }
        jumps = {
            (table, name): ours
            for table, all_chains in self.tables.items()
            for name, rules in all_chains.items()
            if not name.startswith("manx-") and (ours := tuple((i, r) for i, r in enumerate(rules) if "manx-" in r))
        }
        sets = {name: SetImage(one.kind, frozenset(one.members)) for name, one in self.sets.items()}
        return Image(chains, jumps, sets)  # type: ignore[arg-type]

    # --- judging packets -------------------------------------------------------------------------------------------

    def verdict(self, packet: Packet) -> Verdict:
        """What becomes of an IPv4 packet."""
        hook = "FORWARD" if packet.out else "INPUT"
        for table, chain in (("raw", "PREROUTING"), ("filter", hook)):
            if self._walk(self.tables[table], chain, packet) == "DROP":
                return "DROP"
        return "ACCEPT"

    def _walk(self, chains: dict[str, list[str]], chain: str, packet: Packet) -> Verdict | None:
        for rule in chains[chain]:
            words = _words(rule)
            if not self._matches(words, packet):
                continue
            if "-g" in words:
                return self._walk(chains, words[words.index("-g") + 1], packet)
            target = words[words.index("-j") + 1]
            found = target if target in ("ACCEPT", "DROP") else self._walk(chains, target, packet)
            if found:
                return found  # type: ignore[return-value]
        return None

    def _matches(self, words: list[str], packet: Packet) -> bool:
        at, wanted = 0, True
        while words[at] not in ("-j", "-g"):
            if words[at] == "!":
                wanted = False
            elif words[at] != "-m":
                used, met = self._condition(words, at, packet)
                if met != wanted:
                    return False
                at, wanted = at + used, True
            else:
                at += 1
            at += 1
        return True

    def _condition(self, words: list[str], at: int, packet: Packet) -> tuple[int, bool]:
        """How many arguments the option at `at` has, and whether it matches."""
        option, value = words[at], words[at + 1]
        if option in ("-s", "-d"):
            address = packet.source if option == "-s" else packet.destination
            return 1, _holds(value, address)
        if option in ("-i", "-o"):
            return 1, (packet.into if option == "-i" else packet.out).startswith(value.rstrip("+"))
        if option == "-p":
            return 1, packet.protocol == value
        if option == "--ctstate":
            return 1, packet.state in value.split(",")
        if option == "--dports":
            return 1, any(_within(packet.port, port) for port in value.split(","))
        if option == "--match-set":
            return 2, self._member(value, words[at + 2], packet)
        if option == "--bytecode":
            return 1, packet.source == packet.destination
        if option == "--comment":
            return 1, True
        raise Refused(f"unknown option {option}")

    def _member(self, name: str, sides: str, packet: Packet) -> bool:
        one = self.sets[name]
        side = sides.split(",")[0]
        address = packet.source if side == "src" else packet.destination
        if one.kind == "hash:net":
            return any(_holds(member, address) for member in one.members)
        if one.kind == "hash:ip,port":
            return f"{address},{packet.protocol}:{packet.port}" in one.members
        interface = packet.into if side == "src" else packet.out
        return bool(interface) and f"{address},{interface}" in one.members


def _within(port: int, text: str) -> bool:
    first, _, last = text.partition(":")
    return int(first) <= port <= int(last or first)


def _blocks(text: str, suffix: str) -> Iterator[tuple[str, list[str]]]:
    for part in text.split("COMMIT\n")[:-1]:
        head, *lines = part.splitlines()
        yield head[1:] + suffix, lines


def _rule_line(chains: dict[str, list[str]], line: str) -> None:
    if line.startswith(":"):
        chains[line[1:].split()[0]] = []
        return
    verb, chain, rest = (line + " ").split(" ", 2)
    rest = rest.rstrip()
    if verb == "-A":
        chains[chain].append(rest)
    elif verb == "-I":
        index, rule = rest.split(" ", 1)
        chains[chain].insert(int(index) - 1, rule)
    elif verb == "-D":
        if rest not in chains[chain]:
            raise Refused(f"{line}: no such rule")
        chains[chain].remove(rest)
    elif verb == "-X":
        users = [name for name, rules in chains.items() if any(rule.endswith(f" {chain}") for rule in rules)]
        if users or chains[chain]:
            raise Refused(f"{line}: not empty, or used by {users}")
        del chains[chain]
    else:
        raise Refused(line)
