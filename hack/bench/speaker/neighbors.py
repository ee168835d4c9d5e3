"""BGP neighbors by the hundred, in one process: they accept, agree to whatever is proposed, keep sessions alive, and
count what they hear.

Owns: as much of BGP (RFC 4271, 6793) as that takes. Must not: announce, judge or remember routes. It is the floor of
the speaker as well: a bare asyncio process that keeps as many sessions alive.

    python neighbors.py PORT ADDRESS...

Each line on standard input is answered by a line: a `Heard`, as JSON.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time

import msgspec

MARKER = b"\xff" * 16
HEADER = 19
OPEN, UPDATE, KEEPALIVE = 1, 2, 4
KEEPALIVES_PER_HOLD_TIME = 3
FAMILY = {4: b"\x00\x01\x00\x01", 6: b"\x00\x02\x00\x01"}
"""AFI, a zero, SAFI: unicast (RFC 4760)."""


class Heard(msgspec.Struct):
    """`updates`: by address, without End-of-RIB, since the process began. `last`: when the last of them came, in
    seconds of the monotonic clock."""

    established: int = 0
    updates: dict[str, int] = msgspec.field(default_factory=dict)
    bytes: int = 0
    last: float = 0.0


class Neighbor(asyncio.Protocol):
    """One session."""

    def __init__(self, address: str, heard: Heard) -> None:
        self._address, self._heard = address, heard
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._up = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard.established -= self._up
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= HEADER:
            length, kind = struct.unpack_from("!HB", self._buffer, 16)
            if len(self._buffer) < length:
                return
            body, self._buffer = self._buffer[HEADER:length], self._buffer[length:]
            self._take(kind, body)

    def _take(self, kind: int, body: bytes) -> None:
        if kind == OPEN:
            self._send(OPEN, opened(self._address, body))
            self._keep_alive(struct.unpack_from("!H", body, 3)[0] / KEEPALIVES_PER_HOLD_TIME)
        elif kind == KEEPALIVE and not self._up:
            self._up = True
            self._heard.established += 1
        elif kind == UPDATE and not is_end_of_rib(body):
            self._heard.updates[self._address] = self._heard.updates.get(self._address, 0) + 1
            self._heard.bytes += len(body) + HEADER
            self._heard.last = time.monotonic()

    def _keep_alive(self, interval: float) -> None:
        self._send(KEEPALIVE, b"")
        if interval:
            self._timer = asyncio.get_running_loop().call_later(interval, self._keep_alive, interval)

    def _send(self, kind: int, body: bytes) -> None:
        assert self._transport is not None
        self._transport.write(MARKER + struct.pack("!HB", HEADER + len(body), kind) + body)


def opened(address: str, theirs: bytes) -> bytes:
    """The OPEN that answers one of the same AS: its AS and hold time, and an identifier that is made of the address."""
    version, as_number, hold_time = struct.unpack_from("!BHH", theirs)
    family = FAMILY[6 if ":" in address else 4]
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    capabilities = b"\x01\x04" + family + b"\x41\x04" + struct.pack("!I", as_number)
    parameter = bytes((2, len(capabilities))) + capabilities
    return struct.pack("!BHH4sB", version, as_number, hold_time, packed[-4:], len(parameter)) + parameter


def is_end_of_rib(body: bytes) -> bool:
    """RFC 4724, section 2: nothing at all, or an MP_UNREACH_NLRI of nothing but its family."""
    return len(body) == 4 or (len(body) <= 11 and body[:2] == b"\x00\x00" and body[4:6] in (b"\x80\x0f", b"\x90\x0f"))


async def serve(port: int, addresses: list[str]) -> None:
    """Until standard input ends."""
    heard, loop = Heard(), asyncio.get_running_loop()
    for address in addresses:
        await loop.create_server(lambda address=address: Neighbor(address, heard), address, port)  # type: ignore[misc]
    print("listening", flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        print(msgspec.json.encode(heard).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2:]))
