"""What one watch costs an API server, from which larger clusters can be reckoned: memory, writes that it is not told
of, and writes that it is told of.

Owns: one object that is written again and again, and many watches of its kind by label. Must not: have an operator (it
would take the object away). What is counted is processor time, so that other work on the machine matters little.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from bench.figures import Figure
from bench.scale.listener import Listener
from bench.scale.listening import LABEL
from bench.scale.server import Seen, seen, swept
from bench.scale.world import World
from manx_core.api.lines import text_of
from manx_kube.client import PatchType
from manx_kube.resources import ADDRESS_GROUPS

WATCHES, WRITES = 1_000, 200
MEMBERS = 50
_NAME = "ag-fanout-0"


async def rows(found: World) -> AsyncGenerator[Figure]:
    """Raises KubeError, TimeoutError."""
    spec = {"epoch": 1, "group": "ag-fanout", "chunks": 1, "members": _members(0)}
    await found.client.create(ADDRESS_GROUPS, {"metadata": {"name": _NAME, "labels": {LABEL: ""}}, "spec": spec})
    bare, without = await _written(found, 0), await swept(found.client)
    async with Listener(found, "unconcerned", str(WATCHES)):
        idle = (await swept(found.client)).live - without.live
        filtered = await _written(found, 1)
    async with Listener(found, "concerned", str(WATCHES)):
        told = await _written(found, 2)
    await found.client.delete(ADDRESS_GROUPS, _NAME)
    yield Figure("watch.one.memory", "API server, for each watch that hears nothing", "kB", (idle * 1e3 / WATCHES,))
    yield _each("watch.one.write", "API server, a write with nobody listening", bare.cpu, 1)
    yield _each("watch.one.filtered", "  for each watch that it does not concern", filtered.cpu - bare.cpu, WATCHES)
    yield _each("watch.one.told", "  for each watch that is told", told.cpu - bare.cpu, WATCHES)


def _each(key: str, name: str, seconds: float, watches: int) -> Figure:
    return Figure(key, name, "us", (max(0.0, seconds) * 1e6 / WRITES / watches,))


async def _written(found: World, turn: int) -> Seen:
    """What the API server took for as many writes, and for telling of them."""
    before = await seen(found.client)
    for number in range(WRITES):  # one after the other: they are all of one object
        await _write(found, turn * WRITES + number + 1)
    await found.quiet(2.0)
    return (await seen(found.client)).since(before)


async def _write(found: World, number: int) -> None:
    patch = {"spec": {"members": _members(number)}}
    await found.client.patch(ADDRESS_GROUPS, dict[str, Any], _NAME, patch, how=PatchType.MERGE)


def _members(number: int) -> str:
    """As many each time, of which one differs."""
    return text_of([*(f"10.1.2.{n}" for n in range(1, MEMBERS)), f"10.2.{number >> 8}.{number & 255}"])
