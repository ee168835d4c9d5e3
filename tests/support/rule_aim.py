"""Packets aimed at rules: for each rule one that meets it, and for each of its matches one that meets all but that.

Owns: `Aim`, which finds such packets for a simulated kernel by trying what there is (addresses, ports, types), and
`crossings`, packets between all places whatever the rules. Must not: send anything, or say that a packet is right: the
simulated kernel says which rules it meets, and only packets that come as far as the rule count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice, product
from random import Random

from kernelsim import KernelSim, Packet, Passage, number_of
from rule_draw import ADDRESSES, ICMP_TYPES, INTERFACES, PODS, PORTS, SOURCE_PORTS, STRANGERS
from rule_shape import Part, shape_of

OUTSIDE = "eth0"
NODE = {4: "198.51.100.1", 6: "2001:db8::1"}
PORTED = ("tcp", "udp", "sctp", "udplite")
PROTOCOLS = (*PORTED, "icmp", "ipv6-icmp", "47", "253")
UNTRACKED = 87
"""The port of TCP that somebody else's rule keeps from connection tracking."""
_REDIRECT = 137
"""A type of ICMPv6 that connection tracking takes for no neighbour discovery."""
_TRIES = 12
Key = tuple[str, str, int]
"""A rule: table, chain, position."""
_Fits = Callable[[str, Packet], bool]
"""Whether a packet is as the matches on its addresses, its protocol or its contents want it."""


def interface_to(address: str, version: int) -> str:
    """Where a node sends what is for an address; empty: it takes it in."""
    if address == NODE[version]:
        return ""
    name = next((name for name, own in ADDRESSES[version].items() if own == address), "")
    return INTERFACES[name] if name else OUTSIDE


def packet(version: int, source: str, to: str, protocol: str, **fields: object) -> Packet:
    """A packet from where its source is. ICMP of the other family is invalid for connection tracking, so it comes as
    far as a policy only where somebody else keeps it from that."""
    made = Packet(source, to, interface_to(source, version), interface_to(to, version), protocol)
    foreign = protocol in ("icmp", "ipv6-icmp") and not is_own_icmp(made)
    return replace(made, **{"state": "UNTRACKED" if foreign else "NEW", **fields})  # type: ignore[arg-type]


def is_own_icmp(one: Packet) -> bool:
    """Whether it is ICMP of its own family, which has types."""
    return one.protocol == ("icmp" if one.version == 4 else "ipv6-icmp")


@dataclass
class Aim:
    """Finds packets for the rules of one kernel's policy chains."""

    kernel: KernelSim
    random: Random

    def met(self, key: Key) -> Iterator[tuple[Packet, Passage]]:
        """A packet that meets the rule, where one is found."""
        yield from self._first(key, None)

    def alone_not_met(self, key: Key, at: int) -> Iterator[tuple[Packet, Passage]]:
        """One that comes as far, and meets all of the rule's matches but this."""
        yield from self._first(key, at)

    def _first(self, key: Key, other: int | None) -> Iterator[tuple[Packet, Passage]]:
        for one, _ in zip(self._candidates(key, other), range(_TRIES), strict=False):
            passage = self.kernel.whole_passage(one)
            if key in (passage.rules if other is None else passage.missed):
                yield one, passage
                return

    def _candidates(self, key: Key, other: int | None) -> Iterator[Packet]:
        """Packets that meet all matches, but not the one at `other`, in an order of chance."""
        table, chain, position = key
        parts = shape_of(self.kernel.tables[table][chain][position]).parts

        def fits(about: str, one: Packet) -> bool:
            asked = (at for at, part in enumerate(parts) if _about(part) == about)
            return all(self.kernel.meets(list(parts[at].words), one) != (at == other) for at in asked)

        for ends in self._ends(6 if table.endswith("6") else 4, "-pi-" in chain, fits):
            yield from self._filled(ends, fits)

    def _ends(self, version: int, ingress: bool, fits: _Fits) -> Iterator[Packet]:
        """Of each pair of addresses that fits one packet of each protocol that fits."""
        pods = [ADDRESSES[version][name] for name in "ab"]
        peers = [*(ADDRESSES[version][name] for name in "abcd"), *STRANGERS[version]]
        pairs = [(peer, pod) if ingress else (pod, peer) for pod in pods for peer in peers if pod != peer]
        if not ingress:
            pairs += [(pod, NODE[version]) for pod in pods]
        fitting = [one for pair in pairs if fits("addresses", one := packet(version, *pair, "tcp"))]
        protocols = [one for one in PROTOCOLS if fits("protocol", packet(version, pods[0], pods[1], one))]
        found = list(product(fitting, protocols))
        self.random.shuffle(found)
        yield from (packet(version, one.source, one.destination, protocol) for one, protocol in found)

    def _filled(self, ends: Packet, fits: _Fits) -> Iterator[Packet]:
        """The same with ports or a type that fit: one of them."""
        choices: list[tuple[int, int]] = [(0, 0)]
        names = ("source_port", "port")
        if is_own_icmp(ends):
            choices, names = list(ICMP_TYPES[ends.version]), ("icmp_type", "icmp_code")
        elif ends.protocol in PORTED:
            choices = list(product((*SOURCE_PORTS, *PORTS), (*PORTS, *SOURCE_PORTS)))
        self.random.shuffle(choices)
        made = (replace(ends, **dict(zip(names, choice, strict=True))) for choice in choices)  # type: ignore[arg-type]
        yield from islice((one for one in made if fits("contents", one)), 1)


