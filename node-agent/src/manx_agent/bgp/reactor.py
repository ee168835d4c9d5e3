"""ExaBGP with a main loop that sleeps while nothing happens.

ExaBGP 5.0 wakes every `reactor.speed`/100 seconds and gives every peer a turn each time: it reads (and finds nothing),
looks at both timers, looks for routes to send. With 200 idle sessions that is all it ever does: 20 % of a core at its
own speed, 5 % at a fifth of that. Here a peer gets a turn when its socket has something, when one of its timers is
due, or when it has something to send; and a session that is not up, when an attempt to connect is due or at work, which
is not at once after one that failed. Nor are the neighbors that a command names looked for by regular expressions, each
by each. And the relay is no process of its own (`inside`).

Owns: which peers get a turn, when the relay does, and how long to wait. Must not: change what a session does, or hold a
line of ExaBGP's own code. `server` runs this; with an ExaBGP of a version that it was not made for, ExaBGP's own.
"""

from __future__ import annotations

import random
import select
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

from exabgp.application import server
from exabgp.bgp.fsm import FSM
from exabgp.reactor import listener, loop, peer, protocol
from exabgp.reactor.api import processes
from exabgp.reactor.api.command import announce, rib
from exabgp.reactor.network.error import NotConnected

from manx_agent.bgp import inside
from manx_agent.bgp.matching import match_neighbors
from manx_agent.bgp.relay import swallow

SOON = 0.001
"""Seconds to wait where something is to be sent."""
LONGEST = 5.0
"""Seconds to wait at most: timers run on the wall clock, which may be set."""
NEVER = float("inf")

JITTER = 0.5
"""Seconds, at most, by which a new attempt to connect is put off."""
RETRY = 10
"""Seconds, at most, to which the pause after an attempt that came to no connection grows."""

_KA, _Delay, _Peer, _Reactor, _ASYNC = peer.KA, peer.Delay, peer.Peer, loop.Reactor, loop.ASYNC
_Outgoing = protocol.Outgoing


class NotedKeepalive(_KA):  # type: ignore[misc,valid-type]
    """Tells the peer about the timer by which it sends keepalives."""

    def __init__(self, session: Any, proto: Any) -> None:
        super().__init__(session, proto)
        proto.peer.send_timer = self.send_timer


class UnevenDelay(_Delay):  # type: ignore[misc,valid-type]
    """The time to the next attempt, with jitter (RFC 4271, 10). Two neighbors that connect to each other at once each
    give up their own connection for the other's, and so have none; without jitter both try again in the same
    millisecond."""

    _next: int
    """Seconds of the next pause."""

    def increase(self) -> None:
        """After a failed attempt."""
        super().increase()
        self._time += random.uniform(0, JITTER)

    def shorten(self) -> None:
        """As it is after an attempt that came to no connection."""
        self._next = min(self._next, RETRY)


class OneAttempt(_Outgoing):  # type: ignore[misc,valid-type]
    """A connection that is tried once: then the peer's attempt has failed, and the next one waits. ExaBGP's own begins
    anew in each of its peer's turns: 200 neighbors that refuse, or that no route leads to, took 10 % of a core."""

    _tried = False

    def _connect(self) -> None:
        """Raises NotConnected."""
        issue = "it came to nothing" if self._tried else super()._connect()
        self._tried = True
        if issue is not None:
            self.close()
            raise NotConnected(str(issue))


class RestingPeer(_Peer):  # type: ignore[misc,valid-type]
    """A peer that knows when its next turn is due."""

    send_timer: Any = None
    resting = False
    """Whether its last turn left nothing to do. Only after such a turn its socket is waited for."""

    def run(self) -> Any:
        """A turn."""
        action = super().run()
        if action == peer.ACTION.NOW and self.fsm == FSM.OPENCONFIRM:
            action = peer.ACTION.LATER  # it waits for the other's KEEPALIVE, and would ask for it without a pause
        self.resting = bool(action == peer.ACTION.LATER and self.established())
        if not self.resting:
            self.reactor.look_again()
        return action

    def rests(self) -> bool:
        """Whether it is up and needs no turn before its socket, a timer or something to send gives it one."""
        return bool(self.resting and self.established() and self._teardown is None and self._neighbor is None)

    def waits(self) -> bool:
        """Whether its next attempt to connect is put off."""
        return bool(self.generator is None and self._teardown is None and self._delay.backoff())

    def due(self, now: float, tick: float) -> float:
        """When, in wall-clock seconds: 0 for at once. `tick`: how soon where only a turn tells."""
        if not self.rests():
            return min(self._delay._time, now + LONGEST) if self.waits() else now + tick
        neighbor = self.neighbor
        if neighbor.rib.outgoing.pending() or neighbor.eor or neighbor.messages:
            return 0.0
        return self._timers(now)

    def _reset(self, message: str = "", error: object = "") -> None:
        super()._reset(message, error)
        if isinstance(error, NotConnected):
            self._delay.shorten()

    def _timers(self, now: float) -> float:
        sends, reads = self.send_timer, self.recv_timer
        if sends is None or reads is None:
            return now + 1.0
        next_sent = sends.last_sent + sends.keepalive if sends.keepalive else NEVER
        expires = reads.last_read + reads.holdtime + 1 if reads.holdtime else NEVER
        return min(next_sent, expires)


