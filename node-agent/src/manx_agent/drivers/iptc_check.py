"""`python -m manx_agent.drivers.iptc_check`: our legacy chains, decoded by python-iptables, as JSON.

Owns: the only use of python-iptables. Must not: be imported by the agent, or write to the kernel.

Why a process of its own, with a short life: the library takes 31 MB, keeps a table as it first read it, and can take
its process down with it where somebody edits the tables meanwhile. What it is good for is to say independently of
iptables' text output what the kernel has.

Arguments: the tables to read, "filter" of IPv4, "filter6" of IPv6. Output: {table: {chain: [rule, ...]}} with rules
as `render.decoded` describes them. Only tables that exist already are read: reading another would create it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import iptc

from manx_agent.render.names import PREFIX


def read(table: str) -> dict[str, list[dict[str, Any]]]:
    """Our chains of one table. Raises iptc.IPTCError."""
    chains = iptc.easy.dump_table(table.rstrip("6"), ipv6=table.endswith("6"))
    return {name: [_uncounted(rule) for rule in rules] for name, rules in chains.items() if name.startswith(PREFIX)}


def _uncounted(rule: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in rule.items() if key != "counters"}


if __name__ == "__main__":
    json.dump({table: read(table) for table in sys.argv[1:]}, sys.stdout)
