"""What ExaBGP says to its API process, as values, and what it is told, as lines.

Owns: ExaBGP 5.0's JSON and text forms. Must not: do I/O, keep state, or import anything beyond the standard library
(the relay, which has to stay small, imports it). A line that is not understood is no event: ExaBGP sends many kinds.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

FAMILIES = {4: "ipv4 unicast", 6: "ipv6 unicast"}
"""How ExaBGP names what a session of each IP version carries: each its own family, and no other."""
NLRI_PER_LINE = 200
"""Twice as fast as one a line (10,000 prefixes: 3.6 s instead of 7.5 s)."""
SESSIONS_PER_LINE = 200
"""Not one a line: ExaBGP compares each line with all of its neighbors. Not all in one: a line may have a megabyte."""
ORIGINS = {"igp": 0, "egp": 1, "incomplete": 2}

Attributes = tuple[str, int, int, int, tuple[int, ...]]
"""Next hop, LOCAL_PREF, ORIGIN's code, MULTI_EXIT_DISC, AS_PATH flattened (RFC 4271, 5.1)."""


@dataclass(frozen=True, slots=True)
class SessionId:
    """Which of ExaBGP's neighbors: while AS numbers change, an address can have two for a moment."""

    peer: str
    local_as: int
    peer_as: int

    @property
    def version(self) -> int:
        """4 or 6: of the addresses between which it is, and of the prefixes that it carries."""
        return version_of(self.peer)

    @property
    def selector(self) -> str:
        """How commands name it."""
        return f"neighbor {self.peer} local-as {self.local_as} peer-as {self.peer_as}"


@dataclass(frozen=True, slots=True)
class StateChanged:
    """`state` is "connected", "up" or "down"; a session can go down without ever having been up."""

    session: SessionId
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OpenReceived:
    """The peer's OPEN. `restart_time` in seconds, None where graceful restart (RFC 4724) is not in it."""

    session: SessionId
    restart_time: int | None


@dataclass(frozen=True, slots=True)
class RoutesReceived:
    """An UPDATE."""

    session: SessionId
    announce: dict[str, Attributes]
    withdraw: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndOfRib:
    """The peer has sent everything it had (RFC 4724, section 2)."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class NeighborState:
    """One entry of `show neighbor json`."""

    session: SessionId
    router_id: str
    established: bool
    seconds: int
    graceful: bool


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The answer to `show neighbor json`."""

    entries: tuple[NeighborState, ...]


@dataclass(frozen=True, slots=True)
class RibEntry:
    """One line of `show adj-rib in extensive`."""

    session: SessionId
    prefix: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Fence:
    """The answer to `show neighbor summary` began: all that was asked before is answered."""


Event = StateChanged | OpenReceived | RoutesReceived | EndOfRib | Neighbors | RibEntry | Fence

SHOW_NEIGHBORS = "show neighbor json"
SHOW_RECEIVED = "show adj-rib in extensive"
SHOW_FENCE = "show neighbor summary"
RELOAD = "reload"


def parse(line: str) -> Event | None:
    """What one line says; None for lines of no interest ("done") and for those that cannot be read."""
    try:
        if line.startswith("{"):
            return _parse_message(json.loads(line))
        if line.startswith("["):
            return Neighbors(tuple(_neighbor_state(entry) for entry in json.loads(line)))
        if line.startswith("neighbor "):
            return _rib_entry(line.split())
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    return Fence() if line.startswith("Peer ") else None


def _parse_message(message: dict[str, Any]) -> Event | None:
    kind = message["type"]
    if kind not in ("state", "open", "update"):
        return None
    neighbor = message["neighbor"]
    asn = neighbor["asn"]
    session = SessionId(neighbor["address"]["peer"], int(asn["local"]), int(asn["peer"]))
    if kind == "state":
        return StateChanged(session, neighbor["state"], neighbor.get("reason", ""))
    if kind == "open":
        return OpenReceived(session, _restart_time(neighbor["open"]["capabilities"]))
    return _parse_update(session, neighbor["message"])


def _restart_time(capabilities: dict[str, Any]) -> int | None:
    graceful = capabilities.get("64")
    return None if graceful is None else int(graceful["time"])


