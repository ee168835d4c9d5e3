"""When Python looks for garbage in cycles.

Owns: the settings of the collector of cycles, and what it is spared. Must not: be needed for memory to be freed.

Why: what the operator knows of a cluster is a million objects that live for as long as what they stand for, and
reference counts free nearly all of them. The collector would look at each of them whenever they have become a quarter
more: a third of the time that building a model takes, and pauses of a second with 100,000 pods. So it looks more
seldom, not at all while a model is built, and never at what was built. Only a model that has had its day needs it: its
parts refer to each other.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG, OLDER, OLDEST = 20_000, 20, 50
"""New objects before a look at the young; looks at the young before one at the older, and so on."""


def tune() -> None:
    """For the whole process, once."""
    gc.set_threshold(YOUNG, OLDER, OLDEST)


@contextmanager
def building() -> Iterator[None]:
    """What is made in here is there to stay: the collector ignores it until `end`."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def end() -> None:
    """What was built is not needed any more."""
    gc.unfreeze()
    gc.collect()
