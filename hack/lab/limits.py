"""Owns the question whether the kernel still gives what a lab's daemons take of it.

It must not change the host's settings: a lab disturbs nothing outside itself, so that is left to whoever is told.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

from lab.run import LabError

PER_MACHINE = 8  # kubelet 6, kube-proxy, containerd; the control plane's daemons as many together
SETTING = "fs.inotify.max_user_instances"


def inotify_open() -> int:
    """A new inotify instance's descriptor, as inotify_init1(2); OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.inotify_init1(os.O_CLOEXEC))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


def require_inotify(nodes: int, open_one: Callable[[], int] = inotify_open) -> None:
    """LabError if the kernel has fewer inotify instances left than a lab takes.

    Without them kubelets end, and the control plane waits for ever, with nothing but "too many open files" in logs.
    """
    needed = PER_MACHINE * (nodes + 1)
    opened: list[int] = []
    try:
        while len(opened) < needed:
            opened.append(open_one())
    except OSError as error:
        raise LabError(
            f"a lab of {nodes} nodes takes {needed} inotify instances, and the kernel gives {len(opened)} more"
            f" ({error.strerror}): end another lab, or raise the limit: sysctl -w {SETTING}=1024"
        ) from None
    finally:
        for descriptor in opened:
            os.close(descriptor)
