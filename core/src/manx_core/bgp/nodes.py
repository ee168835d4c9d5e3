"""What each node is in the mesh, and what it must know to take part.

Owns: from a Node's addresses and annotations, the BGPConfigurations, the BGPPeers and the blocks to the node's
MeshNodeSpec, BgpSettings and explicit peers. Must not: know how sessions are made, or look at any other node: what
concerns one node is computed from that node alone, so a change touches only those whom it concerns.

A bad annotation is told, and counts as absent: what it would have replaced goes on working.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address

from manx_core.api.autodetection import Found, detect_ipv4
from manx_core.api.bgp_configuration import BgpGlobals, node_as_number
from manx_core.api.bgp_peer import Peer
from manx_core.api.core_v1 import Node
from manx_core.api.fields import Problem
from manx_core.api.installation import NodeAddressAutodetection
from manx_core.api.v1alpha1 import BgpPeer, BgpSettings, Interface, MeshNodeSpec
from manx_core.selectors.calico import Selector

ADDRESS_ANNOTATION = "projectcalico.org/IPv4Address"
DEFAULT_PORT = 179


@dataclass(frozen=True, slots=True)
class PeerRule:
    """A BGPPeer in force, and the nodes that it is for: the one named, else those selected."""

    peer: Peer
    selector: Selector

    def concerns(self, name: str, labels: Mapping[str, str]) -> bool:
        return self.peer.concerns(name) and (bool(self.peer.node) or self.selector.matches(labels))


@dataclass(frozen=True, slots=True)
class Speaker:
    """One node as a BGP speaker. `ipv4`, `ipv4_network`, `ipv6`: "" while not known."""

    name: str
    uid: str
    ipv4: str
    ipv4_network: str
    ipv6: str
    settings: BgpSettings
    peers: tuple[BgpPeer, ...]
    problems: tuple[Problem, ...]

    def mesh_node(self, blocks: Iterable[str], epoch: int = 0) -> MeshNodeSpec:
        """What the others need of it. `blocks`: CIDRs, in any order."""
        return MeshNodeSpec(
            epoch=epoch,
            node_uid=self.uid,
            ipv4=self.ipv4,
            ipv4_network=self.ipv4_network,
            ipv6=self.ipv6,
            as_number=self.settings.as_number,
            blocks=tuple(sorted(blocks)),
        )


def speaker(
    node: Node,
    settings: BgpGlobals,
    rules: Iterable[PeerRule] = (),
    method: NodeAddressAutodetection | None = None,
    interfaces: Iterable[Interface] = (),
) -> Speaker:
    """`settings`: the BGPConfigurations' for this node; `method`: how to find its address (None: firstFound);
    `interfaces`: as its agent reported them."""
    meta = node.metadata
    address, bad_address = _address(node, method, interfaces)
    as_number, bad_as_number = node_as_number(meta.annotations, settings.as_number)
    ipv4 = str(address.address) if address is not None else ""
    return Speaker(
        name=meta.name,
        uid=meta.uid,
        ipv4=ipv4,
        ipv4_network=str(address.network) if address is not None and address.network is not None else "",
        ipv6=next(iter(_internal_ips(node, IPv6Address)), ""),
        settings=BgpSettings(
            as_number=as_number,
            mesh_enabled=settings.mesh_enabled,
            router_id=ipv4,
            listen_port=settings.listen_port,
            restart_time=settings.restart_time,
        ),
        peers=_peers(node, rules),
        problems=tuple(problem for problem in (bad_address, bad_as_number) if problem is not None),
    )


def _address(
    node: Node, method: NodeAddressAutodetection | None, interfaces: Iterable[Interface]
) -> tuple[Found | None, Problem | None]:
    """The node's annotation decides; else what is detected."""
    detected = _detected(node, method, interfaces)
    text = node.metadata.annotations.get(ADDRESS_ANNOTATION, "")
    if not text:
        return detected, None
    try:
        found = IPv4Interface(text)
    except ValueError:
        message = f'{text!r} is not allowed; must be an IPv4 address such as "192.0.2.1/24"'
        return detected, Problem(f"metadata.annotations[{ADDRESS_ANNOTATION}]", message)
    return Found(found.ip, found.network if "/" in text else None), None


def _detected(node: Node, method: NodeAddressAutodetection | None, interfaces: Iterable[Interface]) -> Found | None:
    """By `method`. Before the agent's first report the default one takes the InternalIP, so that a node need not wait
    for its own agent to be known to the others."""
    internal = list(_internal_ips(node, IPv4Address))
    reported = [(interface.name, interface.addresses) for interface in interfaces]
    if not reported and internal and (method is None or method == NodeAddressAutodetection(first_found=True)):
        return Found(IPv4Address(internal[0]), None)
    return detect_ipv4(method, internal, reported)


def _internal_ips(node: Node, kind: type[IPv4Address | IPv6Address]) -> Iterable[str]:
    for found in node.status.addresses:
        if found.type == "InternalIP":
            with suppress(ValueError):
                yield str(kind(found.address))


def _peers(node: Node, rules: Iterable[PeerRule]) -> tuple[BgpPeer, ...]:
    meta = node.metadata
    concerned = [rule.peer for rule in rules if rule.concerns(meta.name, meta.labels)]
    return tuple(
        BgpPeer(name=peer.name, address=peer.address, as_number=peer.as_number, port=peer.port or DEFAULT_PORT)
        for peer in sorted(concerned, key=lambda peer: peer.name)
    )
