"""Owns taking a lab down, whatever state it is in: whole, half built, or left by a killed ``up``.

It must not trust files that ``up`` wrote, nor any process's name. What belongs to a lab is what is in its cgroup and
in the network namespaces of those processes; mounts and namespaces go with the last process, so ending these is all
there is to do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from lab import cgroups
from lab.run import LabError
from lab.settings import CACHE, STATE_ROOT, Settings


def down(name: str) -> bool:
    """End and remove the lab ``name``; False if there was nothing. LabError if something cannot be removed."""
    settings = Settings(name=name)
    existed = cgroups.exists(settings.cgroup) or settings.state.exists()
    spare = frozenset(_self_and_ancestors())
    namespaces = _foreign_networks(cgroups.pids(settings.cgroup))
    cgroups.kill(settings.cgroup, spare=spare)
    _kill_in_networks(namespaces, spare)
    cgroups.remove(settings.cgroup)
    shutil.rmtree(settings.state, ignore_errors=True)
    if settings.state.exists():
        raise LabError(f"{settings.state} cannot be removed")
    with contextlib.suppress(OSError):
        STATE_ROOT.rmdir()
    _remove_unfinished()
    return existed


def _self_and_ancestors() -> list[int]:
    """This process and those that it was called by, up to the first."""
    chain, pid = [], os.getpid()
    while pid > 0:
        chain.append(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return chain


def network_of(pid: int | str) -> int:
    """Inode of a process's network namespace; 0 if the process is gone."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


def _foreign_networks(pids: set[int]) -> set[int]:
    """The network namespaces that these processes are in, but for the root's."""
    return {network_of(pid) for pid in pids} - {0, network_of("self"), network_of(1)}


def _kill_in_networks(namespaces: set[int], spare: frozenset[int], *, timeout: float = 10) -> None:
    """End whoever is in one of these network namespaces: shells and captures that someone started by hand."""
    end = time.monotonic() + timeout
    while left := members_of(namespaces) - spare:
        cgroups.kill_pids(left)
        if time.monotonic() > end:
            raise LabError(f"processes {sorted(left)} in the lab's network namespaces do not end")
        time.sleep(0.02)


def members_of(namespaces: set[int]) -> set[int]:
    """All processes of this machine in one of the given network namespaces (inodes)."""
    if not namespaces:
        return set()
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and network_of(entry.name) in namespaces
    }


def _remove_unfinished() -> None:
    """Remove what a killed command left half made in the cache: its name carries the pid of whoever was making it."""
    for path in CACHE.glob("*/.*-*"):
        maker = path.name.rpartition("-")[2]
        if maker.isdigit() and Path(f"/proc/{maker}").exists():
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
