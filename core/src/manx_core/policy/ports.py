"""Ranges of ports and lists of networks, as compiled rules have them.

Owns: their one form. Must not: know what a rule does with them.
"""

from __future__ import annotations

from collections.abc import Iterable

from manx_core.policy.validate import Network


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """First and last ports → "80", "8000-8080", sorted; those that overlap become one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(str(first) if first == last else f"{first}-{last}" for first, last in merged)


def sorted_networks(networks: Iterable[Network]) -> tuple[str, ...]:
    """Canonical CIDRs, IPv4 first, each once."""
    return tuple(str(network) for network in sorted(set(networks), key=_order))


def _order(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen
