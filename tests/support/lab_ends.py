"""Owns ends of connections as tests of the pod network see them: pods, nodes and the outside host, each with its
address and its network namespace; asking from them, listening on them, and watching what passes there.

It must not use `kubectl exec`: sockets are opened in the namespaces, by this process, so that a test sends hundreds of
real packets in the time that one `exec` takes. What does not come is an `Unanswered`, which a waiting test takes for
"not yet".
"""

from __future__ import annotations

import ctypes
import hashlib
import http.client
import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NamedTuple

import packets
from lab.cluster import Cluster
from lab.fabric import FABRIC
from lab.run import LabError, run
from lab.settings import OUTSIDE
from lab_policy_netns import inside, namespace_of, pid_in_pod

HTTP, UDP = 8080, 8081
SERVER = ("netexec", f"--http-port={HTTP}", f"--udp-port={UDP}")
"""agnhost's arguments for a pod that answers: over HTTP and UDP, with its host name, or the client's address."""
WITHIN = 5.0
"""Seconds after which an answer counts as not coming."""

_ETH_P_ALL = 0x0003
_SO_ATTACH_FILTER = 26
_RAW_WITH_HEADER = 255  # IPPROTO_RAW, see raw(7)

Address = tuple[str, int]


class Unanswered(LabError):
    """Nothing came back, or a refusal."""


class Transferred(NamedTuple):
    """What a transfer came to at its receiver."""

    size: int
    digest: str


@dataclass(frozen=True)
class End:
    """A pod, a node or the outside host, by one of its addresses. `bound`: it sends from `address` even where its
    routes say another; `others`: what else it is known by."""

    name: str
    address: str
    namespace: int
    bound: bool = False
    others: tuple[str, ...] = ()

    def by(self, family: int) -> End:
        """The same end by its address of a family, 4 or 6."""
        found = [each for each in (self.address, *self.others) if version_of(each) == family]
        assert found, f"{self.name} has no IPv{family} address"
        return replace(self, address=found[0])

    # --- asking -------------------------------------------------------------------------------------------------------

    def open(self, kind: int = socket.SOCK_STREAM, family: int = 0, protocol: int = 0) -> socket.socket:
        """A socket that lives in this end's network namespace, whose operations time out. `family`: by default that of
        this end's address."""
        with inside(self.namespace):
            opened = socket.socket(family or family_of(self.address), kind, protocol)
        opened.settimeout(WITHIN)
        return opened

    @contextmanager
    def talking(self, target: Address, kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
        """A socket connected to the target. All that goes wrong in the block is Unanswered."""
        with self.open(kind, family_of(target[0])) as opened:
            try:
                if self.bound:
                    opened.bind((self.address, 0))
                opened.connect(target)
                yield opened
            except (OSError, http.client.HTTPException) as error:
                raise Unanswered(f"{self.name} to {target[0]}:{target[1]}: {error!r}") from None

    def get(self, target: Address, path: str = "/hostname") -> str:
        """The body of an HTTP answer."""
        with self.talking(target) as opened:
            connection = http.client.HTTPConnection(*target)
            connection.sock = opened
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def ask(self, target: Address, text: str = "hostname") -> str:
        """The answer to one UDP datagram (three are sent, for the first may be lost to a neighbour not yet known)."""
        with self.talking(target, socket.SOCK_DGRAM) as opened:
            opened.settimeout(WITHIN / 3)
            for _ in range(2):
                opened.send(text.encode())
                try:
                    return opened.recv(65536).decode()
                except TimeoutError:
                    continue
            opened.send(text.encode())
            return opened.recv(65536).decode()

    def seen_as(self, target: Address) -> tuple[str, str]:
        """From which address an agnhost server got our requests: (over TCP, over UDP on the port after)."""
        udp = (target[0], UDP if target[1] == HTTP else target[1] + 1)
        return _host(self.get(target, "/clientip")), _host(self.ask(udp, "clientip"))

    def ping(self, address: str, size: int = 56) -> None:
        """One echo of so many bytes. Raises Unanswered."""
        try:
            self.run("busybox", "ping", "-c", "1", "-W", "5", "-s", str(size), address)
        except LabError as error:
            raise Unanswered(str(error)) from None

    def run(self, *argv: str) -> str:
        """Output of a command of this machine in this end's network namespace (and in no other of its namespaces)."""
        pid, number = os.getpid(), self.namespace
        return run(["nsenter", f"--net=/proc/{pid}/fd/{number}", "--", *argv], timeout=60)

    # --- answering ----------------------------------------------------------------------------------------------------

    def listen(self, port: int) -> socket.socket:
        """A TCP listener on this end's address. Connections to it are made by the kernel, before `accept`."""
        opened = self.open()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((self.address, port))
        opened.listen()
        return opened

    def receive(self, port: int) -> socket.socket:
        """A UDP socket bound to this end's address."""
        opened = self.open(socket.SOCK_DGRAM)
        opened.bind((self.address, port))
        return opened

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self.namespace)


def _host(text: str) -> str:
    return text.rpartition(":")[0].strip("[]")


