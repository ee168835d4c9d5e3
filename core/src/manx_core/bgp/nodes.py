"""What each node is in the mesh, and what it must know to take part.

Owns: from a Node's addresses and annotations, the BGPConfigurations, the BGPPeers and the blocks to the node's
MeshNodeSpec, BgpSettings and explicit peers. Must not: know how sessions are made, or look at any other node: what
concerns one node is computed from that node alone, so a change touches only those whom it concerns.

A bad annotation is told, and counts as absent: what it would have replaced goes on working.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface

from manx_core.api.autodetection import Found, detect
from manx_core.api.bgp_configuration import BgpGlobals, node_as_number
from manx_core.api.bgp_peer import Peer
from manx_core.api.core_v1 import Node
from manx_core.api.fields import Problem
from manx_core.api.installation import NodeAddressAutodetection
from manx_core.api.v1alpha1 import BgpPeer, BgpSettings, Interface, MeshNodeSpec
from manx_core.selectors.calico import Selector

ADDRESS_ANNOTATIONS = {4: "projectcalico.org/IPv4Address", 6: "projectcalico.org/IPv6Address"}
_EXAMPLES = {4: "192.0.2.1/24", 6: "2001:db8::1/64"}
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
    """One node as a BGP speaker. `ipv4`, `ipv4_network`, `ipv6`, `ipv6_network`: "" while not known. That a node has an
    IPv6 address does not say that it takes part in IPv6: that depends on pools and peers."""

    name: str
    uid: str
    ipv4: str
    ipv4_network: str
    ipv6: str
    ipv6_network: str
    settings: BgpSettings
    peers: tuple[BgpPeer, ...]
    problems: tuple[Problem, ...]

    @property
    def has_ipv6_peer(self) -> bool:
        """Whether an explicit peer of it is to be reached by IPv6."""
        return any(":" in peer.address for peer in self.peers)

    def mesh_node(self, blocks: Iterable[str], epoch: int = 0, *, ipv6: bool = False) -> MeshNodeSpec:
        """What the others need of it. `blocks`: CIDRs, in any order; `ipv6`: whether the mesh is of IPv6 too."""
        return MeshNodeSpec(
            epoch=epoch,
            node_uid=self.uid,
            ipv4=self.ipv4,
            ipv4_network=self.ipv4_network,
            ipv6=self.ipv6 if ipv6 else "",
            ipv6_network=self.ipv6_network if ipv6 else "",
            as_number=self.settings.as_number,
            blocks=tuple(sorted(blocks)),
        )


def speaker(
    node: Node,
    settings: BgpGlobals,
    rules: Iterable[PeerRule] = (),
    method: NodeAddressAutodetection | None = None,
    interfaces: Iterable[Interface] = (),
    method6: NodeAddressAutodetection | None = None,
) -> Speaker:
    """`settings`: the BGPConfigurations' for this node; `method`, `method6`: how to find its addresses (None:
    firstFound); `interfaces`: as its agent reported them."""
    meta = node.metadata
    (ipv4, network4), bad_ipv4 = _address(node, 4, method, interfaces)
    (ipv6, network6), bad_ipv6 = _address(node, 6, method6, interfaces)
    as_number, bad_as_number = node_as_number(meta.annotations, settings.as_number)
    return Speaker(
        name=meta.name,
        uid=meta.uid,
        ipv4=ipv4,
        ipv4_network=network4,
        ipv6=ipv6,
        ipv6_network=network6,
        settings=BgpSettings(
            as_number=as_number,
            mesh_enabled=settings.mesh_enabled,
            router_id=ipv4 or (_identifier(meta.name) if ipv6 else ""),
            listen_port=settings.listen_port,
            restart_time=settings.restart_time,
        ),
        peers=_peers(node, rules),
        problems=tuple(problem for problem in (bad_ipv4, bad_ipv6, bad_as_number) if problem is not None),
    )


def _identifier(name: str) -> str:
    """A BGP identifier for a node without IPv4: any number that is its own within the AS (RFC 6286), in the form of a
    unicast address."""
    digest = hashlib.sha256(name.encode()).digest()
    return f"{1 + digest[0] % 126}.{digest[1]}.{digest[2]}.{digest[3]}"


def _address(
    node: Node, version: int, method: NodeAddressAutodetection | None, interfaces: Iterable[Interface]
) -> tuple[tuple[str, str], Problem | None]:
    """(address, network), "" for what is not known. The node's annotation decides; else what is detected."""
    detected = _as_text(_detected(node, version, method, interfaces))
    annotation = ADDRESS_ANNOTATIONS[version]
    text = node.metadata.annotations.get(annotation, "")
    if not text:
        return detected, None
    found = _parsed(text, version)
    if found is None:
        message = f'{text!r} is not allowed; must be an IPv{version} address such as "{_EXAMPLES[version]}"'
        return detected, Problem(f"metadata.annotations[{annotation}]", message)
    return _as_text(found), None


def _parsed(text: str, version: int) -> Found | None:
    with suppress(ValueError):
        found = ip_interface(text)
        if found.version == version and "%" not in text:
            return Found(found.ip, found.network if "/" in text else None)
    return None


def _as_text(found: Found | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    return str(found.address), str(found.network) if found.network is not None else ""


def _detected(
    node: Node, version: int, method: NodeAddressAutodetection | None, interfaces: Iterable[Interface]
) -> Found | None:
    """By `method`. Before the agent's first report the default one takes the InternalIP, so that a node need not wait
    for its own agent to be known to the others."""
    internal = list(_internal_ips(node, version))
    reported = [(interface.name, interface.addresses) for interface in interfaces]
    if not reported and internal and (method is None or method == NodeAddressAutodetection(first_found=True)):
        return Found(ip_address(internal[0]), None)
    return detect(version, method, internal, reported)


def _internal_ips(node: Node, version: int) -> Iterable[str]:
    for found in node.status.addresses:
        if found.type == "InternalIP":
            with suppress(ValueError):
                address = ip_address(found.address)
                if address.version == version and not address.is_link_local:
                    yield str(address)


def _peers(node: Node, rules: Iterable[PeerRule]) -> tuple[BgpPeer, ...]:
    meta = node.metadata
    concerned = [rule.peer for rule in rules if rule.concerns(meta.name, meta.labels)]
    return tuple(
        BgpPeer(name=peer.name, address=peer.address, as_number=peer.as_number, port=peer.port or DEFAULT_PORT)
        for peer in sorted(concerned, key=lambda peer: peer.name)
    )