@lru_cache(maxsize=65536)
def _about(part: Part) -> str:
    """Whether a match asks for addresses, for the protocol, or for what comes after."""
    name = next(word for word in part.words if word.startswith("-"))
    if name == "--match-set":
        return "contents" if "," in part.words[-1] else "addresses"
    return {"-s": "addresses", "-d": "addresses", "-p": "protocol", "--ctproto": "protocol"}.get(name, "contents")


# --- whatever the rules ---------------------------------------------------------------------------------------------


def crossings(version: int) -> Iterator[Packet]:
    """From every place to every place, and what the fixed chains single out."""
    own = ADDRESSES[version]
    strangers = STRANGERS[version][:3:2]
    places = [*own.values(), *strangers]
    for source, to in product(places, (*places, NODE[version])):
        if source != to or source in own.values():
            yield packet(version, source, to, "tcp", port=80)
            yield packet(version, source, to, "udp", port=80)
    for source, to in ((own["c"], own["d"]), (strangers[0], own["c"]), (own["c"], strangers[0])):
        yield packet(version, source, to, "tcp", port=81, state="INVALID")
        yield packet(version, source, to, "tcp", port=82, opens=False)
        yield packet(version, source, to, "tcp", port=UNTRACKED, opens=False, state="UNTRACKED")
        for protocol in ("sctp", "udplite", "47"):
            yield packet(version, source, to, protocol, port=83)
    for forged in (own["b"], strangers[0], "10.244.9.9" if version == 4 else "fd00::99"):
        yield replace(packet(version, own["c"], own["d"], "udp", port=84), source=forged)
    yield from _to_the_node(version, own["c"])
    yield from _neighbours(own) if version == 6 else ()


def _to_the_node(version: int, pod: str) -> Iterator[Packet]:
    """By the addresses that all nodes have."""
    for to in ("224.0.0.1", "255.255.255.255") if version == 4 else ("ff02::1", "fe80::1"):
        yield replace(packet(version, pod, to, "udp", port=85), out="")


def _neighbours(own: dict[str, str]) -> Iterator[Packet]:
    """Neighbour discovery by right and wrong interfaces, and other ICMPv6."""
    for number, pod in enumerate(PODS, 5):
        local = f"fe80::{number}"
        for source in (local, "::", own[pod]):
            for kind in (131, 132, 133, 134, 135, 136, 137, 143) if pod == "c" else (135,):
                said = Packet(source, "ff02::1", INTERFACES[pod], "", "ipv6-icmp", icmp_type=kind)
                yield replace(said, state="INVALID" if kind == _REDIRECT else "UNTRACKED")
        yield Packet(local, "fe80::1", INTERFACES[pod], "", "udp", 86)


def identity(one: Packet) -> tuple[object, ...]:
    """What connection tracking knows a packet's connection by, the same in both directions. What it does not track is
    of none that another could be of."""
    if one.state not in ("NEW", "ESTABLISHED"):
        return (one,)
    ports = (one.source_port, one.port) if one.protocol in PORTED else (0, 0)
    ends = sorted(((one.source, ports[0]), (one.destination, ports[1])))
    return number_of(one.protocol), one.icmp_type, one.icmp_code, *ends


def reply(one: Packet) -> Packet:
    """The first answer."""
    return replace(
        one,
        source=one.destination,
        destination=one.source,
        into=one.out,
        out=one.into,
        port=one.source_port,
        source_port=one.port,
        state="ESTABLISHED",
        opens=False,
    )
