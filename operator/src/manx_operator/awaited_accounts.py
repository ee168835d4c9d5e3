"""Service accounts that pods name and that nobody has told of yet.

Owns: which these are, and when one is taken for gone. Must not: know what closes or opens for it.

Each kind has a watch of its own, so a pod may be heard of before the service account that it was made with. Until that
comes nobody can tell what policies mean by its labels: the pod waits, closed. But a service account may also have been
deleted since, and will never come: then its labels count as none. Which of the two it is, the API server is asked once
the watch had a moment. A pod that was known before its service account went does not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from manx_core.api.core_v1 import Pod
from manx_kube.informer import Event, Informer

Key = tuple[str, str]
MOMENT = 0.5
"""Seconds that the watch has before the API server is asked."""


class AwaitedAccounts:
    """`tell(account, awaited)`: called when one begins, and when it ceases, to be awaited."""

    def __init__(self, accounts: Informer[Any], tell: Callable[[Key, bool], None], *, moment: float = MOMENT) -> None:
        self._accounts = accounts
        self._tell = tell
        self.moment = moment
        self._awaited: set[Key] = set()
        self._asking: asyncio.Task[None] | None = None

    def pod_heard(self, event: Event[Pod]) -> None:
        """A pod came, went or changed."""
        old, new = event.old, event.new
        if new is None or (old is not None and old.metadata.uid == new.metadata.uid):
            return
        key = (new.metadata.namespace, new.spec.service_account_name)
        if not key[1] or key in self._awaited or key in self._accounts.cache:
            return
        self._awaited.add(key)
        self._tell(key, True)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())

    def account_heard(self, key: Key) -> None:
        """The service account came, or went (which tells as much)."""
        if key in self._awaited:
            self._awaited.discard(key)
            self._tell(key, False)

    async def stop(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    async def _ask(self) -> None:
        while self._awaited:
            await asyncio.sleep(self.moment)
            asked = tuple(self._awaited)
            if asked:
                await self._accounts.reach_consistent()
            for key in asked:
                self.account_heard(key)
        self._asking = None
