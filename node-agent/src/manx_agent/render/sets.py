"""Endpoints and pools as sets.

Owns: which sets there are beside those of groups (`members`) and of programs (`rules`), and their members. Must not:
know rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from string import hexdigits

from manx_agent.model import LocalEndpoint
from manx_agent.render import names
from manx_agent.render.dispatch import LINK_LOCAL, Isolation
from manx_agent.render.family import IPV4, IPV6, Family
from manx_agent.render.image import SetImage
from manx_agent.render.nets import family_of, networks_of
from manx_agent.render.settle import Settled
from manx_agent.render.signs import sign_members
from manx_core.api.v1alpha1 import PoolSettings


def endpoint_sets(settled: Settled, isolations: Mapping[str, Isolation], family: Family) -> dict[str, SetImage]:
    """Which endpoints there are, and are of which class. `isolations`: of the classes that are isolated at all."""
    members: dict[str, set[str]] = {name: set() for name in isolations}
    everyone: set[str] = set()
    free: dict[str, set[str]] = {names.OPEN_OUT: set(), names.OPEN_IN: set()}
    for endpoint, name in settled.endpoints.values():
        own = endpoint_members(endpoint, family)
        everyone.update(own)
        isolation = isolations.get(name, _OPEN)
        if name in members:
            members[name].update(own)
        if not isolation.egress:
            free[names.OPEN_OUT].update(own)
        if not isolation.ingress:
            free[names.OPEN_IN].update(own)
    by_class = {names.class_set(name): of for name, of in members.items()}
    sets = {names.ENDPOINTS: everyone, **free, **by_class, **sign_members(members)}
    links = _link_sets(settled) if family is IPV6 else {}
    kind, in_family = "hash:net,iface", family.set_family
    return {**links, **{family.set(name): SetImage(kind, frozenset(of), in_family) for name, of in sets.items()}}


_OPEN = Isolation()


def _link_sets(settled: Settled) -> dict[str, SetImage]:
    members: dict[str, set[str]] = {name: set() for name in names.LINKS}
    for endpoint, _ in settled.endpoints.values():
        if endpoint_members(endpoint, IPV6):
            share = names.LINKS[int(endpoint.interface[-1], 16) if endpoint.interface[-1] in hexdigits else 0]
            members[share].update(f"{network},{endpoint.interface}" for network in LINK_LOCAL)
    return {IPV6.set(name): SetImage("hash:net,iface", frozenset(of), IPV6.set_family) for name, of in members.items()}


def endpoint_members(endpoint: LocalEndpoint, family: Family) -> tuple[str, ...]:
    """The endpoint as members of the family's hash:net,iface sets."""
    return tuple(f"{one},{endpoint.interface}" for one in endpoint.addresses if family_of(one) is family)


def own_port_sets(settled: Settled, family: Family) -> dict[str, SetImage]:
    """Which endpoints have which of the named ports that rules ask their subjects for."""
    return {
        family.set(names.own_ports(*port)): SetImage("hash:ip,port", _of_family(members, family), family.set_family)
        for port, members in settled.own_ports.items()
    }


def _of_family(members: Iterable[str], family: Family) -> frozenset[str]:
    return frozenset(member for member in members if family_of(member.partition(",")[0]) is family)


def masqueraded(pools: Iterable[PoolSettings], family: Family) -> frozenset[str]:
    """The networks of the family whose packets to elsewhere leave with the node's address."""
    return networks_of(family, tuple(pool.cidr for pool in pools if pool.nat_outgoing)).members


def pool_sets(pools: tuple[PoolSettings, ...], family: Family) -> dict[str, SetImage]:
    """All pools, and those of which is masqueraded."""
    every = networks_of(family, tuple(pool.cidr for pool in pools)).members
    return {
        family.set(names.POOLS): SetImage("hash:net", every, family.set_family),
        family.set(names.NAT_POOLS): SetImage("hash:net", masqueraded(pools, family), family.set_family),
    }


def pool_problems(pools: tuple[PoolSettings, ...]) -> tuple[str, ...]:
    """A sentence for each that cannot be read."""
    unreadable = networks_of(IPV4, tuple(pool.cidr for pool in pools)).unreadable
    return tuple(f"NodeState: spec.pools: {cidr!r} is not a CIDR such as 10.244.0.0/16" for cidr in unreadable)
