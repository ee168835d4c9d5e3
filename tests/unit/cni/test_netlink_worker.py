"""The thread for work that comes in bursts: its order, its errors, its end."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial

import pytest

from manx_agent.drivers import netlink_threads
from manx_agent.drivers.netlink_threads import SandboxError, Stranded, Worker, inside


def refuse() -> None:
    raise OSError("no")


async def test_one_thread_does_it_all_and_says_what_failed() -> None:
    worker, seen = Worker(), set[int]()
    works: list[Callable[[], object]] = [lambda: seen.add(threading.get_ident()), refuse] * 5
    results = await asyncio.gather(*map(worker.do, works), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), OSError] * 5
    assert len(seen) == 1
    assert seen != {threading.get_ident()}


async def test_what_ends_something_goes_before_what_begins_something() -> None:
    worker, gate, done = Worker(), threading.Event(), list[int]()
    works = [worker.do(partial(done.append, number), last=number % 2 == 0) for number in range(6)]
    waiting = asyncio.gather(worker.do(gate.wait), *works)
    await asyncio.sleep(0)
    gate.set()
    await waiting
    assert done == [0, 2, 4, 1, 3, 5]


async def test_cancelling_waits_for_the_end() -> None:
    worker, gate, done = Worker(), threading.Event(), list[int]()

    def work() -> None:
        gate.wait()
        done.append(1)

    task = asyncio.create_task(worker.do(work))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    await asyncio.wait({task})
    assert task.cancelled()
    assert done == [1]


async def test_an_idle_thread_ends_and_another_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink_threads, "LINGER", 0.0)
    worker = Worker()
    first = await worker.do(threading.current_thread)
    first.join()
    assert await worker.do(threading.current_thread) is not first


async def test_a_thread_that_is_lost_in_a_pods_namespace_does_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([0, 1])  # into the pod's namespace, but not back
    monkeypatch.setattr(netlink_threads, "_enter", lambda namespace: next(codes))

    def visit() -> None:
        with inside(0):
            pass

    worker = Worker()
    works = [worker.do(threading.current_thread), worker.do(visit), worker.do(threading.current_thread)]
    before, error, after = await asyncio.gather(*works, return_exceptions=True)
    assert isinstance(error, Stranded)
    assert isinstance(before, threading.Thread)
    assert isinstance(after, threading.Thread)
    assert before is not after


async def test_what_is_no_namespace_is_not_entered() -> None:
    descriptor = os.open("/dev/null", os.O_RDONLY)

    def visit() -> None:
        with inside(descriptor):
            raise AssertionError

    try:
        with pytest.raises(SandboxError, match="cannot enter the pod's network namespace: Invalid argument"):
            await Worker().do(visit)
    finally:
        os.close(descriptor)
