"""What came of a suite, from the JUnit files that it wrote.

Owns: counting, and the one JSON file for those who compare runs. Must not: know any suite. A suite that writes no JUnit
is one case, which its exit code decides.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from conformance.running import TIMED_OUT, Ended


@dataclass
class Result:
    """Cases by name, and how the process ended."""

    suite: str
    arguments: list[str]
    code: int
    seconds: float
    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Name → the first words of why."""
    skipped: int = 0
    problem: str = ""
    """What is wrong with the run as a whole."""

    @property
    def ok(self) -> bool:
        """Whether everything that ran passed, and something did."""
        return self.code == 0 and not self.failed and not self.problem

    def say(self) -> str:
        """For people."""
        lines = [f"FAILED {name}: {why}" for name, why in self.failed.items()]
        lines += [self.problem] if self.problem else []
        counts = f"{len(self.passed)} passed, {len(self.failed)} failed, {self.skipped} skipped"
        return "\n".join([*lines, f"{self.suite}: {counts} in {self.seconds:.0f} s, exit code {self.code}"])

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps({**asdict(self), "ok": self.ok}, indent=1))


def collect(suite: str, arguments: list[str], ended: Ended, report: Path) -> Result:
    """Read what the suite left in the directory."""
    result = Result(suite, arguments, ended.code, round(ended.seconds, 1))
    for path in sorted(report.rglob("*.xml")):
        _count(path, result)
    if ended.code == TIMED_OUT:
        result.problem = f"it had not ended after {ended.seconds:.0f} s and was ended"
    elif not result.passed and not result.failed:
        _by_exit_code(suite, ended.code, result)
    elif ended.code and not result.failed:
        result.problem = "no case failed, but the suite did: see log.txt"
    return result


def _by_exit_code(suite: str, code: int, result: Result) -> None:
    if result.skipped:
        result.problem = "every case was skipped: the arguments select none"
    elif code:
        result.failed[suite] = f"exit code {code}: see log.txt"
    else:
        result.passed.append(suite)


def _count(path: Path, result: Result) -> None:
    for name, case in _cases(path):
        bad = next((found for tag in ("failure", "error") if (found := case.find(tag)) is not None), None)
        if bad is not None:
            result.failed[name] = " ".join((bad.get("message") or bad.text or "").split())[:300]
        elif case.find("skipped") is not None:
            result.skipped += 1
        else:
            result.passed.append(name)


def _cases(path: Path) -> Iterator[tuple[str, ElementTree.Element]]:
    """Every case of a JUnit file; of a file that is none, nothing. Suite-wide nodes of ginkgo are no cases."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError:
        return
    for case in root.iter("testcase"):
        name = case.get("name", "")
        failed = any(case.find(tag) is not None for tag in ("failure", "error"))
        if failed or not name.startswith(("[SynchronizedBefore", "[SynchronizedAfter", "[Report", "[Before", "[After")):
            yield name, case
