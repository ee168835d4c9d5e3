"""Owns the one command: the measures one after the other, their tables, the JSON, the picture, the counts' check.

It must not be run on a machine that does something else: it says what the load was, and that is all it can do about it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import counts, picture, promised
from bench.figures import Figure, machine, markdown, table
from bench.limit import Overdue, within
from bench.measures import MEASURES, Given, Measure, SizeName
from lab.binaries import build_all
from lab.cluster import Cluster
from lab.settings import CHECKOUT

SETTLE = {"quick": 1.0, "full": 5.0}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hack/bench/run", description="Measure Manx, each figure beside its floor in the same run."
    )
    parser.add_argument("--size", choices=("quick", "full"), default="full", help="default: %(default)s")
    parser.add_argument("--only", choices=MEASURES, action="append", help="just this one (may be given again)")
    parser.add_argument("--lab", help="a lab that is up, to be left up (default: one of its own, ended afterwards)")
    parser.add_argument("--nodes", type=int, default=3, help="nodes of the own lab (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=1200, help="seconds for one measure (default: %(default)s)")
    parser.add_argument("--settle", type=float, help="seconds between two measures (default: 5; quick: 1)")
    parser.add_argument("--check", action="store_true", help="the quick size; fail where a count is not what it was")
    parser.add_argument("--write-counts", action="store_true", help="the quick size; keep its counts as what they are")
    parser.add_argument("--json", type=Path, default=CHECKOUT / "dist/bench.json", help="default: %(default)s")
    return parser


def main() -> int:
    """Exit code 1 where something could not be measured, or a count is not what it was."""
    given = arguments().parse_args()
    size: SizeName = "quick" if given.check or given.write_counts else given.size
    build_all()  # nothing where it was done before; without it only a measure that has a lab would find its programs
    settle = given.settle if given.settle is not None else SETTLE[size]
    with SharedLab(given.lab, given.nodes) as lab:
        run = Run(Given(size, lab.entered), lab, settle, given.limit)
        run.all(given.only or [name for name, measure in MEASURES.items() if not measure.asked])
    write(given.json, run)
    if given.write_counts:
        counts.write(run.figures)
    different = counts.differences(run.figures) if given.check else []
    for line in (*run.failures, *different):
        print(f"bench: {line}", file=sys.stderr)
    return 1 if run.failures or different else 0


class SharedLab:
    """The lab that measures share: brought up for the first that asks, ended once no other will. A context manager."""

    def __init__(self, name: str | None, nodes: int) -> None:
        self._name, self._nodes, self._stack = name, nodes, ExitStack()
        self._cluster: Cluster | None = None

    def __enter__(self) -> SharedLab:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """May be called twice. A lab that was given stays up."""
        self._stack.close()

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
    """The figures found, by measure, how long each measure took (s), and what could not be measured."""

    def __init__(self, given: Given, lab: SharedLab, settle: float, limit: float) -> None:
        self._given, self._lab, self._settle, self._limit = given, lab, settle, limit
        self.found: dict[str, list[Figure]] = {}
        self.took: dict[str, float] = {}
        self.failures: list[str] = []

    @property
    def figures(self) -> list[Figure]:
        return [figure for figures in self.found.values() for figure in figures]

    def all(self, names: Sequence[str]) -> None:
        """Each table is printed as soon as it is there; a failure keeps no other measure away."""
        names = [name for name in names if MEASURES[name].quick or not self._given.quick]
        for name in sorted(names, key=lambda name: not MEASURES[name].lab):
            if not MEASURES[name].lab:
                self._lab.end()  # or its nodes would take their part of the machine
            time.sleep(self._settle)  # what came before shall be over: pods starting, caches written
            self._one(name, MEASURES[name])
        self.failures += promised.broken(names, self.figures, self._given.size)

    def _one(self, name: str, measure: Measure) -> None:
        print(f"\n{name}: {measure.text} ({about()})", flush=True)
        figures, began = self.found.setdefault(name, []), time.monotonic()
        try:
            with within(self._limit):
                for figure in measure.run(self._given):
                    figures.append(figure)
        except (Exception, Overdue) as error:  # whatever it is: the other measures are none the worse for it
            self.failures.append(f"{name}: {error!r}")
            traceback.print_exc()
        self.took[name] = time.monotonic() - began
        if figures:
            print(table(figures), flush=True)
        print(f"({name} took {self.took[name]:.0f} s)", flush=True)


def write(path: Path, run: Run) -> None:
    """The JSON, keyed by figure; the picture and the tables beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {figure.key: promised.as_json(figure) for figure in run.figures}
    about_it = {"took": {name: round(seconds) for name, seconds in run.took.items()}, "failures": run.failures}
    path.write_text(json.dumps({**machine(), **about_it, "figures": found}, indent=1))
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
