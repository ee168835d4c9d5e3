"""Simulated packets as bytes, and a world's places to send them from.

Owns: `frame_of` (headers and right checksums, or connection tracking would call a packet invalid; a wrong one where it
is to), `Wire` (packets from a pod's or the outside's interface, whatever their addresses; nobody answers). Must not:
choose packets.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterator
from itertools import count

from kernelsim import Packet
from lab_policy_sctp import INIT
from lab_policy_sctp import Packet as Sctp
from lab_policy_wire import checksum
from netns import Netns
from policy_world import OUTSIDE, OUTSIDE6, World
from rule_aim import is_own_icmp

_UDP = 17
_SYN, _ACK = 2, 16
_NUMBERS = count(1)
_SILENT = "*raw\n-A PREROUTING -j DROP\n-A OUTPUT -j DROP\nCOMMIT\n"
"""Of one whose kernel hears nothing, and says nothing of itself. What is sent from a packet socket meets no rule."""


def bytes_of(packet: Packet) -> bytes:
    """A packet from its IP header on."""
    number = packet.number
    ends = b"".join(ipaddress.ip_address(one).packed for one in (packet.source, packet.destination))
    payload = _payload(packet, number, ends)
    if packet.version == 6:
        return struct.pack("!IHBB", 6 << 28, len(payload), number, 255) + ends + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), next(_NUMBERS) & 0xFFFF, 0, 64, number, 0)
    total = checksum(head + ends)
    return head[:10] + struct.pack("!H", total) + ends + payload


def _payload(packet: Packet, number: int, ends: bytes) -> bytes:
    ports = struct.pack("!HH", packet.source_port, packet.port)
    if packet.protocol == "tcp":
        flags = _SYN if packet.opens else _ACK
        head, tail = ports + struct.pack("!IIBBH", 1, int(not packet.opens), 5 << 4, flags, 1024), b"\0\0"
        good = _summed(ends, number, head, tail)
        return good[:16] + (b"\xde\xad" if packet.state == "INVALID" else good[16:18]) + tail
    if packet.protocol in ("udp", "udplite"):
        length = 12 if packet.protocol == "udp" else 0  # Of UDPLite it is how much the checksum covers: all.
        return _summed(ends, _UDP, ports + struct.pack("!H", length), b"manx")
    if packet.protocol == "sctp":
        return Sctp(packet.source_port, packet.port, 0, INIT, init_tag=1).encode()
    if is_own_icmp(packet):
        head, tail = (
            struct.pack("!BB", packet.icmp_type, packet.icmp_code),
            struct.pack("!HH16x", next(_NUMBERS) & 0xFFFF, 1),
        )
        return _summed(ends if packet.version == 6 else b"", number, head, tail)
    return bytes(16)


def _summed(ends: bytes, number: int, before: bytes, after: bytes) -> bytes:
    """With the checksum between; over the pseudo header too, where there are ends. UDPLite's is said to be UDP's, as
    Linux' connection tracking holds it to."""
    size = len(before) + 2 + len(after)
    pseudo = ends + (struct.pack("!II", size, number) if len(ends) > 8 else struct.pack("!HH", number, size))
    total = checksum((pseudo if ends else b"") + before + b"\0\0" + after)
    return before + struct.pack("!H", total) + after


class Wire:
    """Where packets are sent from: by interface of the node that they come in by. A context manager."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stack = contextlib.ExitStack()
        self._ways: dict[str, tuple[socket.socket, bytes]] = {}
        """Interface of the node → a socket at its other end, and the addresses of a frame sent there."""

    def __enter__(self) -> Wire:
        for interface, place, addresses in self._ends():
            self._ways[interface] = self._opened(interface, place, addresses)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _ends(self) -> Iterator[tuple[str, Netns, tuple[str, ...]]]:
        yield "eth0", self._world.outside, (OUTSIDE, OUTSIDE6)
        for pod in self._world.pods.values():
            yield pod.interface, pod.netns, (pod.address, pod.address6)

    def _opened(self, interface: str, place: Netns, addresses: tuple[str, ...]) -> tuple[socket.socket, bytes]:
        node, other = _hardware(self._world.node, interface), _hardware(place, "eth0")
        for address in addresses:  # So that nobody has to ask for them.
            self._world.node.ip("neigh", "replace", address, "lladdr", other, "dev", interface, "nud", "permanent")
        for program in ("iptables-nft-restore", "ip6tables-nft-restore"):
            place.run(program, stdin=_SILENT)
        with place.entered():
            way = self._stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
            way.bind(("eth0", 0))
        return way, bytes.fromhex((node + other).replace(":", ""))

    def send(self, packet: Packet) -> None:
        way, ends = self._ways[packet.into]
        way.send(ends + struct.pack("!H", 0x86DD if packet.version == 6 else 0x0800) + bytes_of(packet))


def _hardware(place: Netns, interface: str) -> str:
    with place.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as one:
        one.bind((interface, 0))
        found: bytes = one.getsockname()[4]
    return found.hex(":")
