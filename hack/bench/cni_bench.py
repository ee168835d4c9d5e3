#!/usr/bin/env python3
"""What CNI ADD and DEL take, as a runtime sees them: the real executable, the agent's real CNI part, real namespaces.

Policy is played (it admits at once): its own cost is the policy bench's. The floor, in the same run: one `ip -batch`
that creates the veth, sets it up and adds the route, and one that deletes it. `hack/bench/run` has ADD and DEL; run
alone, as root, this also prints many ADDs at once:

    sudo PYTHONPATH=hack:tests/support .venv/bin/python -m bench.cni_bench [--rounds 50] [--parallel 20]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.figures import Figure, table
from bench.measures import Given
from cni_node import CniNode, compiled
from netns import Netns


def took(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def pods(count: int) -> Iterator[list[Netns]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Netns()) for _ in range(count)]


def batch(node: Netns, *lines: str) -> None:
    node.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")


def floor(node: Netns, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each addition and of each deletion."""
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
    return adds, deletes


def one_after_another(node: CniNode, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each ADD and of each DEL."""
    with pods(rounds) as made:
        adds = [took(lambda n=n, pod=pod: node.add(f"s{n}", pod)) for n, pod in enumerate(made)]  # type: ignore[misc]
        deletes = [took(lambda n=n: node.cni("DEL", f"s{n}")) for n in range(rounds)]  # type: ignore[misc]
    return adds, deletes


def executable(rounds: int) -> list[float]:
    """Seconds of starting the executable for nothing."""
    return [took(lambda: subprocess.run(compiled(".", "manx"), env={}, capture_output=True)) for _ in range(rounds)]


def measured(node: CniNode, rounds: int) -> list[Figure]:
    """The figures of a node whose agent runs."""
    one_after_another(node, 1)  # whatever is only done once: the executable compiled, modules loaded
    add_floor, del_floor = floor(node.netns, rounds)
    adds, deletes = one_after_another(node, rounds)
    return [
        figure("cni.add", "CNI ADD, executable from start to end", adds, "ip -batch: veth and route", add_floor),
        figure("cni.del", "CNI DEL, executable from start to end", deletes, "ip -batch: veth deleted", del_floor),
        figure("cni.start", "  of which starting the executable", executable(rounds)),
    ]


def figure(key: str, name: str, seconds: list[float], floor_name: str = "", least: Sequence[float] = ()) -> Figure:
    return Figure(key, name, "ms", tuple(s * 1000 for s in seconds), floor_name, tuple(s * 1000 for s in least))


def measure(given: Given) -> list[Figure]:
    """ADD and DEL, each beside its floor, on a node of its own."""
    rounds = 5 if given.quick else 30
    with CniNode(blocks="10.99.0.0/22") as node:
        node.start()
        return measured(node, rounds)


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
        print(table(measured(node, options.rounds)))
        at_once(node, options.parallel)
        print(f"{'resident, CNI and addresses alone':44} {resident(node):14.1f} MB")


if __name__ == "__main__":
    main()
