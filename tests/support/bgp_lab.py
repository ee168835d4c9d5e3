"""Nodes that speak BGP, each in its network namespace on one subnet: agents and ExaBGP as they run in a cluster.

Owns: namespaces, addresses, the two processes of a node, a captive of the wire's OPEN messages, BIRD. Must not: know
what a test wants to see.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from altered_speaker import FAIL
from bgp_agent import Line
from manx_agent.model import BgpOutcome, BgpView
from manx_core.api.v1alpha1 import BgpPeer, BgpSettings, MeshNodeSpec
from netns import Netns, veth

SUBNET = "198.51.100"
SUBNET6 = "2001:db8:51:"
PATIENCE = 40.0
"""Seconds until a test gives up waiting; far more than anything needs."""

_AGENT = str(Path(__file__).with_name("bgp_agent.py"))
_ALTERED = str(Path(__file__).with_name("altered_speaker.py"))


def eventually(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> float:
    """Waits until the condition holds; returns how long that took, in seconds. Raises AssertionError."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > patience:
            raise AssertionError(f"not within {patience:g} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - started


class Fabric:
    """The subnet: a bridge in a namespace of its own."""

    def __init__(self) -> None:
        self.namespace = Netns()
        self.namespace.ip("link", "add", "br0", "type", "bridge")
        self.namespace.ip("link", "set", "br0", "up")

    def attach(self, namespace: Netns, port: str, address: str, address6: str) -> None:
        """Gives a namespace an eth0 with these addresses in the subnet."""
        namespace.sysctl("ipv6.conf.default.accept_dad", "0")  # its link-local address may be used at once
        veth(self.namespace, port, namespace, "eth0")
        self.namespace.ip("link", "set", port, "master", "br0")
        namespace.ip("address", "add", f"{address}/24", "dev", "eth0")
        namespace.ip("address", "add", f"{address6}/64", "dev", "eth0", "nodad")


class Node:
    """A node: namespace, shared directory, and the two processes, either of which may be killed."""

    def __init__(self, fabric: Fabric, number: int, directory: Path, dual: bool = False) -> None:
        self.name = f"node{number}"
        self.address = f"{SUBNET}.{number}"
        self.address6 = f"{SUBNET6}:{number:x}"
        self.block = f"10.244.{number}.0/26"
        self.block6 = f"fd00:10:244:{number:x}::/122"
        self.directory = directory
        directory.mkdir(parents=True)
        self.namespace = Netns()
        fabric.attach(self.namespace, f"port{number}", self.address, self.address6)
        self.view = BgpView(self.name, self.address, announced=frozenset({self.block}))
        if dual:
            self.view = replace(self.view, address6=self.address6, announced=frozenset({self.block, self.block6}))
        self.outcome = BgpOutcome()
        self.drift: list[str] = []
        self.alteration = ""
        """Of the speaker, as `altered_speaker` knows it; none: the product's."""
        self._agent: subprocess.Popen[bytes] | None = None
        self._speaker: subprocess.Popen[bytes] | None = None
        self._applied: queue.Queue[BgpOutcome] = queue.Queue()

    def start_agent(self) -> None:
        self._agent = self.namespace.popen(sys.executable, _AGENT, str(self.directory))
        threading.Thread(target=self._listen, args=(self._agent,), daemon=True).start()

    def start_speaker(self) -> None:
        environment = {**os.environ, "MANX_BGP_DIR": str(self.directory)}
        program = (_ALTERED, self.alteration) if self.alteration else ("-m", "manx_agent.bgp.speaker")
        argv = self.namespace.argv(sys.executable, *program)
        with (self.directory / "speaker.log").open("ab") as log:
            self._speaker = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stderr=log)

    @property
    def speaker_pid(self) -> int:
        assert self._speaker is not None
        return self._speaker.pid

    @property
    def speaker_alive(self) -> bool:
        assert self._speaker is not None
        return self._speaker.poll() is None

    def fail_relay(self) -> None:
        """The relay ends in the middle of what it does; a process of its own by SIGKILL."""
        pids = self.relay_pids()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        if not pids and self.alteration == "frail":
            (self.directory / FAIL).touch()

    def await_another_relay(self, pids: list[int]) -> None:
        """`pids`: what `relay_pids` gave before the former one failed."""
        if self.alteration == "frail":
            eventually(lambda: not (self.directory / FAIL).exists(), "the relay has failed")
        else:
            eventually(lambda: self.relay_pids() not in ([], pids), "another relay")

    def relay_pids(self) -> list[int]:
        """One, where it is a process of its own."""
        children = Path(f"/proc/{self.speaker_pid}/task/{self.speaker_pid}/children")
        found = []
        with contextlib.suppress(OSError):
            for pid in children.read_text().split():
                if b"manx_agent.bgp.relay" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
        return found

    def kill_speaker(self, number: int = signal.SIGKILL) -> None:
        assert self._speaker is not None
        self._speaker.send_signal(number)
        self._speaker.wait()

    def kill_agent(self) -> None:
        assert self._agent is not None
        self._agent.kill()
        self._agent.wait()

    def apply(self, view: BgpView) -> BgpOutcome:
        """Hands the agent a view, and waits until it has taken it."""
        assert self._agent is not None
        assert self._agent.stdin is not None
        self.view = view
        self._agent.stdin.write(msgspec.json.encode(view) + b"\n")
        self._agent.stdin.flush()
        return self._applied.get(timeout=PATIENCE)

    def routes(self) -> dict[str, str]:
        """Manx's routes in the kernel: prefix → gateway, "blackhole" for a block of this node's own."""
        found = {}
        lines = self.namespace.ip("route", "show", "proto", "77").splitlines()
        for line in lines + self.namespace.ip("-6", "route", "show", "proto", "77").splitlines():
            words = line.split()
            if words[0] == "blackhole":
                found[words[1]] = "blackhole"
            elif "via" in words:
                found[words[0]] = words[words.index("via") + 1]
        return found

    def states(self) -> dict[str, str]:
        """By the peer's name; of its IPv6 session by its address."""
        return {peer.address if ":" in peer.address else peer.name: peer.state for peer in self.outcome.peers}

    def message(self, peer: str) -> str:
        return next((p.message for p in self.outcome.peers if peer in (p.name, p.address)), "")

    def since(self, peer: str) -> str:
        return next((p.since for p in self.outcome.peers if peer in (p.name, p.address)), "")

    def close(self) -> None:
        for process in (self._agent, self._speaker):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.namespace.close()

    def _listen(self, agent: subprocess.Popen[bytes]) -> None:
        assert agent.stdout is not None
        for text in agent.stdout:
            line = msgspec.json.decode(text, type=Line)
            self.outcome = line.outcome
            self.drift.extend(line.drift)
            if line.applied:
                self._applied.put(line.outcome)


