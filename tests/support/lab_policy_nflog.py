"""Owns hearing what a node's kernel notes of packets by NFLOG, as any logging daemon there would (nfnetlink_log).

It must not be the only listener's sort: one process may bind a group of a network namespace at a time.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from lab_policy_netns import inside

GROUP = 0
_NETFILTER = 12  # NETLINK_NETFILTER
_ULOG = 4 << 8  # NFNL_SUBSYS_ULOG
_PACKET, _CONFIG = _ULOG, _ULOG | 1
_REQUEST, _ACK = 1, 4
_COMMAND, _MODE, _TIMEOUT, _THRESHOLD = 1, 2, 4, 5  # NFULA_CFG_*
_BIND = 1
_PREFIX = 10  # NFULA_PREFIX
_HEADER, _FAMILY, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("!BBH"), struct.Struct("=HH")


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


def _request(*attributes: bytes) -> bytes:
    body = _FAMILY.pack(socket.AF_UNSPEC, 0, GROUP) + b"".join(attributes)
    return _HEADER.pack(_HEADER.size + len(body), _CONFIG, _REQUEST | _ACK, 1, 0) + body


class Listener:
    """The prefixes of what was noted, and how often each."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self.heard: Counter[str] = Counter()

    def hear(self) -> Counter[str]:
        """All that came by now, since the beginning."""
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return self.heard
            self.heard.update(_prefixes(data))


def _prefixes(data: bytes) -> Iterator[str]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        message, data = data[_HEADER.size + _FAMILY.size : length], data[length + (-length % 4) :]
        while kind == _PACKET and len(message) >= _ATTRIBUTE.size:
            size, attribute = _ATTRIBUTE.unpack_from(message)
            if attribute == _PREFIX:
                yield message[_ATTRIBUTE.size : size].rstrip(b"\0").decode()
            message = message[size + (-size % 4) :]


@contextmanager
def listening(namespace: int) -> Iterator[Listener]:
    """Listen in a network namespace (a descriptor of it). Raises OSError where somebody else does."""
    with inside(namespace):
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
    with opened:
        opened.bind((0, 0))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        now = [_attribute(kind, struct.pack("!I", value)) for kind, value in ((_TIMEOUT, 1), (_THRESHOLD, 1))]
        for request in (
            _request(_attribute(_COMMAND, bytes([_BIND]))),
            _request(_attribute(_MODE, struct.pack("!IBB", 64, 2, 0)), *now),
        ):
            opened.send(request)
            (error,) = struct.unpack_from("=i", opened.recv(4096), _HEADER.size)
            if error:
                raise OSError(-error, "nfnetlink_log")
        opened.setblocking(False)
        yield Listener(opened)
