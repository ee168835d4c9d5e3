"""How long a block takes from one node's announcement to another node's kernel.

Owns: the figures. Must not: play anything: real agents' BGP, real ExaBGP and real routes, in network namespaces of its
own (root). The floor, in the same run: adding that route with `ip route` in the other node's namespace.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.figures import Figure
from bench.measures import Given
from bgp_lab import Mesh, Node, mesh_of
from manx_core.api.v1alpha1 import BgpSettings

NODES = 3
ROUNDS = {"quick": 3, "full": 20}


def measure(given: Given) -> Iterator[Figure]:
    """Raises RuntimeError, OSError."""
    with tempfile.TemporaryDirectory() as directory:
        started = time.perf_counter()
        with mesh_of(NODES, Path(directory), BgpSettings()) as mesh:
            up = (time.perf_counter() - started,)
            yield Figure("bgp.start", f"{NODES} nodes: nothing to full mesh and routes", "s", up)
            floor = added(mesh.nodes[-1], ROUNDS[given.size])
            took = announced_to_kernel(mesh, ROUNDS[given.size])
    name = "a block announced to another node's kernel having it"
    yield Figure("bgp.kernel", name, "ms", took, "ip route add", floor)


def announced_to_kernel(mesh: Mesh, rounds: int) -> tuple[float, ...]:
    """Milliseconds from handing the view to the first node's agent until the last node's kernel has the route."""
    origin, target = mesh.nodes[0], mesh.nodes[-1]
    took = []
    for number in range(rounds):
        block = f"10.200.{number}.0/26"
        origin.view = replace(origin.view, announced=origin.view.announced | {block})
        for node in mesh.nodes[1:]:
            node.apply(mesh.view(node))
        view = mesh.view(origin)
        started = time.perf_counter()
        origin.apply(view)
        while block not in target.routes():
            pass
        took.append((time.perf_counter() - started) * 1000)
    return tuple(took)


def added(node: Node, rounds: int) -> tuple[float, ...]:
    """Milliseconds of `ip route add`, and reading it back as above."""
    took = []
    for number in range(rounds):
        prefix = f"10.201.{number}.0/26"
        started = time.perf_counter()
        node.namespace.ip("route", "add", prefix, "via", "198.51.100.1", "proto", "77", "metric", "78")
        while prefix not in node.routes():
            pass
        took.append((time.perf_counter() - started) * 1000)
        node.namespace.ip("route", "del", prefix, "metric", "78")
    return tuple(took)