@dataclass
class Mesh:
    """Some nodes with the same settings."""

    fabric: Fabric
    nodes: list[Node]
    settings: BgpSettings
    as_numbers: dict[str, int] = field(default_factory=dict)

    def view(self, node: Node, peers: tuple[BgpPeer, ...] = ()) -> BgpView:
        """What the operator would tell this node of the whole mesh."""
        members = {
            other.name: MeshNodeSpec(
                epoch=1,
                ipv4=other.view.address,
                ipv6=other.view.address6,
                as_number=self.as_of(other),
                blocks=tuple(other.view.announced),
            )
            for other in self.nodes
            if other is not node
        }
        settings = msgspec.structs.replace(self.settings, as_number=self.as_of(node))
        return replace(node.view, settings=settings, mesh=members, peers=peers)

    def await_sessions_without_gap(self) -> None:
        """Until every session is established; at no look meanwhile may a route be missing anywhere."""
        gaps = 0

        def back() -> bool:
            nonlocal gaps
            gaps += not self.complete()
            return all(set(node.states().values()) == {"Established"} for node in self.nodes)

        eventually(back, "sessions are back")
        self.await_routes()
        assert gaps == 0

    def as_of(self, node: Node) -> int:
        return self.as_numbers.get(node.name, self.settings.as_number)

    def apply(self, peers: tuple[BgpPeer, ...] = ()) -> None:
        for node in self.nodes:
            node.apply(self.view(node, peers))

    def start(self) -> None:
        """Everything up, and every session established."""
        for node in self.nodes:
            node.start_agent()
            node.start_speaker()
        self.apply()
        self.await_established()
        self.await_routes()

    def await_established(self) -> float:
        return eventually(self._established, f"sessions established: {[node.states() for node in self.nodes]}")

    def await_routes(self) -> float:
        return eventually(self.complete, "every node has a route to every other's block")

    def complete(self) -> bool:
        return all(expected_routes(self, node).items() <= node.routes().items() for node in self.nodes)

    def _established(self) -> bool:
        return all(list(node.states().values()).count("Established") >= self._sessions(node) for node in self.nodes)

    def _sessions(self, node: Node) -> int:
        """How many each has at least, with the others."""
        others = [other.view for other in self.nodes if other is not node]
        families = [(view.address and node.view.address, view.address6 and node.view.address6) for view in others]
        return sum(bool(both) for pair in families for both in pair)

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        self.fabric.namespace.close()


