"""Netlink's attributes, and the headers of messages that come by the hundreds, as bytes: pure.

Owns: those forms. Must not: know what a message is for, or do I/O.

Why beside pyroute2, which encodes and decodes whatever is rare (`netlink_classes`): routes, members of sets and
connections are looked up or listed by the hundreds every few seconds, at a tenth of its cost.
Source: RFC 3549; linux/netlink.h, linux/rtnetlink.h.
"""

from __future__ import annotations

import socket
import struct

ATTRIBUTE = struct.Struct("=HH")
NESTED = 0x8000
_KIND = 0x3FFF
"""Without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""

RTMSG = struct.Struct("=8BI")
"""Family, destination's and source's prefix lengths, TOS, table, protocol, scope, type, flags."""
NFGENMSG = struct.Struct("=BBH")
"""Family, version, resource."""

AF_INET, AF_INET6 = int(socket.AF_INET), int(socket.AF_INET6)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_SETNEIGHTBL = 28, 67

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE = 1, 4, 5, 6, 15

RTM_F_FIB_MATCH = 0x2000
"""Answer with the route itself, not with what a packet would use."""

Value = bytes | int | str
"""Bytes as they are, a number as 32 bits, text with a zero behind it."""


def attributes(*pairs: tuple[int, Value]) -> bytes:
    """Attributes one after the other, padded."""
    return b"".join(_attribute(kind, _encoded(value)) for kind, value in pairs)


def nested(kind: int, *pairs: tuple[int, Value], header: bytes = b"") -> tuple[int, bytes]:
    """An attribute that holds attributes, after a header where its kind has one."""
    return kind | NESTED, header + attributes(*pairs)


def parsed(body: bytes, offset: int) -> dict[int, bytes]:
    """The attributes from an offset on; of several of one kind the last. What is cut short is left out."""
    found: dict[int, bytes] = {}
    while offset + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, offset)
        found[kind & _KIND] = body[offset + ATTRIBUTE.size : offset + length]
        offset += max(ATTRIBUTE.size, (length + 3) & ~3)
    return found


def is_ipv6(address: str) -> bool:
    return ":" in address


def family_of(address: str) -> int:
    return socket.AF_INET6 if is_ipv6(address) else socket.AF_INET


def bits_of(address: str) -> int:
    """The prefix length of the address alone."""
    return 128 if is_ipv6(address) else 32


def packed(address: str) -> bytes:
    """Raises OSError where it is none."""
    return socket.inet_pton(family_of(address), address)


def spelt(address: bytes) -> str:
    """As RFC 5952 has it; empty for what is no address."""
    if len(address) not in (4, 16):
        return ""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def number(value: bytes) -> int:
    """Of 32 bits; 0 where there is none."""
    return int(struct.unpack("=I", value)[0]) if len(value) == 4 else 0


def _attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _encoded(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    return struct.pack("=I", value) if isinstance(value, int) else value.encode() + b"\0"
