"""What packets lose on the way through the node's rules, beside the same way with no rules at all.

Owns: two pods of one node with the whole load in its kernel, two of a node with none, and what goes between them in
turn: iperf3; connections of one byte each way; one byte back and forth on one connection. Must not: leave a process.

Both nodes are namespaces of this machine, so all of it shares two cores: what differs is the rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.figures import Figure
from bench.kernel import load
from bench.measures import Given
from manx_agent.dataplane import KernelPolicy
from manx_agent.model import Backend, Dirty
from netns import Netns, addressed_veth, make_node, wire_pod

_PATIENCE = 10.0


class Path:
    """A node with its first and its last pod. A context manager. `backend`: None for a node without rules."""

    def __init__(self, node: load.Node, backend: Backend | None) -> None:
        self._node, self._backend = node, backend
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Path:
        here, outside, self.client, self.server = (self._stack.enter_context(Netns()) for _ in range(4))
        make_node(here)
        addressed_veth(here, outside, ("eth0", "eth0"), ("198.51.100.1/24", "198.51.100.2/24"))
        here.ip(
            "route", "add", "default", "via", "198.51.100.2"
        )  # A node answers for a next hop that it has a route to.
        last = self._node.pods - 1
        for pod, number in ((self.client, 0), (self.server, last)):
            wire_pod(here, pod, load.interface(number), load.address(number))
        self.address = load.address(last)
        if self._backend is not None:
            with here.entered():
                outcome = asyncio.run(KernelPolicy(self._backend).apply(load.view(self._node), Dirty(everything=True)))
            if outcome.errors:
                raise RuntimeError("; ".join(outcome.errors))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def throughput(self, seconds: float) -> float:
        """Gbit/s of one TCP connection. Raises RuntimeError with what iperf3 said."""
        argv = ["iperf3", "--server", "--one-off", "--port", str(load.PORT)]
        server = subprocess.Popen(self.server.argv(*argv), stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + _PATIENCE
            while "error" in (report := self._iperf3(seconds)) and time.monotonic() < deadline:
                time.sleep(0.1)  # It does not listen yet.
            if "error" in report:
                raise RuntimeError(f"iperf3: {report['error']}")
            return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9
        finally:
            server.terminate()
            server.wait()

    def _iperf3(self, seconds: float) -> dict[str, Any]:
        argv = ["iperf3", "--client", self.address, "--port", str(load.PORT), "--time", f"{seconds:g}", "--json"]
        return dict(json.loads(self.client.run(*argv, check=False)))

    def connections(self, count: int) -> list[float]:
        """Microseconds of each: connected, a byte there, a byte back, closed."""
        with self._answering():
            return [_took(lambda: self._ask(self._connected())) for _ in range(count)]

    def round_trips(self, count: int) -> list[float]:
        """Microseconds of each byte there and back on one connection."""
        with self._answering(), self._connected() as one:
            return [_took(lambda: (one.send(b"x"), one.recv(1))) for _ in range(count)]

    def _ask(self, one: socket.socket) -> None:
        with one:
            one.send(b"x")
            one.recv(1)

    def _connected(self) -> socket.socket:
        one = socket.create_connection((self.address, load.PORT), timeout=_PATIENCE)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return one

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """A server sends back what it gets; the calling thread is the client's meanwhile."""
        with self.server.entered():
            listener = socket.create_server((self.address, load.PORT), backlog=64)
        thread = threading.Thread(target=_echo, args=(listener,), daemon=True)
        thread.start()
        try:
            with self.client.entered():
                yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()


def _echo(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            one, _ = listener.accept()
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with one, contextlib.suppress(OSError):
                while byte := one.recv(1):
                    one.send(byte)


def _took(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e6


# --- figures --------------------------------------------------------------------------------------------------------


def measure(given: Given) -> Iterator[Figure]:
    """In turn, so that what else the machine does falls on both."""
    node, rounds, seconds, asked = (load.QUICK, 1, 1.0, 50) if given.quick else (load.FULL, 5, 3.0, 400)
    for backend in _BACKENDS:
        with Path(node, backend) as ours, Path(node, None) as bare:
            found: dict[str, tuple[list[float], list[float]]] = {key: ([], []) for key, _, _ in _WHAT}
            for _ in range(rounds):
                for samples, path in enumerate((ours, bare)):
                    found["throughput"][samples].append(path.throughput(seconds))
                    found["connection"][samples].extend(path.connections(asked))
                    found["round-trip"][samples].extend(path.round_trips(asked))
        for key, name, unit in _WHAT:
            mine, floor = found[key]
            text = f"{name}, {backend}"
            yield Figure(f"kernel.{key}.{backend}", text, unit, tuple(mine), "no rules at all", tuple(floor))


_BACKENDS: tuple[Backend, ...] = ("nft", "legacy")
_WHAT = (
    ("throughput", "iperf3, a TCP connection between two pods", "Gbit/s"),
    ("connection", "a new connection, one byte each way", "us"),
    ("round-trip", "a byte there and back on a connection", "us"),
)