def _parse_update(session: SessionId, message: dict[str, Any]) -> Event | None:
    if "eor" in message:
        return EndOfRib(session)
    update, family = message["update"], FAMILIES[session.version]
    by_next_hop: dict[str, Any] = update.get("announce", {}).get(family, {})
    announced: dict[str, Attributes] = {}
    for next_hop in sorted(by_next_hop, key=is_link_local, reverse=True):  # a global one replaces it (RFC 2545, 3)
        attributes = _attributes(next_hop, update.get("attribute", {}))
        announced.update((entry["nlri"], attributes) for entry in by_next_hop[next_hop])
    withdrawn = tuple(entry["nlri"] for entry in update.get("withdraw", {}).get(family, ()))
    return RoutesReceived(session, announced, withdrawn) if announced or withdrawn else None


def version_of(address: str) -> int:
    """The IP version of an address or prefix: 4 or 6."""
    return 6 if ":" in address else 4


def is_link_local(address: str) -> bool:
    """Whether it is an IPv6 address of fe80::/10, as RFC 5952 writes it."""
    return address[:3] in ("fe8", "fe9", "fea", "feb") and ":" in address


def _attributes(next_hop: str, given: dict[str, Any]) -> Attributes:
    segments = given.get("as-path", {})
    path = tuple(int(number) for segment in segments.values() for number in segment["value"])
    origin = ORIGINS.get(given.get("origin", ""), 2)
    return next_hop, int(given.get("local-preference", 100)), origin, int(given.get("med", 0)), path


def _neighbor_state(entry: dict[str, Any]) -> NeighborState:
    local, peer = entry["local"], entry["peer"]
    return NeighborState(
        session=SessionId(peer["address"], int(local["as"]), int(peer["as"])),
        router_id=local["id"],
        established=entry["fsm"] == "ESTABLISHED",
        seconds=int(entry["duration"]),
        graceful=bool(peer["capabilities"].get("graceful-restart")),
    )


def _rib_entry(words: list[str]) -> RibEntry:
    """neighbor A local-ip B local-as C peer-as D router-id E family-allowed F ipv4 unicast PREFIX next-hop G …"""
    session = SessionId(words[1], int(words[5]), int(words[7]))
    if words[12:14] != FAMILIES[session.version].split():
        raise ValueError("another family")
    rest = words[15:]
    path = _as_path(rest)
    attributes = (
        rest[rest.index("next-hop") + 1],
        int(_word_after(rest, "local-preference", "100")),
        ORIGINS.get(_word_after(rest, "origin", ""), 2),
        int(_word_after(rest, "med", "0")),
        tuple(int(word) for word in path if word.isdigit()),
    )
    return RibEntry(session, words[14], attributes)


def _word_after(words: list[str], key: str, default: str) -> str:
    return words[words.index(key) + 1] if key in words else default


def _as_path(words: list[str]) -> Iterator[str]:
    """Sequences are in round brackets, sets in square ones, confederations' in braces as well."""
    start = words.index("as-path") + 1 if "as-path" in words else len(words)
    return itertools.takewhile(lambda word: word.isdigit() or set(word) <= set("()[]{}"), words[start:])


def announce(sessions: Sequence[SessionId], prefixes: Iterable[str]) -> Iterator[str]:
    """Commands that announce prefixes to some sessions, with ourselves as next hop."""
    return _routes("announce", sessions, prefixes)


def withdraw(sessions: Sequence[SessionId], prefixes: Iterable[str]) -> Iterator[str]:
    """Commands that withdraw prefixes from some sessions."""
    return _routes("withdraw", sessions, prefixes)


def end_of_rib(session: SessionId) -> str:
    """The command that sends End-of-RIB to one session."""
    return f"{session.selector} announce eor {FAMILIES[session.version]}"


def _routes(verb: str, sessions: Sequence[SessionId], prefixes: Iterable[str]) -> Iterator[str]:
    ordered = sorted(prefixes)
    for first in range(0, len(sessions), SESSIONS_PER_LINE):
        to = " , ".join(session.selector for session in sessions[first : first + SESSIONS_PER_LINE])
        for start in range(0, len(ordered), NLRI_PER_LINE):
            yield f"{to} {verb} attributes next-hop self nlri {' '.join(ordered[start : start + NLRI_PER_LINE])}"
