"""What kopf's handlers are given: they run in a thread and event loop of their own.

Owns: the crossing between the threads. Must not: know what handlers do.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from manx_kube.client import KubeClient
from manx_kube.events import EventRecorder
from manx_kube.lease import Term
from manx_operator.control import Control
from manx_operator.inputs import Inputs
from manx_operator.installer.loop import InstallerLoop
from manx_operator.review.reviewer import Reviewer
from manx_operator.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything but `submit` and `call` belongs to the operator's own loop: use it from what those two run."""

    loop: asyncio.AbstractEventLoop
    client: KubeClient
    inputs: Inputs
    recorder: EventRecorder
    term: Term
    control: Control
    settings: Settings
    installer: InstallerLoop
    reviewer: Reviewer

    def submit(self, work: Callable[[], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the operator's loop. The future may be waited for from the handler's loop with
        `asyncio.wrap_future`. Raises LeaseLost if the term is over."""
        self.term.require()
        return asyncio.run_coroutine_threadsafe(work(), self.loop)

    def call(self, action: Callable[..., object], *args: Any) -> None:
        """Run a function on the operator's loop, soon, if the term is not over."""
        if self.term.is_valid():
            self.loop.call_soon_threadsafe(action, *args)
