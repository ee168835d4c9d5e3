"""Runs the stages and counts.

Owns: the order's execution, the count, and the exit code. Must not: know what a stage does.

Why every stage runs even after a failure: one run then tells all that is wrong. The last line is the count that a
reader, or a machine, looks for.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from suite.stages import STAGES, Stage


@dataclass
class Count:
    """Cases, over stages."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Count) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def run(stage: Stage, report: Path) -> Count:
    """Runs one stage with its output passed through; a run that ends badly counts as one failure at the least."""
    command = (*stage.command, f"--junit-xml={report}") if stage.tests else stage.command
    environment = {**os.environ, "PYTHONPATH": "hack"}
    code = subprocess.run(command, cwd=stage.directory, check=False, env=environment).returncode
    if not stage.tests:
        return Count(passed=int(code == 0), failed=int(code != 0))
    count = cases(report) if report.exists() else Count()
    if code != 0 and not count.failed:
        count.failed = 1
    return count


def cases(report: Path) -> Count:
    """What a JUnit report counts; errors in fixtures count as failures."""
    count = Count()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        number = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
        bad = number["failures"] + number["errors"]
        count.add(Count(number["tests"] - bad - number["skipped"], bad, number["skipped"]))
    return count


def main() -> int:
    parser = argparse.ArgumentParser(prog="hack/test", description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", help=f"of {', '.join(stage.name for stage in STAGES)}; all by default")
    wanted = parser.parse_args().stages
    unknown = set(wanted) - {stage.name for stage in STAGES}
    if unknown:
        parser.error(f"no such stage: {', '.join(sorted(unknown))}")
    total, bad = Count(), []
    with tempfile.TemporaryDirectory() as directory:
        for stage in STAGES:
            if wanted and stage.name not in wanted:
                continue
            print(f"=== {stage.name} (usually {stage.usually})", flush=True)
            started = time.monotonic()
            count = run(stage, Path(directory) / f"{stage.name}.xml")
            total.add(count)
            word = "ok" if not count.failed else "FAILED"
            print(f"=== {stage.name}: {word} in {time.monotonic() - started:.0f} s", flush=True)
            bad += [stage.name] if count.failed else []
    if bad:
        print(f"Failed: {', '.join(bad)}. One stage alone: ./hack/test {bad[0]}")
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