class Poller:
    """What ExaBGP uses of select.poll, on epoll: a closed socket leaves by itself instead of being ready for ever."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def register(self, fd: int, _events: int = 0) -> None:
        """May be called again."""
        try:
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLPRI)
        except FileExistsError:
            return

    def unregister(self, fd: int) -> None:
        """Where it is closed already, it has left."""
        try:
            self._epoll.unregister(fd)
        except (OSError, ValueError):
            return

    def poll(self, seconds: float) -> set[int]:
        """What is ready."""
        return {fd for fd, _ in self._epoll.poll(seconds)}


class Commands(_ASYNC):  # type: ignore[misc,valid-type]
    """Commands at work, some steps of each in a turn."""

    def run(self) -> bool:
        """Whether something is left to do. ExaBGP's own makes an event loop for it, though nothing in it waits."""
        if self.ready():
            return False
        try:
            self._run_async().send(None)
        except StopIteration as ended:
            return bool(ended.value)
        raise RuntimeError("a command of ExaBGP waits for an event loop")


class RestingReactor(_Reactor):  # type: ignore[misc,valid-type]
    """ExaBGP's loop asks this for the peers that get a turn (`active_peers`), and to wait (`_wait_for_io`)."""

    def __init__(self, configuration: Any) -> None:
        super().__init__(configuration)
        self._poller = Poller()
        self._ready: set[int] = set()
        self._key_of: dict[int, str] = {}
        """By socket, of the peers that rest."""
        self._awake: set[str] = set()
        """Peers that are due now, or that only trying tells about."""
        self._next = 0.0
        """When the first of those that rest is due, or a later one: reading may have put it off meanwhile."""
        self._stale = True
        """Whether the three above are to be found anew."""
        self._busy = False
        """Whether commands were at work in the last turn: what they leave to be sent is seen after it."""
        self._signals = _signal_socket()

    def look_again(self) -> None:
        """A peer's state has changed, or may have."""
        self._stale = True

    def active_peers(self) -> set[str]:
        """Those that get a turn now."""
        if self._ready - self._key_of.keys():
            self._stale = True
        if self._stale:
            self._survey()
        heard = {self._key_of[fd] for fd in self._ready if fd in self._key_of}
        return {key for key in heard | self._awake if key in self._peers}

    def _pending_adjribout(self) -> bool:
        """Of all peers, as in ExaBGP."""
        return any(self._peers[key].neighbor.rib.outgoing.pending() for key in super().active_peers())

    def _survey(self) -> None:
        """Looks at every peer."""
        now, active = time.time(), super().active_peers()
        self._stale, self._awake, self._key_of, self._next = False, set(), {}, NEVER
        for key in active:
            one = self._peers[key]
            due, rests = one.due(now, self._sleep_time), one.rests()
            if due <= now or not (rests or one.waits()):
                self._awake.add(key)
            elif rests:
                self._key_of[one.socket()] = key
            self._next = min(self._next, due)

    def _wait_for_io(self, milliseconds: int) -> Iterator[int]:
        """Waits; what woke it is for `active_peers`, ExaBGP's loop does nothing with it."""
        for helper in self._helpers():
            helper.attend()
        self._ready = self._poller.poll(self._patience(milliseconds))
        if self._signals.fileno() in self._ready:
            swallow(self._signals)
        return iter(())

    def _patience(self, milliseconds: int) -> float:
        """Seconds. ExaBGP's loop asks for none where there is something left to do."""
        self._listen_to_others()
        busy = bool(not milliseconds or self.signal.received or not self.asynchronous.ready())
        self._stale |= busy or self._busy
        self._busy = busy
        if busy:
            return SOON if milliseconds else 0.0
        now = time.time()
        if self._stale or self._awake or now >= self._next:
            self._survey()
        relayed = min((helper.relay.patience() for helper in self._helpers()), default=LONGEST)
        return max(SOON if self._awake else 0.0, min(self._next - now, relayed, LONGEST))

    def _helpers(self) -> list[inside.Popen]:
        """The relay: while it is being replaced, none."""
        return list(self.processes._process.values())

    def _listen_to_others(self) -> None:
        """To signals, those who connect, and the agent. In each turn: a new socket may have a closed one's number."""
        newcomers = list(self.listener._sockets) if self.listener is not None else []
        agents = [fd for helper in self._helpers() for fd in helper.relay.filenos]
        for fd in (*(one.fileno() for one in (self._signals, *newcomers)), *agents):
            self._poller.register(fd)


def _signal_socket() -> socket.socket:
    """Readable once a signal has come."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    return reader


def install() -> None:
    """Puts these in the place of ExaBGP's."""
    peer.KA, peer.Delay = NotedKeepalive, UnevenDelay
    loop.Peer = listener.Peer = RestingPeer
    protocol.Outgoing = OneAttempt
    loop.ASYNC = Commands
    server.Reactor = RestingReactor
    processes.subprocess = inside
    announce.match_neighbors = rib.match_neighbors = match_neighbors


def main() -> None:
    """Runs until ExaBGP ends."""
    install()
    server.main()
