"""Fifty pods started at once on a node: CNI ADD as the runtime calls it, beside creating the veths alone.

Owns: that many ADDs at a time, each timed from the executable's start to its end. Must not: measure policy: it is
played, and admits at once. What fifty pods cost there is one or two restores for all of them (`writes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.cni_bench import batch, pods, took
from bench.figures import Figure, percentile
from bench.measures import Given
from cni_node import CniNode, compiled
from netns import Netns

AT_ONCE = 50


def measure(given: Given) -> Iterator[Figure]:
    count, rounds = (10, 1) if given.quick else (AT_ONCE, 4)
    compiled(".", "manx")
    adds: list[list[float]] = []
    veths: list[list[float]] = []
    with CniNode(blocks="10.99.0.0/22") as node:
        node.start()
        for round_ in range(rounds):
            veths.append(_veths(node.netns, round_, count))
            adds.append(_adds(node, round_, count))
    for key, share in (("p50", 50), ("p99", 99)):
        yield Figure(
            f"kernel.adds.{key}",
            f"CNI ADD, {count} at once, {key}",
            "ms",
            tuple(percentile(one, share) for one in adds),
            f"ip -batch: veth and route, {count} at once, {key}",
            tuple(percentile(one, share) for one in veths),
        )


def _adds(node: CniNode, round_: int, count: int) -> list[float]:
    with pods(count) as made:
        found = _together([lambda n=n, pod=pod: node.add(f"r{round_}-{n}", pod) for n, pod in enumerate(made)])  # type: ignore[misc]
        _together([lambda n=n: node.cni("DEL", f"r{round_}-{n}") for n in range(count)])  # type: ignore[misc]
        return found


def _veths(node: Netns, round_: int, count: int) -> list[float]:
    with pods(count) as made:
        found = _together([lambda n=n, pod=pod: _veth(node, f"f{round_}-{n}", n, pod) for n, pod in enumerate(made)])  # type: ignore[misc]
        batch(node, *(f"link del f{round_}-{n}" for n in range(count)))
        return found


def _veth(node: Netns, name: str, number: int, pod: Netns) -> None:
    batch(
        node,
        f"link add {name} mtu 1400 type veth peer name eth0 mtu 1400 netns {pod.pid}",
        f"link set {name} up",
        f"route add 10.98.0.{number} dev {name}",
    )


def _together(work: Sequence[Callable[[], object]]) -> list[float]:
    """Milliseconds of each, all begun at once."""
    with ThreadPoolExecutor(len(work)) as pool:
        return [seconds * 1000 for seconds in pool.map(took, work)]
