"""What policy costs in the kernel: rules walked, throughput and latency, writes beside the bare programs, pods at once.

Owns: the order. Must not: touch any network namespace but those that its parts make.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.figures import Figure
from bench.kernel import adds, traffic, walked, writes
from bench.measures import Given


def measure(given: Given) -> Iterator[Figure]:
    """All figures. Raises RuntimeError where a program says no, OSError where one is missing."""
    for part in (walked, traffic, writes, adds):
        yield from part.measure(given)
