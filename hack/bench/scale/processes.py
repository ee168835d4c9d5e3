"""The processes that are measured, and what /proc says of them.

Owns: starting and ending them, and reading their CPU and memory. Must not: know what they do.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab.settings import CHECKOUT

TICKS = os.sysconf("SC_CLK_TCK")
COMPILED = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(CHECKOUT / "dist/bytecode")}
"""As in the image, where everything is compiled: else each start of a process would compile it anew."""


@dataclass(frozen=True)
class Usage:
    """`cpu`: seconds, of the process and of those children that have ended. Memory in MB: `resident` now, `peak` ever,
    `proportional` with shared pages divided by their users."""

    cpu: float
    resident: float
    peak: float
    proportional: float


class Process:
    """One process with its log, in the network namespace of the thread that makes it; `end` ends it."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.started = time.perf_counter()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                argv, env={**os.environ, **COMPILED, **env}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self.pid = self._process.pid

    def says(self, text: str) -> bool:
        """Whether its log has the text by now. Raises RuntimeError where the process has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._process.args!r} ended:\n{self.log.read_text()[-3000:]}")
        return text in self.log.read_text()

    def usage(self) -> Usage:
        return usage(self.pid)

    def children(self) -> list[int]:
        """Processes below it, at any depth."""
        return below(self.pid)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, *, kill: bool = False) -> None:
        """May be called twice."""
        (self._process.kill if kill else self._process.terminate)()
        self._process.wait(30)


def usage(pid: int) -> Usage:
    """Raises OSError where there is no such process."""
    here = Path(f"/proc/{pid}")
    fields = (here / "stat").read_text().rsplit(")", 1)[1].split()
    lines = [*(here / "status").read_text().splitlines(), *(here / "smaps_rollup").read_text().splitlines()[1:]]
    sizes = {name: int(rest.split()[0]) * 1024 / 1e6 for name, _, rest in (line.partition(":") for line in lines)
             if name in ("VmRSS", "VmHWM", "Pss")}  # fmt: skip
    return Usage(sum(map(int, fields[11:15])) / TICKS, sizes["VmRSS"], sizes["VmHWM"], sizes["Pss"])


def below(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *below(child)]
    return found


def python(*words: str) -> list[str]:
    return [sys.executable, *words]


def imported(module: str) -> None:
    """Python's start with a module's imports."""
    subprocess.run(python("-c", f"import {module}"), check=True, env={**os.environ, **COMPILED})


async def share(processes: Mapping[str, int], work: Awaitable[object]) -> dict[str, float]:
    """Per cent of a core that each (by its pid) takes while `work` runs."""
    before = {name: usage(pid).cpu for name, pid in processes.items()}
    began = time.perf_counter()
    await work
    took = time.perf_counter() - began
    return {name: (usage(pid).cpu - before[name]) / took * 100 for name, pid in processes.items()}


async def until(condition: Callable[[], object], what: str, patience: float = 300.0, every: float = 0.01) -> None:
    """Asks again and again. Raises TimeoutError saying what was waited for."""
    deadline = time.perf_counter() + patience
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"waited {patience:g} s for {what}")
        await asyncio.sleep(every)
