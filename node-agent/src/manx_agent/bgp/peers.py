"""Whom this node peers with: the sessions that a BgpView asks for.

Owns: choosing between mesh and explicit peers, and refusing what no session can be made of, in words. Must not: know
ExaBGP, the kernel or what is received. Everything else of BGP here asks this module who the peers are, so that the
speaker, the table and the status never disagree about it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

from manx_agent.model import BgpView

MAX_AS = 4294967295
"""RFC 6793."""
DEFAULT_PORT = 179


@dataclass(frozen=True, slots=True)
class Peer:
    """One session that is wanted. Peers are told apart by address: a node has one session with another."""

    address: str
    name: str
    source: Literal["Mesh", "BGPPeer"]
    local_as: int
    peer_as: int
    port: int = DEFAULT_PORT
    blocks: tuple[str, ...] | None = None
    """The CIDRs inside which prefixes are accepted from this peer; None: any."""

    @property
    def internal(self) -> bool:
        """Whether the session is iBGP."""
        return self.local_as == self.peer_as


@dataclass(frozen=True, slots=True)
class Peers:
    """The wanted sessions by address, and why others could not be had."""

    by_address: dict[str, Peer]
    errors: tuple[str, ...] = ()


def wanted_peers(view: BgpView) -> Peers:
    """The sessions of a view: none without an address, the mesh while it is enabled, then the explicit peers. Where a
    BGPPeer names a mesh member's address, the session is the mesh's."""
    if not view.address:
        return Peers({})
    found: dict[str, Peer] = {}
    errors: list[str] = []
    if not is_address(view.address):
        return Peers({}, (f"node {view.node}: address {view.address!r} is not an IPv4 address",))
    for peer in (*_mesh(view), *_explicit(view)):
        problem = _problem(peer, view.address, found)
        if problem:
            errors.append(f"{peer.source} {peer.name}: {problem}")
        else:
            found[peer.address] = peer
    return Peers(dict(sorted(found.items())), tuple(errors))


def _mesh(view: BgpView) -> list[Peer]:
    if not view.settings.mesh_enabled:
        return []
    return [
        Peer(
            address=member.ipv4,
            name=name,
            source="Mesh",
            local_as=view.settings.as_number,
            peer_as=member.as_number,
            port=view.settings.listen_port,
            blocks=member.blocks,
        )
        for name, member in sorted(view.mesh.items())
        if member.ipv4
    ]


def _explicit(view: BgpView) -> list[Peer]:
    return [
        Peer(peer.address, peer.name, "BGPPeer", view.settings.as_number, peer.as_number, peer.port)
        for peer in sorted(view.peers, key=lambda peer: peer.name)
    ]


def _problem(peer: Peer, own: str, found: dict[str, Peer]) -> str:
    if not is_address(peer.address):
        return f"peer address {peer.address!r} is not an IPv4 address"
    if peer.address == own:
        return f"peer address {peer.address} is this node's own"
    if not 1 <= peer.peer_as <= MAX_AS or not 1 <= peer.local_as <= MAX_AS:
        return f"AS numbers {peer.local_as} and {peer.peer_as} must be from 1 to {MAX_AS}"
    if not 1 <= peer.port <= 65535:
        return f"port {peer.port} must be from 1 to 65535"
    if peer.address in found:
        other = found[peer.address]
        return f"peer address {peer.address} is already that of {other.source} {other.name}"
    return ""


def is_address(text: str) -> bool:
    """Whether it is a plain unicast IPv4 address."""
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return not (address.is_multicast or address.is_unspecified or address.is_loopback)
