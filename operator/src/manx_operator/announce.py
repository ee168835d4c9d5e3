"""What users must know and no other place tells them: Events on policies and nodes, and a condition on full IPPools.

Owns: which problems were told already. Must not: judge objects that the kopf handlers judge (IPPools and BGP kinds, as
to whether they are valid).

Events are said once for each change of what is wrong. The condition AddressesAvailable is set on a pool only once it
was exhausted; other conditions of the pool's status are left as they are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from manx_core.bgp.nodes import Speaker
from manx_kube.client import KubeClient
from manx_kube.errors import KubeError
from manx_kube.events import EventRecorder, reference_to
from manx_kube.lease import LeaseLost, Term
from manx_kube.resources import IP_POOLS, NETWORK_POLICIES, NODES
from manx_operator.conditions import Said, merged
from manx_operator.inputs import Inputs, Raw
from manx_operator.model import PolicyId

CONDITION = "AddressesAvailable"
RETRY = 2.0

log = logging.getLogger(__name__)


class Announcer:
    """One for each term. `stop` ends what it is writing."""

    def __init__(self, client: KubeClient, recorder: EventRecorder, inputs: Inputs, term: Term) -> None:
        self._client = client
        self._recorder = recorder
        self._inputs = inputs
        self._term = term
        self._nodes: dict[str, tuple[Any, ...]] = {}
        self._exhausted: frozenset[str] = frozenset()
        self._writing: asyncio.Task[None] | None = None

    @property
    def recorder(self) -> EventRecorder:
        return self._recorder

    # --- Events -------------------------------------------------------------------------------------------------------

    def policies(self, changed: Iterable[PolicyId], problems: Callable[[PolicyId], Iterable[Any]]) -> None:
        """These policies' problems changed. Only Kubernetes' own kind is told of here: it has no conditions."""
        for kind, namespace, name in changed:
            found = list(problems(PolicyId(kind, namespace, name)))
            policy = self._inputs.network_policies.get(name, namespace) if kind == "knp" else None
            if policy is not None and found:
                note = "; ".join(f"{problem.field}: {problem.message}" for problem in found)
                self._warn(NETWORK_POLICIES, policy, "InvalidPolicy", note)

    def node(self, speaker: Speaker) -> None:
        """The node as it is now; what is wrong with its annotations is told if that is new."""
        if self._nodes.get(speaker.name, ()) == speaker.problems:
            return
        self._nodes[speaker.name] = speaker.problems
        node = self._inputs.nodes.get(speaker.name)
        for problem in speaker.problems:
            self._warn(NODES, node, "InvalidAnnotation", str(problem))

    def _warn(self, resource: Any, obj: Any, reason: str, note: str) -> None:
        log.warning("%s %s: %s: %s", resource, reference_to(resource, obj).name, reason, note)
        self._recorder.emit(reference_to(resource, obj), "Warning", reason=reason, note=note, action="Validate")

    # --- the pools' condition -----------------------------------------------------------------------------------------

    def exhausted(self, pools: frozenset[str]) -> None:
        """These pools have no block left that some node needs."""
        new = pools - self._exhausted
        self._exhausted = pools
        for name in sorted(new):
            if (pool := self._inputs.ip_pools.get(name)) is not None:
                note = f"all blocks of {pool['spec'].get('cidr')} are in use: pods on some nodes get no address"
                self._recorder.emit(
                    reference_to(IP_POOLS, pool), "Warning", reason="PoolExhausted", note=note, action="Allocate"
                )
        if self._writing is None and any(self._differs(pool) for pool in self._inputs.ip_pools.cache.values()):
            self._writing = asyncio.create_task(self._write())

    async def stop(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait({self._writing})

    def _differs(self, pool: Raw) -> bool:
        """A pool that never was exhausted has no such condition."""
        found = next((c for c in _conditions(pool) if c.get("type") == CONDITION), {"status": "True"})
        return bool(found.get("status") != self._status(pool))

    def _status(self, pool: Raw) -> str:
        return "False" if pool["metadata"]["name"] in self._exhausted else "True"

    async def _write(self) -> None:
        """Until every pool's condition is as it shall be; what another changed meanwhile is read again."""
        while wrong := [pool for pool in self._inputs.ip_pools.cache.values() if self._differs(pool)]:
            for pool in wrong:
                try:
                    self._term.require()
                    await self._client.replace(IP_POOLS, self._with_condition(pool), subresource="status")
                except LeaseLost:
                    return
                except KubeError as error:
                    log.info("condition of IPPool %s: %s", pool["metadata"]["name"], error.message)
            await asyncio.sleep(RETRY)
        self._writing = None

    def _with_condition(self, pool: Raw) -> Raw:
        full = Said(CONDITION, "False", "PoolExhausted", "all blocks are in use, and a node needs another")
        said = full if self._status(pool) == "False" else Said(CONDITION, "True", "BlocksFree")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = merged([said], _conditions(pool), now, pool["metadata"].get("generation", 0))
        return {**pool, "status": {**(pool.get("status") or {}), "conditions": conditions}}


def _conditions(pool: Raw) -> list[dict[str, Any]]:
    return list((pool.get("status") or {}).get("conditions") or ())
