"""Owns the one way from the root namespace into a lab: a listener on 127.0.0.1 whose connections are opened inside a
machine.

It must not listen on, or connect from, any address of the root namespace but loopback. A thread that has joined the
machine's network namespace opens the outgoing sockets; a socket stays in the namespace it was made in, so all else is
ordinary copying.

``forwarder.py HOLDER LISTEN_PORT ADDRESS PORT``
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

CLONE_NEWNET = 0x40000000
CHUNK = 1 << 18


def join_network(holder: int) -> None:
    """Move the calling thread, and it alone, into the network namespace of the process ``holder``."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
    if libc.setns(handle, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    os.close(handle)


def connect(address: str, port: int) -> socket.socket:
    """Open a connection from the calling thread's network namespace."""
    opened = socket.create_connection((address, port), timeout=10)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setblocking(False)
    return opened


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the sender has no more, then say so to the receiver."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


class Forwarder:
    """Accepts on loopback, connects inside."""

    def __init__(self, holder: int, address: str, port: int) -> None:
        self.inside = ThreadPoolExecutor(max_workers=1, initializer=join_network, initargs=(holder,))
        self.address, self.port = address, port

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end; refused inside means closed outside."""
        loop = asyncio.get_running_loop()
        try:
            opened = await loop.run_in_executor(self.inside, connect, self.address, self.port)
        except OSError:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection(sock=opened, limit=CHUNK)
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        for end in (writer, far_writer):
            end.close()


async def main(holder: str, listen_port: str, address: str, port: str) -> None:
    """Serve until killed."""
    forwarder = Forwarder(int(holder), address, int(port))
    server = await asyncio.start_server(forwarder.serve_one, "127.0.0.1", int(listen_port), limit=CHUNK)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
