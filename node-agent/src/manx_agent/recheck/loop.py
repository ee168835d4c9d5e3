"""Looks at established connections after policy changed, where the settings ask for it.

Owns: when to look, at whose connections, and what it costs. Must not: judge (`judge` does), or delay policy: it is told
of an apply afterwards, and works in a thread.

Why this way: the whole table is read for any change, so changes that come together are looked at together, and after a
look follows a pause of several times its length. Only what the policy of an endpoint says anew is judged anew.

An answer that was on its way when its connection was forgotten can make the kernel track the same packets again, the
other way round, if the pod that answers may speak to the other of its own accord; then the denied side's packets would
pass as answers. So what was forgotten is looked for again a little later, turned round. (For TCP, policy drops packets
that belong to no connection and begin none, while this is on.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from manx_agent.drivers import netlink_connections
from manx_agent.drivers.netlink_threads import in_thread
from manx_agent.model import AgentError
from manx_agent.recheck.connection import Connection, Tuple, packed, parse
from manx_agent.recheck.judge import Court, changed, court_of
from manx_agent.render.settle import Settled
from manx_core.api.v1alpha1 import PolicySettings

log = logging.getLogger(__name__)

DELAY = 0.1
"""Seconds that a change waits for company."""
SHARE = 4.0
"""After a look, this many times its length is waited: at most a fifth of a core is spent."""
AGAIN = (1.0, 5.0)
"""Seconds after which what was forgotten is looked for again, turned round."""
RETRY = 5.0


class Recheck:
    """One task: `run`. `in_force`: what was brought into the kernel last (None: nothing yet); `settings`: those in
    force."""

    def __init__(self, in_force: Callable[[], Settled | None], settings: Callable[[], PolicySettings]) -> None:
        self._in_force = in_force
        self._settings = settings
        self._news = asyncio.Event()
        self._judged: Settled | None = None
        self._closed_node = False
        self._turned: dict[Tuple, tuple[Connection, float]] = {}
        """Forgotten connections by what they would be the other way round, and until when that is looked for."""
        self._due: list[float] = []
        self.forgotten = 0
        """How many connections were forgotten so far."""

    def notify(self) -> None:
        """Something was brought into the kernel."""
        if self._judged is not None or self._settings().established == "Recheck":
            self._news.set()

    async def run(self) -> None:
        """For ever, until cancelled."""
        while True:
            await self._until_due()
            started = time.monotonic()
            try:
                await self._look()
            except AgentError as error:
                log.warning("connections that policy denies now could not be forgotten, trying again: %s", error)
                await asyncio.sleep(RETRY)
                self.notify()
            await asyncio.sleep(SHARE * (time.monotonic() - started))

    async def _until_due(self) -> None:
        patience = max(0.0, min(self._due) - time.monotonic()) if self._due else None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._news.wait()
                await asyncio.sleep(DELAY)
        self._news.clear()

    async def _look(self) -> None:
        settled = self._in_force()
        now = time.monotonic()
        self._due = [due for due in self._due if due > now]
        self._turned = {turned: found for turned, found in self._turned.items() if found[1] > now}
        if settled is None:
            return
        settings = self._settings()
        closed_node = settings.default_endpoint_to_host_action == "Drop"
        if settings.established != "Recheck" or closed_node > self._closed_node:
            self._judged = None
        self._closed_node = closed_node
        if settings.established != "Recheck":
            return
        subjects = changed(self._judged, settled)
        turned = {turned: connection for turned, (connection, _) in self._turned.items()}
        if subjects or turned:
            self._note(await in_thread(lambda: _forget(settled, subjects, turned, closed_node=closed_node)))
        self._judged = settled

    def _note(self, denied: list[Connection]) -> None:
        if not denied:
            return
        now = time.monotonic()
        self.forgotten += len(denied)
        self._turned |= {one.reply: (one, now + AGAIN[-1] + RETRY) for one in denied}
        self._due = [now + later for later in AGAIN]
        log.info("%d connections forgotten that policy denies now", len(denied))


def _forget(
    settled: Settled, subjects: frozenset[str], turned: Mapping[Tuple, Connection], *, closed_node: bool
) -> list[Connection]:
    """In a thread: the connections of these endpoints that are denied; they are forgotten now, and with them those that
    are denied ones turned round. Raises NetlinkError."""
    own = frozenset(map(packed, netlink_connections.own_addresses()))
    court = court_of(settled, subjects, own, closed_node=closed_node)
    ours = frozenset(court.subjects) | {one.source for one in turned}
    if not ours:
        return []
    connections = [one for entry in netlink_connections.entries() if (one := parse(entry, ours)) is not None]
    denied = _judge(court, connections)
    everyone = court_of(settled, settled.endpoints if turned else (), own, closed_node=closed_node)
    still = {one.reply for one in _judge(everyone, turned.values())}
    again = [one for one in connections if one.original in still]
    netlink_connections.forget([(len(one.original.source) == 16, one.identity) for one in (*denied, *again)])
    return denied


def _judge(court: Court, connections: Collection[Connection]) -> list[Connection]:
    """Nothing, where a policy cannot be evaluated: the dataplane says what is wrong with it."""
    try:
        return court.denied(connections)
    except (ValueError, KeyError) as error:
        log.error("connections are left as they are, since a policy cannot be evaluated: %r", error)
        return []
