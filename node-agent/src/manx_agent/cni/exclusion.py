"""One operation at a time on one attachment, any number on different ones.

Owns: that order, that a DEL does not wait for the ADD that it makes pointless, and how work is ended from outside. Must
not: know what operations do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from manx_agent.ipam.table import Key
from manx_agent.model import AgentError

T = TypeVar("T")


class Preempted(AgentError):
    """Another operation on the same attachment made this one pointless; what it did is undone."""


class Exclusion:
    """`run` queues behind whatever has the same key."""

    def __init__(self) -> None:
        self._running: dict[Key, asyncio.Task[Any]] = {}
        self._preemptible: set[Key] = set()

    def is_busy(self, key: Key) -> bool:
        return key in self._running

    async def run(self, key: Key, work: Coroutine[Any, Any, T], *, preemptible: bool) -> T:
        """`preemptible` work (ADD) is cancelled when its caller is, or when anything else comes for the key (then it
        raises Preempted); it must undo what it did. Other work (DEL) goes on to its end, whether its caller waits or
        not."""
        try:
            await self._clear(key)
        except asyncio.CancelledError:
            work.close()
            raise
        task = asyncio.create_task(work, name=f"cni {key[0]}")
        self._running[key] = task
        if preemptible:
            self._preemptible.add(key)
        task.add_done_callback(lambda _: self._forget(key))
        if not preemptible:
            return await asyncio.shield(task)
        return await self._preemptible_result(task)

    @staticmethod
    async def _preemptible_result(task: asyncio.Task[T]) -> T:
        caller = asyncio.current_task()
        try:
            return await task
        except asyncio.CancelledError as error:
            if caller is None or not caller.cancelling():
                raise Preempted("another request for the same attachment came before this one was done") from error
            await asyncio.wait({task})
            raise

    async def _clear(self, key: Key) -> None:
        while (before := self._running.get(key)) is not None:
            if key in self._preemptible:
                before.cancel()
            await asyncio.wait({before})
            await asyncio.sleep(0)  # its done callback first

    def _forget(self, key: Key) -> None:
        self._running.pop(key, None)
        self._preemptible.discard(key)

    async def drain(self) -> None:
        """Cancels what can be, and waits for all."""
        for key in list(self._running):
            await self._clear(key)


async def together(*works: Coroutine[Any, Any, Any]) -> list[Any]:
    """All results; or the first failure, once the others have been cancelled and have ended."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        return [task.result() for task in tasks if task.done()]
    except BaseException:
        for task in tasks:
            task.cancel()
        await uninterrupted(asyncio.gather(*tasks, return_exceptions=True))
        raise


@contextmanager
def interruptible() -> Iterator[Callable[[BaseException], None]]:
    """Gives a function that ends what is done within it, by the exception that it is called with: the task is cancelled
    there, as `asyncio.timeout` does it."""
    task = asyncio.current_task()
    assert task is not None
    cancellations, reasons = task.cancelling(), list[BaseException]()

    def interrupt(reason: BaseException) -> None:
        if not reasons:
            reasons.append(reason)
            task.cancel()

    try:
        yield interrupt
    except asyncio.CancelledError:
        if reasons and task.uncancel() <= cancellations:
            raise reasons[0] from None
        raise


async def uninterrupted(work: Awaitable[T]) -> T:
    """Waits for the end of `work` even when cancelled meanwhile; the cancellation comes afterwards."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except Exception:
            break
    if cancelled:
        raise asyncio.CancelledError
    return task.result()


@contextmanager
def every(seconds: float, look: Callable[[], None]) -> Iterator[None]:
    """Meanwhile `look` is called at this interval."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def again() -> None:
        nonlocal timer
        timer = loop.call_later(seconds, again)
        look()

    timer = loop.call_later(seconds, again)
    try:
        yield
    finally:
        timer.cancel()
