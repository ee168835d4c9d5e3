"""projectcalico.org/v3 BGPPeer: an explicit peer of some nodes.

Owns: the kind's fields, and the peer that it comes to.
Must not: know other objects, nor evaluate its selector. Source: Calico v3.30, BGPPeerSpec.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictInt, StrictStr, WithJsonSchema

from manx_core.api.fields import (
    RULES,
    AnyObject,
    ApiModel,
    AsNumber,
    Bool,
    ConditionsStatus,
    Duration,
    InvalidObject,
    Metadata,
    NoEffect,
    Problem,
    Selector,
    Text,
    rule,
)
from manx_core.api.kind import ACCEPTED, AGE, Column, Kind

_LINK_LOCAL = ipaddress.ip_network("fe80::/10")
_ALLOWED = 'an IP address, with a port if need be: "192.0.2.1", "192.0.2.1:1179", "2001:db8::1" or "[2001:db8::1]:1179"'


def parse_peer_ip(value: str) -> tuple[str, int | None]:
    """A peer's address and port (None: not given). Raises ValueError."""
    bracketed = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::([0-9]{1,5}))?", value)
    plain = re.fullmatch(r"([0-9.]+):([0-9]{1,5})", value)
    match = bracketed or plain
    address, port = (match.group(1), match.group(2)) if match else (value, None)
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise ValueError(f"{value!r} is not allowed; must be {_ALLOWED}") from error
    if port is not None and not 1 <= int(port) <= 65535:
        raise ValueError(f"{value!r} is not allowed; the port must be 1 to 65535")
    return address, int(port) if port else None


def _check(value: str) -> str:
    parse_peer_ip(value)
    return value


_PEER_RULE = (
    "isIP(self) || (self.matches('^[0-9.]+:[0-9]{1,5}$') && isIP(self.split(':')[0])"
    " && int(self.split(':')[1]) >= 1 && int(self.split(':')[1]) <= 65535)"
    " || (self.matches('^[\\\\[][0-9a-fA-F:.]+[\\\\]](:[0-9]{1,5})?$') && isIP(self.substring(1, self.indexOf(']'))))"
)
PeerIp = Annotated[
    StrictStr,
    AfterValidator(_check),
    WithJsonSchema({"type": "string", "maxLength": 64, RULES: [rule(_PEER_RULE, f"must be {_ALLOWED}")]}),
]


class BGPPeerSpec(ApiModel):
    """Who peers with whom."""

    node: Annotated[StrictStr, Field(max_length=253)] = ""
    """The one node that keeps the session. Empty, with an empty nodeSelector: every node."""
    node_selector: Selector = ""
    """The nodes that keep the session, by their labels, as "rack == 'a'". Not together with node."""
    peer_ip: Annotated[PeerIp | None, Field(alias="peerIP")] = None
    """The peer's address, with a port if it is not 179: "192.0.2.1", "192.0.2.1:1179", "[2001:db8::1]:1179"."""
    as_number: AsNumber | None = None
    """The peer's AS number: 1 to 4294967295, or a string in dotted form such as "1.10"."""
    peer_selector: Annotated[Selector, NoEffect] = ""
    """Nodes to peer with, instead of peerIP and asNumber."""
    local_as_number: Annotated[AsNumber | None, NoEffect] = None
    """Another AS number to use towards this peer."""
    keep_original_next_hop: Annotated[Bool | None, NoEffect] = None
    """Keep the next hop of routes that come from elsewhere."""
    next_hop_mode: Annotated[Literal["Auto", "Self", "Keep"] | None, NoEffect] = None
    """How the next hop of announced routes is set."""
    password: AnyObject | None = None
    """TCP MD5 password, by reference to a Secret. Not supported yet: a peer with one is not in force."""
    source_address: Annotated[Literal["UseNodeIP", "None"] | None, NoEffect] = None
    """The session's source address. Default: UseNodeIP."""
    max_restart_time: Annotated[Duration | None, NoEffect] = None
    """How long routes are kept as stale after the session is lost, as "120s"."""
    num_allowed_local_as_numbers: Annotated[
        Annotated[StrictInt, Field(ge=0)] | None, NoEffect, Field(alias="numAllowedLocalASNumbers")
    ] = None
    """How often the node's own AS number may be in a received path."""
    ttl_security: Annotated[Annotated[StrictInt, Field(ge=0, le=255)] | None, NoEffect] = None
    """Hops that the peer may be away (RFC 5082)."""
    reachable_by: Annotated[Text, NoEffect] = ""
    """The gateway by which the peer is reached."""
    filters: Annotated[tuple[Text, ...], NoEffect] = ()
    """Names of BGPFilters."""
    local_workload_selector: Annotated[Selector, NoEffect] = ""
    """Pods to peer with."""
    reverse_peering: Annotated[Literal["Auto", "Manual"] | None, NoEffect] = None
    """Whether nodes selected by peerSelector peer back by themselves."""


