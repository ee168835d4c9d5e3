"""Which stages there are, in which order, and what each runs.

Owns: the commands. Must not: run them (`__main__` does).

Why this order: what fails fastest comes first, and the cluster last, because it takes minutes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

PYTHON = sys.executable
BIN = PYTHON.rsplit("/", 1)[0]
SOURCES = ("core/src", "operator/src", "node-agent/src", "hack", "tests")


@dataclass(frozen=True)
class Stage:
    """One command. `tests`: a pytest run, counted by its cases; else the command counts as one."""

    name: str
    usually: str
    command: tuple[str, ...]
    tests: bool = False
    directory: str = "."


def _pytest(name: str, usually: str, *arguments: str) -> Stage:
    return Stage(name, usually, (PYTHON, "-m", "pytest", "-q", *arguments), tests=True)


MYPY = tuple(word for name in ("core", "kube", "operator", "agent") for word in ("-p", f"manx_{name}"))

STAGES = (
    Stage("ruff", "1 s", (f"{BIN}/ruff", "check", ".")),
    Stage("format", "1 s", (f"{BIN}/ruff", "format", "--check", ".")),
    Stage(
        "mypy",
        "30 s",
        (f"{BIN}/mypy", *MYPY, "-p", "lab", "-p", "suite", "-p", "generator", "-p", "bench", "-p", "conformance"),
    ),
    Stage("layers", "5 s", (f"{BIN}/lint-imports",)),
    Stage("generated", "5 s", ("hack/generate", "--check")),
    _pytest("unit", "2 min", "tests/unit", "-n", "2"),
    Stage("go", "1 min", (PYTHON, "-m", "lab", "gotest")),
    _pytest("dataplane", "5 min", "tests/dataplane", "-n", "3", "--dist", "loadfile"),
    Stage("bench", "3 min", ("hack/bench/run", "--check")),
    _pytest("apiserver", "4 min", "tests/apiserver", "-n", "2", "--dist", "loadfile"),
    _pytest("lab", "25 min", "tests/lab"),
)
