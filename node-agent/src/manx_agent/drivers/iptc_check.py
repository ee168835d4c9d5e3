"""`python -m manx_agent.drivers.iptc_check`: our legacy chains, decoded by python-iptables, as JSON.

Owns: the only use of python-iptables. Must not: be imported by the agent, or write to the kernel.

Why a process of its own, with a short life: the library takes 31 MB, keeps a table as it first read it, and can take
its process down with it where somebody edits the tables meanwhile. What it is good for is to say independently of
iptables' text output what the kernel has.

Input: {table: [chain, ...]} as JSON, "filter" for that table of IPv4, "filter6" for IPv6. Output: {table: {chain:
[rule, ...]}} with rules as `render.decoded` describes them; chains that do not exist are left out, and null stands for
one that the library has no words for (it has none for IPv6's MASQUERADE). Tables must exist: reading another would
create it.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterable
from typing import Any

import iptc


def read(table: str, chains: Iterable[str]) -> dict[str, list[dict[str, Any]] | None]:
    """Some chains of one table. Raises iptc.IPTCError."""
    name, ipv6 = table.rstrip("6"), table.endswith("6")
    return {chain: _rules(name, chain, ipv6) for chain in chains if iptc.easy.has_chain(name, chain, ipv6=ipv6)}


def _rules(table: str, chain: str, ipv6: bool) -> list[dict[str, Any]] | None:
    try:
        return [_uncounted(rule) for rule in iptc.easy.dump_chain(table, chain, ipv6=ipv6)]
    except iptc.XTablesError:
        return None


def _uncounted(rule: dict[str, Any]) -> dict[str, Any]:
    known = {key: value for key, value in rule.items() if key != "counters"}
    if "protocol" in known:
        known["protocol"] = _numbered(known["protocol"])
    return known


def _numbered(protocol: str) -> str:
    """The library names protocols partly as /etc/protocols does: those that are not always named become numbers."""
    name = protocol.removeprefix("!")
    if name in _NAMED or name.isdecimal():
        return protocol
    return protocol.replace(name, str(socket.getprotobyname(name)))


_NAMED = ("tcp", "udp", "sctp", "icmp", "icmpv6")


if __name__ == "__main__":
    json.dump({table: read(table, chains) for table, chains in json.load(sys.stdin).items()}, sys.stdout)
