"""The installer: one pass brings the cluster to what the Installation says, and the Installation's status to the truth.

Owns: the I/O between the pure parts, and when the model may write. Must not: render or word anything itself, or run on
a replica that does not hold the Lease.

A pass reads afresh what it decides on (a handful of small objects); nodes' reports and blocks come from the operator's
informers. It writes only what differs, so an idle cluster costs reads alone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from manx_core.api.fields import InvalidObject, Problem
from manx_core.api.installation import NAME, Installation
from manx_core.api.installation_settings import check
from manx_core.api.tier import BUILT_IN, MADE
from manx_core.api.v1alpha1 import NodeReport
from manx_kube.client import KubeClient
from manx_kube.errors import AlreadyExists, BadRequest, Conflict, Forbidden, Invalid, KubeError, NotFound
from manx_kube.resources import DAEMON_SETS, INSTALLATIONS, IP_POOLS, PODS, TIERS
from manx_operator.conditions import merged
from manx_operator.installer.daemonset import render_daemonset
from manx_operator.installer.names import AGENT, AGENT_LABELS, MANAGED_BY, NAMESPACE, OPERATOR, RENDERED
from manx_operator.installer.pools import PoolPlan, plan_pools
from manx_operator.installer.removal import remove
from manx_operator.installer.status import Observed, conditions

log = logging.getLogger(__name__)
Raw = dict[str, Any]
_REFUSED = (BadRequest, Forbidden, Invalid, AlreadyExists)
"""Answers that say no to what was asked; the condition tells. Others (no answer, say) mean another try."""


@dataclass(frozen=True)
class InstallerDeps:
    """What the installer is given. All functions are called on the event loop and must be quick."""

    client: KubeClient
    image: str
    """The operator's own image."""
    guard: Callable[[], None]
    """Raises when the Lease is not held any more; called before every write."""
    reports: Callable[[], Mapping[str, NodeReport]]
    """NodeReports by node, from the informer."""
    pools_in_use: Callable[[], Collection[str]]
    """Names of the IPPools that IPAMBlocks are of."""
    review: Callable[[], Awaitable[Mapping[str, tuple[Problem, ...]]]]
    """Says of users' objects whether they are in force; returns IPPool's name → what stands against it."""
    foreign: Callable[[], Awaitable[Collection[str]]]
    """Signs of a real Calico."""
    tiers: Callable[[], Collection[str]]
    """Names of the Tiers, from the informer."""
    on_active: Callable[[bool], None]
    """Told after each pass whether the model may write: an Installation is there and no Calico is."""
    rolls_out: bool = True
    """False where agents run in another way (a developer's loop): the DaemonSet is left out."""
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass came to."""

    active: bool
    settled: bool
    """Whether there is nothing to wait for: the next pass may take its time."""


class Installer:
    """Reconciles; remembers nothing but the DaemonSet's version that it applied last."""

    def __init__(self, deps: InstallerDeps) -> None:
        self._deps = deps
        self._applied: tuple[str, int] = ("", 0)

    async def reconcile(self) -> Pass:
        """One pass. Raises KubeError where the API server could not be asked or did not answer."""
        found = await self._installations()
        if found is None:
            return Pass(active=False, settled=False)
        raw = found.get(NAME)
        if raw is None:
            return await self._removed()
        calico = tuple(await self._deps.foreign())
        self._deps.on_active(not calico)
        seen = Observed(calico=calico) if calico else await self._installed(raw)
        await self._say(raw, seen)
        settled = all(said.status == "True" for said in conditions(seen) if said.type == "Ready")
        return Pass(active=not calico, settled=settled)

    async def _installations(self) -> dict[str, Raw] | None:
        """Installations by name; None while the kind itself is not there (which is no order to remove anything)."""
        try:
            listing = await self._deps.client.list_all(INSTALLATIONS, dict[str, Any])
        except NotFound:
            return None
        return {item["metadata"]["name"]: item for item in listing.items}

    async def _removed(self) -> Pass:
        self._deps.on_active(False)
        if await self._deps.foreign():
            return Pass(active=False, settled=True)
        awaited = await remove(self._deps.client, self._deps.guard)
        if awaited:
            log.info("removing the installation: waiting for %s", awaited)
        return Pass(active=False, settled=not awaited)

    # --- what is to be there ------------------------------------------------------------------------------------------

    async def _installed(self, raw: Raw) -> Observed:
        """Carry out a valid Installation; observe in any case."""
        installation, problems = _parsed(raw)
        error, plan = "", PoolPlan()
        if installation is not None and not problems:
            plan = plan_pools(installation, await self._pools(), self._deps.pools_in_use())
            error = await self._carry_out(installation, plan)
        daemonset = await self._daemonset()
        return Observed(
            problems=problems,
            ignored=tuple(installation.without_effect()) if installation is not None else (),
            error=error,
            rolls_out=self._deps.rolls_out,
            daemonset=daemonset,
            agent_pods=await self._agent_pods() if _incomplete(daemonset) else (),
            reports={name: report.status for name, report in self._deps.reports().items()},
            pool_problems=await self._deps.review(),
            plan_problems=plan.problems,
        )

    async def _carry_out(self, installation: Installation, plan: PoolPlan) -> str:
        """What was refused; the rest is done all the same."""
        steps: tuple[Callable[[], Awaitable[None]], ...] = (
            self._make_tiers,
            lambda: self._apply_pools(plan),
            lambda: self._apply_daemonset(installation),
        )
        refused = []
        for step in steps:
            try:
                await step()
            except _REFUSED as error:
                refused.append(error.message)
            except Conflict as error:
                log.info("will try again: %s", error.message)
        return "; ".join(refused)

    async def _make_tiers(self) -> None:
        """Those that every cluster with Calico has. They stay when the Installation goes, as users' objects do."""
        for name in sorted(set(MADE) - set(self._deps.tiers())):
            self._deps.guard()
            order, action = BUILT_IN[name]
            spec = {"order": order, "defaultAction": action}
            with suppress(AlreadyExists):
                await self._deps.client.create(TIERS, {"metadata": {"name": name}, "spec": spec})

    async def _apply_pools(self, plan: PoolPlan) -> None:
        refused: list[KubeError] = []
        for pool in (*plan.create, *plan.change):
            self._deps.guard()
            try:
                await self._deps.client.apply(IP_POOLS, pool)
            except _REFUSED as error:
                refused.append(error)
        for name, version in plan.delete:
            self._deps.guard()
            await self._deps.client.delete(IP_POOLS, name, resource_version=version)
        if refused:
            raise refused[0]

    async def _apply_daemonset(self, installation: Installation) -> None:
        if not self._deps.rolls_out:
            return
        wanted, there = render_daemonset(installation, self._deps.image), await self._daemonset()
        digest = wanted["metadata"]["annotations"][RENDERED]
        if there is not None and self._applied == (digest, there["metadata"].get("generation", 0)):
            return
        if there is not None and (there["metadata"].get("labels") or {}).get(MANAGED_BY) != OPERATOR:
            raise Invalid(f"DaemonSet {NAMESPACE}/{AGENT} is there and was not made by the operator", status=422)
        self._deps.guard()
        applied = await self._deps.client.apply(DAEMON_SETS, wanted)
        self._applied = (digest, applied["metadata"].get("generation", 0))

    # --- what is there ------------------------------------------------------------------------------------------------

    async def _pools(self) -> dict[str, Raw]:
        listing = await self._deps.client.list_all(IP_POOLS, dict[str, Any])
        return {item["metadata"]["name"]: item for item in listing.items}

    async def _daemonset(self) -> Raw | None:
        try:
            return await self._deps.client.get(DAEMON_SETS, dict[str, Any], AGENT, namespace=NAMESPACE)
        except NotFound:
            return None

    async def _agent_pods(self) -> tuple[Raw, ...]:
        selector = ",".join(f"{key}={value}" for key, value in AGENT_LABELS.items())
        listing = await self._deps.client.list_all(PODS, dict[str, Any], namespace=NAMESPACE, label_selector=selector)
        return tuple(listing.items)

    # --- what is said -------------------------------------------------------------------------------------------------

    async def _say(self, raw: Raw, seen: Observed) -> None:
        before = (raw.get("status") or {}).get("conditions") or []
        now = self._deps.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        after = merged(conditions(seen), before, now, raw["metadata"].get("generation", 0))
        if after == before:
            return
        self._deps.guard()
        patch = {"metadata": {"uid": raw["metadata"]["uid"]}, "status": {"conditions": after}}
        try:
            await self._deps.client.patch(INSTALLATIONS, dict[str, Any], NAME, patch, subresource="status")
        except (NotFound, Conflict):
            log.info("the Installation went or changed while its status was written")


def _parsed(raw: Raw) -> tuple[Installation | None, tuple[Problem, ...]]:
    try:
        installation = Installation.parse(raw)
    except InvalidObject as error:
        return None, error.problems
    return installation, check(installation)


def _incomplete(daemonset: Raw | None) -> bool:
    status = (daemonset or {}).get("status") or {}
    wanted = status.get("desiredNumberScheduled", 0)
    return daemonset is not None and min(status.get("numberReady", 0), status.get("updatedNumberScheduled", 0)) < wanted
