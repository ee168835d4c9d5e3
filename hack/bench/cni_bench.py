#!/usr/bin/env python3
"""What CNI ADD and DEL take, as a runtime sees them: the real executable, the agent's real CNI part, real namespaces.

Policy is played (it admits at once): its own cost is the policy bench's. The floor, in the same run: one `ip -batch`
that creates the veth, sets it up and adds the route, and one that deletes it. Prints a table. Needs root.

    sudo .venv/bin/python hack/bench/cni_bench.py [--rounds 50] [--parallel 20]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from cni_node import CniNode, compiled
from netns import Netns


def took(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def show(name: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    median, ninetieth = statistics.median(ordered) * 1000, ordered[len(ordered) * 9 // 10] * 1000
    print(f"{name:44} median {median:7.1f} ms   p90 {ninetieth:7.1f} ms")


@contextmanager
def pods(count: int) -> Iterator[list[Netns]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Netns()) for _ in range(count)]


def batch(node: Netns, *lines: str) -> None:
    node.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")


def floor(node: Netns, rounds: int) -> None:
    adds, deletes = [], []
    with pods(rounds) as made:
        for number, pod in enumerate(made):
            name, address = f"floor{number}", f"10.98.{number // 256}.{number % 256}"
            lines = (
                f"link add {name} mtu 1400 type veth peer name eth0 mtu 1400 netns {pod.pid}",
                f"link set {name} up",
                f"route add {address} dev {name}",
            )
            adds.append(took(lambda lines=lines: batch(node, *lines)))  # type: ignore[misc]
        for number in range(rounds):
            deletes.append(took(lambda number=number: batch(node, f"link del floor{number}")))  # type: ignore[misc]
    show("floor of ADD: ip -batch, veth and route", adds)
    show("floor of DEL: ip -batch, veth", deletes)


def one_after_another(node: CniNode, rounds: int) -> None:
    with pods(rounds) as made:
        adds = [took(lambda n=n, pod=pod: node.add(f"s{n}", pod)) for n, pod in enumerate(made)]  # type: ignore[misc]
        deletes = [took(lambda n=n: node.cni("DEL", f"s{n}")) for n in range(rounds)]  # type: ignore[misc]
    show("ADD, executable from start to end", adds)
    show("DEL, executable from start to end", deletes)
    version = [took(lambda: subprocess.run(compiled(".", "manx"), env={}, capture_output=True)) for _ in range(rounds)]
    show("  of which starting the executable", version)


def at_once(node: CniNode, count: int) -> None:
    with pods(count) as made, ThreadPoolExecutor(count) as pool:
        pairs = list(enumerate(made))
        whole = took(lambda: list(pool.map(lambda pair: node.add(f"p{pair[0]}", pair[1]), pairs)))
        print(f"{f'{count} ADDs at once, until the last':44} {whole * 1000:14.1f} ms   {count / whole:.0f} a second")
        whole = took(lambda: list(pool.map(lambda pair: node.cni("DEL", f"p{pair[0]}"), pairs)))
        print(f"{f'{count} DELs at once, until the last':44} {whole * 1000:14.1f} ms   {count / whole:.0f} a second")


def resident(node: CniNode) -> float:
    """Megabytes of the agent's CNI part alone."""
    assert node.agent is not None
    pages = int(Path(f"/proc/{node.agent.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--parallel", type=int, default=20)
    options = parser.parse_args()
    with CniNode(blocks="10.99.0.0/22") as node:
        node.start()
        print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
        floor(node.netns, options.rounds)
        one_after_another(node, options.rounds)
        at_once(node, options.parallel)
        print(f"{'resident, CNI and addresses alone':44} {resident(node):14.1f} MB")


if __name__ == "__main__":
    main()
