"""Which received routes are accepted, and which of several is best.

Owns: the import policy and the decision process (RFC 4271, 9.1), as pure functions of a view. Must not: keep routes.

From a mesh member only prefixes inside the blocks that its MeshNode lists are accepted, so that no node draws others'
traffic; from an explicit peer everything, as Calico does, but what would take over this node's own blocks or cannot be
routed at all.
"""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass

from manx_agent.bgp.messages import Attributes
from manx_agent.bgp.peers import Peer

Net = tuple[int, int, int]
"""First address as a number, prefix length, and the address's bits: 32 or 128."""

UNROUTABLE = (
    *("127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "169.254.0.0/16"),
    *("::/128", "::1/128", "ff00::/8", "fe80::/10", "::ffff:0:0/96"),
)
"""Loopback, multicast, reserved, link-local, IPv4-mapped: never a destination beyond a router (RFC 6890)."""
UNSPECIFIED = ("0.0.0.0", "::")


@functools.lru_cache(maxsize=65536)
def parse_net(prefix: str) -> Net | None:
    """None where it is no prefix; host bits are cut off."""
    try:
        network = ipaddress.ip_network(prefix, strict=False)
    except ValueError:
        return None
    return int(network.network_address), network.prefixlen, network.max_prefixlen


def inside(inner: Net, outer: Net) -> bool:
    """Whether inner is outer or a part of it."""
    same_family = inner[2] == outer[2]
    return same_family and inner[1] >= outer[1] and (inner[0] ^ outer[0]) >> (outer[2] - outer[1]) == 0


def _nets(prefixes: tuple[str, ...] | frozenset[str]) -> tuple[Net, ...]:
    return tuple(net for net in map(parse_net, prefixes) if net is not None)


_UNROUTABLE = _nets(UNROUTABLE)


@dataclass(frozen=True)
class Policy:
    """What a view says about received routes."""

    own_addresses: frozenset[str]
    own_as: int
    own_blocks: frozenset[str]
    peers: dict[str, Peer]

    def refusal(self, peer: str, prefix: str, attributes: Attributes) -> str:
        """Why the route is not accepted; empty: it is. `peer` is an address, or empty for a route found in the kernel
        that no peer is known of."""
        if peer and peer not in self.peers:
            return "not a peer any more"
        net = parse_net(prefix)
        if net is None or any(inside(net, bad) for bad in _UNROUTABLE):
            return "no routable prefix"
        problem = self._bad_next_hop(attributes[0], net) or self._looped(attributes[4])
        if problem:
            return problem
        if any(inside(net, own) for own in self._own_nets):
            return "inside this node's own blocks"
        return self._outside_blocks(peer, net)

    def rank(self, peer: str, attributes: Attributes) -> tuple[object, ...]:
        """The less, the better: LOCAL_PREF, AS_PATH's length, ORIGIN, MULTI_EXIT_DISC, eBGP before iBGP, address."""
        _, preference, origin, med, path = attributes
        session = self.peers.get(peer)
        internal = session is None or session.internal
        return -preference, len(path), origin, med, internal, peer, attributes[0]

    @functools.cached_property
    def _own_nets(self) -> tuple[Net, ...]:
        return _nets(self.own_blocks)

    @functools.cached_property
    def _blocks(self) -> dict[str, tuple[Net, ...]]:
        """Of those peers that are held to blocks."""
        return {address: _nets(peer.blocks) for address, peer in self.peers.items() if peer.blocks is not None}

    def _outside_blocks(self, peer: str, net: Net) -> str:
        blocks = self._blocks.get(peer)
        if blocks is None or any(inside(net, block) for block in blocks):
            return ""
        return "not in a block of that node's MeshNode"

    def _bad_next_hop(self, next_hop: str, prefix: Net) -> str:
        if next_hop in self.own_addresses:
            return "next hop is this node"
        if "%" in next_hop:
            return ""  # with an interface: a gateway found in the kernel, not a peer's word
        net = parse_net(next_hop)
        if net is None or next_hop in UNSPECIFIED or any(inside(net, bad) for bad in _UNROUTABLE):
            return f"next hop {next_hop} is no unicast address"
        return "" if net[2] == prefix[2] else f"next hop {next_hop} is of another IP version"

    def _looped(self, path: tuple[int, ...]) -> str:
        return f"own AS {self.own_as} in AS_PATH" if self.own_as in path else ""
