"""The netlink requests that wire a pod to its node: pure.

Owns: what each request says. Must not: send it.
Source: linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h; the shape (a /32, a link-local gateway that no interface
has, proxy ARP on the node's end) is the one Calico's users know. IPv6 has the same shape; there neither end asks for
the other: both have a permanent neighbour entry, so no policy has to let neighbour discovery through.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from manx_agent.drivers.netlink_classes import encoded, ifaddrmsg, ifinfmsg, ndmsg
from manx_agent.drivers.netlink_codec import (
    AF_INET,
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTM_DELLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    RTM_SETLINK,
    RTM_SETNEIGHTBL,
    RTMSG,
    attributes,
    bits_of,
    family_of,
    is_ipv6,
    nested,
    packed,
)
from manx_agent.drivers.netlink_wire import ABSENT, ALREADY, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Message
from manx_core.api.v1alpha1 import ROUTE_PROTOCOL

GATEWAY = "169.254.1.1"
"""The pods' next hop: link-local, on no interface; the node's end of the veth answers for it."""
GATEWAY6 = "fe80::1"
"""The same of IPv6."""
MIN_MTU6 = 1280
"""Bytes, RFC 8200, 5: on an interface with less the kernel has no IPv6."""
NODE_MAC = "ee:ee:ee:ee:ee:ee"
"""The same on every node's end, so that a pod's neighbour entry stays right whatever happens to the node's end."""
PREFIX = "mnx"
PODS = 512
"""For so many a name is not reckoned anew each time that links are looked at: more than a node has."""

IFF_UP = 1
IFLA_IFNAME, IFLA_AF_SPEC, IFLA_INET_CONF = 3, 26, 1
NDTA_NAME, NDTA_PARMS, NDTPA_IFINDEX, NDTPA_PROXY_DELAY = 1, 6, 1, 13
_UNNAMED_LINK = encoded(ifinfmsg())
RT_TABLE_MAIN, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RTN_UNICAST, RTPROT_STATIC = 254, 253, 0, 1, 4
NUD_PERMANENT = 0x80
IFA_F_NODAD = 0x02


@dataclass(frozen=True, slots=True)
class NodeEnd:
    """The node's end of a pod's wiring. `interface` and `addresses` as in LocalEndpoint; `pod_mac`: the other end's."""

    interface: str
    addresses: tuple[str, ...]
    pod_mac: str


@dataclass(frozen=True, slots=True)
class PodLink(NodeEnd):
    """One pod's wiring. `pod_interface` is the pod's end; `mtu` in bytes."""

    pod_interface: str
    mtu: int


def gateway_of(address: str) -> str:
    """The next hop of a pod that has this address."""
    return GATEWAY6 if is_ipv6(address) else GATEWAY


@lru_cache(maxsize=PODS)
def interface_name(container_id: str, pod_interface: str) -> str:
    """The node's end: found again by whoever knows the container ID, with no state at all."""
    return PREFIX + hashlib.sha1((container_id + pod_interface).encode()).hexdigest()[:11]


@lru_cache(maxsize=PODS)
def mac_address(container_id: str, pod_interface: str) -> str:
    """The pod's end: locally administered, unicast; given explicitly, since udev rewrites what the kernel chose."""
    digest = hashlib.sha256((container_id + pod_interface).encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (digest[0] & 0xFC | 0x02, *digest[1:6]))


