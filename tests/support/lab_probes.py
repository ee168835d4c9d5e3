"""Witnesses of what a network lets through while things are killed: forbidden probes, a detector, allowed requests.

Owns: sending, seeing and counting. It must not know of Kubernetes, of policies or of what is killed; and it must not
use `kubectl exec` or anything else that dies with what is killed: sockets stand in the pods' network namespaces, held
by this process.

The detector sits in the target's own namespace, at its interface, before anything there could drop a packet: what it
sees has passed. A packet socket's filter shows it the forbidden sources alone, so it keeps up with whatever comes.
"""

from __future__ import annotations

import ctypes
import http.client
import itertools
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from lab_policy_netns import inside

FLOOD = Path(__file__).with_name("lab_probes_flood.py")
TCP_PORT, UDP_PORT = 8080, 8081
PORTS_EACH = 4000
ANSWER_WITHIN = 5.0
"""Seconds after which a request counts as unanswered."""
ASK_EVERY = 0.05

_ETH_P_ALL, _ETH_P_IP = 0x0003, 0x0800
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_PROTOCOL_NAMES = {socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP"}


@dataclass(frozen=True)
class Place:
    """A pod: its name, its addresses and a descriptor of its network namespace."""

    name: str
    address: str
    namespace: int
    address6: str = ""


# --- forbidden probes -----------------------------------------------------------------------------------------------


class Flood:
    """Probes from one pod to another while the ``with`` block runs, from source ports `first_port` on."""

    def __init__(self, source: Place, target: Place, *, rate: int, first_port: int) -> None:
        numbers = (TCP_PORT, UDP_PORT, first_port, PORTS_EACH, rate)
        self._argv = [sys.executable, str(FLOOD), source.address, target.address, *map(str, numbers)]
        self._namespace = source.namespace
        self.told: list[tuple[float, int]] = []
        """(monotonic time, packets sent until then)."""
        self.refused = 0

    def __enter__(self) -> Flood:
        enter = ["nsenter", f"--net=/proc/self/fd/{self._namespace}", "--"]
        self._process = subprocess.Popen(
            [*enter, *self._argv], stdout=subprocess.PIPE, text=True, pass_fds=(self._namespace,)
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            when, sent, refused = line.split()
            self.told.append((float(when), int(sent)))
            self.refused = int(refused)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(timeout=5)

    @property
    def sent(self) -> int:
        """Packets handed to the kernel so far."""
        return self.told[-1][1] if self.told else 0

    @property
    def rate(self) -> float:
        """Packets a second, from the first word heard to the last."""
        if len(self.told) < 2:
            return 0.0
        (begin, before), (end, after) = self.told[0], self.told[-1]
        return (after - before) / (end - begin)


# --- the detector ---------------------------------------------------------------------------------------------------


class Detector:
    """Counts what arrives at a pod's interface from forbidden addresses while the ``with`` block runs."""

    def __init__(self, target: Place, forbidden: Collection[Place], interface: str = "eth0") -> None:
        self._names = {socket.inet_aton(place.address): place.name for place in forbidden}
        with inside(target.namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        attach_filter(self._socket, self._names)
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.settimeout(0.2)
        self._over = threading.Event()
        self.seen: Counter[str] = Counter()
        """"name protocol" → packets."""
        self.lost = 0

    def __enter__(self) -> Detector:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                data, (_, _, kind, *_) = self._socket.recvfrom(64)
                if kind != socket.PACKET_OUTGOING:
                    name = self._names.get(data[26:30], "?")
                    self.seen[f"{name} {_PROTOCOL_NAMES.get(data[23], data[23])}"] += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._reader.join(timeout=5)
        _, self.lost = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._socket.close()


def attach_filter(packets: socket.socket, sources: Collection[bytes]) -> None:
    """A classic BPF filter: IPv4 over Ethernet, from one of these addresses (network byte order). Raises OSError."""
    load_half, load_word, jump_if, ret = 0x28, 0x20, 0x15, 0x06
    count = len(sources)
    program = [(load_half, 0, 0, 12), (jump_if, 0, count + 1, _ETH_P_IP)]
    program.append((load_word, 0, 0, 26))
    for index, source in enumerate(sources):
        program.append((jump_if, count - index, 0, int.from_bytes(source, "big")))
    program += [(ret, 0, 0, 0), (ret, 0, 0, 0xFFFF)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))


# --- allowed requests -----------------------------------------------------------------------------------------------


class Requests:
    """HTTP requests from one pod to another, 50 ms apart, while the ``with`` block runs: all by one connection, or
    each by a new one."""

    def __init__(self, source: Place, target: Place, *, keep: bool) -> None:
        self._source, self._target, self._keep = source, target, keep
        self._over = threading.Event()
        self.answered: list[float] = []
        self.failed: list[str] = []

    def __enter__(self) -> Requests:
        self._asker = threading.Thread(target=self._ask_on, daemon=True)
        self._asker.start()
        return self

    def _ask_on(self) -> None:
        while not self._over.is_set():
            try:
                self._ask_by_one()
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                self._over.wait(ASK_EVERY)

    def _ask_by_one(self) -> None:
        """One connection, used until the end, or once."""
        with connection(self._source, self._target) as opened:
            while not self._over.is_set():
                opened.request("GET", "/hostname")
                opened.getresponse().read()
                self.answered.append(time.monotonic())
                self._over.wait(ASK_EVERY)
                if not self._keep:
                    return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._asker.join(timeout=ANSWER_WITHIN + 5)

    def longest_gap(self) -> float:
        """Seconds between two answers at most; infinite where there were none."""
        return max((later - earlier for earlier, later in itertools.pairwise(self.answered)), default=float("inf"))


@contextmanager
def connection(source: Place, target: Place, *, within: float = ANSWER_WITHIN) -> Iterator[http.client.HTTPConnection]:
    """An HTTP connection out of a pod. Raises OSError where it cannot be opened."""
    with inside(source.namespace):
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    client = http.client.HTTPConnection(target.address, TCP_PORT, timeout=within)
    client.auto_open = 0  # it would open the next connection from our own namespace
    client.sock = opened
    try:
        opened.settimeout(within)
        opened.connect((target.address, TCP_PORT))
        yield client
    finally:
        client.close()


def reaches(source: Place, target: Place) -> bool:
    """Whether a connection opens within two seconds."""
    try:
        with connection(source, target, within=2):
            return True
    except OSError:
        return False
