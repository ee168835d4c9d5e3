"""The names that Manx's objects have in the kernel.

Owns: every chain's, set's and interface prefix's name. Must not: be bypassed; a name spelt elsewhere would not be
recognised as ours after a crash.

All names start with `manx-`; whatever starts so is ours, to change and to remove. A chain's name has at most 28
characters (XT_EXTENSION_MAXNAMELEN less the NUL), a set's at most 31 (IPSET_MAXNAMELEN). Names are made of the 20
characters of hash that ids of classes and groups carry, so that they can be found by hand; other ids are hashed.
Chains are named alike in both families of addresses, which have tables of their own; a set of IPv6 is `manx-6-…` where
that of IPv4 is `manx-…`.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from manx_core.api.v1alpha1 import OPEN_CLASS

PREFIX = "manx-"
POD_INTERFACES = "mnx+"
"""Matches every pod's interface, in iptables' notation."""

RAW = "manx-raw"
FORWARD = "manx-forward"
FROM = "manx-from"
ARRIVE = "manx-arrive"
TO = "manx-to"
INBOUND = "manx-in"
NAT = "manx-nat"
INPUT = "manx-input"
NEIGHBOURS = "manx-nd"
LINK = "manx-link"
PASS = "manx-pass"
ALLOW = "manx-allow"
ALLOWED_OUT = "manx-allowed-out"
ALLOWED_IN = "manx-allowed-in"

ENDPOINTS = "manx-endpoints"
"""Every endpoint in force, as (address, interface)."""
OPEN_OUT = "manx-open-out"
"""The endpoints that are not isolated for egress."""
OPEN_IN = "manx-open-in"
"""The same for ingress."""
LINKS = tuple(f"manx-links-{digit:x}" for digit in range(16))
"""Of IPv6 alone: what endpoints in force send neighbour discovery from, as (network, interface), by the last digit of
the interface's name: a set takes one network with 64 interfaces at most (ip_set_hash_netiface.c), and of two networks
that hold an address it looks at the longer one alone."""
POOLS = "manx-pools"
NAT_POOLS = "manx-nat"
CLASS_SETS = "manx-c-"
_SIGN_SETS = "manx-sign-"
_OWN_PORTS = "manx-own-"
_SIX = "manx-6-"

_LONGEST_SET = 31
_READABLE = re.compile(r"[0-9a-z-]+")
"""Of ports' names: as Kubernetes allows them."""
_HASHED_ID = re.compile(r"(?:pc|ag)-([0-9a-z]{20})")


@lru_cache(maxsize=65536)
def short(identifier: str) -> str:
    """At most 20 characters that stand for an object's name: the hash that the name carries, or one made of it."""
    if identifier == OPEN_CLASS:
        return identifier
    hashed = _HASHED_ID.fullmatch(identifier)
    return hashed[1] if hashed else digest(identifier)


def digest(text: str) -> str:
    """20 hexadecimal digits of BLAKE2b."""
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def class_set(name: str) -> str:
    """The set of (address, interface) of the endpoints in a class."""
    return CLASS_SETS + short(name)


def sign_set(signs: int, number: int) -> str:
    """The set of the endpoints of classes that have the sign of this number, of so many."""
    return f"{_SIGN_SETS}{signs}-{number}"


def class_egress(name: str) -> str:
    return f"manx-ce-{short(name)}"


def class_ingress(name: str) -> str:
    return f"manx-ci-{short(name)}"


def tier_egress(name: str, tier: str) -> str:
    """A class's chain for one tier of several."""
    return f"manx-te-{digest(f'{name}/{tier}')}"


def tier_ingress(name: str, tier: str) -> str:
    return f"manx-ti-{digest(f'{name}/{tier}')}"


def program_egress(name: str) -> str:
    return f"manx-pe-{short(name)}"


def program_ingress(name: str) -> str:
    return f"manx-pi-{short(name)}"


def address_group(group: str) -> str:
    """The set of a group of type Addresses."""
    return f"manx-g-{short(group)}"


def port_group(group: str) -> str:
    """The set of a group of type AddressPorts."""
    return f"manx-p-{short(group)}"


def own_ports(protocol: str, port: str) -> str:
    """The set of the endpoints that have this named port, with its number on each."""
    name = f"{_OWN_PORTS}{protocol.lower()}-{port}"
    readable = _READABLE.fullmatch(port) and len(in_ipv6(name)) <= _LONGEST_SET
    return name if readable else _OWN_PORTS + digest(f"{protocol}/{port}")


def networks(members: frozenset[str]) -> str:
    """The set of some networks: named after its contents, so that it never changes."""
    return f"manx-n-{digest(' '.join(sorted(members)))}"


def temporary(set_name: str) -> str:
    """The set in which the given set is built anew, to be swapped with it."""
    return f"manx-t-{digest(set_name)}"


def in_ipv6(set_name: str) -> str:
    """The set of IPv6 beside that of IPv4."""
    return _SIX + set_name.removeprefix(PREFIX)


def in_ipv4(set_name: str) -> str:
    """The set of IPv4 beside that of IPv6; any other as it is."""
    return PREFIX + set_name.removeprefix(_SIX) if set_name.startswith(_SIX) else set_name


def is_class_set(set_name: str) -> bool:
    """Whether a set's members are the endpoints of a class."""
    return in_ipv4(set_name).startswith(CLASS_SETS)


def is_everyone(set_name: str) -> bool:
    """Whether a set's members are all endpoints in force, or their links."""
    return in_ipv4(set_name) in (ENDPOINTS, *LINKS)


def is_open_set(set_name: str) -> bool:
    """Whether a set's members are the endpoints that are not isolated in a direction."""
    return in_ipv4(set_name) in (OPEN_OUT, OPEN_IN)


def is_own_ports(set_name: str) -> bool:
    """Whether a set's members are named ports of endpoints."""
    return in_ipv4(set_name).startswith(_OWN_PORTS)


def is_endpoint_set(set_name: str) -> bool:
    """Whether a set's members are local endpoints, as opposed to addresses and ports that rules refer to."""
    return is_everyone(set_name) or is_open_set(set_name) or in_ipv4(set_name).startswith((CLASS_SETS, _SIGN_SETS))
