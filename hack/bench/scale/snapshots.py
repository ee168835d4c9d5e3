"""What our objects were before a burst and are after it: the fewest writes that could lead there, and the most.

Owns: reading them all, and the difference. Must not: know what happened in between.

The fewest: one for each object that is another. The most, with nothing coalesced: one for each element (a member, an
endpoint, a tier of a class, a program inside one, a label) that is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec

from bench.scale.world import OURS
from manx_core.api.lines import lines_of
from manx_kube.client import KubeClient
from manx_kube.resources import ADDRESS_GROUPS, NODE_STATES, POLICY_CLASSES, Resource

Obj = dict[str, Any]
Snapshot = dict[tuple[str, str], frozenset[str]]
"""(plural, name) → its elements."""
_PARTS = {ADDRESS_GROUPS: ("members",), NODE_STATES: ("pods",), POLICY_CLASSES: ("tiers", "programs")}


@dataclass(frozen=True)
class Difference:
    objects: int
    elements: int


async def snapshot(client: KubeClient) -> Snapshot:
    """Raises KubeError."""
    listings = await asyncio.gather(*(client.list_all(resource, Obj) for resource in OURS))
    return {
        (resource.plural, obj["metadata"]["name"]): elements(resource, obj)
        for resource, listing in zip(OURS, listings, strict=True)
        for obj in listing.items
    }


def difference(before: Snapshot, after: Snapshot) -> Difference:
    gone = frozenset[str]()
    changed = [before.get(key, gone) ^ after.get(key, gone) for key in before.keys() | after.keys()]
    return Difference(sum(bool(elements) for elements in changed), sum(map(len, changed)))


def elements(resource: Resource, obj: Obj) -> frozenset[str]:
    """What of an object can change by itself; the object's being there is one of them."""
    lists = _PARTS.get(resource, ())
    spec = {key: value for key, value in obj["spec"].items() if key not in ("epoch", *lists)}
    parts = [_text(part) for name in lists for part in lines_of(obj["spec"].get(name, ()))]
    return frozenset([_text(spec), *parts, *obj["metadata"].get("labels", {})])


def _text(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
