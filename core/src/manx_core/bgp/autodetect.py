"""Which of its addresses a node is reached at by the others.

Owns: the choice, as the Installation's nodeAddressAutodetectionV4 asks for it. Must not: look at interfaces (agents
report theirs) or at Node objects.

The node's InternalIP is what `kubernetes: NodeInternalIP` means and what `firstFound` gives here: the kubelet found it
the same way, and it is known before any agent has started. The other methods wait for the agent's report.
Source: Calico v3.30, NodeAddressAutodetection; the interfaces that firstFound skips there are ours to skip everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from typing import Literal

Method = Literal["InternalIP", "interface", "skipInterface", "cidrs"]
Addresses = Sequence[tuple[str, Sequence[str]]]
"""Interfaces in the agent's order: (name, addresses in CIDR form)."""

_NOT_UNDERLAY = re.compile(
    r"^(lo|mnx.*|docker.*|cbr.*|dummy.*|virbr.*|lxcbr.*|veth.*|cali.*|tunl.*|flannel.*|kube-ipvs.*|cni.*|podman.*|"
    r"vxlan\.calico.*|wireguard\.cali.*|nodelocaldns.*)$"
)


@dataclass(frozen=True, slots=True)
class Autodetection:
    """`values`: regular expressions of interfaces' names, or CIDRs."""

    method: Method = "InternalIP"
    values: tuple[str, ...] = ()


def detect(how: Autodetection, internal_ip: str, interfaces: Addresses) -> IPv4Interface | None:
    """The node's underlay address, with the prefix length of its interface where that is known (else 32). None: there
    is none, or not known yet."""
    if how.method == "InternalIP":
        return _with_prefix(internal_ip, interfaces)
    return next(iter(_candidates(how, interfaces)), None)


def _with_prefix(address: str, interfaces: Addresses) -> IPv4Interface | None:
    try:
        wanted = IPv4Interface(address)
    except ValueError:
        return None
    known = (found for _, found in _parsed(interfaces) if found.ip == wanted.ip)
    return next(known, wanted)


def _candidates(how: Autodetection, interfaces: Addresses) -> Iterator[IPv4Interface]:
    usual = [(name, found) for name, found in _parsed(interfaces) if not _NOT_UNDERLAY.match(name)]
    if how.method == "interface":
        # The first expression that finds any interface decides, as in Calico's comma-separated list.
        for value in how.values:
            yield from (found for name, found in _parsed(interfaces) if _named(value, name))
    elif how.method == "skipInterface":
        yield from (found for name, found in usual if not any(_named(value, name) for value in how.values))
    else:
        nets = list(_networks(how.values))
        yield from (found for _, found in usual if any(found.ip in net for net in nets))


def _parsed(interfaces: Addresses) -> Iterator[tuple[str, IPv4Interface]]:
    for name, addresses in interfaces:
        for text in addresses:
            try:
                found = IPv4Interface(text)
            except ValueError:
                continue  # IPv6
            if not (found.ip.is_loopback or found.ip.is_link_local):
                yield name, found


def _named(expression: str, name: str) -> bool:
    try:
        return re.match(expression, name) is not None
    except re.error:
        return False


def _networks(values: Iterable[str]) -> Iterator[IPv4Network]:
    for value in values:
        try:
            yield IPv4Network(value, strict=False)
        except ValueError:
            continue
