"""Owns two detectors of a packet too early: a spray of pings over whole address blocks, which the kernel of a new pod
answers as soon as it has an address, before any process runs in it; and an ear outside for the pings that
new pods send.

It must not know which pods may be heard. Both only ever say who was.
"""

from __future__ import annotations

import ipaddress
import itertools
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from lab_policy_netns import inside
from lab_policy_probe import Source

_ECHO = struct.Struct("!BBHHH")
_IDENTIFIERS = itertools.count(20000)
PAUSE = 0.02  # seconds between two pings to the same address


class Spray:
    """Pings every address of some blocks from some sources, again and again, while the ``with`` block runs."""

    def __init__(self, sources: Sequence[Source], blocks: Iterable[str]) -> None:
        self._addresses = [str(address) for block in blocks for address in ipaddress.ip_network(block)]
        self._packets: dict[socket.socket, bytes] = {}
        for source in sources:
            with inside(source.namespace):
                opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            opened.setblocking(False)
            self._packets[opened] = _echo(next(_IDENTIFIERS))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sweeps = 0
        self.heard: Counter[str] = Counter()

    def __enter__(self) -> Spray:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for opened in self._packets:
            opened.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            for opened, packet in self._packets.items():
                for address in self._addresses:
                    _send(opened, packet, address)
                self._hear(opened, packet)
            self.sweeps += 1
            time.sleep(PAUSE)

    def _hear(self, opened: socket.socket, packet: bytes) -> None:
        """Take in all that came: replies to our own pings only."""
        while True:
            try:
                data, (address, *_) = opened.recvfrom(256)
            except BlockingIOError:
                return
            except OSError:
                continue  # what ICMP said of an address that nobody has
            kind, _, _, identifier, _ = _ECHO.unpack_from(data, (data[0] & 0xF) * 4)
            if kind == 0 and identifier == _ECHO.unpack(packet)[3]:
                self.heard[address] += 1


def _send(opened: socket.socket, packet: bytes, address: str) -> None:
    for _ in range(2):  # the first error may be an earlier packet's
        try:
            opened.sendto(packet, (address, 0))
        except OSError:
            continue
        return


def _echo(identifier: int) -> bytes:
    """An ICMP echo request (RFC 792) without data."""
    words = (8 << 8, identifier, 1)
    total = sum(words)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return _ECHO.pack(8, 0, checksum, identifier, 1)


class Ear:
    """Hears the pings that reach a source's address while the ``with`` block runs, and tells who sent them by their
    length: addresses are the nodes' by then."""

    def __init__(self, source: Source) -> None:
        with inside(source.namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.bind((source.address, 0))
        self._socket.settimeout(0.2)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.heard: Counter[int] = Counter()

    def __enter__(self) -> Ear:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                data = self._socket.recv(2048)
            except TimeoutError:
                continue
            start = (data[0] & 0xF) * 4
            if data[start] == 8:
                self.heard[len(data) - start - _ECHO.size] += 1
