"""kopf ends whenever it likes: it begins again, in a thread of its own, and goes when its leader does."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from informing import eventually
from manx_kube.backoff import Backoff
from manx_operator import kopf_thread


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no API server to be found."""
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    monkeypatch.setattr(kopf_thread, "Backoff", lambda first, cap: Backoff(0.01, 0.02))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "kopf"]


async def test_it_begins_again_whenever_it_ends_and_touches_nothing_of_ours() -> None:
    begun: list[str] = []

    def register(_: Any) -> None:
        begun.append(threading.current_thread().name)
        raise RuntimeError("a watch failed")

    mine = asyncio.create_task(asyncio.Event().wait())
    running = asyncio.create_task(kopf_thread.supervise(register))
    await eventually(lambda: len(begun) >= 3 or running.done())
    assert set(begun) == {"kopf"}
    assert not running.done()
    assert not mine.done()
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    mine.cancel()


async def test_it_ends_with_its_leader() -> None:
    registered = threading.Event()
    running = asyncio.create_task(kopf_thread.supervise(lambda _: registered.set()))
    await eventually(registered.is_set)
    running.cancel()
    await asyncio.wait({running})
    await eventually(lambda: not threads())
