"""Says of users' objects whether they are in force: conditions on them, and Events where that changed.

Owns: writing those, and beside them the version last valid, on the operator's own loop.
Must not: judge (`verdicts` does), hold state, or annotate anything.

Whatever it is called for, it writes only what differs from what the object says already, so it may be called as often
as anybody likes: by kopf's handlers when something happened, and by the installer's passes for what no event tells (a
node that came and is in a pool's range).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from manx_core.api.fields import Problem
from manx_kube.client import KubeClient
from manx_kube.errors import Conflict, NotFound
from manx_kube.events import EventRecorder, reference_to
from manx_kube.resources import (
    BGP_CONFIGURATIONS,
    BGP_PEERS,
    FELIX_CONFIGURATIONS,
    GLOBAL_NETWORK_SETS,
    IP_POOLS,
    NETWORK_SETS,
    TIERS,
    Resource,
)
from manx_operator.conditions import Said, merged
from manx_operator.last_valid import stored_text, text_of
from manx_operator.review.policy_verdicts import felix_said, network_set_said, tier_said
from manx_operator.review.verdicts import (
    Around,
    addon_said,
    bgp_configuration_said,
    bgp_peer_said,
    pool_problems,
    pool_said,
)

log = logging.getLogger(__name__)
Raw = Mapping[str, Any]
POLICY_KINDS = (FELIX_CONFIGURATIONS, TIERS, NETWORK_SETS, GLOBAL_NETWORK_SETS)
"""Kinds that policy is made of, beside policies."""


@dataclass(frozen=True)
class ReviewerDeps:
    """What the reviewer is given."""

    client: KubeClient
    recorder: EventRecorder
    guard: Callable[[], None]
    """Raises when the Lease is not held any more; called before every write."""
    around: Callable[[], Awaitable[Around]]
    pools: Callable[[], Mapping[str, Raw]]
    """IPPools by name, from the informer; likewise the others."""
    bgp_configurations: Callable[[], Mapping[str, Raw]]
    bgp_peers: Callable[[], Mapping[str, Raw]]
    policy_kinds: Callable[[], Mapping[Resource, Collection[Raw]]]
    """FelixConfigurations, Tiers and network sets, from the informers. (Policies have statuses of their own.)"""
    foreign: Callable[[], Awaitable[Collection[str]]]
    """Signs of a real Calico: with any, its objects are left alone."""
    last_valid: Callable[[Resource, Raw], str] = lambda resource, raw: ""
    """The text of the version of an object that last was valid, as this leader knows: `UserKinds.last_valid`."""
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


class Reviewer:
    """All methods raise KubeError where the API server could not be asked, and what `guard` raises."""

    def __init__(self, deps: ReviewerDeps) -> None:
        self._deps = deps

    async def sweep(self) -> Mapping[str, tuple[Problem, ...]]:
        """Review every BGPConfiguration, BGPPeer and IPPool as the informers have them, and what else nobody has said
        anything of yet; returns the pools' problems."""
        around = await self._deps.around()
        for raw in list(self._deps.bgp_configurations().values()):
            await self._say(BGP_CONFIGURATIONS, raw, bgp_configuration_said(raw, around))
        for raw in list(self._deps.bgp_peers().values()):
            await self._say(BGP_PEERS, raw, bgp_peer_said(raw, around))
        for resource, objects in self._deps.policy_kinds().items():
            for raw in [raw for raw in objects if resource == FELIX_CONFIGURATIONS or not _reviewed(raw)]:
                await self._say(resource, raw, *self._said_of(resource, raw, around))
        return await self._pools(dict(self._deps.pools()), around)

    async def bgp_configuration(self, raw: Raw) -> None:
        """One that was made or changed."""
        await self._unless_foreign(BGP_CONFIGURATIONS, raw, bgp_configuration_said(raw, await self._deps.around()))

    async def bgp_peer(self, raw: Raw) -> None:
        """One that was made or changed."""
        await self._unless_foreign(BGP_PEERS, raw, bgp_peer_said(raw, await self._deps.around()))

    async def policy_kind(self, resource: Resource, raw: Raw) -> None:
        """A FelixConfiguration, Tier, NetworkSet or GlobalNetworkSet that was made or changed."""
        await self._unless_foreign(resource, raw, *self._said_of(resource, raw, await self._deps.around()))

    async def addon(self, resource: Resource, raw: Raw) -> None:
        """An APIServer, Goldmane or Whisker."""
        await self._unless_foreign(resource, raw, addon_said(resource.kind, raw))

    async def pool(self, raw: Raw, *, deleted: bool) -> None:
        """One that was made, changed or deleted; all others may be concerned."""
        if await self._deps.foreign():
            return
        pools, name = dict(self._deps.pools()), raw["metadata"]["name"]
        if deleted:
            pools.pop(name, None)
        else:
            pools[name] = raw
        problems = await self._pools(pools, await self._deps.around())
        if deleted and problems.get(name):
            self._tell(IP_POOLS, raw, "Warning", "DeletedInUse", str(problems[name][0]))

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _pools(self, pools: Mapping[str, Raw], around: Around) -> Mapping[str, tuple[Problem, ...]]:
        problems = pool_problems(pools, around)
        for name, raw in pools.items():
            await self._say(IP_POOLS, raw, pool_said(raw, problems[name]))
        return problems

    def _said_of(self, resource: Resource, raw: Raw, around: Around) -> tuple[Said, str]:
        """And what the object shall carry as its version last valid."""
        kept = self._deps.last_valid(resource, raw) or stored_text(raw)
        said = _judged(resource, raw, around, kept=bool(kept))
        return said, kept if said.reason == "Invalid" else text_of(raw)

    async def _unless_foreign(self, resource: Resource, raw: Raw, said: Said, last_valid: str | None = None) -> None:
        if not await self._deps.foreign():
            await self._say(resource, raw, said, last_valid)

    async def _say(self, resource: Resource, raw: Raw, said: Said, last_valid: str | None = None) -> None:
        """`last_valid`: None for kinds that carry no such text."""
        before = (raw.get("status") or {}).get("conditions") or []
        now = self._deps.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        after = merged([said], before, now, raw["metadata"].get("generation", 0))
        text = stored_text(raw)
        if (after, text) == (before, text if last_valid is None else last_valid):
            return
        if raw["metadata"].get("deletionTimestamp"):
            return
        self._deps.guard()
        meta = {"uid": raw["metadata"].get("uid"), "resourceVersion": raw["metadata"].get("resourceVersion")}
        status = {"conditions": after} | ({} if last_valid is None else {"lastValid": last_valid or None})
        try:
            name, namespace = raw["metadata"]["name"], raw["metadata"].get("namespace")
            await self._deps.client.patch(
                resource, dict[str, Any], name, {"metadata": meta, "status": status}, namespace=namespace,
                subresource="status",
            )  # fmt: skip
        except (Conflict, NotFound):
            return  # it has changed since, and its change is heard, too
        self._tell_change(resource, raw, said, before)

    def _tell_change(self, resource: Resource, raw: Raw, said: Said, before: list[Raw]) -> None:
        old: Raw = next((condition for condition in before if condition.get("type") == said.type), {})
        if said.status == "False" and (old.get("status"), old.get("message")) != ("False", said.message):
            self._tell(resource, raw, "Warning", said.reason, said.message)
        elif said.status == "True" and old.get("status") == "False":
            self._tell(resource, raw, "Normal", "Accepted", "valid and in force")

    def _tell(self, resource: Resource, raw: Raw, type_: Any, reason: str, note: str) -> None:
        self._deps.recorder.emit(reference_to(resource, dict(raw)), type_, reason=reason, note=note, action="Validate")


def _judged(resource: Resource, raw: Raw, around: Around, *, kept: bool) -> Said:
    if resource == FELIX_CONFIGURATIONS:
        return felix_said(raw, around.nodes, kept=kept)
    if resource == TIERS:
        return tier_said(raw, kept=kept)
    assert resource in (NETWORK_SETS, GLOBAL_NETWORK_SETS), resource
    return network_set_said(raw, is_global=resource == GLOBAL_NETWORK_SETS, kept=kept)


def _reviewed(raw: Raw) -> bool:
    """Whether a condition is about the object as it is, and it carries what last was valid."""
    conditions = (raw.get("status") or {}).get("conditions") or []
    generation = raw["metadata"].get("generation", 0)
    return bool(stored_text(raw)) and any(condition.get("observedGeneration") == generation for condition in conditions)
