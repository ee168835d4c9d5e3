"""BGP's routes as netlink messages: pure.

Owns: which route messages are ours, what a write says, what the answer to a look-up means. Must not: do I/O, or decide
what is wanted.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from manx_agent.drivers import netlink_codec as codec
from manx_agent.drivers.netlink_codec import attributes, family_of, packed, parsed, spelt
from manx_agent.drivers.netlink_wire import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Message
from manx_core.api.v1alpha1 import ROUTE_PROTOCOL

METRICS = {4: 77, 6: 1077}
"""By IP version."""
MAIN_TABLE = 254
RTN_UNICAST, RTN_LOCAL, RTN_BLACKHOLE = 1, 2, 6
RT_SCOPE_UNIVERSE, RT_SCOPE_NOWHERE = 0, 255
"""The latter in a deletion: of whatever scope."""
ANYWHERE = {4: "0.0.0.0", 6: "::"}
LINK_LOCAL = ("fe8", "fe9", "fea", "feb")
"""How addresses of fe80::/10 begin; no IPv4 address does."""
BLACKHOLE = "blackhole"
"""In place of a gateway."""

_FLAGS = {"add": NLM_F_CREATE | NLM_F_EXCL, "replace": NLM_F_CREATE | NLM_F_REPLACE, "del": 0}


@dataclass(frozen=True, slots=True)
class Change:
    """One write. `gateway` is an address or BLACKHOLE; `verb` is "add", "replace" or "del". A link-local gateway has
    its interface's index behind it ("fe80::1%2")."""

    verb: str
    prefix: str
    gateway: str

    def batch_line(self) -> str:
        """For `ip -batch`."""
        own = f"proto {ROUTE_PROTOCOL} metric {METRICS[version_of(self.prefix)]}"
        if self.gateway == BLACKHOLE:
            return f"route {self.verb} blackhole {self.prefix} {own}"
        gateway, _, index = self.gateway.partition("%")
        device = f" dev if{index}" if index else ""
        return f"route {self.verb} {self.prefix} via {gateway}{device} {own}"

    def message(self) -> Message:
        """For netlink."""
        address, _, length = self.prefix.partition("/")
        kind = RTN_BLACKHOLE if self.gateway == BLACKHOLE else RTN_UNICAST
        scope = RT_SCOPE_NOWHERE if self.verb == "del" else RT_SCOPE_UNIVERSE
        body = codec.RTMSG.pack(
            family_of(address), int(length), 0, 0, MAIN_TABLE, ROUTE_PROTOCOL, scope, kind, 0
        ) + attributes((codec.RTA_DST, packed(address)), (codec.RTA_PRIORITY, METRICS[version_of(address)]))
        if kind == RTN_UNICAST:
            gateway, _, index = self.gateway.partition("%")
            body += attributes((codec.RTA_GATEWAY, packed(gateway)))
            body += attributes((codec.RTA_OIF, int(index))) if index else b""
        number = codec.RTM_DELROUTE if self.verb == "del" else codec.RTM_NEWROUTE
        return Message(f"{self.verb} route {self.prefix} via {self.gateway}", number, _FLAGS[self.verb], body)

    def refusal(self, code: int) -> str:
        """Why it could not be done."""
        reason = "another's route has its metric" if code == errno.EEXIST else os.strerror(code)
        return f"cannot {self.verb} route {self.prefix} via {self.gateway}: {reason}"


def dump_of(family: int) -> bytes:
    """The body of a RTM_GETROUTE for a family's routes of our protocol."""
    return codec.RTMSG.pack(family, 0, 0, 0, 0, ROUTE_PROTOCOL, 0, 0, 0)


def own_route(body: bytes) -> tuple[str, str] | None:
    """(prefix, gateway) of a route message that is ours."""
    family, length, _, _, table, protocol, _, kind, _ = codec.RTMSG.unpack_from(body)
    found, version = parsed(body, codec.RTMSG.size), 6 if family == codec.AF_INET6 else 4
    table = codec.number(found.get(codec.RTA_TABLE, b"")) or table
    metric = codec.number(found.get(codec.RTA_PRIORITY, b""))
    if table != MAIN_TABLE or protocol != ROUTE_PROTOCOL or metric != METRICS[version]:
        return None
    prefix = f"{spelt(found.get(codec.RTA_DST, b'')) or ANYWHERE[version]}/{length}"
    if kind == RTN_BLACKHOLE:
        return prefix, BLACKHOLE
    gateway = _gateway(found)
    return (prefix, gateway) if gateway and kind == RTN_UNICAST else None


def gateway_towards(next_hop: str, answer: bytes) -> str:
    """The gateway that leads to a next hop, by the route to it: the next hop itself where it is on a link of ours (RFC
    4271, 5.1.3). Raises ValueError, with the reason, where it cannot be used."""
    _, _, _, _, _, protocol, _, kind, _ = codec.RTMSG.unpack_from(answer)
    if kind == RTN_LOCAL:
        raise ValueError(f"next hop {next_hop} is an address of this node")
    if protocol == ROUTE_PROTOCOL or kind != RTN_UNICAST:
        raise ValueError(f"next hop {next_hop} can only be reached through a route that BGP learned")
    return _gateway(parsed(answer, codec.RTMSG.size)) or next_hop


def _gateway(found: dict[int, bytes]) -> str:
    """A route message's next hop, with its interface where it is link-local; "" where it leads to a device."""
    gateway = spelt(found.get(codec.RTA_GATEWAY, b""))
    return f"{gateway}%{codec.number(found.get(codec.RTA_OIF, b''))}" if gateway.startswith(LINK_LOCAL) else gateway


def version_of(prefix: str) -> int:
    return 6 if ":" in prefix else 4
