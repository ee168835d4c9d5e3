"""The operator's computing alone: Antrea's published cases, and single changes at several sizes of cluster.

Owns: the runs, each a process of its own so that its peak of memory is its own, and what they come to as figures.
Must not: measure in this process, whose memory and garbage are the bench's.

Each has its floors: decoding the same JSON and nothing else, one dictionary's entry for each input, and a fixed
loop of Python, which tells how fast the machine is today.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.figures import Figure
from bench.measures import Given
from bench.model import cases
from bench.model.cases import CASES, Case
from lab.settings import CHECKOUT

ROUNDS = 3
LOOP, TURNS = 5_000_000, 1_000
COMPUTING = ("feed", "drain", "desired")
SIZES = (1_000, 10_000, 50_000, 100_000)
QUICK_SIZES = (200, 2_000)
CHANGES = {
    "pod-status": "a pod's status changes",
    "pod-relabelled": "a pod goes to another app",
    "pod-replaced": "a pod goes or comes",
    "policy-replaced": "a policy goes or comes",
    "namespace-relabelled": "a namespace's 1,000 pods go to another team",
}
Run = Mapping[str, Any]


def measure(given: Given) -> Iterator[Figure]:
    """Raises RuntimeError where a run fails."""
    loops = tuple(_loop() for _ in range(1 if given.quick else ROUNDS))
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as directory:
            cases.write(case.cluster(case.quick if given.quick else 1.0), Path(directory))
            runs = [_run("computing", directory, "--bytes") for _ in range(1 if given.quick else ROUNDS)]
        yield from _case_figures(f"model.{name}", case, runs, loops, quick=given.quick)
    sizes = QUICK_SIZES if given.quick else SIZES
    yield from _change_figures({size: _run("changes", str(size)) for size in sizes}, loops)


# --- Antrea's cases ---------------------------------------------------------------------------------------------------


def _case_figures(key: str, case: Case, runs: list[Run], loops: Sequence[float], *, quick: bool) -> Iterator[Figure]:
    name = f"{case.text} × {case.quick:g}" if quick else case.text
    seconds, megabytes = ("", "") if quick else (_antrea(case.seconds), _antrea(case.megabytes))
    decoding, entries = _each(runs, "seconds", "decode"), _each(runs, "seconds", "dictionary")
    computing = tuple(_sum(run["seconds"]) for run in runs)
    whole = tuple(map(sum, zip(decoding, computing, strict=True)))
    cpu = tuple(run["cpu"]["decode"] + _sum(run["cpu"]) for run in runs)
    peaks, decoded = tuple(run["peak"] for run in runs), _each(runs, "resident", "decode")
    yield Figure(f"{key}.whole", f"{name}: JSON → objects", "s", whole, "decoding alone", decoding, seconds)
    yield Figure(f"{key}.computing", f"{name}: without decoding", "s", computing, "an entry each", entries, seconds)
    yield Figure(f"{key}.cpu", f"{name}: of a processor", "CPU s", cpu, f"a loop of {LOOP:,}", tuple(loops))
    yield Figure(f"{key}.peak", f"{name}: peak", "MB", peaks, "with the inputs decoded", decoded, megabytes)
    for what, unit in (("counts", "objects"), ("bytes", "bytes")):
        for kind, number in sorted(runs[0][what].items()):
            yield Figure(f"{key}.{unit}.{kind}", f"{name}: {kind}", unit, (number,), exact=True)


def _each(runs: list[Run], what: str, step: str) -> tuple[float, ...]:
    return tuple(run[what][step] for run in runs)


def _sum(times: Mapping[str, float]) -> float:
    return sum(times[step] for step in COMPUTING)


def _antrea(published: str) -> str:
    return f"Antrea's controller (published): {published}" if published else ""


# --- single changes ---------------------------------------------------------------------------------------------------


def _change_figures(runs: Mapping[int, Run], loops: Sequence[float]) -> Iterator[Figure]:
    turns = tuple(loop * 1e6 * TURNS / LOOP for loop in loops)
    for change, text in CHANGES.items():
        for size, run in runs.items():
            found, key, name = run[change], f"model.change.{change}.{size}", f"{text}, of {size:,}"
            cost, named = (found["microseconds"],), (found["named"] / found["changes"],)
            yield Figure(key, name, "CPU µs", cost, f"a loop of {TURNS:,}", turns)
            yield Figure(f"{key}.named", f"{name}: objects to look at", "a change", named, exact=True)
    for size, run in runs.items():
        yield Figure(f"model.resident.{size}", f"the model of {size:,} pods alone", "MB", (run["resident"],))


# --- processes --------------------------------------------------------------------------------------------------------


def _run(module: str, *arguments: str) -> Run:
    command = [sys.executable, "-m", f"bench.model.{module}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "hack"), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return dict(json.loads(done.stdout))


def _loop() -> float:
    start, total = time.process_time(), 0
    for number in range(LOOP):
        total += number
    return time.process_time() - start
