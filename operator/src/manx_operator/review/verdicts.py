"""Whether an object of a user's is valid and in force, in words: its condition Accepted.

Owns: those words. Must not: do I/O. What is refused here counts for the model as it last was valid, or as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from manx_core.api import bgp_configuration, bgp_peer, ip_pool
from manx_core.api.calico_addons import ADDONS, NOTHING_TO_DO
from manx_core.api.fields import ApiModel, InvalidObject, Problem
from manx_core.api.pools import Surroundings, in_use, one_subnet, review
from manx_operator.conditions import Said, some

Raw = Mapping[str, Any]
KIND = "Accepted"


@dataclass(frozen=True, slots=True)
class Around:
    """What pools and BGP kinds are judged against."""

    surroundings: Surroundings = field(default_factory=Surroundings)
    blocks: Mapping[str, str] = field(default_factory=dict)
    """IPAMBlock's name → its pool's."""
    nodes: Collection[str] = ()


def bgp_configuration_said(raw: Raw, around: Around) -> Said:
    """Of a BGPConfiguration."""

    def check(found: bgp_configuration.BGPConfiguration) -> tuple[Problem, ...]:
        node = found.metadata.name.removeprefix(bgp_configuration.NODE_PREFIX)
        if problems := bgp_configuration.check(found):
            return problems
        if found.metadata.name != bgp_configuration.DEFAULT_NAME and node not in around.nodes:
            return (Problem("metadata.name", f"there is no node {node}"),)
        return ()

    return _said(raw, bgp_configuration.BGPConfiguration, check)


def bgp_peer_said(raw: Raw, around: Around) -> Said:
    """Of a BGPPeer."""

    def check(found: bgp_peer.BGPPeer) -> tuple[Problem, ...]:
        problems = bgp_peer.check(found)
        if not problems and found.spec.node and found.spec.node not in around.nodes:
            return (Problem("spec.node", f"there is no node {found.spec.node}"),)
        return problems

    return _said(raw, bgp_peer.BGPPeer, check)


def addon_said(kind: str, raw: Raw) -> Said:
    """Of an APIServer, Goldmane or Whisker."""
    model = {outside.kind: model for outside, model in ADDONS}[kind]
    said = _said(raw, model, lambda _: ())
    return said if said.status == "False" else Said(KIND, "True", "NothingToDo", NOTHING_TO_DO[kind])


def pool_problems(pools: Mapping[str, Raw], around: Around) -> dict[str, tuple[Problem, ...]]:
    """IPPool's name → what stands against it, each by itself and against the others; also for pools that blocks are of
    and that are gone."""
    alone = {name: _alone(raw) for name, raw in pools.items()}
    valid = [pool for pool, problems in alone.values() if pool is not None and not problems]
    together = review(valid, around.surroundings)
    subnets = [net for nets in around.surroundings.node_networks.values() for net in nets]
    found = {name: problems for name, (_, problems) in alone.items()}
    for pool in valid:
        found[pool.name] = (*together[pool.name], *one_subnet(pool, subnets))
    for name, blocks in in_use(pools, around.blocks).items():
        listed = some(blocks)
        text = (
            f"the IPPool was deleted while it is in use ({listed}); its addresses stay with their pods until they end"
        )
        found[name] = (Problem("metadata.name", text),)
    return found


def pool_said(raw: Raw, problems: tuple[Problem, ...]) -> Said:
    """Of an IPPool, given its problems."""
    if problems:
        return Said(KIND, "False", "Invalid", some(map(str, problems), shown=10))
    return _said(raw, ip_pool.IPPool, ip_pool.check)


def _alone(raw: Raw) -> tuple[ip_pool.Pool | None, tuple[Problem, ...]]:
    try:
        parsed = ip_pool.IPPool.parse(raw)
    except InvalidObject as error:
        return None, error.problems
    return ip_pool.pool_of(parsed), ip_pool.check(parsed)


def _said(raw: Raw, model: type[ApiModel], check: Callable[[Any], tuple[Problem, ...]]) -> Said:
    try:
        found = model.parse(raw)
    except InvalidObject as error:
        return Said(KIND, "False", "Invalid", some(map(str, error.problems), shown=10))
    if problems := check(found):
        return Said(KIND, "False", "Invalid", some(map(str, problems), shown=10))
    if ignored := list(found.without_effect()):
        return Said(KIND, "True", "FieldsWithoutEffect", "without effect: " + some(ignored, shown=20))
    return Said(KIND, "True", "Accepted")
