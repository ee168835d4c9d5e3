"""BGP on this node, from a BgpView to sessions and kernel routes, and back to a status.

Owns: the order of things: configuration and desired state into the shared files, the relay's notes into the table, the
table's selection into the kernel. Must not: hold knowledge of ExaBGP's forms (`config`, `messages`), of what to accept
(`accept`) or of netlink (`drivers.routes`).

Before the first view nothing is touched. From then on a task of its own reconciles the kernel whenever the table, the
view or a stale route's time has changed, and reads the kernel again every few seconds. The agent may die at any time:
sessions and routes stay, and its successor takes both up again, the routes as stale ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from manx_agent.bgp.accept import Policy
from manx_agent.bgp.config import render
from manx_agent.bgp.files import SharedPaths, write_atomically
from manx_agent.bgp.link import Note, RelayLink
from manx_agent.bgp.messages import Attributes
from manx_agent.bgp.peers import Peers, wanted_peers
from manx_agent.bgp.status import SessionStatus, peer_status, session_status
from manx_agent.bgp.table import Selection, Table
from manx_agent.drivers.routes import RouteOutcome
from manx_agent.model import AgentError, BgpOutcome, BgpView

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.05
"""How long notes gather before the kernel is brought up to date."""
CHECK_SECONDS = 5.0
"""Between two readings of the kernel; twice this is the longest that an altered route stays."""
CHECK_SHARE = 20
"""The check takes at most one part in this many of the time, whatever the table's size."""
KEPT_DRIFT = 100
RETRY_SECONDS = 2.0


def can_bind(address: str) -> bool:
    """Whether an interface of this network namespace has the address, and may use it already."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as opened:
            opened.bind((address, 0))
    except OSError:
        return False
    return True


class Routes(Protocol):
    """The kernel's side: `drivers.routes.KernelRoutes`. Each method raises AgentError."""

    async def learned(self) -> dict[str, str]: ...

    async def apply(self, routes: dict[str, str], blackholes: frozenset[str]) -> RouteOutcome: ...

    async def check(self) -> tuple[str, ...]: ...


