"""The two families of addresses, as far as rules and sets differ between them.

Owns: the words. Must not: know what any rule is for. Everything else is rendered from one model for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from manx_agent.render import names
from manx_agent.render.image import Table

_COMPARE = (32, 7, 32, 29)
"""Classic BPF: load a word of the source, keep it, load the same word of the destination, go on if they are equal."""


def _same_addresses(source: int, destination: int, words: int) -> str:
    """A match on packets whose addresses are equal. Where in the header they are, and their length, in bytes and in
    words of 4 bytes. The filter is classic BPF, for want of a set type that every kernel has."""
    end = 4 * words
    lines = []
    for at in range(words):
        refused = end - 4 * at - 3
        offsets = (source + 4 * at, 0, destination + 4 * at, 0)
        jumps = ("0 0", "0 0", "0 0", f"0 {refused}")
        lines += [f"{code} {jump} {at}" for code, jump, at in zip(_COMPARE, jumps, offsets, strict=True)]
    lines += ["6 0 0 65535", "6 0 0 0"]
    return f'-m bpf --bytecode "{len(lines)},{",".join(lines)}" '


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """IPv4 or IPv6."""

    version: Literal[4, 6]
    set_family: Literal["inet", "inet6"]
    bits: int
    """Of an address."""
    halves: tuple[str, str]
    """All addresses, as hash:net can hold them."""
    icmp: str
    """The family's ICMP, as iptables-save names the protocol."""
    icmp_match: str
    """The match on its types, with the option."""
    unreachable: str
    """What REJECT answers with."""
    local: tuple[str, ...]
    """Matches on destinations that a node takes in itself, any of which may meet. (In IPv6 xt_addrtype wants all types
    of a list to be met at once, and does not know link-local addresses.)"""
    same: str
    """A match on packets that a pod sends to itself."""

    def table(self, name: Literal["raw", "filter", "nat"]) -> Table:
        return name if self.version == 4 else cast(Table, f"{name}6")

    def set(self, name: str) -> str:
        """The name of this family's set, given that of IPv4."""
        return name if self.version == 4 else names.in_ipv6(name)


IPV4 = Family(
    version=4,
    set_family="inet",
    bits=32,
    halves=("0.0.0.0/1", "128.0.0.0/1"),
    icmp="icmp",
    icmp_match="icmp {}--icmp-type",
    unreachable="icmp-port-unreachable",
    local=("-m addrtype --dst-type LOCAL,BROADCAST,MULTICAST ",),
    same=_same_addresses(12, 16, 1),
)
IPV6 = Family(
    version=6,
    set_family="inet6",
    bits=128,
    halves=("::/1", "8000::/1"),
    icmp="ipv6-icmp",
    icmp_match="icmp6 {}--icmpv6-type",
    unreachable="icmp6-port-unreachable",
    local=("-d fe80::/10 ", "-m addrtype --dst-type LOCAL ", "-m addrtype --dst-type MULTICAST "),
    same=_same_addresses(8, 24, 4),
)
FAMILIES = (IPV4, IPV6)
