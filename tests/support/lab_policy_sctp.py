"""Owns as much of SCTP as it takes to ask, and to answer, whether an association could begin (RFC 9260).

It must not be a transport: the lab's kernels may lack SCTP sockets, and then neither agnhost nor anything else can
listen. Packet filters and connection tracking see real SCTP all the same: INIT, and INIT ACK as its reply, with right
tags and checksums (connection tracking drops others).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

PROTOCOL = 132
INIT, INIT_ACK, ABORT = 1, 2, 6
_HEADER = struct.Struct("!HHI")
_INIT_BODY = struct.Struct("!IIHHI")
_STATE_COOKIE = struct.pack("!HH4s", 7, 8, b"manx")  # INIT ACK must carry one (RFC 9260, 3.3.3)


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC32C = _table()


def crc32c(data: bytes) -> int:
    """SCTP's checksum (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Packet:
    """An SCTP packet whose first chunk begins or refuses an association. `init_tag`: the sender's, of INIT and INIT
    ACK."""

    source_port: int
    port: int
    tag: int
    chunk: int
    init_tag: int = 0

    def encode(self) -> bytes:
        """The bytes after the IP header."""
        body = b""
        if self.chunk in (INIT, INIT_ACK):
            body = _INIT_BODY.pack(self.init_tag, 65535, 1, 1, self.init_tag)
            body += _STATE_COOKIE if self.chunk == INIT_ACK else b""
        chunk = struct.pack("!BBH", self.chunk, 0, 4 + len(body)) + body
        header = _HEADER.pack(self.source_port, self.port, self.tag)
        checksum = struct.pack("<I", crc32c(header + bytes(4) + chunk))
        return header + checksum + chunk

    def acknowledged(self, init_tag: int) -> Packet:
        """INIT ACK, in reply to this INIT."""
        return Packet(self.port, self.source_port, self.init_tag, INIT_ACK, init_tag)


def decode(data: bytes) -> Packet | None:
    """The packet in what a raw IPv4 socket received, IP header included; None where it is too short to be one."""
    return parse(data[(data[0] & 0xF) * 4 :] if data else data)


def parse(data: bytes) -> Packet | None:
    """The packet in what follows an IP header; None where it is too short to be one."""
    if len(data) < 16:
        return None
    source_port, port, tag = _HEADER.unpack_from(data)
    chunk = data[12]
    init_tag = struct.unpack_from("!I", data, 16)[0] if chunk in (INIT, INIT_ACK) and len(data) >= 20 else 0
    return Packet(source_port, port, tag, chunk, init_tag)
