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

import lab_policy_wire as wire
from lab_policy_netns import inside

Outcome = Literal["answered", "silent", "refused", "unreachable"]
SILENCE = 0.5  # seconds without a word, after all expected answers, that count as silence
PATIENCE = 4.0  # seconds that a round waits for expected answers
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_TYPES = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
LOW, HIGH = 10000, 20000
"""Source ports of probes from below, and of all others, begin here."""
_LOW, _HIGH = itertools.cycle(range(LOW, HIGH)), itertools.cycle(range(HIGH, 60000))


class Probe(NamedTuple):
    """From a named source to a named target at ``address:port``. Of ICMP, `port` is the type. `low`: from a source port
    below HIGH."""

    source: str
    target: str
    address: str
    protocol: str
    port: int
    code: int = 0
    low: bool = False

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4

    def __str__(self) -> str:
        code, low = f".{self.code}" if self.code else "", "/low" if self.low else ""
        family = "/6" if self.version == 6 and self.protocol != "ICMPv6" else ""
        return f"{self.source}>{self.target}:{self.port}{code}/{self.protocol}{low}{family}"


@dataclass(frozen=True)
class Source:
    """Where packets come from: a network namespace (a descriptor of it) and its addresses, IPv6's if it has one."""

    namespace: int
    address: str
    address6: str = ""

    def of(self, version: int) -> str:
        """Its address of a family; empty for none."""
        return self.address6 if version == 6 else self.address


class _Ear(NamedTuple):
    """What a raw socket is for."""

    name: str
    protocol: str
    version: int


@dataclass
class Prober:
    """Sends from its sources, and stands in for the listeners of protocols without sockets in all of them."""

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
        self._raw: dict[_Ear, socket.socket] = {}
        self._asked: dict[tuple[_Ear, int], Probe] = {}
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
        """Everything at once; listeners first."""
        by_source: dict[str, list[Probe]] = {}
        for probe in probes:
            by_source.setdefault(probe.source, []).append(probe)
        self._listen_raw({(probe.protocol, probe.version) for own in by_source.values() for probe in own})
        for name, own in by_source.items():
            with inside(self._sources[name].namespace):
                for probe in own:
                    self._send(probe)

    def _listen_raw(self, kinds: Collection[tuple[str, int]]) -> None:
        for name, source in self._sources.items():
            with inside(source.namespace):
                for protocol, version in kinds:
                    if protocol in wire.NUMBERS and source.of(version):
                        self._open_raw(_Ear(name, protocol, version), source.of(version))

    def _open_raw(self, ear: _Ear, address: str) -> None:
        opened = socket.socket(_FAMILIES[ear.version], socket.SOCK_RAW, wire.NUMBERS[ear.protocol])
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        opened.setblocking(False)
        opened.bind((address, 0))
        self._selector.register(opened, selectors.EVENT_READ, ear)
        self._raw[ear] = opened

    def _send(self, probe: Probe) -> None:
        try:
            if probe.protocol in wire.NUMBERS:
                self._ask(probe)
            else:
                self._connect(probe)
        except OSError:
            self.outcomes[probe] = "unreachable"

    def _ask(self, probe: Probe) -> None:
        ear, token = _Ear(probe.source, probe.protocol, probe.version), next(_LOW if probe.low else _HIGH)
        self._asked[ear, token] = probe
        own = self._sources[probe.source].of(probe.version)
        packet = wire.question(probe.protocol, probe.port, probe.code, token, own, probe.address)
        self._raw[ear].sendto(packet, (probe.address, 0))

    def _connect(self, probe: Probe) -> None:
        opened = socket.socket(_FAMILIES[probe.version], _TYPES[probe.protocol])
        opened.setblocking(False)
        stream = probe.protocol == "TCP"
        self._selector.register(opened, selectors.EVENT_WRITE if stream else selectors.EVENT_READ, probe)
        if stream:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        opened.bind((self._sources[probe.source].of(probe.version), next(_LOW) if probe.low else 0))
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

    def _hear(self, opened: socket.socket, what: Probe | _Ear) -> None:
        if isinstance(what, _Ear):
            self._hear_raw(opened, what)
            return
        code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        refused = code == errno.ECONNREFUSED
        self.outcomes[what] = "answered" if not code else "refused" if refused else "unreachable"
        self._close(opened)

    def _hear_raw(self, raw: socket.socket, ear: _Ear) -> None:
        received, (address, *_) = raw.recvfrom(2048)
        data = wire.payload(received, ear.version)
        if reply := wire.answer(ear.protocol, data, self._sources[ear.name].of(ear.version), address):
            raw.sendto(reply, (address, 0))
            return
        token = wire.answered(ear.protocol, data)
        if token is not None and (probe := self._asked.get((ear, token))):
            self.outcomes[probe] = "answered"
