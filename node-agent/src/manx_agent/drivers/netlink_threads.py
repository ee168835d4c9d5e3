"""Blocking kernel work off the event loop, each piece in a thread of its own.

Owns: the thread's life and how a waiting task is cancelled. Must not: share a thread between two pieces of work.

Why this way: a thread that entered a pod's network namespace with setns(2) is never used for anything else, so
there is nothing to restore and no way for one pod's work to be done in another's namespace. Starting one costs some 50
µs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Returns or raises what `work` does. Cancelling waits until `work` has ended: half of it undone is worse."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            loop.call_soon_threadsafe(future.set_exception, error)
        else:
            loop.call_soon_threadsafe(future.set_result, result)

    threading.Thread(target=run, name="netlink", daemon=True).start()
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        future.exception()
        raise
