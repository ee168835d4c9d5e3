"""Owns what probes over protocols without sockets look like: SCTP, UDPLite, ICMP, ICMPv6, and 253, which is nobody's;
asking, answering, and telling an answer.

It must not send anything. Whoever asks chooses a token: a source port, or an identifier, which the answer carries back.
ICMP is answered by kernels; all else by whoever holds a raw socket at the other end. Checksums are right, or connection
tracking would call the packets invalid.
"""

from __future__ import annotations

import socket
import struct

import lab_policy_sctp as sctp

NUMBERS = {"ICMP": 1, "ICMPv6": 58, "SCTP": sctp.PROTOCOL, "UDPLite": 136, "253": 253}
"""Protocols that raw sockets carry here, and their numbers (253: for experiments, RFC 3692)."""
ICMP_REPLIES = {"ICMP": {0: 8, 14: 13}, "ICMPv6": {129: 128}}
"""Reply → request: echo, timestamp (RFC 792), and ICMPv6's echo (RFC 4443)."""
_ICMP = struct.Struct("!BBHHH")
_UDP = struct.Struct("!HHHH")
_ASK, _ANSWER = b"ask?", b"here"
_TIMESTAMP = 13
_UDP_NUMBER = 17


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return int(~(total + (total >> 16)) & 0xFFFF)


def payload(data: bytes, version: int) -> bytes:
    """What follows the IP header: raw IPv4 sockets hand it over with the packet, those of IPv6 do not."""
    return data[(data[0] & 0xF) * 4 :] if version == 4 and data else data


def question(protocol: str, port: int, code: int, token: int, source: str, target: str) -> bytes:
    """The packet that asks; `port` is the type of ICMP."""
    if protocol == "SCTP":
        return sctp.Packet(token, port, 0, sctp.INIT, init_tag=token).encode()
    if protocol == "UDPLite":
        return _udplite(token, port, _ASK, source, target)
    if protocol == "253":
        return _ASK + struct.pack("!H", token)
    body = bytes(12) if port == _TIMESTAMP else b"manx"
    # The kernel itself completes ICMPv6's checksum, which covers addresses.
    total = checksum(_ICMP.pack(port, code, 0, token, 1) + body) if protocol == "ICMP" else 0
    return _ICMP.pack(port, code, total, token, 1) + body


def answer(protocol: str, data: bytes, source: str, target: str) -> bytes | None:
    """What `source`, which was asked this, says to `target`; None for anything but a question."""
    if protocol == "SCTP":
        packet = sctp.parse(data)
        return packet.acknowledged(init_tag=1).encode() if packet and packet.chunk == sctp.INIT else None
    if protocol == "UDPLite" and data[8:12] == _ASK:
        asker, port, *_ = _UDP.unpack_from(data)
        return _udplite(port, asker, _ANSWER, source, target)
    if protocol == "253" and data[:4] == _ASK:
        return _ANSWER + data[4:6]
    return None


def answered(protocol: str, data: bytes) -> int | None:
    """The token of the question that this answers; None for anything but an answer."""
    if protocol == "SCTP":
        packet = sctp.parse(data)
        return packet.port if packet and packet.chunk in (sctp.INIT_ACK, sctp.ABORT) else None
    if protocol == "UDPLite":
        return int(_UDP.unpack_from(data)[1]) if data[8:12] == _ANSWER else None
    if protocol == "253":
        return int(struct.unpack_from("!H", data, 4)[0]) if data[:4] == _ANSWER else None
    if len(data) < _ICMP.size:
        return None
    kind, _, _, identifier, _ = _ICMP.unpack_from(data)
    return int(identifier) if kind in ICMP_REPLIES[protocol] else None


def _udplite(source_port: int, port: int, data: bytes, source: str, target: str) -> bytes:
    """A packet whose checksum covers all of it (RFC 3828): coverage 0.

    Its pseudo header names UDP, which is wrong, but what Linux' connection tracking holds it to: what a UDPLite socket
    sends is invalid there.
    """
    length = _UDP.size + len(data)
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, target)
    tail = struct.pack("!II", length, _UDP_NUMBER) if ":" in target else struct.pack("!HH", _UDP_NUMBER, length)
    total = checksum(ends + tail + _UDP.pack(source_port, port, 0, 0) + data)
    return _UDP.pack(source_port, port, 0, total or 0xFFFF) + data
