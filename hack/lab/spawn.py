"""Owns starting a daemon inside a machine of the lab, in its cgroup, free of the command that started it.

It must not wait for the daemon or restart it. A script of its own, because joining a PID namespace takes effect only for
children, and forking twice in a program that has threads is asking for trouble.

``spawn.py HOLDER CGROUP LOG COMMAND…``: HOLDER is the process whose namespaces are joined, 0 for the root's;
prints the daemon's process id as the root sees it. The environment is handed on.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import cgroups

# PID first: after the mount namespace has been joined, /proc no longer shows the holder.
NAMESPACES = ("pid", "ipc", "uts", "net", "mnt")


def join_namespaces(holder: int) -> None:
    """Join all namespaces of the process ``holder``; OSError as in setns(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    handles = [os.open(f"/proc/{holder}/ns/{kind}", os.O_RDONLY) for kind in NAMESPACES]
    for handle in handles:
        if libc.setns(handle, 0):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        os.close(handle)


def become(command: list[str], log: int, gate: int) -> None:
    """Turn this process into the daemon, once the parent has said its pid."""
    os.read(gate, 1)
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.chdir("/")
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
        os._exit(127)


def main(holder: str, cgroup: str, log: str, *command: str) -> int:
    """Join, fork, print, leave: the daemon's parent is then the holder, which reaps it."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    cgroups.join(cgroup)
    if holder != "0":
        join_namespaces(int(holder))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        become(list(command), output, reader)
    print(pid, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
