"""Owns the figure "resident memory and idle CPU" of Manx's processes on a running lab.

It must not cause what it measures: it reads /proc twice, with nothing in between but waiting.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure
from bench.measures import Given
from lab.cluster import Cluster
from lab.run import LabError

TICKS = os.sysconf("SC_CLK_TCK")
ROLES = {
    "manx_agent.bgp.server": "ExaBGP",
    "manx_operator": "operator",
    "manx_agent": "agent",
}
"""Words of a command line → what it is; the first that fits counts."""
FLOOR = "a bare Python that sleeps"


@dataclass(frozen=True)
class Usage:
    """Of one process: processor seconds so far, and megabytes, whole and with shared pages divided by their users."""

    cpu: float
    resident: float
    proportional: float


SECONDS = 60.0
"""Of watching idle."""


def measure(given: Given) -> list[Figure]:
    """Of the shared lab."""
    with given.lab() as cluster:
        time.sleep(30)  # what its start began shall be over
        return measured(cluster, SECONDS)


def measured(cluster: Cluster, seconds: float) -> list[Figure]:
    """Idle for so many seconds, of every process of Manx's. Raises LabError where one is missing, or ends meanwhile."""
    found = processes(cluster)
    if missing := set(ROLES.values()) - set(found.values()):
        raise LabError(f"no process of {', '.join(sorted(missing))} in the lab {cluster.settings.name}")
    with sleeper() as floor:
        before = {pid: usage(pid) for pid in (*found, floor)}
        started = time.monotonic()
        time.sleep(seconds)
        after = {pid: usage(pid) for pid in before}
        took = time.monotonic() - started
    share = {pid: (after[pid].cpu - before[pid].cpu) / took * 100 for pid in before}
    return [
        figure
        for role in dict.fromkeys(ROLES.values())
        for figure in _of_role(role, [pid for pid in found if found[pid] == role], after, share, floor)
    ]


def _of_role(
    role: str, pids: list[int], after: dict[int, Usage], share: dict[int, float], floor: int
) -> Iterator[Figure]:
    count = f"{len(pids)} of them" if len(pids) > 1 else "one"
    key = f"footprint.{role.lower()}"
    resident = tuple(after[pid].resident for pid in pids)
    yield Figure(f"{key}.resident", f"{role} ({count}), resident", "MB", resident, FLOOR, (after[floor].resident,))
    yield Figure(
        f"{key}.proportional", f"{role}, its share of memory", "MB", tuple(after[pid].proportional for pid in pids)
    )
    yield Figure(f"{key}.idle", f"{role}, idle", "% of a core", tuple(share[pid] for pid in pids))


def processes(cluster: Cluster) -> dict[int, str]:
    """pid → role, of the processes in the network namespaces of the lab's nodes."""
    namespaces = {_namespace(cluster.machines.holder(node)) for node in cluster.nodes}
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(entry.name)
            if _namespace(pid) in namespaces and (role := _role((entry / "cmdline").read_bytes())):
                found[pid] = role
    return found


def _namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def _role(command: bytes) -> str:
    words = command.decode(errors="replace").split("\0")
    for name, role in ROLES.items():
        if any(word == name or word.endswith(f"/{name}") for word in words):
            return role
    return ""


def usage(pid: int) -> Usage:
    """Raises LabError if the process has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        sizes = dict(line.split()[:2] for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    except (FileNotFoundError, ProcessLookupError):
        raise LabError(f"the process {pid} ended while it was measured") from None
    cpu = (int(fields[11]) + int(fields[12])) / TICKS
    return Usage(cpu, int(sizes["Rss:"]) * 1024 / 1e6, int(sizes["Pss:"]) * 1024 / 1e6)


@contextmanager
def sleeper() -> Iterator[int]:
    """The pid of a Python that does nothing."""
    script = "import time; print(flush=True); time.sleep(86400)"
    with subprocess.Popen((sys.executable, "-I", "-c", script), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()
