"""The CNI socket: who may speak, how a request arrives, and that every one gets an answer.

Owns: the unix socket, its peers' credentials, framing, limits. Must not: know what a command does.

Goals, and how they are met:
 1. Only root speaks to it: the file's mode is 0600, and each peer's uid is read from the kernel (SO_PEERCRED).
 2. No request can hurt: bounded in size and time, decoded strictly; whatever goes wrong becomes a CNI error.
 3. Nobody is left waiting: a handler's bug is answered with code 999.
 4. Work for a client that went away (the runtime's own deadline ended it) is cancelled.
 5. A restart is not seen as "no such file": the new socket is renamed over the old one.
With a request may come the pod's network namespace as a file descriptor (SCM_RIGHTS), so that this container needs no
view of the directory where the runtime keeps them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from manx_agent.cni.exclusion import interruptible
from manx_agent.cni.protocol import (
    DECODING_FAILURE,
    INTERNAL,
    INVALID_ENVIRONMENT,
    IO_FAILURE,
    TRY_AGAIN,
    CniError,
    Request,
    encode_error,
    encode_result,
    parse_request,
)  # fmt: skip

log = logging.getLogger(__name__)

MAX_REQUEST = 1 << 20
MAX_CONNECTIONS = 1024
REQUEST_TIMEOUT = 10.0
"""Seconds for a request to arrive, and for its answer to be taken."""
CREDENTIALS = struct.Struct("=iII")

Handler = Callable[[Request, int], Awaitable[dict[str, Any]]]
"""Called with the request and a file descriptor of the pod's network namespace, or -1; the descriptor is closed after
it returns. Raises CniError."""


class _Gone(Exception):
    """The client went away."""


class CniServer:
    """Serves `handler` at `path` between `start` and `stop`."""

    def __init__(self, path: Path, handler: Handler, *, allowed_uids: frozenset[int] = frozenset({0})) -> None:
        self._path = path
        self._handler = handler
        self._allowed = allowed_uids
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises OSError."""
        self._listener = _listen(self._path)
        self._accepting = asyncio.create_task(self._accept(self._listener), name="cni socket")

    async def stop(self) -> None:
        """Takes the socket away and cancels what is under way; clients see a closed connection, and ask again."""
        if self._listener is None or self._accepting is None:
            return
        self._path.unlink(missing_ok=True)
        tasks = {self._accepting, *self._connections}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._listener.close()
        self._listener = None

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # out of file descriptors, most likely
                log.error("CNI socket: %s", error)
                await asyncio.sleep(0.5)
                continue
            task = asyncio.create_task(self._serve(connection), name="cni request")
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, connection: socket.socket) -> None:
        descriptors: list[int] = []
        with connection, contextlib.suppress(_Gone, OSError):
            connection.setblocking(False)
            try:
                answer = encode_result(await self._answer(connection, descriptors))
            except CniError as error:
                log.info("CNI: answered %d: %s", error.code, error.message)
                answer = encode_error(error)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    await asyncio.get_running_loop().sock_sendall(connection, answer)
                    connection.shutdown(socket.SHUT_WR)
                    # Closing over unread bytes would be a reset, and take the answer away from under the client.
                    await _until_gone(connection)

    async def _answer(self, connection: socket.socket, descriptors: list[int]) -> dict[str, Any]:
        self._authorise(connection)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                line = await _receive(connection, descriptors)
        except TimeoutError as error:
            raise CniError(IO_FAILURE, f"no complete request after {REQUEST_TIMEOUT:g} s") from error
        request = parse_request(line)
        if len(self._connections) > MAX_CONNECTIONS:
            raise CniError(TRY_AGAIN, f"more than {MAX_CONNECTIONS} requests at once")
        return await self._work(connection, request, descriptors[0] if descriptors else -1)

    def _authorise(self, connection: socket.socket) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        _, uid, _ = CREDENTIALS.unpack(credentials)
        if uid not in self._allowed:
            raise CniError(INVALID_ENVIRONMENT, f"uid {uid} may not use the CNI socket")

    async def _work(self, connection: socket.socket, request: Request, namespace: int) -> dict[str, Any]:
        """The handler's result, or _Gone as soon as the client is."""
        try:
            with _while_there(connection):
                return await self._handler(request, namespace)
        except (CniError, _Gone):
            raise
        except Exception as error:
            log.exception("CNI %s of %s failed", request.command, request.container_id)
            raise CniError(INTERNAL, f"the agent failed over this request: {error!r}") from error


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        listener.bind(str(temporary))
    finally:
        os.umask(before)
    listener.listen(256)
    temporary.rename(path)
    return listener


async def _receive(connection: socket.socket, descriptors: list[int]) -> bytes:
    """One line; file descriptors that come with it are appended to `descriptors`, for the caller to close."""
    received = bytearray()
    while b"\n" not in received:
        await _readable(connection)
        try:
            data, came, _, _ = socket.recv_fds(connection, 1 << 16, 8, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            continue
        descriptors += came
        if not data and not received:
            raise _Gone
        if not data:
            raise CniError(DECODING_FAILURE, "the request ends before its line does")
        received += data
        if len(received) > MAX_REQUEST:
            raise CniError(DECODING_FAILURE, f"the request is longer than {MAX_REQUEST} bytes")
    return bytes(received.partition(b"\n")[0])


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    descriptor = connection.fileno()  # asked for by the socket, the selector would spell it out
    loop.add_reader(descriptor, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


@contextlib.contextmanager
def _while_there(connection: socket.socket) -> Iterator[None]:
    """Raises _Gone as soon as the client has closed its end. What it sends after its request is thrown away."""
    loop, descriptor = asyncio.get_running_loop(), connection.fileno()
    with interruptible() as interrupt:

        def look() -> None:
            if _has_ended(connection):
                loop.remove_reader(descriptor)
                interrupt(_Gone())

        loop.add_reader(descriptor, look)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)


def _has_ended(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1 << 12)
    except BlockingIOError:
        return False
    except OSError:
        return True


async def _until_gone(connection: socket.socket) -> None:
    """Returns once the client has closed its end."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while await loop.sock_recv(connection, 1 << 12):
            pass
