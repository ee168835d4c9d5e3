"""Owns the lab's cgroups, on version 1, version 2 and both at once: making them, listing who is in them, ending
those, removing them.

It must not decide who joins. The lab's cgroup is the one sure list of its processes: containers and shims outlive
their daemons, and pids written to files go stale; membership does neither.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from lab.run import LabError

V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


def hierarchies() -> list[tuple[Path, str]]:
    """Mounted cgroup hierarchies: (mount point, file system type ``cgroup`` or ``cgroup2``)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        kind = right.split()[0]
        if kind in ("cgroup", "cgroup2"):
            found.append((Path(left.split()[4]), kind))
    if not found:
        raise LabError("no cgroup hierarchy is mounted below /sys/fs/cgroup")
    return found


def create(path: str) -> None:
    """Make the cgroup ``path`` (relative) in every hierarchy, able to hold processes and to have children."""
    for mount, kind in hierarchies():
        here = mount
        for part in Path(path).parts:
            if kind == "cgroup2":
                _delegate(here)
            here = here / part
            here.mkdir(exist_ok=True)
            if kind == "cgroup":
                _inherit_cpuset(here)


def _delegate(parent: Path) -> None:
    """Version 2: let children of ``parent`` be limited by what the parent itself is given."""
    have = (parent / "cgroup.controllers").read_text().split()
    for controller in V2_CONTROLLERS:
        if controller in have:
            with contextlib.suppress(OSError):
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def _inherit_cpuset(here: Path) -> None:
    """Version 1: a cpuset starts empty, and takes no process before it has processors and memory."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (here / name).exists() and not (here / name).read_text().strip():
            (here / name).write_text((here.parent / name).read_text())


def join(path: str, pid: int = 0) -> None:
    """Put a process (0: the caller) into the cgroup ``path`` of every hierarchy."""
    for mount, _ in hierarchies():
        (mount / path / "cgroup.procs").write_text(str(pid))


def _tree(path: str) -> Iterator[Path]:
    """Every directory of the cgroup ``path``, children first."""
    for mount, _ in hierarchies():
        for directory, _, _ in os.walk(mount / path, topdown=False):
            yield Path(directory)


def exists(path: str) -> bool:
    """Whether any hierarchy has this cgroup."""
    return any((mount / path).exists() for mount, _ in hierarchies())


def pids(path: str) -> set[int]:
    """All processes in the cgroup ``path`` and below it."""
    found: set[int] = set()
    for directory in _tree(path):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, OSError):
            found.update(int(word) for word in (directory / "cgroup.procs").read_text().split())
    return found


def kill(path: str, *, spare: frozenset[int] = frozenset(), timeout: float = 20) -> None:
    """End all that is in the cgroup ``path``, again and again until nobody is left; LabError if someone stays."""
    end = time.monotonic() + timeout
    while left := pids(path) - spare - {0}:
        kill_pids(left)
        if time.monotonic() > end:
            raise LabError(f"processes {sorted(left)} in the cgroup {path} do not end")
        time.sleep(0.02)


def kill_pids(which: set[int], *, timeout: float = 5) -> None:
    """SIGKILL each process that still exists, and wait until it has ended, for `timeout` seconds at most.

    Nothing else tells: cgroup.procs leaves out a process as soon as it begins to end, while it still has its memory,
    its mounts and its namespaces to let go of (cgroup v2, "cgroup.procs"; pidfd_open(2), "poll").
    """
    with contextlib.ExitStack() as stack:
        ending = select.poll()
        left = 0
        for pid in which:
            with contextlib.suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
                stack.callback(os.close, process)
                signal.pidfd_send_signal(process, signal.SIGKILL)
                ending.register(process, select.POLLIN)
                left += 1
        end = time.monotonic() + timeout
        while left and (rest := end - time.monotonic()) > 0:
            for process, _ in ending.poll(rest * 1000):
                ending.unregister(process)
                left -= 1


def remove(path: str, *, timeout: float = 10) -> None:
    """Remove the empty cgroup ``path`` and all below it; the kernel may take a moment to let go of it."""
    end = time.monotonic() + timeout
    while exists(path):
        for directory in _tree(path):
            with contextlib.suppress(OSError):
                directory.rmdir()
        if time.monotonic() > end:
            raise LabError(f"the cgroup {path} cannot be removed")
        if exists(path):
            time.sleep(0.05)
