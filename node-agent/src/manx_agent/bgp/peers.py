"""Whom this node peers with: the sessions that a BgpView asks for.

Owns: choosing between mesh and explicit peers, and refusing what no session can be made of, in words. Must not: know
ExaBGP, the kernel or what is received. Everything else of BGP here asks this module who the peers are, so that the
speaker, the table and the status never disagree about it.

A session carries the family of the addresses between which it is: with a member of the mesh that has both there are
two, and what happens to one says nothing about the other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from manx_agent.bgp.messages import version_of
from manx_agent.model import BgpView

MAX_AS = 4294967295
"""RFC 6793."""
DEFAULT_PORT = 179
_KIND = {4: "an IPv4 address", 6: "a global IPv6 address"}


@dataclass(frozen=True, slots=True)
class Peer:
    """One session that is wanted. Peers are told apart by address, spelt as RFC 5952 has it."""

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

    @property
    def version(self) -> int:
        """4 or 6."""
        return version_of(self.address)


@dataclass(frozen=True, slots=True)
class Peers:
    """The wanted sessions by address, and why others could not be had."""

    by_address: dict[str, Peer]
    errors: tuple[str, ...] = ()


def wanted_peers(view: BgpView) -> Peers:
    """The sessions of a view: none of a family without an address of our own, the mesh while it is enabled, then the
    explicit peers. Where a BGPPeer names a mesh member's address, the session is the mesh's."""
    if not (view.address or view.address6):
        return Peers({})
    if not (view.settings.router_id or view.address):
        return Peers({}, (f"node {view.node}: it has no BGP identifier",))
    found: dict[str, Peer] = {}
    errors = list(_bad_own_addresses(view))
    for peer in (*_mesh(view), *_explicit(view)):
        problem = _problem(peer, view, found)
        if problem:
            errors.append(f"{peer.source} {peer.name}: {problem}")
        else:
            found[peer.address] = peer
    return Peers(dict(sorted(found.items())), tuple(errors))


def own_address(view: BgpView, version: int) -> str:
    """This node's end of its sessions of an IP version; empty where it has none, or a bad one."""
    address = view.address6 if version == 6 else view.address
    return address if is_address(address, version) else ""


def _bad_own_addresses(view: BgpView) -> Iterator[str]:
    for address, version in ((view.address, 4), (view.address6, 6)):
        if address and not is_address(address, version):
            yield f"node {view.node}: address {address!r} is not {_KIND[version]}"


def _mesh(view: BgpView) -> Iterator[Peer]:
    """Members that have no address of a family that we have take no part in it: no problem."""
    for name, member in sorted(view.mesh.items()) if view.settings.mesh_enabled else ():
        for address, version in ((member.ipv4, 4), (member.ipv6, 6)):
            if address and own_address(view, version):
                yield Peer(
                    address=_spelt(address),
                    name=name,
                    source="Mesh",
                    local_as=view.settings.as_number,
                    peer_as=member.as_number,
                    port=view.settings.listen_port,
                    blocks=member.blocks,
                )


def _explicit(view: BgpView) -> Iterator[Peer]:
    for peer in sorted(view.peers, key=lambda peer: peer.name):
        yield Peer(_spelt(peer.address), peer.name, "BGPPeer", view.settings.as_number, peer.as_number, peer.port)


def _problem(peer: Peer, view: BgpView, found: dict[str, Peer]) -> str:
    own = own_address(view, peer.version)
    if not is_address(peer.address, peer.version):
        return f"peer address {peer.address!r} is not {_KIND[peer.version]}"
    if not own:
        return f"peer address {peer.address}: this node's own IPv{peer.version} address is not known"
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


def _spelt(text: str) -> str:
    """As ExaBGP and the kernel spell it; what is no address as it is."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


@lru_cache(maxsize=1024)  # asked of the same addresses for every peer, every few seconds
def is_address(text: str, version: int) -> bool:
    """Whether it is a plain unicast address of this IP version; link-local ones are not, for they mean something only
    together with an interface."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    bad = address.is_multicast or address.is_unspecified or address.is_loopback or (version == 6 and "%" in text)
    return address.version == version and not bad and not (version == 6 and address.is_link_local)
