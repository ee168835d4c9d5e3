"""IPv4 networks and group members in the one spelling that iptables-save and `ipset save` print.

Owns: canonical spelling, the sorting out of IPv6, the splitting of 0.0.0.0/0. Must not: raise on what a remote
party wrote; what cannot be read is returned as unreadable, for the caller to close what depends on it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

_PROTOCOLS = ("tcp", "udp", "sctp")
_HALVES = ("0.0.0.0/1", "128.0.0.0/1")


@dataclass(frozen=True, slots=True)
class Networks:
    """The IPv4 side of a list of networks."""

    everything: bool
    """0.0.0.0/0 is among them."""
    members: frozenset[str]
    """As members of a hash:net set: no host bits, no /32, no /0."""
    unreadable: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def ipv4_networks(cidrs: tuple[str, ...]) -> Networks:
    """Reads CIDRs or addresses; IPv6 ones are left out."""
    members, unreadable = _read(cidrs)
    everything = members.issuperset(_HALVES)
    return Networks(everything, members, unreadable)


def _read(texts: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    members: set[str] = set()
    unreadable = []
    for text in texts:
        try:
            members.update(_spelt(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            unreadable.append(text)
    return frozenset(members), tuple(unreadable)


def _spelt(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[str, ...]:
    """hash:net takes no prefix length of 0 and prints none of 32."""
    if network.version == 6:
        return ()
    if network.prefixlen == 0:
        return _HALVES
    return (str(network.network_address),) if network.prefixlen == 32 else (str(network),)


def as_match(member: str) -> str:
    """A hash:net member as iptables-save prints it after -s or -d."""
    return member if "/" in member else f"{member}/32"


@lru_cache(maxsize=65536)
def address_member(text: str) -> tuple[str, ...] | None:
    """A member of an Addresses group as hash:net members, none for IPv6. None: not an address."""
    try:
        return _spelt(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return None


_ADDRESS_PORT = re.compile(r"([^,]+),([a-z]+):([0-9]{1,5})")


@lru_cache(maxsize=65536)
def port_member(text: str) -> tuple[str, ...] | None:
    """A member of an AddressPorts group as hash:ip,port members, none for IPv6. None: not of the form
    "10.0.0.1,tcp:80"."""
    parts = _ADDRESS_PORT.fullmatch(text)
    if parts is None or parts[2] not in _PROTOCOLS or not 0 < int(parts[3]) < 65536:
        return None
    try:
        address = ipaddress.ip_address(parts[1])
    except ValueError:
        return None
    return (f"{address},{parts[2]}:{int(parts[3])}",) if address.version == 4 else ()
