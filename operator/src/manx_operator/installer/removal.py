"""Taking an installation away, in order: agents, then pools, then the objects between operator and agents.

Owns: that order. Must not: touch what Manx did not make.

Why this order: an agent that still runs must not see its blocks or policies vanish (it would close its node's pods one
by one); pools go before blocks only as the user's view of them does. Each step is finished before the next begins, so
that a leader that takes over in between goes on where the last one stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from manx_core.api.core_v1 import KubeStruct, ObjectMeta
from manx_kube.client import KubeClient
from manx_kube.errors import Conflict, NotFound
from manx_kube.resources import (
    ADDRESS_GROUPS,
    DAEMON_SETS,
    IP_POOLS,
    IPAM_BLOCKS,
    MESH_NODES,
    NODE_REPORTS,
    NODE_STATES,
    PODS,
    POLICY_CLASSES,
    POLICY_PROGRAMS,
    Resource,
)
from manx_operator.installer.names import AGENT, AGENT_LABELS, MANAGED_BY, NAMESPACE, OPERATOR, OWN_SELECTOR

REFERRERS_FIRST = (
    NODE_STATES, POLICY_CLASSES, POLICY_PROGRAMS, ADDRESS_GROUPS, MESH_NODES, IPAM_BLOCKS, NODE_REPORTS,
)  # fmt: skip


class _Named(KubeStruct, frozen=True, gc=False):
    metadata: ObjectMeta


async def remove(client: KubeClient, guard: Callable[[], None]) -> str:
    """One pass. Returns what is still awaited, or "" when nothing of an installation is left. `guard` is called before
    every write, and raises if this is no leader any more. Raises KubeError."""
    if await _remove_agents(client, guard):
        return "the agents' pods to end"
    await _remove_all(client, IP_POOLS, guard, OWN_SELECTOR)
    for resource in REFERRERS_FIRST:
        await _remove_all(client, resource, guard, None)
    return ""


async def _remove_agents(client: KubeClient, guard: Callable[[], None]) -> bool:
    """Whether any agent is still there."""
    try:
        found = await client.get(DAEMON_SETS, dict[str, Any], AGENT, namespace=NAMESPACE)
    except NotFound:
        selector = ",".join(f"{key}={value}" for key, value in AGENT_LABELS.items())
        return bool((await client.list_all(PODS, _Named, namespace=NAMESPACE, label_selector=selector)).items)
    if (found["metadata"].get("labels") or {}).get(MANAGED_BY) != OPERATOR:
        return False
    if not found["metadata"].get("deletionTimestamp"):
        guard()
        uid = found["metadata"]["uid"]
        await client.delete(DAEMON_SETS, AGENT, namespace=NAMESPACE, uid=uid, propagation="Foreground")
    return True


async def _remove_all(client: KubeClient, resource: Resource, guard: Callable[[], None], selector: str | None) -> None:
    for item in (await client.list_all(resource, _Named, label_selector=selector)).items:
        guard()
        try:
            await client.delete(resource, item.metadata.name, uid=item.metadata.uid)
        except Conflict:
            continue  # another of the same name: not what was listed
