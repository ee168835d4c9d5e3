"""Owns packets with any source, byte by byte, as a process with CAP_NET_RAW can send them: of both families.

It must not send them.
"""

from __future__ import annotations

import socket
import struct

_UDP = 17
_HOPS = 64


def udp_packet(source: str, destination: str, port: int, payload: bytes = b"") -> bytes:
    """A packet of IPv4 (RFC 791) or IPv6 (RFC 8200) with a UDP datagram (RFC 768) from and to one port. Of IPv4, the
    kernel fills in the length, the identification and the header's checksum (raw(7)); in either it leaves the source as
    it is."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    length = 8 + len(payload)
    udp = struct.pack("!HHH", port, port, length)
    if family == socket.AF_INET:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, _HOPS, _UDP, 0)
        return header + ends + udp + b"\0\0" + payload  # no checksum
    covered = ends + struct.pack("!LL", length, _UDP) + udp + b"\0\0" + payload
    return struct.pack("!LHBB", 6 << 28, length, _UDP, _HOPS) + ends + udp + _checksum(covered) + payload


def ends_of(packet: bytes) -> tuple[str, str]:
    """Source and destination of a packet that begins with its IP header."""
    if packet[0] >> 4 == 6:
        return socket.inet_ntop(socket.AF_INET6, packet[8:24]), socket.inet_ntop(socket.AF_INET6, packet[24:40])
    return socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])


def _checksum(covered: bytes) -> bytes:
    """RFC 1071, of what UDP's covers over IPv6, where it must not be left out."""
    padded = covered + b"\0" * (len(covered) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", (~total & 0xFFFF) or 0xFFFF)
