"""Owns rounds of probes: from many network namespaces at once, real packets, and what came back of each.

It must not know what should come back, beyond how long it is worth waiting: silence is believed only after everything
that was expected to answer in the same round has answered. So no probe has a time limit that a busy machine breaks.
"""

from __future__ import annotations

import errno
import itertools
import os
import resource
import selectors
import socket
import struct
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import lab_policy_sctp as sctp
from lab_policy_netns import inside

Outcome = Literal["answered", "silent", "refused", "unreachable"]
SILENCE = 0.5  # seconds without a word, after all expected answers, that count as silence
PATIENCE = 4.0  # seconds that a round waits for expected answers
_TYPES = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_EPHEMERAL = itertools.cycle(range(20000, 60000))


class Probe(NamedTuple):
    """From a named source to a named target at ``address:port``."""

    source: str
    target: str
    address: str
    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{self.source}>{self.target}:{self.port}/{self.protocol}"


@dataclass(frozen=True)
class Source:
    """Where packets come from: a network namespace (a descriptor of it) and an address there."""

    namespace: int
    address: str


@dataclass
class Prober:
    """Sends from its sources, and stands in for SCTP's listeners in all of them."""

    sources: dict[str, Source] = field(default_factory=dict)
    sent: int = 0

    def __post_init__(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def round(self, probes: Collection[Probe], expected: Collection[Probe]) -> dict[Probe, Outcome]:
        """What came of each probe. `expected` are those whose answers are waited for."""
        self.sent += len(probes)
        with _Round(self.sources) as running:
            running.send(probes)
            running.listen(frozenset(expected))
            return {probe: running.outcomes.get(probe, "silent") for probe in probes}

    def forget(self, name: str) -> None:
        """Let go of a source's namespace, if there is such a source."""
        if source := self.sources.pop(name, None):
            os.close(source.namespace)

    def close(self) -> None:
        """Let go of all namespaces."""
        for name in list(self.sources):
            self.forget(name)


class _Round:
    """The sockets of one round."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._selector = selectors.DefaultSelector()
        self._associations: dict[tuple[str, int], Probe] = {}
        self.outcomes: dict[Probe, Outcome] = {}

    def __enter__(self) -> _Round:
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._selector.get_map().values()):
            self._close(key.fileobj)
        self._selector.close()

    def _close(self, of: object) -> None:
        assert isinstance(of, socket.socket)
        self._selector.unregister(of)
        of.close()

    def send(self, probes: Iterable[Probe]) -> None:
        """Everything at once; SCTP's listeners first."""
        by_source: dict[str, list[Probe]] = {}
        for probe in probes:
            by_source.setdefault(probe.source, []).append(probe)
        raw = {}
        for name, source in self._sources.items():
            with inside(source.namespace):
                raw[name] = socket.socket(socket.AF_INET, socket.SOCK_RAW, sctp.PROTOCOL)
            raw[name].setblocking(False)
            raw[name].bind((source.address, 0))
            self._selector.register(raw[name], selectors.EVENT_READ, name)
        for name, own in by_source.items():
            with inside(self._sources[name].namespace):
                for probe in own:
                    self._send(probe, raw[name])

    def _send(self, probe: Probe, raw: socket.socket) -> None:
        try:
            if probe.protocol == "SCTP":
                port = next(_EPHEMERAL)
                self._associations[probe.source, port] = probe
                packet = sctp.Packet(port, probe.port, 0, sctp.INIT, init_tag=port)
                raw.sendto(packet.encode(), (probe.address, 0))
            else:
                self._connect(probe)
        except OSError:
            self.outcomes[probe] = "unreachable"

    def _connect(self, probe: Probe) -> None:
        opened = socket.socket(socket.AF_INET, _TYPES[probe.protocol])
        opened.setblocking(False)
        stream = probe.protocol == "TCP"
        self._selector.register(opened, selectors.EVENT_WRITE if stream else selectors.EVENT_READ, probe)
        if stream:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        opened.bind((self._sources[probe.source].address, 0))
        if opened.connect_ex((probe.address, probe.port)) not in (0, errno.EINPROGRESS):
            raise OSError("no connection begun")
        if not stream:
            opened.send(b"hostname")

    def listen(self, expected: frozenset[Probe]) -> None:
        """Until all that is expected has answered and nothing more has come for SILENCE; PATIENCE at most."""
        give_up = time.monotonic() + PATIENCE
        quiet = time.monotonic() + SILENCE
        missing = set(expected)
        while (now := time.monotonic()) < (give_up if missing else quiet):
            for key, _ in self._selector.select((give_up if missing else quiet) - now):
                assert isinstance(key.fileobj, socket.socket)
                self._hear(key.fileobj, key.data)
                quiet = time.monotonic() + SILENCE
            missing -= self.outcomes.keys()

    def _hear(self, opened: socket.socket, what: Probe | str) -> None:
        if isinstance(what, str):
            self._hear_sctp(opened, what)
            return
        code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        refused = code == errno.ECONNREFUSED
        self.outcomes[what] = "answered" if not code else "refused" if refused else "unreachable"
        self._close(opened)

    def _hear_sctp(self, raw: socket.socket, name: str) -> None:
        data, (address, *_) = raw.recvfrom(2048)
        packet = sctp.decode(data)
        if packet is None:
            return
        if packet.chunk == sctp.INIT:
            raw.sendto(packet.acknowledged(init_tag=1).encode(), (address, 0))
        elif probe := self._associations.get((name, packet.port)):
            self.outcomes[probe] = "answered"
