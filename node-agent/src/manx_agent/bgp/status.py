"""The relay's notes as the status of each peer.

Owns: session values from notes, and PeerStatus from sessions. Must not: do I/O. Times in notes are wall-clock seconds.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manx_agent.bgp.peers import Peer
from manx_agent.bgp.table import PeerSession
from manx_core.api.v1alpha1 import PeerStatus

SHOWN_REFUSALS = 3

NOTIFICATIONS = {
    (2, 2): "bad peer AS",
    (2, 3): "bad BGP identifier",
    (2, 6): "unacceptable hold time",
    (4, 0): "hold timer expired",
    (6, 1): "maximum number of prefixes reached",
    (6, 2): "administrative shutdown",
    (6, 3): "peer de-configured",
    (6, 4): "administrative reset",
    (6, 5): "connection rejected",
    (6, 7): "connection collision resolution",
}
"""RFC 4271, 4.5, and RFC 4486: error code and subcode."""

_NOTIFICATION = re.compile(r"notification (sent|received) \((\d+),(\d+)\)")


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """A session as the relay tells it."""

    state: str = "Idle"
    since: float = 0.0
    reason: str = ""
    local_as: int = 0
    session: PeerSession = field(default_factory=PeerSession)


def session_status(note: Mapping[str, Any]) -> SessionStatus:
    """From a note of type "session"; raises KeyError where it is not one."""
    session = PeerSession(note["state"] == "Established", note["end_of_rib"], note["lost"], note["restart_time"])
    return SessionStatus(note["state"], note["since"], note["reason"], note["local_as"], session)


def peer_status(peer: Peer, status: SessionStatus, prefixes: int, refused: Mapping[str, str]) -> PeerStatus:
    """For the NodeReport. The message tells what is refused, else why the session was last lost."""
    return PeerStatus(
        name=peer.name,
        address=peer.address,
        as_number=peer.peer_as,
        local_as_number=status.local_as or peer.local_as,
        state=status.state,
        source=peer.source,
        since=_timestamp(status.since),
        prefixes_received=prefixes,
        message=_refusals(refused) or _reason(status.reason),
    )


def _timestamp(seconds: float) -> str:
    if not seconds:
        return ""
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _refusals(refused: Mapping[str, str]) -> str:
    shown = [f"{prefix}: {why}" for prefix, why in sorted(refused.items())[:SHOWN_REFUSALS]]
    more = len(refused) - len(shown)
    return f"refused {'; '.join(shown)}{f'; and {more} more' if more else ''}" if shown else ""


def _reason(reason: str) -> str:
    """ExaBGP's words, in those of the RFCs where it names a NOTIFICATION."""
    found = _NOTIFICATION.search(reason)
    if not found:
        return reason
    direction, code, subcode = found[1], int(found[2]), int(found[3])
    name = NOTIFICATIONS.get((code, subcode), "")
    return f"NOTIFICATION {direction}: {name + ' ' if name else ''}({code}/{subcode})"