def version_of(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def family_of(address: str) -> int:
    """The socket family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


# --- finding ends -----------------------------------------------------------------------------------------------------


def pod_end(cluster: Cluster, name: str, namespace: str, *, timeout: float = 120) -> End:
    """A pod, once it is Ready."""
    address = cluster.wait_pod(name, namespace=namespace, timeout=timeout)
    pod = cluster.kubectl.json("-n", namespace, "get", "pod", name)
    uid, addresses = str(pod["metadata"]["uid"]), tuple(str(each["ip"]) for each in pod["status"]["podIPs"])
    pid = cluster.wait_for(f"a process in {name}", lambda: pid_in_pod(uid), timeout=30)
    return End(name, address, namespace_of(pid), others=addresses)


def node_end(cluster: Cluster, node: str) -> End:
    """A node itself."""
    member = cluster.settings.member(node)
    return End(node, member.address, namespace_of(cluster.machines.holder(node)), others=(member.address6,))


def outside_end(cluster: Cluster) -> End:
    """The host outside of the cluster, that knows no pod's address."""
    namespace = namespace_of(cluster.machines.holder(FABRIC))
    addresses = [OUTSIDE[family] for family in cluster.settings.node_families]
    return End("outside", addresses[0], namespace, bound=True, others=tuple(addresses))


@contextmanager
def ends_of(cluster: Cluster, namespace: str, pods: Iterable[str]) -> Iterator[dict[str, End]]:
    """All nodes, the outside host, and these pods of a namespace once they are Ready; by name."""
    found = {node: node_end(cluster, node) for node in cluster.nodes}
    found["outside"] = outside_end(cluster)
    try:
        for name in pods:
            found[name] = pod_end(cluster, name, namespace)
        yield found
    finally:
        for end in found.values():
            end.close()


# --- much at once -----------------------------------------------------------------------------------------------------


def transfer(source: End, target: End, port: int, data: bytes) -> Transferred:
    """Send data over one TCP connection; what came of it. Raises Unanswered."""
    got = hashlib.sha256()
    size = 0
    with target.listen(port) as listener, source.talking((target.address, port)) as sending:
        receiving, _ = listener.accept()
        sender = threading.Thread(target=_send, args=(sending, data), daemon=True)
        sender.start()
        with receiving:
            receiving.settimeout(WITHIN)
            while chunk := receiving.recv(1 << 16):
                got.update(chunk)
                size += len(chunk)
        sender.join()
    return Transferred(size, got.hexdigest())


def _send(opened: socket.socket, data: bytes) -> None:
    opened.sendall(data)
    opened.shutdown(socket.SHUT_WR)


# --- forging and watching ---------------------------------------------------------------------------------------------


def forge(sender: End, whole: Iterable[bytes]) -> None:
    """Send whole packets of the family of the end's address, as a process with CAP_NET_RAW there can."""
    with sender.open(socket.SOCK_RAW, protocol=_RAW_WITH_HEADER) as raw:
        for packet in whole:
            raw.sendto(packet, (packets.ends_of(packet)[1], 0))


class Sighting(NamedTuple):
    """A packet at an interface: as it came in there, or went out."""

    interface: str
    source: str
    destination: str


class Watch:
    """UDP datagrams to one port at all interfaces of an end, in and out, while the ``with`` block runs."""

    def __init__(self, end: End, port: int) -> None:
        self._socket = end.open(socket.SOCK_DGRAM, socket.AF_PACKET, socket.htons(_ETH_P_ALL))
        _only_udp_to(self._socket, port)
        self._socket.setblocking(False)
        self._drain()  # what came before the filter did
        self._seen: set[Sighting] = set()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def seen(self) -> set[Sighting]:
        """All until now."""
        for data, interface in self._drain():
            self._seen.add(Sighting(interface, *packets.ends_of(data)))
        return self._seen

    def _drain(self) -> list[tuple[bytes, str]]:
        found = []
        with suppress(BlockingIOError):
            while True:
                data, where = self._socket.recvfrom(2048)
                found.append((data, str(where[0])))
        return found


def _only_udp_to(opened: socket.socket, port: int) -> None:
    """Classic BPF over the packet from its IP header on, that has no options or extensions: protocol UDP (IPv4: byte 9,
    IPv6: 6), destination port (IPv4: bytes 22 and 23, IPv6: 42 and 43)."""
    program = [
        (0x30, 0, 0, 0),  # ldb [0]
        (0x54, 0, 0, 0xF0),  # and 0xf0
        (0x15, 4, 0, 0x60),  # jeq version 6
        (0x30, 0, 0, 9),  # ldb [9]
        (0x15, 0, 7, socket.IPPROTO_UDP),  # jeq UDP, else drop
        (0x28, 0, 0, 22),  # ldh [22]
        (0x05, 0, 0, 3),  # ja, to the port
        (0x30, 0, 0, 6),  # ldb [6]
        (0x15, 0, 3, socket.IPPROTO_UDP),  # jeq UDP, else drop
        (0x28, 0, 0, 42),  # ldh [42]
        (0x15, 0, 1, port),  # jeq port, else drop
        (0x06, 0, 0, 0xFFFF),  # ret all
        (0x06, 0, 0, 0),  # ret nothing
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    head = struct.pack("HL", len(program), ctypes.addressof(code))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
