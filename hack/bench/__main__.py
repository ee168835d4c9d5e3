"""Owns the one command: a lab of its own, the three figures, the table, the JSON, and the lab's end.

It must not be run on a machine that does something else: it says what the load was, and that is all it can do about it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import cni_bench, footprint, policy_to_kernel
from bench.figures import Figure, machine, table
from lab.cluster import Cluster
from lab.run import LabError
from lab.settings import CHECKOUT

MEASURES = ("policy", "cni", "footprint")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hack/bench/run", description="Measure Manx on a lab, each figure beside its floor in the same run."
    )
    parser.add_argument("--lab", help="a lab that is up, to be left up (default: one of its own, ended afterwards)")
    parser.add_argument("--nodes", type=int, default=3, help="nodes of the own lab (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=30, help="policies, and CNI ADDs (default: %(default)s)")
    parser.add_argument("--idle", type=float, default=60, help="seconds of watching idle (default: %(default)s)")
    parser.add_argument("--settle", type=float, default=30, help="seconds between two measures (default: %(default)s)")
    parser.add_argument("--only", choices=MEASURES, action="append", help="just this one (may be given again)")
    parser.add_argument("--json", type=Path, default=CHECKOUT / "dist/bench.json", help="default: %(default)s")
    return parser


def main() -> int:
    """Exit code 1 where something could not be measured."""
    given = arguments().parse_args()
    try:
        with lab(given) as cluster:
            figures = measure(cluster, given)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps({**machine(), "figures": [figure.as_json() for figure in figures]}, indent=1))
    print(f"\nwritten to {given.json}")
    return 0


@contextmanager
def lab(given: argparse.Namespace) -> Iterator[Cluster]:
    """The lab to measure on."""
    if given.lab:
        yield Cluster(given.lab)
        return
    print("Bringing up a lab ...", flush=True)
    cluster = Cluster.start("manx-bench", "--nodes", str(given.nodes))
    try:
        yield cluster
    finally:
        cluster.down()


def measure(cluster: Cluster, given: argparse.Namespace) -> list[Figure]:
    """All figures asked for, each table printed as soon as it is there."""
    found = []
    for name in given.only or MEASURES:
        time.sleep(given.settle)  # what came before shall be over: pods starting, caches written
        print(f"\n{name} ({about()})", flush=True)
        figures = _measure(name, cluster, given)
        print(table(figures), flush=True)
        found += figures
    return found


def _measure(name: str, cluster: Cluster, given: argparse.Namespace) -> list[Figure]:
    if name == "policy":
        return asyncio.run(policy_to_kernel.measure(cluster, given.rounds))
    if name == "cni":
        return cni_bench.measure(given.rounds)
    return footprint.measure(cluster, given.idle)


def about() -> str:
    """The machine in one line."""
    seen = machine()
    return f"{seen['cores']} cores, {seen['memoryGiB']} GiB, load {seen['load'][0]}, {seen['system']}, {seen['kernel']}"


if __name__ == "__main__":
    sys.exit(main())
