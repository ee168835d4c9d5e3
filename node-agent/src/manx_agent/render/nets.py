"""Networks and group members in the one spelling that iptables-save and `ipset save` print.

Owns: canonical spelling, the sorting by family, the splitting of 0.0.0.0/0 and ::/0. Must not: raise on what a remote
party wrote; what cannot be read is returned as unreadable, for the caller to close what depends on it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from manx_agent.render.family import IPV4, IPV6, Family

_PROTOCOLS = ("tcp", "udp", "sctp", "udplite")
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Networks:
    """One family's side of a list of networks."""

    everything: bool
    """0.0.0.0/0 or ::/0 is among them."""
    members: frozenset[str]
    """As members of a hash:net set: no host bits, no /32 or /128, no /0."""
    unreadable: tuple[str, ...] = ()


@lru_cache(maxsize=8192)
def networks_of(family: Family, cidrs: tuple[str, ...]) -> Networks:
    """Reads CIDRs or addresses; those of the other family are left out."""
    members, unreadable = _read(family, cidrs)
    return Networks(members.issuperset(family.halves), members, unreadable)


def _read(family: Family, texts: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    members: set[str] = set()
    unreadable = []
    for text in texts:
        found = address_member(family, text)
        if found is None:
            unreadable.append(text)
        else:
            members.update(found)
    return frozenset(members), tuple(unreadable)


def _spelt(family: Family, network: _Network) -> tuple[str, ...]:
    """hash:net takes no prefix length of 0 and prints none of a whole address."""
    if network.version != family.version:
        return ()
    if network.prefixlen == 0:
        return family.halves
    address = _as_kernel(network.network_address)
    return (address,) if network.prefixlen == family.bits else (f"{address}/{network.prefixlen}",)


def _as_kernel(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """As inet_ntop writes it, which both programs use (RFC 5952, section 5, for ::ffff:192.0.2.1 and the like)."""
    return str(address) if address.version == 4 else socket.inet_ntop(socket.AF_INET6, address.packed)


def as_match(family: Family, member: str) -> str:
    """A hash:net member as iptables-save prints it after -s or -d."""
    return member if "/" in member else f"{member}/{family.bits}"


@lru_cache(maxsize=65536)
def address_member(family: Family, text: str) -> tuple[str, ...] | None:
    """A member of an Addresses group as hash:net members, none for the other family. None: not an address."""
    try:
        return _spelt(family, ipaddress.ip_network(text, strict=False))
    except ValueError:
        return None


_ADDRESS_PORT = re.compile(r"([^,]+),([a-z]+):([0-9]{1,5})")


@lru_cache(maxsize=65536)
def port_member(family: Family, text: str) -> tuple[str, ...] | None:
    """A member of an AddressPorts group as hash:ip,port members, none for the other family. None: not of the form
    "10.0.0.1,tcp:80" or "fd00::1,tcp:80"."""
    parts = _ADDRESS_PORT.fullmatch(text)
    if parts is None or parts[2] not in _PROTOCOLS or not 0 < int(parts[3]) < 65536:
        return None
    try:
        address = ipaddress.ip_address(parts[1])
    except ValueError:
        return None
    return (f"{_as_kernel(address)},{parts[2]}:{int(parts[3])}",) if address.version == family.version else ()


@lru_cache(maxsize=4096)
def family_of(address: str) -> Family | None:
    """The family of an address; None where it is none."""
    try:
        return IPV4 if ipaddress.ip_address(address).version == 4 else IPV6
    except ValueError:
        return None
