"""Owns the one command: the measures one after the other, their tables, the JSON, the picture, the counts' check.

It must not be run on a machine that does something else: it says what the load was, and that is all it can do about it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import counts, picture
from bench.figures import Figure, machine, markdown, table
from bench.measures import MEASURES, Given, Measure
from lab.cluster import Cluster
from lab.settings import CHECKOUT


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hack/bench/run", description="Measure Manx, each figure beside its floor in the same run."
    )
    parser.add_argument("--size", choices=("quick", "full"), default="full", help="default: %(default)s")
    parser.add_argument("--only", choices=MEASURES, action="append", help="just this one (may be given again)")
    parser.add_argument("--lab", help="a lab that is up, to be left up (default: one of its own, ended afterwards)")
    parser.add_argument("--nodes", type=int, default=3, help="nodes of the own lab (default: %(default)s)")
    parser.add_argument("--settle", type=float, default=5, help="seconds between two measures (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="the quick size; fail where a count is not what it was")
    parser.add_argument("--write-counts", action="store_true", help="the quick size; keep its counts as what they are")
    parser.add_argument("--json", type=Path, default=CHECKOUT / "dist/bench.json", help="default: %(default)s")
    return parser


def main() -> int:
    """Exit code 1 where something could not be measured, or a count is not what it was."""
    given = arguments().parse_args()
    counting = given.check or given.write_counts
    with ExitStack() as stack:
        lab = SharedLab(given.lab, given.nodes, stack)
        run = Run(Given("quick" if counting else given.size, lab.entered), given.settle)
        run.all(given.only or [*MEASURES])
    write(given.json, run)
    if given.write_counts:
        counts.write(run.figures)
    different = counts.differences(run.figures) if given.check else []
    for line in (*run.failures, *different):
        print(f"bench: {line}", file=sys.stderr)
    return 1 if run.failures or different else 0


class SharedLab:
    """The lab that measures share: brought up for the first that asks, ended with the stack."""

    def __init__(self, name: str | None, nodes: int, stack: ExitStack) -> None:
        self._name, self._nodes, self._stack = name, nodes, stack
        self._cluster: Cluster | None = None

    @contextmanager
    def entered(self) -> Iterator[Cluster]:
        """Raises LabError where it does not come up."""
        if self._cluster is None:
            self._cluster = Cluster(self._name) if self._name else self._own()
        yield self._cluster

    def _own(self) -> Cluster:
        print("Bringing up a lab ...", flush=True)
        cluster = Cluster.start("manx-bench", "--nodes", str(self._nodes))
        self._stack.callback(cluster.down)
        return cluster


class Run:
    """The figures found, by measure, and what could not be measured."""

    def __init__(self, given: Given, settle: float) -> None:
        self._given, self._settle = given, settle
        self.found: dict[str, list[Figure]] = {}
        self.failures: list[str] = []

    @property
    def figures(self) -> list[Figure]:
        return [figure for figures in self.found.values() for figure in figures]

    def all(self, names: Sequence[str]) -> None:
        """Each table is printed as soon as it is there; a failure keeps no other measure away."""
        for name in names:
            measure = MEASURES[name]
            if measure.quick or not self._given.quick:
                time.sleep(self._settle)  # what came before shall be over: pods starting, caches written
                self._one(name, measure)

    def _one(self, name: str, measure: Measure) -> None:
        print(f"\n{name}: {measure.text} ({about()})", flush=True)
        figures = self.found.setdefault(name, [])
        try:
            figures += measure.run(self._given)
        except Exception as error:  # whatever it is: the other measures are none the worse for it
            self.failures.append(f"{name}: {error!r}")
        if figures:
            print(table(figures), flush=True)


def write(path: Path, run: Run) -> None:
    """The JSON, keyed by figure; the picture and the tables beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {figure.key: figure.as_json() for figure in run.figures}
    path.write_text(json.dumps({**machine(), "figures": found}, indent=1))
    drawn, written = path.with_suffix(".svg"), path.with_suffix(".md")
    drawn.write_text(picture.svg(run.found))
    written.write_text("\n".join(f"### {name}\n{markdown(figures)}" for name, figures in run.found.items()))
    print(f"\nwritten to {path}, {drawn} and {written}")


def about() -> str:
    """The machine in one line."""
    seen = machine()
    return f"{seen['cores']} cores, {seen['memoryGiB']} GiB, load {seen['load'][0]}, {seen['system']}, {seen['kernel']}"


if __name__ == "__main__":
    sys.exit(main())
