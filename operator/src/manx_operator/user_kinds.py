"""What users declared in Calico's kinds, as far as it is valid.

Owns: parsing IPPools, BGPConfigurations, BGPPeers, FelixConfigurations, the Installation, Tiers and network sets, and
keeping what last was valid of each. (Policies, whose last valid version outlives the operator, are `model.policies`' to
judge.)
Must not: tell users (the kopf handlers set conditions and post Events) or compute what follows.

An object that becomes invalid stays as it last was, for as long as it is the same object (uid): what worked goes on
working. One that never was valid counts as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Generic, TypeVar

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
from manx_operator.model import NetworkSetFacts
from manx_operator.model.types import ObjectKey

Raw = Mapping[str, Any]
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PoolRule:
    """An IPPool in force, and the nodes that it is for."""

    pool: ip_pool.Pool
    selector: Selector


class LastValid(Generic[K, T]):
    """The objects of one kind by name, as they last were valid. `parse` raises InvalidObject."""

    def __init__(self, parse: Callable[[Raw], T]) -> None:
        self._parse = parse
        self._uids: dict[K, str] = {}
        self.valid: dict[K, T] = {}

    def __contains__(self, name: K) -> bool:
        """Whether there is such an object, valid or not."""
        return name in self._uids

    def put(self, name: K, raw: Raw | None) -> None:
        """None: gone."""
        uid = (raw or {}).get("metadata", {}).get("uid", "")
        if raw is None or self._uids.get(name) != uid:
            self.valid.pop(name, None)
            self._uids.pop(name, None)
        if raw is None:
            return
        self._uids[name] = uid
        try:
            self.valid[name] = self._parse(raw)
        except InvalidObject:
            return


def declared(raw: Any) -> Any:
    """What tells one declaration from another; status is no part of it."""
    if raw is None:
        return None
    meta = raw["metadata"]
    ours = {key: value for key, value in (meta.get("annotations") or {}).items() if key.startswith("manx.dev/")}
    return meta.get("uid"), raw.get("spec"), meta.get("labels"), ours, meta.get("deletionTimestamp")


class UserKinds:
    def __init__(self) -> None:
        self.pools: LastValid[str, PoolRule] = LastValid(_pool)
        self.bgp_configurations: LastValid[str, BGPConfiguration] = LastValid(
            _checked(BGPConfiguration.parse, bgp_configuration.check)
        )
        self.bgp_peers: LastValid[str, PeerRule] = LastValid(_bgp_peer)
        self.felix_configurations: LastValid[str, FelixConfiguration] = LastValid(
            _checked(FelixConfiguration.parse, felix_configuration.check)
        )
        self.installations: LastValid[str, Installation] = LastValid(
            _checked(Installation.parse, installation_settings.check)
        )
        self.tiers: LastValid[str, Tier] = LastValid(_checked(Tier.parse, tier.check))
        self.network_sets: LastValid[ObjectKey, NetworkSetFacts] = LastValid(_network_set)
        """By namespace and name; the namespace of a GlobalNetworkSet is empty."""

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
        found = self.felix_configurations.valid
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


def readable_network_set(raw: Raw) -> NetworkSetFacts:
    """Of a set that never was valid: what of it can be read. Rules that deny what it lists then deny that much."""
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
