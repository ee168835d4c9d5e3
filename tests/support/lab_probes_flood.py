"""A sender of forbidden probes, run in a pod's network namespace: TCP SYNs and UDP datagrams, each a flow of its own.

Owns: sending so many packets a second, and saying on its output how many it really sent. It must not judge what became
of them: the detector at the target does. Raw sockets, because a kernel's own sockets would hold a port for each probe
and send SYNs again; right checksums, because connection tracking calls everything else INVALID, which is dropped for
that reason alone.

Where it falls behind it catches up, so that the rate holds on a busy machine. It ends with the process that began it.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

TICK = 0.005
AT_ONCE = 100
TELL_EVERY = 0.1
_SYN = 0x02


@dataclass(frozen=True)
class Aim:
    """Where probes go, from which range of source ports; `rate` is in packets a second, of both protocols together."""

    source: str
    target: str
    tcp_port: int
    udp_port: int
    first_port: int
    ports: int
    rate: int


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    words: tuple[int, ...] = struct.unpack(f"!{len(data) // 2}H", data)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _pseudo_header(aim: Aim, protocol: int, length: int) -> bytes:
    return socket.inet_aton(aim.source) + socket.inet_aton(aim.target) + struct.pack("!BBH", 0, protocol, length)


def tcp_syn(aim: Aim, port: int) -> bytes:
    """A segment that asks for a connection from this source port (RFC 9293, 3.1)."""

    def header(check: int) -> bytes:
        return struct.pack("!HHIIBBHHH", port, aim.tcp_port, port << 8, 0, 5 << 4, _SYN, 64240, check, 0)

    return header(checksum(_pseudo_header(aim, socket.IPPROTO_TCP, 20) + header(0)))


def udp_datagram(aim: Aim, port: int) -> bytes:
    """A datagram from this source port (RFC 768)."""
    payload = b"probe"
    length = 8 + len(payload)

    def whole(check: int) -> bytes:
        return struct.pack("!HHHH", port, aim.udp_port, length, check) + payload

    return whole(checksum(_pseudo_header(aim, socket.IPPROTO_UDP, length) + whole(0)) or 0xFFFF)


def packets(aim: Aim) -> Iterator[tuple[int, bytes]]:
    """For ever (protocol, packet), the protocols in turn, each source port once before any comes again."""
    ports = range(aim.first_port, aim.first_port + aim.ports)
    made = [(socket.IPPROTO_TCP, tcp_syn(aim, port)) for port in ports]
    made += [(socket.IPPROTO_UDP, udp_datagram(aim, port)) for port in ports]
    order = [made[index // 2 + (index % 2) * aim.ports] for index in range(2 * aim.ports)]
    while True:
        yield from order


def flood(aim: Aim) -> None:
    """Until the process that began this ends, or closes our output."""
    raw = {number: socket.socket(socket.AF_INET, socket.SOCK_RAW, number) for number in (6, 17)}
    parent, supply, to = os.getppid(), packets(aim), (aim.target, 0)
    sent = refused = 0
    started = told = time.monotonic()
    while os.getppid() == parent:
        now = time.monotonic()
        for _ in range(min(AT_ONCE, int((now - started) * aim.rate) - sent - refused)):
            protocol, packet = next(supply)
            try:
                raw[protocol].sendto(packet, to)
                sent += 1
            except OSError:
                refused += 1
        if now - told >= TELL_EVERY:
            told = now
            print(f"{now} {sent} {refused}", flush=True)
        time.sleep(TICK)


if __name__ == "__main__":
    _source, _target, *_numbers = sys.argv[1:]
    try:
        flood(Aim(_source, _target, *map(int, _numbers)))
    except BrokenPipeError:
        os._exit(0)
