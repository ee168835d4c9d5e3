"""Blocking kernel work off the event loop: each piece in a thread of its own, or one after the other in one thread.

Owns: the threads' lives, how a waiting task is cancelled, and visits to a pod's network namespace. Must not: let one
pod's work be done in another's namespace.

Why one thread (`Worker`) for what comes in bursts: the kernel makes and changes links under one lock, and who finds it
taken waits, or spins (some kernel parameters, by restart_syscall): eight threads with fifty pods spent most of their
time on that. And starting a thread keeps the event loop waiting until that has begun.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, PriorityQueue
from typing import Any, TypeVar

from manx_agent.drivers.netlink_wire import NetlinkError

T = TypeVar("T")
_Piece = tuple[bool, int, Callable[[], Any], asyncio.Future[Any]]
"""(whether it is not `last`, number, work, future): the least comes first."""

CLONE_NEWNET = 0x40000000
LINGER = 1.0
"""Seconds that a worker's thread waits for more to do."""
_libc = ctypes.CDLL(None, use_errno=True)


class SandboxError(NetlinkError):
    """The pod's network namespace is not one, or cannot be entered."""


class Stranded(NetlinkError):
    """This thread could not return from a pod's network namespace: nothing more may be done in it."""


async def in_thread(work: Callable[[], T]) -> T:
    """Returns or raises what `work` does. Cancelling waits until `work` has ended: half of it undone is worse."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    threading.Thread(target=_do, args=(work, future), name="netlink", daemon=True).start()
    return await _end_of(future)


class Worker:
    """A thread for one piece of work after the other, in the network namespace of the thread that hands them in. It
    comes with the first piece, and goes once it has had none for a while."""

    def __init__(self) -> None:
        self._queue: PriorityQueue[_Piece] = PriorityQueue()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._running = False

    async def do(self, work: Callable[[], T], *, last: bool = False) -> T:
        """As `in_thread`, after what was handed in before. `last`: what it is a part of ends with it. That goes before
        all beginnings, so that of many things begun at once some end early."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put((not last, next(self._numbers), work, future))
        self._see_to_it()
        return await _end_of(future)

    def _see_to_it(self) -> None:
        """That where there is work there is a thread."""
        with self._lock:
            if self._running or self._queue.empty():
                return
            self._running = True
        threading.Thread(target=self._run, name="netlink worker", daemon=True).start()

    def _run(self) -> None:
        while (piece := self._next()) is not None:
            _, _, work, future = piece
            if isinstance(_do(work, future), Stranded):
                self._running = False
                _tell(future, self._see_to_it)
                return

    def _next(self) -> _Piece | None:
        """None ends the thread: what is handed in from then on gets a new one."""
        with suppress(Empty):
            return self._queue.get(timeout=LINGER)
        with self._lock:
            with suppress(Empty):
                return self._queue.get_nowait()
            self._running = False
            return None


def _do(work: Callable[[], T], future: asyncio.Future[T]) -> BaseException | None:
    try:
        result = work()
    except BaseException as error:
        _tell(future, future.set_exception, error)
        return error
    _tell(future, future.set_result, result)
    return None


def _tell(future: asyncio.Future[Any], call: Callable[..., object], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        future.get_loop().call_soon_threadsafe(call, *arguments)


async def _end_of(future: asyncio.Future[T]) -> T:
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        future.exception()
        raise


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """This thread is in a pod's network namespace meanwhile. Raises SandboxError; Stranded, if there is no way back."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if code := _enter(namespace):
            raise SandboxError(f"cannot enter the pod's network namespace: {os.strerror(code)}", code)
        try:
            yield
        finally:
            if code := _enter(home):
                raise Stranded(f"cannot leave the pod's network namespace: {os.strerror(code)}", code)
    finally:
        os.close(home)


def _enter(namespace: int) -> int:
    """0, or an errno."""
    return ctypes.get_errno() if _libc.setns(namespace, CLONE_NEWNET) else 0
