"""The routing table: what the peers announced, for how long it counts, and which of it goes into the kernel.

Owns: staleness (RFC 4724's receiving side, which ExaBGP leaves to us) and best path selection (RFC 4271, 9.1.2). Must
not: do I/O or read a clock; times are seconds on any one monotonic clock.

A route counts while it is fresh, or stale and not past its deadline. Routes become stale when a session closes without
a NOTIFICATION (the peer's speaker may be restarting, or one side's configuration reset the session), when the relay is
gone, and when a new agent finds them in the kernel. A NOTIFICATION, the hold timer's among them, ends them at once.
Stale ones end by End-of-RIB, unless announced again by then, or at their deadline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from manx_agent.bgp.accept import Policy
from manx_agent.bgp.messages import Attributes, is_link_local, version_of

END_OF_RIB_SECONDS = 30.0
"""How long, at least, a peer has for its updates from the session's coming up to End-of-RIB."""

NO_PEER = ""
"""The peer of routes found in the kernel whose next hop is no peer's address."""


@dataclass(frozen=True, slots=True)
class PeerSession:
    """A session as the relay tells it. `restart_time` None: without graceful restart; -1: with, time unknown."""

    up: bool = False
    end_of_rib: bool = False
    lost: str = ""
    restart_time: int | None = None

    @property
    def settled(self) -> bool:
        """Whether what is not announced now is known not to be announced at all."""
        return (self.up and self.end_of_rib) or (not self.up and self.lost == "notified")


@dataclass(slots=True)
class Entry:
    """A route of one peer; `deadline` None while fresh."""

    attributes: Attributes
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """`routes`: prefix → next hop, for the kernel. `refused`: peer → prefix → why."""

    routes: dict[str, str]
    refused: dict[str, dict[str, str]] = field(default_factory=dict)


class Table:
    """See the module. Its methods return nothing; `select` says what follows."""

    def __init__(self) -> None:
        self._routes: dict[str, dict[str, Entry]] = {}
        self._sessions: dict[str, PeerSession] = {}

    def session(self, peer: str, new: PeerSession, now: float, restart_time: float) -> None:
        """A session is now as given. `restart_time` is how long, in seconds, we would keep any peer's routes."""
        old = self._sessions.get(peer, PeerSession())
        self._sessions[peer] = new
        if old.up and not new.up:
            self._lost(peer, new, now, restart_time)
        elif new.up and not old.up:
            self._extend(peer, now)
        if new.settled:
            self._sweep(peer)

    def update(self, peer: str, announced: Mapping[str, Attributes], withdrawn: Iterable[str]) -> None:
        """Takes what a peer announced and withdrew."""
        routes = self._routes.setdefault(peer, {})
        for prefix in withdrawn:
            routes.pop(prefix, None)
        for prefix, attributes in announced.items():
            routes[prefix] = Entry(_with_global_next_hop(attributes, peer, routes.get(prefix)))

    def suspend(self, now: float, restart_time: float) -> None:
        """Nothing is known any more (the relay is gone, or about to tell everything anew): all is stale."""
        self._sessions.clear()
        for routes in self._routes.values():
            _stale(routes, now + restart_time)

    def adopt(self, found: Mapping[str, str], peers: Iterable[str], deadline: float) -> None:
        """Takes routes that a former agent left in the kernel, prefix → gateway, as stale ones of the peer that has
        this address, where the table has none of that prefix."""
        known = {prefix for routes in self._routes.values() for prefix in routes}
        addresses = set(peers)
        for prefix, gateway in found.items():
            if prefix not in known:
                owner = gateway if gateway in addresses else NO_PEER
                attributes: Attributes = (gateway, 100, 2, 0, ())
                self._routes.setdefault(owner, {})[prefix] = Entry(attributes, deadline)

    def settle(self, peers: Iterable[str]) -> None:
        """Sweeps what a snapshot did not confirm: of each settled peer, and of no peer once all of them are settled."""
        wanted = list(peers)
        settled = [peer for peer in wanted if self._sessions.get(peer, PeerSession()).settled]
        for peer in settled:
            self._sweep(peer)
        if len(settled) == len(wanted):
            self._routes.pop(NO_PEER, None)

    def retain(self, peers: Iterable[str]) -> None:
        """Forgets stale routes of peers that are not wanted any more. Fresh ones stay while the session is up: where a
        peer is wanted again before ExaBGP has dropped it, nobody announces them anew."""
        wanted = {*peers, NO_PEER}
        for peer in [peer for peer in self._routes if peer not in wanted]:
            self._sweep(peer)

    def expire(self, now: float) -> None:
        """Drops stale routes whose time is over."""
        for routes in self._routes.values():
            for prefix in [p for p, entry in routes.items() if entry.deadline is not None and entry.deadline <= now]:
                del routes[prefix]

    def next_deadline(self) -> float | None:
        """When `expire` will have something to do."""
        deadlines = [e.deadline for routes in self._routes.values() for e in routes.values() if e.deadline is not None]
        return min(deadlines, default=None)

    def count(self, peer: str) -> int:
        """How many prefixes of a peer's count, stale ones included."""
        return len(self._routes.get(peer, ()))

    def select(self, policy: Policy) -> Selection:
        """The best accepted route of each prefix."""
        best: dict[str, tuple[tuple[object, ...], str]] = {}
        refused: dict[str, dict[str, str]] = {}
        for peer in sorted(self._routes):
            for prefix, entry in self._routes[peer].items():
                why = policy.refusal(peer, prefix, entry.attributes)
                if why:
                    refused.setdefault(peer, {})[prefix] = why
                    continue
                rank = (peer == NO_PEER, *policy.rank(peer, entry.attributes))
                if prefix not in best or rank < best[prefix][0]:
                    best[prefix] = rank, entry.attributes[0]
        return Selection({prefix: best[prefix][1] for prefix in sorted(best)}, refused)

    def _lost(self, peer: str, session: PeerSession, now: float, restart_time: float) -> None:
        kept = _kept_for(session, restart_time)
        if kept <= 0:
            self._routes.pop(peer, None)
        else:
            _stale(self._routes.get(peer, {}), now + kept)

    def _extend(self, peer: str, now: float) -> None:
        for entry in self._routes.get(peer, {}).values():
            if entry.deadline is not None:
                entry.deadline = max(entry.deadline, now + END_OF_RIB_SECONDS)

    def _sweep(self, peer: str) -> None:
        routes = self._routes.get(peer, {})
        for prefix in [prefix for prefix, entry in routes.items() if entry.deadline is not None]:
            del routes[prefix]


def _with_global_next_hop(attributes: Attributes, peer: str, known: Entry | None) -> Attributes:
    """A route with two next hops (RFC 2545, 3) is a route twice to ExaBGP, and it remembers the last, the link-local
    one: that is all a relay that took over can tell. It is the same router's, mostly the peer's."""
    next_hop, preference, origin, med, path = attributes
    if not is_link_local(next_hop) or version_of(peer) != 6:
        return attributes
    return (known.attributes[0] if known is not None else peer), preference, origin, med, path


def _kept_for(session: PeerSession, own: float) -> float:
    """Seconds for which a lost session's routes stay: the peer's restart time (RFC 4724, 4.2), at most our own."""
    if session.lost == "notified" or session.restart_time is None:
        return 0.0
    return own if session.restart_time < 0 else min(own, float(session.restart_time))


def _stale(routes: dict[str, Entry], deadline: float) -> None:
    """Marks what is fresh; what is stale already keeps its deadline."""
    for entry in routes.values():
        if entry.deadline is None:
            entry.deadline = deadline