def expected_routes(mesh: Mesh, node: Node) -> dict[str, str]:
    others = {
        block: other.address6 if ":" in block else other.address
        for other in mesh.nodes
        if other is not node
        for block in other.view.announced
    }
    return others | dict.fromkeys(node.view.announced, "blackhole")


@contextlib.contextmanager
def mesh_of(
    count: int, directory: Path, settings: BgpSettings, dual: bool = False, first_altered: str = ""
) -> Iterator[Mesh]:
    """A started mesh; `dual`: with IPv6 beside IPv4; `first_altered`: how the first node's speaker is."""
    fabric = Fabric()
    nodes = [Node(fabric, number, directory / f"n{number}", dual) for number in range(1, count + 1)]
    nodes[0].alteration = first_altered
    mesh = Mesh(fabric, nodes, settings)
    try:
        mesh.start()
        yield mesh
    finally:
        mesh.close()


@dataclass(frozen=True)
class Open:
    """A BGP OPEN as seen on the wire (RFC 4271, 4.2; the AS number from RFC 6793's capability)."""

    source: str
    as_number: int
    hold_time: int
    identifier: str


class OpenCapture:
    """Records every frame that passes a port of the fabric from its making on."""

    def __init__(self, fabric: Fabric, port: str) -> None:
        with fabric.namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 64 * 1024 * 1024)  # SO_RCVBUFFORCE
        self._socket.bind((port, 0))
        self._socket.setblocking(False)

    def opens(self) -> list[Open]:
        """The OPEN messages recorded since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found += list(_opens(self._socket.recv(65536)))
        return found


def _opens(frame: bytes) -> Iterator[Open]:
    if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
        return
    packet = frame[14 : 14 + int.from_bytes(frame[16:18], "big")]
    segment = packet[(packet[0] & 15) * 4 :]
    payload = segment[(segment[12] >> 4) * 4 :]
    while len(payload) >= 19 and payload[:16] == b"\xff" * 16:
        length, kind = struct.unpack("!HB", payload[16:19])
        if kind == 1:
            yield _open(socket.inet_ntoa(packet[12:16]), payload[19:length])
        payload = payload[length:]


def _open(source: str, body: bytes) -> Open:
    _, as_number, hold_time, identifier, _ = struct.unpack("!BHH4sB", body[:10])
    for code, value in _capabilities(body[10:]):
        if code == 65:
            as_number = int.from_bytes(value, "big")
    return Open(source, as_number, hold_time, socket.inet_ntoa(identifier))


def _capabilities(parameters: bytes) -> Iterator[tuple[int, bytes]]:
    while parameters:
        kind, length = parameters[:2]
        value, parameters = parameters[2 : 2 + length], parameters[2 + length :]
        while kind == 2 and value:
            yield value[0], value[2 : 2 + value[1]]
            value = value[2 + value[1] :]


class Bird:
    """A bird2 in a namespace of the fabric, with one peer."""

    def __init__(self, fabric: Fabric, number: int, directory: Path, as_number: int) -> None:
        self.address = f"{SUBNET}.{number}"
        self.address6 = f"{SUBNET6}:{number:x}"
        self.as_number = as_number
        self.namespace = Netns()
        fabric.attach(self.namespace, f"port{number}", self.address, self.address6)
        directory.mkdir(parents=True)
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, protocols: str) -> None:
        config = self.directory / "bird.conf"
        config.write_text(f"router id {self.address};\nlog stderr all;\nprotocol device {{}}\n{protocols}\n")
        argv = self.namespace.argv("bird", "-f", "-c", str(config), "-s", str(self.directory / "bird.ctl"))
        with (self.directory / "bird.log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log)
        eventually((self.directory / "bird.ctl").exists, "bird is up")

    def ask(self, *words: str) -> str:
        return self.namespace.run("birdc", "-s", str(self.directory / "bird.ctl"), *words)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.namespace.close()
