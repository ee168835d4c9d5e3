"""Owns two observers of a change: a stream of requests whose longest gap is measured, and a capture of BGP OPEN
messages.

It must not use what Manx says of itself: packets alone are the witness.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import threading
import time
from types import TracebackType

from lab import binaries
from lab.fabric import BRIDGE, FABRIC
from lab.kubectl import Kubectl
from lab.machines import Machines

# One request after another, 10 ms apart; each may take a second, so that one lost packet is not the whole
# measurement. By nc, because Debian's static busybox crashes in its own wget as soon as that has a time limit.
LOOP = (
    "b=/bin/busybox; while :; do"
    r" printf 'GET {path} HTTP/1.0\r\n\r\n' | $b nc -w 1 {address} {port} | $b grep -q '200 OK'"
    " && echo ok || echo failed; $b usleep 10000; done"
)


# Flags of TCP over IPv6 cannot be asked for: there, every packet is taken.
WITH_DATA = "tcp port 179 and (ip6 or tcp[tcpflags] & tcp-push != 0)"


class RequestStream:
    """HTTP requests from a pod to ``address:port``, one after the other, while the ``with`` block runs."""

    def __init__(self, kubectl: Kubectl, namespace: str, pod: str, address: str, port: int) -> None:
        script = LOOP.format(path="/hostname", address=address, port=port)
        enter = ["-n", namespace, "exec", pod, "--", "/bin/sh", "-c", script]
        self._argv = [str(binaries.path_of("kubectl")), *enter]
        self._env = kubectl.env
        self.answered: list[float] = []
        self.failed = 0

    def __enter__(self) -> RequestStream:
        self._process = subprocess.Popen(
            self._argv, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == "ok":
                self.answered.append(time.monotonic())
            else:
                self.failed += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended = time.monotonic()
        self._process.kill()
        self._process.wait()
        self._reader.join(timeout=5)

    def longest_gap(self) -> float:
        """Seconds between two answered requests at most, or from the last to the end of the stream."""
        times = [*self.answered, self.ended]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=float("inf"))


class OpenCapture:
    """BGP OPEN messages that cross the fabric while the ``with`` block runs."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self.lines: list[str] = []

    def __enter__(self) -> OpenCapture:
        words = ["tcpdump", "-i", BRIDGE, "-l", "-n", "-v", WITH_DATA]
        self._process = self._machines.popen(FABRIC, words)
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._listening.wait(timeout=10)
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            if "listening on" in line:
                self._listening.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join(timeout=5)

    def as_numbers(self) -> dict[tuple[str, str], int]:
        """The AS number in the last OPEN from each address to each other."""
        return parse_opens("".join(self.lines))


def parse_opens(text: str) -> dict[tuple[str, str], int]:
    """AS numbers by (source, destination) from what ``tcpdump -n -v`` prints of OPEN messages; the last one counts."""
    found: dict[tuple[str, str], int] = {}
    ends: tuple[str, str] | None = None
    for line in text.splitlines():
        packet = re.search(r"\s(\d+\.\d+\.\d+\.\d+|[0-9a-f:]+:[0-9a-f:]*)\.\d+ > (\S+)\.\d+: Flags", line)
        if packet:
            ends = (packet[1], packet[2])
        opened = re.search(r"my AS (\d+)", line)
        if opened and ends:
            found[ends] = int(opened[1])
    return found
