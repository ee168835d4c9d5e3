"""Owns hearing from a network namespace's nf_tables that a chain was given a rule, or is gone.

It must not ask the kernel anything: nf_tables tells of each commit by netlink multicast, so waiting costs nothing, and
the moment is the commit's, not that of the next poll.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time

from bench.namespaces import entered

_SOL_NETLINK, _ADD_MEMBERSHIP, _SO_RCVBUFFORCE = 270, 1, 33
_NETLINK_NETFILTER, _GROUP_NFTABLES, _SUBSYSTEM_NFTABLES = 12, 7, 10  # linux/netfilter/nfnetlink.h
_DELCHAIN, _NEWRULE = _SUBSYSTEM_NFTABLES << 8 | 5, _SUBSYSTEM_NFTABLES << 8 | 6  # linux/netfilter/nf_tables.h
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_BUFFER = 16 * 1024 * 1024


class NftEvents:
    """The nf_tables of the namespace of process `pid`. To be made, and used, on a running loop."""

    def __init__(self, pid: int) -> None:
        self._socket = _socket_in(pid)
        self._waiting: dict[tuple[int, bytes], asyncio.Future[float]] = {}
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def rule_in(self, chain: str) -> asyncio.Future[float]:
        """When (by time.perf_counter) the chain is next given a rule."""
        return self._expect(_NEWRULE, chain)

    def gone(self, chain: str) -> asyncio.Future[float]:
        """When the chain is deleted."""
        return self._expect(_DELCHAIN, chain)

    def _expect(self, kind: int, chain: str) -> asyncio.Future[float]:
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[kind, chain.encode() + b"\0"] = future
        return future

    def _read(self) -> None:
        data, now = self._socket.recv(1 << 20), time.perf_counter()
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            self._heard(kind, data[at + _HEADER.size : at + length], now)
            at += length + 3 & ~3

    def _heard(self, kind: int, payload: bytes, now: float) -> None:
        for (wanted, name), future in list(self._waiting.items()):
            if kind == wanted and name in payload:
                del self._waiting[wanted, name]
                if not future.done():
                    future.set_result(now)


def _socket_in(pid: int) -> socket.socket:
    """A subscribed socket, which belongs for its whole life to the namespace in which it was opened. Raises OSError."""
    with entered(pid):
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER)
    opened.bind((0, 0))
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    opened.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)
    return opened
