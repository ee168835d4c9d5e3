"""A BgpView as ExaBGP's configuration.

Owns: the text of the configuration file. Must not: do I/O or depend on anything but its arguments: equal views give
equal bytes, and a peer's section depends on that peer and the node's own settings alone, so that ExaBGP, which resets
just the sessions whose section changed, resets no other. For the same reason there are no templates.

Routes are never in the file: ExaBGP does not withdraw a route that was removed from it. They go through its API
(`relay`).

Traps of ExaBGP 5.0 that the text answers:
- `adj-rib-out false`, and so `route-refresh disable` (which would turn it on again): with it ExaBGP announces on its
  own, at each new session, what the relay may have withdrawn meanwhile.
- `listen` in each section rather than `exabgp_tcp_bind`: it follows a changed address or port on reload.
- `manual-eor`: the relay sends End-of-RIB once it has announced everything; else a peer that keeps our routes over a
  restart (RFC 4724) would drop them at once.
- A reload is silently lost while updates are pending. The marker neighbor, which never connects, tells in its
  router-id which configuration is loaded.
- It ends where it cannot listen on one of the addresses when it starts, and takes every session along. So there is no
  `listen` for an address that no interface has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass

from manx_agent.bgp.files import MARKER_ADDRESS, Desired
from manx_agent.bgp.messages import FAMILIES, version_of
from manx_agent.bgp.peers import Peer, Peers, own_address
from manx_agent.model import BgpView

MAX_RESTART_TIME = 4095
"""Seconds: twelve bits (RFC 4724, section 3)."""
MIN_HOLD_TIME = 3
"""Seconds, where not zero (RFC 4271, section 4.2)."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The configuration file's text, and what goes with it for the relay."""

    text: str
    desired: Desired


def render(view: BgpView, peers: Peers, relay: tuple[str, ...], away: Container[str] = ()) -> Rendered:
    """The configuration for the view's peers. `relay` is the command, as an absolute path and its arguments, that
    ExaBGP starts as its API process; `away`: addresses of ours that no interface has, where it cannot listen."""
    process = f"process manx {{\n  run {' '.join(relay)};\n  encoder json;\n}}\n"
    sections = [_neighbor(view, peer, away) for peer in peers.by_address.values()]
    body = "\n".join([process, *sections])
    marker = _marker(body)
    announce = frozenset(cidr for cidr in view.announced if own_address(view, version_of(cidr)))
    return Rendered(f"{body}\n{_marker_section(marker)}", Desired(marker, frozenset(peers.by_address), announce))


def _neighbor(view: BgpView, peer: Peer, away: Container[str]) -> str:
    settings, own = view.settings, own_address(view, peer.version)
    hold_time = settings.hold_time if settings.hold_time == 0 else max(MIN_HOLD_TIME, settings.hold_time)
    restart_time = min(settings.restart_time, MAX_RESTART_TIME)
    listen = "" if own in away else f"  listen {settings.listen_port};\n"
    graceful = f"{restart_time}" if restart_time > 0 else "disable"
    return (
        f"neighbor {peer.address} {{\n"
        f"  local-address {own};\n"
        f"  router-id {settings.router_id or view.address};\n"
        f"  local-as {peer.local_as};\n"
        f"  peer-as {peer.peer_as};\n"
        f"  hold-time {hold_time};\n"
        f"{listen}"
        f"  connect {peer.port};\n"
        "  passive false;\n"
        "  adj-rib-in true;\n"
        "  adj-rib-out false;\n"
        "  manual-eor true;\n"
        "  capability {\n"
        "    asn4 enable;\n"
        f"    graceful-restart {graceful};\n"
        "    route-refresh disable;\n"
        "  }\n"
        f"  family {{\n    {FAMILIES[peer.version]};\n  }}\n"
        "  api {\n"
        "    processes [ manx ];\n"
        "    neighbor-changes;\n"
        "    receive {\n      parsed;\n      open;\n      update;\n    }\n"
        "  }\n"
        "}\n"
    )


def _marker(body: str) -> str:
    """A router-id that stands for the text; its first octet keeps it an ordinary unicast address."""
    digest = hashlib.sha256(body.encode()).digest()
    return f"{1 + digest[0] % 126}.{digest[1]}.{digest[2]}.{digest[3]}"


def _marker_section(marker: str) -> str:
    return (
        f"neighbor {MARKER_ADDRESS} {{\n"
        "  local-address 127.0.0.1;\n"
        f"  router-id {marker};\n"
        "  local-as 64512;\n"
        "  peer-as 64512;\n"
        "  passive true;\n"
        "  adj-rib-out false;\n"
        "  capability {\n    route-refresh disable;\n  }\n"
        "  family {\n    ipv4 unicast;\n  }\n"
        "}\n"
    )
