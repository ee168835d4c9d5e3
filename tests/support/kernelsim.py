"""A kernel's packet filter, as far as Manx uses it: runs plans, and judges packets by the chains and sets it holds.

Owns: an interpreter of the rules that we write, of both families, strict about what a real kernel would refuse (rules
that name a set or chain that is not there, sets destroyed or chains deleted while something refers to them, options
that need a protocol) and about what it does not know. Must not: share code with what it checks, save the types of
images and steps.

`verdict` gives ACCEPT, DROP or REJECT; `passage` also what was logged on the way, and the packet's mark at the end.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from manx_agent.render.image import Image, SetImage
from manx_agent.render.plan import Step

Verdict = Literal["ACCEPT", "DROP", "REJECT"]
BUILT_IN = {
    "raw": ("PREROUTING",),
    "filter": ("INPUT", "FORWARD"),
    "nat": ("POSTROUTING",),
    "raw6": ("PREROUTING",),
    "filter6": ("INPUT", "FORWARD"),
    "nat6": ("POSTROUTING",),
}
_TARGETS = ("ACCEPT", "DROP", "RETURN", "REJECT", "MARK", "LOG", "NFLOG", "MASQUERADE")
_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "sctp": 132, "udplite": 136}
_PORTED = (6, 17, 132, 136)
_NAMES = {number: name for name, number in _NUMBERS.items()}


@lru_cache(maxsize=16384)
def _words(rule: str) -> list[str]:
    return shlex.split(rule)


@lru_cache(maxsize=16384)
def _split(rule: str) -> tuple[list[str], str, str, list[str]]:
    """A rule's conditions (ending as `_matches` wants them), -j or -g, the target, its options."""
    words = _words(rule)
    at = next(at for at, word in enumerate(words) if word in ("-g", "-j"))
    return words[: at + 1], words[at], words[at + 1], words[at + 2 :]