class BgpDriver:
    """See the module. `on_change` is called, without arguments, when `outcome` has changed by itself."""

    def __init__(
        self,
        paths: SharedPaths,
        routes: Routes,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        python: str = sys.executable,
        is_local: Callable[[str], bool] = can_bind,
    ) -> None:
        self._paths = paths
        self._routes = routes
        self._on_change = on_change
        self._clock = clock
        self._relay_command = (python, "-m", "manx_agent.bgp.relay", "--dir", str(paths.directory))
        self._link = RelayLink(paths.socket, self._noted)
        self._table = Table()
        self._view: BgpView | None = None
        self._peers = Peers({})
        self._is_local = is_local
        self._local: set[str] = set()
        """Addresses of ours that an interface had: one that goes away for a moment shall reset no session."""
        self._sessions: dict[str, SessionStatus] = {}
        self._taken_over = False
        self._listening_to_snapshot = False
        self._selection = Selection({})
        self._kernel = RouteOutcome()
        self._errors: tuple[str, ...] = ()
        self._trouble: tuple[str, ...] = ()
        self._drift: list[str] = []
        self._last: BgpOutcome | None = None
        self._changed = asyncio.Event()
        self._reconciling = asyncio.Lock()
        self._checked = -math.inf
        """When the last look at files and kernel began, and what it took."""
        self._check_took = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens for the relay. Raises AgentError."""
        await self._link.start()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends the work; sessions and kernel routes stay."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._link.stop()

    async def apply(self, view: BgpView) -> BgpOutcome:
        """Takes a view: returns once ExaBGP has been told and the kernel has what is known so far. Does not raise: what
        failed is in the outcome's errors."""
        if self._view is None or self._view.refresh_interval != view.refresh_interval:
            self._changed.set()  # the wait for the next look is another one now
        self._view = view
        self._peers = wanted_peers(view)
        self._write_files(view)
        await self._reconcile()
        self._last = self.outcome()
        return self._last

    def outcome(self) -> BgpOutcome:
        """What sessions and routes are like now."""
        peers = tuple(
            peer_status(
                peer,
                self._sessions.get(address, SessionStatus()),
                self._table.count(address),
                self._selection.refused.get(address, {}),
            )
            for address, peer in self._peers.by_address.items()
        )
        return BgpOutcome(peers, self._kernel.installed, (*self._errors, *self._trouble, *self._kernel.errors))

    def take_drift(self) -> tuple[str, ...]:
        """Routes that were found altered and have been repaired since the last call, a sentence each."""
        drift, self._drift = tuple(self._drift), []
        return drift

    def _write_files(self, view: BgpView) -> None:
        """Writes what differs, configuration first, and rings for the relay; also where somebody else altered it."""
        away = self._away(view)
        rendered = render(view, self._peers, self._relay_command, away)
        missing = (f"no interface of this node has its address {address}" for address in sorted(away))
        self._errors = (*self._peers.errors, *missing)
        try:
            changed = _write_if_other(self._paths.config, rendered.text)
            changed |= _write_if_other(self._paths.desired, rendered.desired.encode())
        except OSError as error:
            self._errors = (*self._errors, f"cannot tell the BGP speaker: {error}")
            return
        if changed:
            self._link.ring()

    def _away(self, view: BgpView) -> set[str]:
        """Which of our addresses no interface has, or had."""
        ours = {view.address, view.address6} - {""}
        self._local = {address for address in ours if address in self._local or self._is_local(address)}
        return ours - self._local

    async def _take_over(self, view: BgpView) -> None:
        """Once: what a former agent left in the kernel counts as stale. Raises AgentError."""
        if self._taken_over:
            return
        found = await self._routes.learned()
        self._table.adopt(found, self._peers.by_address, self._clock() + view.settings.restart_time)
        self._taken_over = True

    def _noted(self, note: Note | None) -> None:
        """A note from the relay; None: it is gone."""
        restart_time = float(self._view.settings.restart_time) if self._view else 0.0
        if note is None or note["type"] == "begin":
            self._table.suspend(self._clock(), restart_time)
            self._sessions.clear()
            self._listening_to_snapshot = note is not None
        else:
            self._take(note, restart_time)
        if not self._listening_to_snapshot:
            self._changed.set()

    def _take(self, note: Note, restart_time: float) -> None:
        match note["type"]:
            case "session":
                status = self._sessions[note["peer"]] = session_status(note)
                self._table.session(note["peer"], status.session, self._clock(), restart_time)
            case "gone":
                self._sessions.pop(note["peer"], None)
            case "routes":
                announced = {prefix: _attributes(given) for prefix, given in note["announce"].items()}
                self._table.update(note["peer"], announced, note["withdraw"])
            case "trouble":
                self._trouble = (note["text"],) if note["text"] else ()
            case "end":
                self._listening_to_snapshot = False
                self._table.settle(self._peers.by_address)

    async def _run(self) -> None:
        """Reconciles when something changed, and in time for the next deadline or check. Whatever goes wrong, it goes
        on: without it no route would ever change again."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience()):  # not wait_for: Python 3.11's may swallow the task's end
                    await self._changed.wait()
                await asyncio.sleep(GATHER_SECONDS)
            self._changed.clear()
            if self._view is None:
                continue
            try:
                await self._check(self._view)
                await self._reconcile()
                self._tell()
            except Exception:
                log.exception("BGP's routes were not brought up to date; trying again")
                await asyncio.sleep(RETRY_SECONDS)
                self._changed.set()

    def _patience(self) -> float:
        now = self._clock()
        wake = self._next_check
        deadline = self._table.next_deadline()
        if deadline is not None:
            wake = min(wake, deadline)
        return max(0.01, wake - now)

    async def _check(self, view: BgpView) -> None:
        """Now and then: files and kernel as they should be."""
        started = self._clock()
        if started < self._next_check:
            return
        self._write_files(view)
        try:
            found = await self._routes.check()
        except AgentError:
            found = ()  # the reconciliation that follows meets the same, and says so
        self._drift = (self._drift + list(found))[-KEPT_DRIFT:]
        self._checked, self._check_took = started, self._clock() - started

    @property
    def _next_check(self) -> float:
        """By the interval of now: one that was made shorter counts at once."""
        interval = (self._view.refresh_interval if self._view else 0.0) or CHECK_SECONDS
        return self._checked + max(interval, CHECK_SHARE * self._check_took)

    async def _reconcile(self) -> None:
        """Brings the kernel to the table's selection."""
        async with self._reconciling:
            view = self._view
            if view is None or self._listening_to_snapshot:
                return
            try:
                await self._take_over(view)
                self._select(view)
                self._kernel = await self._routes.apply(self._selection.routes, view.announced)
            except AgentError as error:
                self._kernel = RouteOutcome(self._kernel.installed, (str(error),))

    def _select(self, view: BgpView) -> None:
        self._table.expire(self._clock())
        self._table.retain(self._peers.by_address)
        self._table.settle(self._peers.by_address)
        own = frozenset({view.address, view.address6} - {""})
        policy = Policy(own, view.settings.as_number, view.announced, self._peers.by_address)
        self._selection = self._table.select(policy)

    def _tell(self) -> None:
        outcome = self.outcome()
        if outcome != self._last or self._drift:
            self._last = outcome
            self._on_change()


def _attributes(given: list[Any]) -> Attributes:
    """From JSON, where tuples are lists."""
    next_hop, preference, origin, med, path = given
    return next_hop, preference, origin, med, tuple(path)


def _write_if_other(path: Path, text: str) -> bool:
    """Writes a file where its content differs, and tells whether it did. Raises OSError."""
    try:
        if path.read_text(encoding="ascii") == text:
            return False
    except (OSError, ValueError):
        pass  # not there, or not ours
    write_atomically(path, text)
    return True
