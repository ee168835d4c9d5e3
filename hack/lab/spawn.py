"""Owns starting a daemon inside a machine of the lab, in its cgroup, free of the command that started it.

It must not wait for the daemon or restart it. A script of its own, because joining a PID namespace takes effect only
for children, and forking twice in a program that has threads is asking for trouble.

``spawn.py HOLDER CGROUP LOG COMMAND…``: HOLDER is the process whose namespaces are joined, 0 for the root's;
prints the daemon's process id as the root sees it. The environment is handed on.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
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


def become(command: list[str], log: int, birth: socket.socket) -> None:
    """Turn this process into the daemon, once it has made itself known."""
    os.setsid()
    birth.send(b"+")
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.chdir("/")
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
        os._exit(127)


def pid_of_sender(birth: socket.socket) -> int:
    """Receive the daemon's word; the kernel says its pid as this namespace counts it."""
    size = struct.calcsize("3i")
    _, [(_, _, credentials)], _, _ = birth.recvmsg(1, socket.CMSG_SPACE(size))
    return int(struct.unpack("3i", credentials[:size])[0])


def main(holder: str, cgroup: str, log: str, *command: str) -> int:
    """Join, fork twice, print, leave: the daemon's parent is then the holder, which reaps it."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    cgroups.join(cgroup)
    if holder != "0":
        join_namespaces(int(holder))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            become(list(command), output, theirs)
        os._exit(0)
    os.waitpid(middle, 0)
    print(pid_of_sender(ours), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
