"""Runs a suite where it can reach what a tester's machine can reach, for a bounded time.

Owns: the process, its environment and its end. Must not: judge. The suite runs in the network namespace of the lab's
control plane: it reaches the API server and the nodes there, and nothing of it leaves the lab. Its files are the
machine's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conformance.suites import Suite
from lab import binaries, control_plane
from lab.machines import Machines

TIMED_OUT = 124
GRACE = 60.0
"""Seconds that a suite has to clean up after SIGINT."""


@dataclass(frozen=True)
class Ended:
    """How a suite's process ended. `code` is TIMED_OUT where it had to be ended."""

    code: int
    seconds: float


def run(machines: Machines, suite: Suite, report: Path, timeout: float) -> Ended:
    """Run it to its end, or to `timeout` seconds; its output goes to standard output and into ``report/log.txt``."""
    words = [str(suite.program), *(word.replace("{report}", str(report)) for word in suite.arguments)]
    enter = ["nsenter", f"--net=/proc/{machines.holder(control_plane.MACHINE)}/ns/net", "--"]
    started = time.monotonic()
    log = report / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*enter, *words],
            cwd=report,
            env=environment(machines, report),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = _follow(process, log, started + timeout)
        finally:
            _end(process)
    return Ended(code, time.monotonic() - started)


def environment(machines: Machines, report: Path) -> Mapping[str, str]:
    """What a suite is told: where the cluster is, where its results go, and a kubectl to call."""
    path = f"{binaries.KUBE.directory}{os.pathsep}{os.environ.get('PATH', '')}"
    kubeconfig = machines.settings.state / "inside.kubeconfig"
    return {**os.environ, "PATH": path, "KUBECONFIG": str(kubeconfig), "ARTIFACTS": str(report), "HOME": str(report)}


def _follow(process: subprocess.Popen[bytes], log: Path, end: float) -> int:
    """Pass on what it says until it ends; TIMED_OUT at `end`."""
    with log.open("rb") as heard:
        while True:
            code = process.poll()
            sys.stdout.buffer.write(heard.read())
            sys.stdout.flush()
            if code is not None:
                return code if code >= 0 else 128 - code
            if time.monotonic() > end:
                return TIMED_OUT
            time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End all of its session: politely, then not. What it began may be there even where it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
