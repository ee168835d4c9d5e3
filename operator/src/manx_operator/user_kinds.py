"""What users declared in Calico's kinds, as far as it is valid.

Owns: parsing IPPools, BGPConfigurations, BGPPeers, FelixConfigurations, the Installation, Tiers and network sets, and
what counts of one that never was valid. (Policies are `model.policies`' to judge.)
Must not: tell users (the kopf handlers set conditions and post Events) or compute what follows.

What became invalid counts as it last was valid (`last_valid`). Of what never was valid, those nets of a network set and
those fields of a FelixConfiguration count that can be read, and a tier at its place if that can be read; all else is as
if it was absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, TypeVar

from manx_core.api import (
    bgp_configuration,
    bgp_peer,
    felix_configuration,
    installation_settings,
    ip_pool,
    network_set,
    tier,
)
from manx_core.api.bgp_configuration import BGPConfiguration, BgpGlobals, globals_of
from manx_core.api.bgp_peer import BGPPeer, peer_of
from manx_core.api.felix_configuration import FelixConfiguration
from manx_core.api.fields import InvalidObject, Problem
from manx_core.api.installation import Installation, NodeAddressAutodetection
from manx_core.api.ip_pool import IPPool
from manx_core.api.network_set import NetworkSet
from manx_core.api.policy_fields import parse_net
from manx_core.api.tier import Tier
from manx_core.api.v1alpha1 import PolicySettings
from manx_core.bgp.nodes import PeerRule
from manx_core.selectors.calico import Selector, SelectorError, parse
from manx_kube import resources as r
from manx_operator.last_valid import LastValid, our_annotations, readable_part
from manx_operator.model import NetworkSetFacts
from manx_operator.model.types import ObjectKey

Raw = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PoolRule:
    """An IPPool in force, and the nodes that it is for."""

    pool: ip_pool.Pool
    selector: Selector


def declared(raw: Any) -> Any:
    """What tells one declaration from another; status is no part of it."""
    if raw is None:
        return None
    meta = raw["metadata"]
    ours = our_annotations(meta.get("annotations"))
    return meta.get("uid"), raw.get("spec"), meta.get("labels"), ours, meta.get("deletionTimestamp")


class UserKinds:
    def __init__(self) -> None:
        self.pools: LastValid[str, PoolRule] = LastValid(_pool)
        self.bgp_configurations: LastValid[str, BGPConfiguration] = LastValid(
            _checked(BGPConfiguration.parse, bgp_configuration.check)
        )
        self.bgp_peers: LastValid[str, PeerRule] = LastValid(_bgp_peer)
        self.felix_configurations: LastValid[str, FelixConfiguration] = LastValid(_felix, _readable_felix)
        self.installations: LastValid[str, Installation] = LastValid(
            _checked(Installation.parse, installation_settings.check)
        )
        self.tiers: LastValid[str, Tier] = LastValid(_tier, _readable_tier)
        self.network_sets: LastValid[ObjectKey, NetworkSetFacts] = LastValid(_network_set, _readable_network_set)
        """By namespace and name; the namespace of a GlobalNetworkSet is empty."""

    def last_valid(self, resource: r.Resource, raw: Raw) -> str:
        """The text (`last_valid.text_of`) of the version of this object that last was valid. Empty where there never
        was one, and for kinds that carry no such text."""
        name, namespace = raw["metadata"]["name"], raw["metadata"].get("namespace", "")
        if resource in (r.NETWORK_SETS, r.GLOBAL_NETWORK_SETS):
            return self.network_sets.text((namespace, name))
        if resource == r.TIERS:
            return self.tiers.text(name)
        return self.felix_configurations.text(name) if resource == r.FELIX_CONFIGURATIONS else ""

    @property
    def installation(self) -> Installation | None:
        return self.installations.valid.get("default")

    @property
    def mtu(self) -> int:
        return installation_settings.mtu(self.installation) if self.installation else 0

    @property
    def bgp_enabled(self) -> bool:
        return self.installation is None or installation_settings.bgp_enabled(self.installation)

    @property
    def autodetection(self) -> NodeAddressAutodetection | None:
        if self.installation is None:
            return None
        return installation_settings.network_of(self.installation).node_address_autodetection_v4

    @property
    def autodetection6(self) -> NodeAddressAutodetection | None:
        if self.installation is None:
            return None
        return installation_settings.network_of(self.installation).node_address_autodetection_v6

    @property
    def pools_to_come(self) -> frozenset[str]:
        """Names of the IPPools that the Installation asks for and that are not there."""
        wanted = installation_settings.pools_wanted(self.installation) if self.installation else ()
        return frozenset(name for name, _ in wanted if name not in self.pools)

    def bgp_globals(self, node: str) -> BgpGlobals:
        """The BGPConfigurations' settings for a node."""
        found = self.bgp_configurations.valid
        return globals_of(found.get("default"), found.get(f"{bgp_configuration.NODE_PREFIX}{node}"))

    def policy_settings(self, node: str) -> PolicySettings:
        """The FelixConfigurations' settings for a node."""
        found = self.felix_configurations
        for_node = found.get(f"{felix_configuration.NODE_PREFIX}{node}")
        return felix_configuration.settings_of(found.get(felix_configuration.DEFAULT_NAME), for_node)

    @property
    def peer_rules(self) -> list[PeerRule]:
        return [rule for _, rule in sorted(self.bgp_peers.valid.items())] if self.bgp_enabled else []


