"""A lab is refused, with the setting's name, where the kernel has too few inotify instances left."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.limits import PER_MACHINE, require_inotify
from lab.run import LabError


def kernel_with(left: int, opened: list[int]) -> Callable[[], int]:
    def open_one() -> int:
        if len(opened) >= left:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        opened.append(os.open(os.devnull, os.O_RDONLY))
        return opened[-1]

    return open_one


def still_open(descriptors: list[int]) -> list[int]:
    return [each for each in descriptors if Path(f"/proc/self/fd/{each}").exists()]


@pytest.mark.parametrize(("nodes", "left"), [(1, 2 * PER_MACHINE), (3, 4 * PER_MACHINE), (3, 4 * PER_MACHINE + 1)])
def test_enough_are_left(nodes: int, left: int) -> None:
    opened: list[int] = []
    require_inotify(nodes, kernel_with(left, opened))
    assert len(opened) == PER_MACHINE * (nodes + 1)
    assert not still_open(opened)


def test_too_few_are_left() -> None:
    opened: list[int] = []
    with pytest.raises(LabError, match=r"takes 32 inotify .* gives 31 more .*fs\.inotify\.max_user_instances"):
        require_inotify(3, kernel_with(31, opened))
    assert not still_open(opened)
