#!/usr/bin/env python3
"""How long a block takes from one node's announcement to another node's kernel, and what ExaBGP costs when idle.

Real ExaBGP and real routes, in network namespaces of its own (root). The floor, in the same run: adding that route with
`ip route` in the other node's namespace. Prints a table.

    sudo .venv/bin/python hack/bench/bgp_bench.py [--nodes 3] [--rounds 20] [--idle 20]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from bgp_lab import Mesh, Node, mesh_of
from manx_core.api.v1alpha1 import BgpSettings

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def milliseconds(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"median {statistics.median(ordered) * 1000:6.1f} ms, worst {ordered[-1] * 1000:6.1f} ms"


def announced_to_kernel(mesh: Mesh, rounds: int) -> list[float]:
    """From the view's being handed to the first node's agent to the last node's kernel having the route."""
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
        took.append(time.perf_counter() - started)
    return took


def floor(node: Node, rounds: int) -> list[float]:
    """`ip route add`, and reading it back as above."""
    took = []
    for number in range(rounds):
        prefix = f"10.201.{number}.0/26"
        started = time.perf_counter()
        node.namespace.ip("route", "add", prefix, "via", "198.51.100.1", "proto", "77", "metric", "78")
        while prefix not in node.routes():
            pass
        took.append(time.perf_counter() - started)
        node.namespace.ip("route", "del", prefix, "metric", "78")
    return took


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> float:
    """Megabytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 1e6


def idle(node: Node, seconds: float) -> None:
    relay = node.relay_pid
    assert relay is not None
    pids = {"ExaBGP": node.speaker_pid, "relay": relay}
    before = {name: processor_seconds(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    for name, pid in pids.items():
        share = (processor_seconds(pid) - before[name]) / seconds * 100
        print(f"{name + ', idle':40} {share:6.2f} % of a core, {resident(pid):5.1f} MB resident")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--idle", type=float, default=20.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        started = time.perf_counter()
        with mesh_of(given.nodes, Path(directory), BgpSettings()) as mesh:
            print(f"{given.nodes} nodes, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
            print(f"{'cold start to full mesh and routes':40} {time.perf_counter() - started:6.1f} s")
            print(f"{'floor: ip route add':40} {milliseconds(floor(mesh.nodes[-1], given.rounds))}")
            print(f"{'announced -> other kernel':40} {milliseconds(announced_to_kernel(mesh, given.rounds))}")
            idle(mesh.nodes[0], given.idle)


if __name__ == "__main__":
    main()
