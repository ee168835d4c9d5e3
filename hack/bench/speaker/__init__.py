"""What Manx's BGP speaker costs with many neighbors: processor and memory when nothing happens, and the time until all
of them have heard of a block.

Owns: the figures. Must not: know BGP (`neighbors`) or how a speaker is started (`setting`). The floor is the neighbors'
own process: bare asyncio, as many sessions, the same keepalives.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.figures import Figure
from bench.measures import Given
from bench.speaker.setting import Setting, Usages

QUICK, FULL = ((10, False), (50, True)), ((10, False), (50, False), (200, False), (200, True))
"""(neighbors, whether with a session of each family)."""
ROUNDS = {"quick": 3, "full": 20}
IDLE = {"quick": 2.0, "full": 60.0}
"""Seconds; in the full size two rounds of keepalives."""
FLOOR = "bare asyncio, as many sessions"


def measure(given: Given) -> Iterator[Figure]:
    """Raises RuntimeError, OSError."""
    for neighbors, dual in QUICK if given.quick else FULL:
        with Setting(neighbors, dual=dual) as setting:
            yield from _figures(setting, ROUNDS[given.size], IDLE[given.size])


def _figures(setting: Setting, rounds: int, idle: float) -> Iterator[Figure]:
    key, about = f"speaker.{setting.sessions}", f"{setting.sessions} BGP sessions"
    yield Figure(f"{key}.up", f"{about}: start to all established", "s", (setting.started_in,))
    yield from _announced(setting, rounds, key, about)
    before, began = setting.usages(), time.monotonic()
    time.sleep(idle)
    yield from _costs(before, setting.usages(), time.monotonic() - began, key, about)


def _announced(setting: Setting, rounds: int, key: str, about: str) -> Iterator[Figure]:
    first, took = setting.heard(), []
    for number in range(rounds):
        before = setting.heard()
        blocks = {f"10.100.{number}.0/26", f"fd98:{number:x}::/122"}
        began = setting.announce(setting.view.announced | blocks)
        took.append((setting.await_updates(before, 1).last - began) * 1000)
    heard = setting.heard()
    updates = sum(heard.updates.values()) - sum(first.updates.values())
    per_round = updates / rounds / setting.sessions
    yield Figure(f"{key}.announce", f"{about}: a block announced to all have heard", "ms", tuple(took))
    yield Figure(f"{key}.updates", f"{about}: UPDATEs on each for a block", "messages", (per_round,), exact=True)
    size = (heard.bytes - first.bytes) / updates
    yield Figure(f"{key}.bytes", f"{about}: of an UPDATE", "bytes", (size,), exact=True)


def _costs(before: Usages, after: Usages, seconds: float, key: str, about: str) -> Iterator[Figure]:
    share = {name: (after[name].cpu - before[name].cpu) / seconds * 100 for name in after}
    floor = after["neighbors"]
    idle = (share["speaker"],)
    yield Figure(f"{key}.idle", f"{about}: speaker, idle", "% of a core", idle, FLOOR, (share["neighbors"],))
    for kind in ("resident", "proportional"):
        memory = (getattr(after["speaker"], kind),)
        name = f"{about}: speaker, {kind}"
        yield Figure(f"{key}.{kind}", name, "MB", memory, FLOOR, (getattr(floor, kind),))