def create_pair(link: PodLink, namespace: int) -> Message:
    """Both ends, down, the pod's in the namespace of that file descriptor from the start. The node's has a name of
    `interface_name`."""
    body = _pair(link.pod_interface, link.mtu)
    own = link.interface.encode(), bytes.fromhex(link.pod_mac.replace(":", "")), struct.pack("=I", namespace)
    for hole, value in zip(_HOLES, own, strict=True):
        body = body.replace(hole, value, 1)
    about = f"create {link.interface} with {link.pod_interface} in the pod"
    return Message(about, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


_HOLES = b"mnx-----------", bytes.fromhex("fffefffefffe"), bytes.fromhex("fdfffdff")
"""In place of what differs from pod to pod: the node's interface, the pod's MAC, the namespace. The first stands before
anything that could be like it; the others are no text."""

_ONE_QUEUE = ("IFLA_NUM_TX_QUEUES", 1), ("IFLA_NUM_RX_QUEUES", 1)
"""As many as an end uses anyway. Where it is not said, the kernel makes one for each processor, takes all but one out
of use, and waits, holding its lock on links, until no processor uses them (synchronize_net): for each end anew."""


@lru_cache
def _pair(pod_interface: str, mtu: int) -> bytes:
    """The same for all pods, with holes: a sixth of what an ADD costs the agent would go into encoding it each time."""
    name, mac, namespace = _HOLES
    peer = [
        ("IFLA_IFNAME", pod_interface),
        ("IFLA_ADDRESS", mac.hex(":")),
        ("IFLA_MTU", mtu),
        *_ONE_QUEUE,
        ("IFLA_NET_NS_FD", int.from_bytes(namespace, sys.byteorder)),
    ]
    veth = {"attrs": [("VETH_INFO_PEER", {"attrs": peer})]}
    body = ifinfmsg()
    body["attrs"] = [
        ("IFLA_IFNAME", name.decode()),
        ("IFLA_ADDRESS", NODE_MAC),
        ("IFLA_MTU", mtu),
        *_ONE_QUEUE,
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", veth)]}),
    ]
    return encoded(body)


def set_parameters(interface: str, values: Mapping[int, int]) -> Message:
    """IPv4's, by their numbers (IPV4_DEVCONF_*)."""
    inet = nested(IFLA_INET_CONF, *sorted(values.items()))
    body = _UNNAMED_LINK + attributes((IFLA_IFNAME, interface), nested(IFLA_AF_SPEC, nested(AF_INET, inet)))
    return Message(f"set the parameters of {interface}", RTM_SETLINK, 0, body)


def set_proxy_delay(interface: str, index: int, milliseconds: int) -> Message:
    """How long the node's end waits before it answers ARP for the gateway."""
    parameters = nested(NDTA_PARMS, (NDTPA_IFINDEX, index), (NDTPA_PROXY_DELAY, struct.pack("=Q", milliseconds)))
    body = struct.pack("=B3x", AF_INET) + attributes((NDTA_NAME, "arp_cache"), parameters)
    return Message(f"set the proxy delay of {interface}", RTM_SETNEIGHTBL, 0, body)


def delete_link(interface: str) -> Message:
    return Message(f"delete {interface}", RTM_DELLINK, 0, _UNNAMED_LINK + attributes((IFLA_IFNAME, interface)), ABSENT)


def set_up(interface: str, index: int) -> Message:
    body = ifinfmsg()
    body["index"], body["flags"], body["change"] = index, IFF_UP, IFF_UP
    return Message(f"set {interface} up", RTM_NEWLINK, 0, encoded(body))


def add_address(address: str, pod_interface: str, index: int) -> Message:
    """Without duplicate address detection: nobody else is on the link, and until it was done the address would not be
    usable."""
    body = ifaddrmsg()
    body["family"], body["prefixlen"], body["index"] = family_of(address), bits_of(address), index
    body["flags"] = IFA_F_NODAD if is_ipv6(address) else 0
    body["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
    return Message(f"give {address} to {pod_interface}", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, encoded(body), ALREADY)


@lru_cache
def gateway_neighbour(gateway: str, index: int) -> Message:
    """Spares the pod ARP, and the node the default route that proxy ARP needs before it answers."""
    return _neighbour("neighbour entry of the gateway", gateway, NODE_MAC, index)


def pod_neighbour(address: str, mac: str, index: int) -> Message:
    """Spares the node neighbour discovery."""
    return _neighbour(f"neighbour entry of {address}", address, mac, index)


def _neighbour(about: str, address: str, mac: str, index: int) -> Message:
    body = ndmsg()
    body["family"], body["ifindex"], body["state"] = family_of(address), index, NUD_PERMANENT
    body["attrs"] = [("NDA_DST", address), ("NDA_LLADDR", mac)]
    return Message(about, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, encoded(body))


def pod_routes(gateway: str, index: int) -> list[Message]:
    """The gateway on the link, everything else through it."""
    return [
        _route("route to the gateway", gateway, index, RT_SCOPE_LINK, RTPROT_STATIC),
        _route("default route", "", index, RT_SCOPE_UNIVERSE, RTPROT_STATIC, gateway=gateway),
    ]


def endpoint_route(address: str, index: int) -> Message:
    """The node's route to the pod, recognisable by its protocol."""
    return _route(f"route to {address}", address, index, RT_SCOPE_LINK, ROUTE_PROTOCOL)


def endpoint_routes_of(end: NodeEnd, index: int) -> list[Message]:
    """The node's routes to all of a pod's addresses, and what else it needs to reach them."""
    neighbours = [pod_neighbour(address, end.pod_mac, index) for address in end.addresses if is_ipv6(address)]
    return [*neighbours, *(endpoint_route(address, index) for address in end.addresses)]


def _route(about: str, destination: str, index: int, scope: int, protocol: int, gateway: str = "") -> Message:
    family, length = family_of(destination or gateway), bits_of(destination) if destination else 0
    body = RTMSG.pack(family, length, 0, 0, RT_TABLE_MAIN, protocol, scope, RTN_UNICAST, 0)
    body += attributes((RTA_DST, packed(destination))) if destination else b""
    body += attributes((RTA_OIF, index), *([(RTA_GATEWAY, packed(gateway))] if gateway else []))
    return Message(about, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)