def _checked(parse: Callable[[Raw], T], check: Callable[[T], tuple[Problem, ...]]) -> Callable[[Raw], T]:
    """For `LastValid`, where the object itself is what counts."""

    def checked(raw: Raw) -> T:
        found = parse(raw)
        _require(check(found))
        return found

    return checked


_felix = _checked(FelixConfiguration.parse, felix_configuration.check)
_tier = _checked(Tier.parse, tier.check)


def _readable_felix(raw: Raw) -> FelixConfiguration | None:
    """Its fields one by one. Of one with a name that means nothing, none."""
    return readable_part(raw, _felix)


def _readable_tier(raw: Raw) -> Tier | None:
    """In its order, if that can be read; it denies unless it can be read otherwise."""
    return readable_part(raw, _tier, "order")


def _pool(raw: Raw) -> PoolRule:
    found = IPPool.parse(raw)
    _require(ip_pool.check(found))
    return PoolRule(ip_pool.pool_of(found), _selector(found.spec.node_selector))


def _bgp_peer(raw: Raw) -> PeerRule:
    found = BGPPeer.parse(raw)
    _require(bgp_peer.check(found))
    return PeerRule(peer_of(found), _selector(found.spec.node_selector))


def _network_set(raw: Raw) -> NetworkSetFacts:
    """Of either kind: they have the same fields."""
    found = NetworkSet.parse(raw)
    _require(network_set.check(found))
    return NetworkSetFacts(found.metadata.labels, tuple(sorted({_member(net) for net in found.spec.nets})))


def _readable_network_set(raw: Raw) -> NetworkSetFacts:
    """Rules that deny what the set lists then deny that much, and rules that allow it allow no more."""
    spec = raw.get("spec")
    nets = spec.get("nets") if isinstance(spec, Mapping) else ()
    members = {net for net in map(_readable, nets if isinstance(nets, list) else ()) if net}
    return NetworkSetFacts(raw["metadata"].get("labels") or {}, tuple(sorted(members)))


def _readable(net: object) -> str:
    """Empty for what is no network."""
    try:
        return _member(parse_net(net))
    except ValueError:
        return ""


def _member(net: str) -> str:
    """A canonical CIDR; one address as such, as pods' addresses are written."""
    network = ip_network(net)
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _require(problems: tuple[Problem, ...]) -> None:
    if problems:
        raise InvalidObject(problems)


def _selector(text: str) -> Selector:
    try:
        return parse(text)
    except SelectorError as error:
        raise InvalidObject((Problem("spec.nodeSelector", str(error)),)) from error