class BGPPeer(ApiModel):
    """A BGP peer outside the mesh, of one node or of all."""

    metadata: Metadata
    spec: BGPPeerSpec = BGPPeerSpec()
    status: ConditionsStatus = ConditionsStatus()


KIND = Kind(
    group="projectcalico.org",
    version="v3",
    kind="BGPPeer",
    plural="bgppeers",
    categories=("calico",),
    columns=(
        Column("Peer", ".spec.peerIP", description="The peer's address."),
        Column("AS", ".spec.asNumber", description="The peer's AS number."),
        Column("Node", ".spec.node", description="The node that peers; none: every node."),
        ACCEPTED,
        AGE,
    ),
    rules=(
        rule(
            "!has(self.spec) || !has(self.spec.node) || self.spec.node == ''"
            " || !has(self.spec.nodeSelector) || self.spec.nodeSelector == ''",
            "spec.node and spec.nodeSelector must not both be set",
        ),
        rule(
            "!has(self.spec) || !has(self.spec.peerSelector) || self.spec.peerSelector == ''"
            " || (!has(self.spec.peerIP) && !has(self.spec.asNumber))",
            "spec.peerSelector must not be set together with spec.peerIP or spec.asNumber",
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Peer:
    """What a BGPPeer comes to. `node` "" means every node that its nodeSelector selects; `port` None: the usual one."""

    name: str
    address: str
    port: int | None
    as_number: int
    node: str = ""

    def concerns(self, node: str) -> bool:
        """Whether the node of this name keeps the session."""
        return self.node in ("", node)


def check(peer: BGPPeer) -> tuple[Problem, ...]:
    """Why a peer is not in force; empty if it is."""
    spec, found = peer.spec, []
    if spec.node and spec.node_selector:
        found.append(Problem("spec.nodeSelector", "must not be set together with spec.node"))
    if spec.peer_selector:
        found.append(Problem("spec.peerSelector", "is not supported yet; set spec.peerIP and spec.asNumber"))
    elif spec.peer_ip is None:
        found.append(Problem("spec.peerIP", f"is missing; must be {_ALLOWED}"))
    elif ipaddress.ip_address(parse_peer_ip(spec.peer_ip)[0]) in _LINK_LOCAL:
        message = f"{spec.peer_ip}: link-local peers are not supported yet; must be a global address"
        found.append(Problem("spec.peerIP", message))
    if spec.as_number is None and not spec.peer_selector:
        found.append(Problem("spec.asNumber", "is missing; must be the peer's AS number, 1 to 4294967295"))
    if spec.password is not None:
        found.append(Problem("spec.password", "is not supported yet, and a session without one is not asked for"))
    return tuple(found)


def peer_of(peer: BGPPeer) -> Peer:
    """The peer of an object for which `check` finds nothing. Raises InvalidObject otherwise."""
    if problems := check(peer):
        raise InvalidObject(problems)
    spec = peer.spec
    assert spec.peer_ip is not None
    assert spec.as_number is not None
    text, port = parse_peer_ip(spec.peer_ip)
    address = str(ipaddress.ip_address(text))
    return Peer(peer.metadata.name, address, port, spec.as_number, spec.node)
