"""Owns standing in another network namespace for as long as it takes to open a socket there.

It must not leave the calling thread there: a socket belongs for its whole life to the namespace that it was opened in,
so that one process can send from every pod of a lab at once. That is what makes thousands of probes cheap: no
`kubectl exec` and no process for each.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """The calling thread is in the network namespace that this file descriptor is of. Raises OSError."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(namespace)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)


def namespace_of(pid: int) -> int:
    """A descriptor of a process's network namespace, which lives until that is closed. Raises OSError."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)


def pid_in_pod(uid: str) -> int | None:
    """Some process of the pod with this uid, found by its cgroup; None where there is none (yet)."""
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if f"pod{uid}" in path.read_text():
                return int(path.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue  # a process that ended meanwhile
    return None
