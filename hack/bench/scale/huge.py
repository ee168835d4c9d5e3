"""What each change costs in a cluster of 50,000 pods on 1,000 nodes: five times what the other measures have.

Owns: asking for that size. Must not: be part of a run that nobody asked it of: it takes some ten minutes and 10 GB.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.figures import Figure
from bench.measures import Given, streamed
from bench.scale import agent_rows, load


def measure(given: Given) -> Iterator[Figure]:
    """There is one size. Raises AssertionError, RuntimeError, TimeoutError, KubeError as the smaller ones do."""
    yield from streamed(agent_rows.costs(load.HUGE))
