"""The relay's memory: what ExaBGP's sessions are, received and were told; what to tell ExaBGP and the agent next.

Owns: those decisions, without I/O: lines go in, commands (to ExaBGP) and notes (to the agent) come out. Must not: judge
routes, which is the agent's (`table`), or import anything beyond the standard library and its small siblings.

Announcements go to established sessions alone, and again, whole, to each that comes up: ExaBGP gives a new peer none
of what was announced before, and while an update waits for a peer that is away it loses every reload.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from manx_agent.bgp import messages
from manx_agent.bgp.files import MARKER_ADDRESS, Desired
from manx_agent.bgp.messages import Attributes, Event, SessionId

SETTLED_SECONDS = 5
"""A session that a new relay finds up for this long is taken to have sent its End-of-RIB."""

PREFIXES_PER_NOTE = 500

RELOADS_UNTIL_TROUBLE = 6
NOT_LOADED = "ExaBGP does not load the configuration it was given; its log says why"

Note = dict[str, Any]
"""A line to the agent, before JSON."""


@dataclass(slots=True)
class Session:
    """What is known of a peer. `lost` says how an established session ended last: "" (it has not), "closed" (the
    peer may be restarting: RFC 4724 keeps its routes), or "notified" (a NOTIFICATION, such as the hold timer's)."""

    peer: str
    local_as: int
    peer_as: int
    state: str = "Connect"
    since: float = 0.0
    reason: str = ""
    lost: str = ""
    restart_time: int | None = None
    """The peer's, in seconds; None: it does not do graceful restart; -1: it does, the time is not known."""
    end_of_rib: bool = False

    @property
    def id(self) -> SessionId:
        """As commands name it."""
        return SessionId(self.peer, self.local_as, self.peer_as)

    @property
    def up(self) -> bool:
        """Whether it is established."""
        return self.state == "Established"

    def note(self) -> Note:
        """For the agent."""
        return {"type": "session", **asdict(self)}


class SpeakerState:
    """See the module. `take_notes` and `take_commands` empty what has gathered."""

    def __init__(self, leftover: frozenset[str] = frozenset()) -> None:
        """`leftover`: prefixes that a former relay of the same ExaBGP may have announced."""
        self.sessions: dict[str, Session] = {}
        self.received: dict[str, dict[str, Attributes]] = {}
        self.desired = Desired()
        self.loaded_marker = ""
        """Of the configuration that ExaBGP has loaded; empty while not known."""
        self.reloads = 0
        """How often ExaBGP was told to load the configuration that is wanted, without success so far."""
        self._answers_awaited = 0
        self.learning = True
        self.abandoned = False
        """ExaBGP runs without any neighbor, not even the marker: it stops them all, for good, when it wrote to its API
        process in the moment that process was killed. Only its own restart helps."""
        self._leftover = leftover
        self._announced: dict[str, set[str]] = {}
        self._greeted: set[str] = set()
        self._touched: set[tuple[str, str]] = set()
        self._commands: list[str] = [messages.SHOW_NEIGHBORS, messages.SHOW_RECEIVED, messages.SHOW_FENCE]
        self._notes: list[Note] = []

    def take_commands(self) -> list[str]:
        """Lines for ExaBGP."""
        commands, self._commands = self._commands, []
        return commands

    def take_notes(self) -> list[Note]:
        """Lines for the agent, none while learning what an older relay knew."""
        notes, self._notes = self._notes, []
        return notes

    def snapshot(self) -> Iterator[Note]:
        """Everything the agent has to know, for a new connection. Routes come before their session, whose End-of-RIB
        ends what was not announced."""
        yield {"type": "begin"}
        for peer, routes in self.received.items():
            yield from _chunks(peer, routes)
        for session in self.sessions.values():
            yield session.note()
        yield {"type": "trouble", "text": NOT_LOADED if self.reloads >= RELOADS_UNTIL_TROUBLE else ""}
        yield {"type": "end"}

    def everything_announced(self) -> frozenset[str]:
        """What some peer may hold of us, for `SharedPaths.announced`."""
        return frozenset().union(
            self._leftover if self.learning else (), self.desired.announce, *self._announced.values()
        )

    def want(self, desired: Desired) -> None:
        """Takes the desired state, telling the sessions what differs. A session that is to go is told first that our
        routes are gone: ExaBGP closes it without a word, and the peer would keep them as those of a restarting one."""
        self.desired = desired
        if self.learning:
            return
        self._tell([session for session in self.sessions.values() if session.up])

    @property
    def reload_due(self) -> bool:
        """Whether ExaBGP has to be told to load another configuration."""
        due = bool(self.desired.marker) and self.loaded_marker != self.desired.marker
        return due and not self.learning and not self._answers_awaited

    def reload(self) -> None:
        """Tells ExaBGP to load the configuration. It does so once it is through with what it reads in one turn, and not
        at all if updates are pending; so the first answer may still be about the former configuration, and only the
        one to a question asked after that tells whether it worked."""
        self.loaded_marker = ""
        self.reloads += 1
        if self.reloads == RELOADS_UNTIL_TROUBLE:
            self._note({"type": "trouble", "text": NOT_LOADED})
        self._answers_awaited = 2
        self._commands += [messages.RELOAD, messages.SHOW_NEIGHBORS]

    def inquire(self) -> None:
        """Asks ExaBGP for its neighbors, which is how an outside change is noticed."""
        self._commands.append(messages.SHOW_NEIGHBORS)

    def handle(self, event: Event, now: float) -> None:
        """Takes one event; `now` is wall-clock time in seconds."""
        match event:
            case messages.StateChanged():
                self._state_changed(event, now)
            case messages.OpenReceived(session=session, restart_time=restart_time):
                self._session(session, now).restart_time = restart_time
            case messages.RoutesReceived(session=session):
                self._update(session.peer, event.announce, event.withdraw)
            case messages.EndOfRib(session=session):
                self._end_of_rib(session.peer)
            case messages.Neighbors(entries=entries):
                self._neighbors(entries, now)
            case messages.RibEntry():
                self._relearn(event)
            case messages.Fence():
                self._learned()

    def _session(self, wanted: SessionId, now: float) -> Session:
        """The peer's session, renewed where its AS numbers have changed."""
        session = self.sessions.get(wanted.peer)
        if session is None:
            session = Session(wanted.peer, wanted.local_as, wanted.peer_as, since=now)
            self.sessions[wanted.peer] = session
        elif session.id != wanted and not session.up:
            session.local_as, session.peer_as = wanted.local_as, wanted.peer_as
        return session

    def _state_changed(self, event: messages.StateChanged, now: float) -> None:
        session = self._session(event.session, now)
        if session.id != event.session and event.state != "up":
            return  # the end of a former definition of this peer; the session of the new one is up already
        if event.state == "up":
            self._up(session, event.session, now)
        elif event.state == "down":
            self._down(session, event.reason, now)
        elif not session.up:
            session.state = "OpenSent"
            session.since = now
        self._note(session.note())

    def _up(self, session: Session, identity: SessionId, now: float) -> None:
        session.local_as, session.peer_as = identity.local_as, identity.peer_as
        session.state, session.since, session.end_of_rib = "Established", now, False
        self.received[session.peer] = {}
        self._announced[session.peer] = set()
        self._greeted.discard(session.peer)
        if not self.learning:
            self._tell([session])

    def _down(self, session: Session, reason: str, now: float) -> None:
        notified = reason.startswith("notification ")
        if session.up:
            session.lost = "notified" if notified else "closed"
            self.received.pop(session.peer, None)
            self._announced.pop(session.peer, None)
        if session.up or notified:
            session.reason = reason
        session.state, session.since, session.end_of_rib = "Connect", now, False

    def _update(self, peer: str, announced: dict[str, Attributes], withdrawn: tuple[str, ...]) -> None:
        table = self.received.setdefault(peer, {})
        for prefix in withdrawn:
            table.pop(prefix, None)
        table.update(announced)
        if self.learning:
            self._touched.update((peer, prefix) for prefix in (*withdrawn, *announced))
        else:
            self._notes.extend(_chunks(peer, announced, withdrawn))

    def _end_of_rib(self, peer: str) -> None:
        session = self.sessions.get(peer)
        if session is not None and session.up:
            session.end_of_rib = True
            self._note(session.note())

    def _note(self, note: Note) -> None:
        if not self.learning:
            self._notes.append(note)

    def _wanted(self, session: Session) -> frozenset[str]:
        """What it is to carry: prefixes of its own family; nothing where the session itself is to go."""
        wanted = self.desired.announce if session.peer in self.desired.peers else frozenset[str]()
        return _of_version(wanted, session.id.version)

    def _tell(self, sessions: list[Session]) -> None:
        """Tells established sessions what is wanted, all that are told the same in one breath, and, the first time,
        that this was all."""
        changes: dict[tuple[frozenset[str], frozenset[str]], list[SessionId]] = {}
        for session in sessions:
            told, wanted = self._announced.setdefault(session.peer, set()), self._wanted(session)
            changes.setdefault((frozenset(told - wanted), wanted - told), []).append(session.id)
            self._announced[session.peer] = set(wanted)
        for (withdrawn, announced), ids in changes.items():
            self._commands.extend(messages.withdraw(ids, withdrawn))
            self._commands.extend(messages.announce(ids, announced))
        for session in sessions:
            if session.peer in self.desired.peers and session.peer not in self._greeted:
                self._greeted.add(session.peer)
                self._commands.append(messages.end_of_rib(session.id))

    # What a relay that replaces a killed one has to find out.

    def _neighbors(self, entries: tuple[messages.NeighborState, ...], now: float) -> None:
        self._answers_awaited = max(0, self._answers_awaited - 1)
        if self._answers_awaited:
            self.inquire()
            return
        markers = [entry.router_id for entry in entries if entry.session.peer == MARKER_ADDRESS]
        self.loaded_marker = markers[-1] if markers else ""
        self.abandoned = not entries
        if self.loaded_marker == self.desired.marker:
            self._loaded()
        self._forget({entry.session.peer for entry in entries})
        if not self.learning:
            return
        for entry in entries:
            if entry.established:
                self._found(entry, now)

    def _loaded(self) -> None:
        if self.reloads >= RELOADS_UNTIL_TROUBLE:
            self._note({"type": "trouble", "text": ""})
        self.reloads = 0

    def _forget(self, configured: set[str]) -> None:
        for peer in [peer for peer in self.sessions if peer not in configured and not self.sessions[peer].up]:
            del self.sessions[peer]
            self._note({"type": "gone", "peer": peer})

    def _found(self, entry: messages.NeighborState, now: float) -> None:
        session = self._session(entry.session, now)
        if session.up:
            return  # it came up before our eyes
        session.state, session.since = "Established", now - entry.seconds
        session.restart_time = -1 if entry.graceful else None
        session.end_of_rib = entry.seconds >= SETTLED_SECONDS
        self._announced[session.peer] = set(_of_version(self._leftover, session.id.version))
        self.received.setdefault(session.peer, {})

    def _relearn(self, entry: messages.RibEntry) -> None:
        session = self.sessions.get(entry.session.peer)
        if session is not None and session.up and (session.peer, entry.prefix) not in self._touched:
            self.received.setdefault(session.peer, {})[entry.prefix] = entry.attributes

    def _learned(self) -> None:
        """The fence is reached: from here on events alone tell what changes."""
        if not self.learning:
            return
        self.learning = False
        self._touched.clear()
        for session in self.sessions.values():
            if session.up:
                self._take_over(session)
        self._notes = list(self.snapshot())

    def _take_over(self, session: Session) -> None:
        """What a former relay may have announced is not known to be: the wanted is announced again in any case."""
        unwanted = self._announced.get(session.peer, set()) - self._wanted(session)
        self._commands.extend(messages.withdraw([session.id], unwanted))
        self._announced[session.peer] = set()
        self._tell([session])


def _of_version(prefixes: frozenset[str], version: int) -> frozenset[str]:
    return frozenset(prefix for prefix in prefixes if messages.version_of(prefix) == version)


def _chunks(peer: str, announced: dict[str, Attributes], withdrawn: tuple[str, ...] = ()) -> Iterator[Note]:
    if withdrawn:
        yield {"type": "routes", "peer": peer, "announce": {}, "withdraw": withdrawn}
    prefixes = list(announced)
    for start in range(0, len(prefixes), PREFIXES_PER_NOTE):
        part = {prefix: announced[prefix] for prefix in prefixes[start : start + PREFIXES_PER_NOTE]}
        yield {"type": "routes", "peer": peer, "announce": part, "withdraw": ()}