@lru_cache(maxsize=16384)
def _holds(network: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


@lru_cache(maxsize=4096)
def _version(address: str) -> int:
    return ipaddress.ip_address(address).version


def number_of(protocol: str) -> int:
    """A protocol's number, given its name as iptables-save prints it, or itself."""
    return int(protocol) if protocol.isdecimal() else _NUMBERS[protocol]


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
    """tcp, udp, sctp, udplite, icmp, ipv6-icmp, or a number."""
    port: int = 0
    """The destination's."""
    state: Literal["NEW", "ESTABLISHED", "INVALID", "UNTRACKED"] = "NEW"
    source_port: int = 40000
    icmp_type: int = -1
    icmp_code: int = 0
    mark: int = 0
    opens: bool = True
    """Of TCP: SYN is set, and neither ACK nor FIN nor RST."""

    @property
    def version(self) -> int:
        return _version(self.source)

    @property
    def number(self) -> int:
        return number_of(self.protocol)


@dataclass(slots=True)
class Passage:
    """A packet's way through the tables."""

    packet: Packet
    mark: int
    verdict: Verdict = "ACCEPT"
    logged: list[str] = field(default_factory=list)
    """Prefixes of LOG and NFLOG entries, in order."""
    rules: list[tuple[str, str, int]] = field(default_factory=list)
    """(table, chain, position) of every rule that matched."""
    missed: list[tuple[str, str, int]] = field(default_factory=list)
    """The same of every rule that was asked and did not."""


@dataclass(slots=True)
class _Set:
    kind: str
    members: set[str]
    family: str


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
            self._create(line, name, words)
        elif name not in self.sets:
            raise Refused(f"{line}: no such set")
        elif verb == "add":
            self._add(line, self.sets[name], words[0])
        elif verb == "del":
            self.sets[name].members.discard(words[0])
        elif verb == "flush":
            self.sets[name].members.clear()
        elif verb == "swap":
            one, other = self.sets[name], self.sets[words[0]]
            if (one.kind, one.family) != (other.kind, other.family):
                raise Refused(f"{line}: of different types")
            self.sets[name], self.sets[words[0]] = other, one
        elif verb == "destroy":
            self._destroy(name)
        else:
            raise Refused(line)

    def _create(self, line: str, name: str, words: list[str]) -> None:
        kind, family = words[0], words[words.index("family") + 1]
        if len(name) > 31 or kind not in ("hash:net", "hash:ip,port", "hash:net,iface"):
            raise Refused(line)
        have = self.sets.setdefault(name, _Set(kind, set(), family))
        if (have.kind, have.family) != (kind, family):
            raise Refused(f"{line}: exists with another type")

    def _add(self, line: str, to: _Set, member: str) -> None:
        if member.partition(",")[0].endswith("/0"):
            raise Refused(f"{line}: prefix length 0")
        version = ipaddress.ip_network(member.partition(",")[0]).version
        if (to.family == "inet6") != (version == 6):
            raise Refused(f"{line}: of another family")
        network = member.partition(",")[0] + ","
        if to.kind == "hash:net,iface" and sum(one.startswith(network) for one in to.members - {member}) >= 64:
            raise Refused(f"{line}: one network with more than 64 interfaces")
        to.members.add(member)

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
        self._check(table, chains)
        self.tables[table] = chains

    def _check(self, table: str, chains: dict[str, list[str]]) -> None:
        for chain, rules in chains.items():
            if len(chain) > 28:
                raise Refused(f"{chain}: name too long")
            for rule in rules:
                conditions, verb, target, options = _split(rule)
                if target not in chains and (verb == "-g" or target not in _TARGETS):
                    raise Refused(f"{chain}: {rule}: no chain {target}")
                self._check_matches(table, f"{chain}: {rule}", conditions)
                _check_target(table, f"{chain}: {rule}", target, options)

    def _check_matches(self, table: str, said: str, words: list[str]) -> None:
        protocol = words[words.index("-p") + 1] if "-p" in words else ""
        if protocol and words[words.index("-p") - 1] == "!":
            protocol = ""
        for at, word in enumerate(words):
            if word == "--match-set":
                found = self.sets.get(words[at + 1])
                if found is None or (found.family == "inet6") != table.endswith("6"):
                    raise Refused(f"{said}: no set {words[at + 1]} of this family")
            if word in ("--dports", "--sports") and (not protocol or number_of(protocol) not in _PORTED):
                raise Refused(f"{said}: ports without a protocol")
            if word in ("--dports", "--sports") and _slots(words[at + 1]) > 15:
                raise Refused(f"{said}: too many ports")
            if word == "--icmp-type" and (protocol != "icmp" or table.endswith("6")):
                raise Refused(f"{said}: not ICMP")
            if word == "--icmpv6-type" and (protocol != "ipv6-icmp" or not table.endswith("6")):
                raise Refused(f"{said}: not ICMPv6")
            if word in ("-s", "-d") and (ipaddress.ip_network(words[at + 1]).version == 6) != table.endswith("6"):
                raise Refused(f"{said}: of another family")

    def image(self, from_end: bool = False) -> Image:
        """What there is of ours. `from_end`: positions among others' rules are counted from the last, which is -1."""
        chains = {
            table: own
            for table, all_chains in self.tables.items()
            if (own := {name: tuple(rules) for name, rules in all_chains.items() if name.startswith("manx-")})
        }
        jumps = {
            (table, name): ours
            for table, all_chains in self.tables.items()
            for name, rules in all_chains.items()
            if not name.startswith("manx-") and (ours := _ours(rules, from_end))
        }
        sets = {name: SetImage(one.kind, frozenset(one.members), one.family) for name, one in self.sets.items()}  # type: ignore[arg-type]
        return Image(chains, jumps, sets)  # type: ignore[arg-type]

    # --- judging packets -------------------------------------------------------------------------------------------

    def verdict(self, packet: Packet) -> Verdict:
        """What becomes of a packet."""
        return self.passage(packet).verdict

    def passage(self, packet: Packet) -> Passage:
        """A packet's way. The built-in chains accept what no rule decides."""
        passage = Passage(packet, packet.mark)
        suffix = "6" if packet.version == 6 else ""
        for table, chain in (("raw", "PREROUTING"), ("filter", "FORWARD" if packet.out else "INPUT")):
            passage.verdict = self._walk(table + suffix, chain, passage)
            if passage.verdict != "ACCEPT":
                break
        return passage

    def masqueraded(self, packet: Packet) -> str:
        """The ports (--to-ports) that POSTROUTING masquerades a packet to; "any", or empty where it does not."""
        chains = self.tables["nat6" if packet.version == 6 else "nat"]
        for rule in chains.get("manx-nat", []):
            words = _words(rule)
            if self._matches(words, Passage(packet, packet.mark)):
                return words[words.index("--to-ports") + 1] if "--to-ports" in words else "any"
        return ""

    def whole_passage(self, packet: Packet) -> Passage:
        """The same, and where it is forwarded as the first of a connection, the table nat: that sees no other."""
        passage = self.passage(packet)
        if passage.verdict == "ACCEPT" and packet.out and packet.state == "NEW":
            self._walk("nat6" if packet.version == 6 else "nat", "POSTROUTING", passage)
        return passage

    def meets(self, words: list[str], packet: Packet) -> bool:
        """Whether a packet, with the mark that it came with, meets some of a rule's matches."""
        return self._matches([*words, "-j"], Passage(packet, packet.mark))

    def _walk(self, table: str, built_in: str, passage: Passage) -> Verdict:
        """One hook: a stack of chains to return to, each with the next rule's position."""
        chains = self.tables[table]
        stack: list[tuple[str, int]] = []
        chain, at = built_in, 0
        while True:
            if at == len(chains[chain]):
                if not stack:
                    return "ACCEPT"
                chain, at = stack.pop()
                continue
            conditions, verb, target, options = _split(chains[chain][at])
            at += 1
            if not self._matches(conditions, passage):
                passage.missed.append((table, chain, at - 1))
                continue
            passage.rules.append((table, chain, at - 1))
            if target in chains:
                if verb == "-j":
                    stack.append((chain, at))
                chain, at = target, 0
            elif target == "RETURN":
                at = len(chains[chain])
            elif target in ("ACCEPT", "DROP", "REJECT"):
                return target  # type: ignore[return-value]
            elif target == "MASQUERADE":
                return "ACCEPT"
            else:
                _modify(target, options, passage)

    def _matches(self, words: list[str], passage: Passage) -> bool:
        at, wanted = 0, True
        while words[at] not in ("-j", "-g"):
            if words[at] == "!":
                wanted = False
            elif words[at] == "--ctproto" and passage.packet.state == "UNTRACKED":
                return False  # of no connection, so of none that has or has not that protocol (xt_conntrack.c)
            elif words[at] != "-m":
                used, met = self._condition(words, at, passage)
                if met != wanted:
                    return False
                at, wanted = at + used, True
            else:
                at += 1
            at += 1
        return True

    def _condition(self, words: list[str], at: int, passage: Passage) -> tuple[int, bool]:
        """How many arguments the option at `at` has, and whether it matches."""
        option, value, packet = words[at], words[at + 1], passage.packet
        if option in ("-s", "-d"):
            return 1, _holds(value, packet.source if option == "-s" else packet.destination)
        if option in ("-i", "-o"):
            return 1, (packet.into if option == "-i" else packet.out).startswith(value.rstrip("+"))
        if option == "-p":
            return 1, packet.number == number_of(value)
        if option == "--ctproto":
            return 1, packet.number == int(value)
        if option == "--ctstate":
            return 1, packet.state in value.split(",")
        if option in ("--dports", "--sports"):
            port = packet.port if option == "--dports" else packet.source_port
            return 1, any(_within(port, one) for one in value.split(","))
        if option in ("--icmp-type", "--icmpv6-type"):
            kind, _, code = value.partition("/")
            return 1, packet.icmp_type == int(kind) and code in ("", str(packet.icmp_code))
        if option == "--mark":
            mark, mask = (int(part, 16) for part in value.split("/"))
            return 1, passage.mark & mask == mark
        if option == "--match-set":
            return 2, self._member(value, words[at + 2], packet)
        if option == "--tcp-flags":
            if (value, words[at + 2]) != ("FIN,SYN,RST,ACK", "SYN"):
                raise Refused(f"unknown flags {value} {words[at + 2]}")
            return 2, packet.opens
        if option == "--bytecode":
            return 1, _bpf(value, packet)
        if option == "--dst-type":
            if packet.version == 6 and "," in value:
                raise Refused(f"{value}: in IPv6 all of these at once")
            return 1, _address_type(packet) in value.split(",")
        if option == "--comment":
            return 1, True
        raise Refused(f"unknown option {option}")

    def _member(self, name: str, sides: str, packet: Packet) -> bool:
        one = self.sets[name]
        side = sides.split(",")[0]
        if one.kind != "hash:net" and sides != f"{side},{side}":
            raise Refused(f"{name}: {sides}")
        address = packet.source if side == "src" else packet.destination
        if one.kind == "hash:net":
            return any(_holds(member, address) for member in one.members)
        if one.kind == "hash:ip,port":
            port = packet.source_port if side == "src" else packet.port
            return f"{address},{_NAMES.get(packet.number, '')}:{port}" in one.members
        interface = packet.into if side == "src" else packet.out
        holding = [(net, name) for net, name in (member.split(",") for member in one.members) if _holds(net, address)]
        longest = max((ipaddress.ip_network(net).prefixlen for net, _ in holding), default=0)
        return any(name == interface and ipaddress.ip_network(net).prefixlen == longest for net, name in holding)


def _modify(target: str, options: list[str], passage: Passage) -> None:
    """Targets after which the packet goes on with the next rule."""
    if target == "MARK":
        value, mask = (int(part, 16) for part in options[options.index("--set-xmark") + 1].split("/"))
        passage.mark = passage.mark & ~mask ^ value
    elif target == "LOG":
        passage.logged.append(options[options.index("--log-prefix") + 1])
    elif target == "NFLOG":
        passage.logged.append(options[options.index("--nflog-prefix") + 1])
    else:
        raise Refused(f"unknown target {target}")


def _check_target(table: str, said: str, target: str, options: list[str]) -> None:
    if target == "REJECT" and not table.startswith("filter"):
        raise Refused(f"{said}: REJECT outside of filter")
    if target == "REJECT" and ("icmp6-" in " ".join(options)) != table.endswith("6"):
        raise Refused(f"{said}: an answer of another family")
    if target == "LOG" and len(options[options.index("--log-prefix") + 1]) > 29:
        raise Refused(f"{said}: prefix too long")
    if target == "NFLOG" and len(options[options.index("--nflog-prefix") + 1]) > 63:
        raise Refused(f"{said}: prefix too long")
    if target == "MASQUERADE" and not table.startswith("nat"):
        raise Refused(f"{said}: MASQUERADE outside of nat")


def _slots(ports: str) -> int:
    return sum(2 if ":" in port else 1 for port in ports.split(","))


def _address_type(packet: Packet) -> str:
    """As a node sees it that takes in what it does not forward."""
    if ipaddress.ip_address(packet.destination).is_multicast:
        return "MULTICAST"
    return "UNICAST" if packet.out else "LOCAL"


def _bpf(text: str, packet: Packet) -> bool:
    """Runs a classic BPF program (linux/filter.h) on the packet's header: loads, TAX, JEQ and RET."""
    header = _header(packet)
    lines = [[int(word) for word in line.split()] for line in text.split(",")[1:]]
    accumulator = index = at = 0
    while True:
        code, yes, no, k = lines[at]
        at += 1
        if code == 32:
            accumulator = int.from_bytes(header[k : k + 4], "big")
        elif code == 7:
            index = accumulator
        elif code == 29:
            at += yes if accumulator == index else no
        elif code == 6:
            return k != 0
        else:
            raise Refused(f"unknown instruction {code}")


def _header(packet: Packet) -> bytes:
    addresses = [ipaddress.ip_address(address).packed for address in (packet.source, packet.destination)]
    return bytes(8 if packet.version == 6 else 12) + b"".join(addresses)


def _ours(rules: list[str], from_end: bool) -> tuple[tuple[int, str], ...]:
    first = -len(rules) if from_end else 0
    return tuple((at, rule) for at, rule in enumerate(rules, first) if "manx-" in rule)


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
