"""kopf's handlers: they hear of users' objects, and hand them over.

Owns: which kinds kopf watches. Must not: hold state, decide anything, or write to an object by kopf's own means, which
annotates it: only `on.event` is used.

kopf runs in a thread of its own; everything here crosses over to the operator's loop by `deps.submit` and `deps.call`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import kopf

from manx_kube.errors import KubeError
from manx_kube.lease import LeaseLost
from manx_kube.resources import BGP_CONFIGURATIONS, BGP_PEERS, INSTALLATIONS, IP_POOLS, Resource
from manx_operator.deps import Deps
from manx_operator.review.reviewer import POLICY_KINDS

log = logging.getLogger(__name__)
Raw = Mapping[str, Any]
Hear = Callable[[Raw, bool], Coroutine[Any, Any, None]]
"""(object, whether it was deleted)."""

ADDONS = tuple(
    Resource("operator.tigera.io", "v1", plural, kind, False)
    for plural, kind in (("apiservers", "APIServer"), ("goldmanes", "Goldmane"), ("whiskers", "Whisker"))
)


def register(registry: kopf.OperatorRegistry, deps: Deps) -> None:
    """Hear of every kind that users write in Calico's groups but policies, which the informers hear of: their statuses
    need the nodes' reports as well, and have a writer of their own (`policy_statuses`)."""
    for resource, hear in _heard(deps).items():
        kopf.on.event(
            resource.group, resource.version, resource.plural, id=f"hear-{resource.plural}", registry=registry
        )(_handler(deps, resource, hear))


def _heard(deps: Deps) -> dict[Resource, Hear]:
    reviewer, installer = deps.reviewer, deps.installer

    async def installation(raw: Raw, deleted: bool) -> None:
        installer.trigger()

    async def bgp_configuration(raw: Raw, deleted: bool) -> None:
        if not deleted:
            await reviewer.bgp_configuration(raw)

    async def bgp_peer(raw: Raw, deleted: bool) -> None:
        if not deleted:
            await reviewer.bgp_peer(raw)

    async def pool(raw: Raw, deleted: bool) -> None:
        installer.trigger()
        await reviewer.pool(raw, deleted=deleted)

    def policy_kind(resource: Resource) -> Hear:
        async def hear(raw: Raw, deleted: bool) -> None:
            if not deleted:
                await reviewer.policy_kind(resource, raw)

        return hear

    def addon(resource: Resource) -> Hear:
        async def hear(raw: Raw, deleted: bool) -> None:
            if not deleted:
                await reviewer.addon(resource, raw)

        return hear

    return {
        INSTALLATIONS: installation,
        BGP_CONFIGURATIONS: bgp_configuration,
        BGP_PEERS: bgp_peer,
        IP_POOLS: pool,
        **{resource: policy_kind(resource) for resource in POLICY_KINDS},
        **{resource: addon(resource) for resource in ADDONS},
    }


def _handler(deps: Deps, resource: Resource, hear: Hear) -> Callable[..., Coroutine[Any, Any, None]]:
    async def handle(event: Any, **_: Any) -> None:
        raw, deleted = dict(event["object"]), event["type"] == "DELETED"
        try:
            await asyncio.wrap_future(deps.submit(lambda: hear(raw, deleted)))
        except LeaseLost:
            return
        except KubeError as error:
            name = raw.get("metadata", {}).get("name")
            log.warning("%s %s could not be reviewed now: %s", resource.kind, name, error.message)

    return handle
