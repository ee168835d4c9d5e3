"""A tracked connection, from what the kernel says of it. Pure.

Owns: decoding. Must not: judge, or do I/O.

Written out rather than by pyroute2's classes, since a table may hold a hundred thousand entries: most are told by their
addresses alone to be none of ours, and are not decoded further.
Source: linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from manx_core.policy.evaluate import Flow

_ATTRIBUTE = struct.Struct("=HH")
_PORT = struct.Struct("!H")
_STATUS = struct.Struct("!I")
_TYPE = 0x3FFF
_FAMILY_HEADER = 4
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_ID, CTA_TUPLE_MASTER, CTA_ZONE = 1, 2, 3, 12, 14, 18
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SOURCES, _DESTINATIONS = (1, 3), (2, 4)
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_ICMP_TYPES, _ICMP_CODES = (5, 8), (6, 9)
IPS_EXPECTED = 1
_ADDRESS_SIZES = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}

_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP", 136: "UDPLite"}
"""As in `Rule.protocol`; others by their number."""


class Tuple(NamedTuple):
    """One direction of a connection. Addresses in the network's byte order."""

    source: bytes
    destination: bytes
    protocol: int
    source_port: int = 0
    port: int = 0
    """The destination's."""
    icmp_type: int = -1
    icmp_code: int = -1


@dataclass(frozen=True, slots=True)
class Connection:
    """An entry of the table. `original` is as the first packet was sent, `reply` as an answer to it arrives."""

    original: Tuple
    reply: Tuple
    master: Tuple | None = None
    """The connection that announced this one (its original direction), where a helper did that."""
    identity: bytes = b""
    """The attributes by which the kernel finds this very entry."""

    @property
    def flow(self) -> Flow:
        """The first packet as policy sees it: on its way through FORWARD its destination is translated already, its
        source is not yet. What the destination became is where answers come from."""
        return Flow(
            text_of(self.original.source),
            text_of(self.reply.source),
            _PROTOCOLS.get(self.original.protocol, str(self.original.protocol)),
            port=self.reply.source_port,
            source_port=self.original.source_port,
            icmp_type=self.original.icmp_type,
            icmp_code=self.original.icmp_code,
        )


def text_of(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def parse(message: bytes, ours: Container[bytes]) -> Connection | None:
    """The connection that a message's body describes; None where neither its source nor its destination, once
    translated, is among `ours`, or where it cannot be read."""
    try:
        if _is_strangers(message, ours):
            return None
        attributes = dict(_attributes(message, _FAMILY_HEADER, len(message)))
        original, reply = _tuple_of(message, attributes[CTA_TUPLE_ORIG]), attributes[CTA_TUPLE_REPLY]
        answer = _tuple_of(message, reply)
        if original.source not in ours and answer.source not in ours:
            return None
        return Connection(original, answer, _master(message, attributes), _identity(message, attributes))
    except (KeyError, IndexError, struct.error):
        return None


def _is_strangers(message: bytes, ours: Container[bytes]) -> bool:
    """Told by the addresses, where they are if the kernel writes attributes in its usual order; else False."""
    size = _ADDRESS_SIZES.get(message[0], 0)
    length, kind = _ATTRIBUTE.unpack_from(message, _FAMILY_HEADER)
    reply = _FAMILY_HEADER + ((length + 3) & ~3)
    if (
        not size
        or kind & _TYPE != CTA_TUPLE_ORIG
        or _ATTRIBUTE.unpack_from(message, reply)[1] & _TYPE != CTA_TUPLE_REPLY
    ):
        return False
    first, second = _FAMILY_HEADER + 12, reply + 12
    return message[first : first + size] not in ours and message[second : second + size] not in ours


_Span = tuple[int, int]


def _attributes(data: bytes, start: int, end: int) -> Iterator[tuple[int, _Span]]:
    """Type → where the value is."""
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        yield kind & _TYPE, (start + 4, start + length)
        start += max(4, (length + 3) & ~3)


def _tuple_of(data: bytes, span: _Span) -> Tuple:
    parts = dict(_attributes(data, *span))
    addresses, protocol = dict(_attributes(data, *parts[_TUPLE_IP])), dict(_attributes(data, *parts[_TUPLE_PROTO]))
    return Tuple(
        _first(data, addresses, _SOURCES),
        _first(data, addresses, _DESTINATIONS),
        data[protocol[_NUMBER][0]],
        _port(data, protocol, _SOURCE_PORT),
        _port(data, protocol, _DESTINATION_PORT),
        _byte(data, protocol, _ICMP_TYPES),
        _byte(data, protocol, _ICMP_CODES),
    )


def _first(data: bytes, found: dict[int, _Span], kinds: tuple[int, int]) -> bytes:
    start, end = found[kinds[0]] if kinds[0] in found else found[kinds[1]]
    return data[start:end]


def _port(data: bytes, found: dict[int, _Span], kind: int) -> int:
    return int(_PORT.unpack_from(data, found[kind][0])[0]) if kind in found else 0


def _byte(data: bytes, found: dict[int, _Span], kinds: tuple[int, int]) -> int:
    return next((data[found[kind][0]] for kind in kinds if kind in found), -1)


def _master(data: bytes, attributes: dict[int, _Span]) -> Tuple | None:
    status = _STATUS.unpack_from(data, attributes[CTA_STATUS][0])[0] if CTA_STATUS in attributes else 0
    if not status & IPS_EXPECTED or CTA_TUPLE_MASTER not in attributes:
        return None
    return _tuple_of(data, attributes[CTA_TUPLE_MASTER])


def _identity(data: bytes, attributes: dict[int, _Span]) -> bytes:
    """With the entry's number: an entry of the same ends that came since is another."""
    found = b""
    for kind in (CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID):
        if kind in attributes:
            start, end = attributes[kind]
            value = data[start - 4 : end]
            found += value + bytes(-len(value) % 4)
    return found
