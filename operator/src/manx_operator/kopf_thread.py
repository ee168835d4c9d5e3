"""kopf, in a thread of its own, and begun again whenever it ends.

Owns: that thread, kopf's settings, and when it logs in again (how, the kubernetes package knows: in a pod and by any
kubeconfig). Must not: let anything of kopf's reach the operator's loop.

Why a thread: kopf cancels every task of its loop that was created after it started, takes the process's signals when it
runs in the main thread, and stalls its loop for up to a second. Why begun again: a watch error ends it. It only sets
conditions, posts Events and triggers; the operator works without it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from manx_kube.backoff import Backoff

if TYPE_CHECKING:
    import kopf

log = logging.getLogger(__name__)

STOP_PATIENCE = 1.0
"""Seconds to wait for it at the end; a thread that takes longer is left to itself, and dies with the process."""
TOKEN_LIFE = datetime.timedelta(minutes=10)
"""Tokens in files are rotated: they are read again after this."""

Register = Callable[["kopf.OperatorRegistry"], None]


async def supervise(register: Register) -> None:
    """Run kopf with what `register` registers until cancelled. Never raises otherwise."""
    backoff = Backoff(1.0, 60.0)
    while True:
        began = asyncio.get_running_loop().time()
        error = await _run_once(register)
        if asyncio.get_running_loop().time() - began > 120:
            backoff.reset()
        delay = backoff.next()
        log.warning("kopf ended (%s); it begins again in %.0f s", error or "by itself", delay)
        await asyncio.sleep(delay)


async def _run_once(register: Register) -> BaseException | None:
    """Returns what ended it."""
    loop, stop = asyncio.get_running_loop(), threading.Event()
    ended: asyncio.Future[BaseException | None] = loop.create_future()

    def serve() -> None:
        error: BaseException | None = None
        try:
            asyncio.run(_operate(register, stop))
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(_resolve, ended, error)

    threading.Thread(target=serve, name="kopf", daemon=True).start()
    try:
        return await asyncio.shield(ended)
    finally:
        stop.set()
        if not ended.done():
            await asyncio.wait({ended}, timeout=STOP_PATIENCE)


def _resolve(ended: asyncio.Future[BaseException | None], error: BaseException | None) -> None:
    if not ended.done():
        ended.set_result(error)


async def _operate(register: Register, stop: threading.Event) -> None:
    import kopf  # here, because it costs a standby 90 MB that it does not need

    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**given: Any) -> kopf.ConnectionInfo | None:
        return _logged_in(kopf.login_via_client(**given))

    register(registry)
    await kopf.operator(registry=registry, settings=_settings(), standalone=True, clusterwide=True, stop_flag=stop)


def _settings() -> kopf.OperatorSettings:
    import kopf

    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # our own recorder does, bounded
    settings.scanning.disabled = True  # the kinds are known; discovery that fails would wait for ever
    settings.process.ultimate_exiting_timeout = None  # it would kill the whole process
    settings.networking.request_timeout = 30
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    return settings


def _logged_in(info: kopf.ConnectionInfo | None) -> kopf.ConnectionInfo | None:
    """Tokens are rotated, so a login by one is good for a while only."""
    if info is None or not info.token:
        return info
    return dataclasses.replace(info, expiration=datetime.datetime.now(datetime.UTC) + TOKEN_LIFE)
