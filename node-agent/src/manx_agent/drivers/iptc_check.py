"""`python -m manx_agent.drivers.iptc_check`: our legacy chains, decoded by python-iptables, as JSON.

Owns: the only use of python-iptables. Must not: be imported by the agent, or write to the kernel.

Why a process of its own, with a short life: the library takes 31 MB, keeps a table as it first read it, and can take
its process down with it where somebody edits the tables meanwhile. What it is good for is to say independently of
iptables' text output what the kernel has.

Input: {table: [chain, ...]} as JSON, "filter" for that table of IPv4, "filter6" for IPv6. Output: {table: {chain:
[rule, ...]}} with rules as `render.decoded` describes them; chains that do not exist are left out. Tables must exist:
reading another would create it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import iptc


def read(table: str, chains: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Some chains of one table. Raises iptc.IPTCError."""
    name, ipv6 = table.rstrip("6"), table.endswith("6")
    return {
        chain: [_uncounted(rule) for rule in iptc.easy.dump_chain(name, chain, ipv6=ipv6)]
        for chain in chains
        if iptc.easy.has_chain(name, chain, ipv6=ipv6)
    }


def _uncounted(rule: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in rule.items() if key != "counters"}


if __name__ == "__main__":
    json.dump({table: read(table, chains) for table, chains in json.load(sys.stdin).items()}, sys.stdout)
