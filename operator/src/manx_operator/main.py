"""The operator's process: start, wait for the Lease, lead, and end in order.

Owns: the wiring and the life of everything else. Must not: decide anything.

    read all first lists ─► wait for the Lease ─► read consistently ─► Control: hear, plan, write ─► (lost) wait again
                                                                      └► kopf, in its own thread
SIGTERM and SIGINT end it: nothing more is written, then the Lease is released.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig, adopt_endpoint
from manx_kube.errors import ConfigError
from manx_kube.events import EventRecorder
from manx_kube.lease import LeaseElector, LeaseLost, Term
from manx_operator import garbage, kopf_thread, logs
from manx_operator.announce import Announcer
from manx_operator.control import Control
from manx_operator.deps import Deps
from manx_operator.health import Health
from manx_operator.inputs import Inputs
from manx_operator.installer import wiring
from manx_operator.leader import elector_from_env
from manx_operator.settings import Settings, from_env

if TYPE_CHECKING:
    import kopf

log = logging.getLogger(__name__)

TELL_WAITING_EVERY = 15.0
AFTER_FAILURE = 2.0


def main() -> int:
    """The process's exit status."""
    faulthandler.register(signal.SIGUSR1)
    garbage.tune()
    try:
        settings = from_env()
        logs.set_up(settings.log_level)
        adopt_endpoint()
        config = ApiConfig.load()
    except ConfigError as error:
        print(f"manx-operator: {error}", file=sys.stderr)
        return 2
    asyncio.run(_until_signalled(config, settings))
    # kopf's thread may take seconds to end by itself; nothing of it is worth waiting for.
    logging.shutdown()
    os._exit(0)


async def _until_signalled(config: ApiConfig, settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(Operator(config, settings).serve())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving
    log.info("operator ended")


class Operator:
    """One replica. `serve` until cancelled."""

    def __init__(self, config: ApiConfig, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._health = Health(settings)
        self._synced_at = 0.0

    async def serve(self) -> None:
        beating = asyncio.create_task(self._health.beat())
        try:
            async with KubeClient(self._config, field_manager="manx-operator") as client:
                await self._serve(client)
        finally:
            beating.cancel()
            await asyncio.wait({beating})

    async def _serve(self, client: KubeClient) -> None:
        inputs = Inputs(client)
        elector = elector_from_env(client, floor_epoch=inputs.highest_epoch)
        inputs.start()
        try:
            await self._wait_synced(inputs)
            async with EventRecorder(client, component="manx.dev/operator", instance=socket.gethostname()) as recorder:
                await self._elect(client, inputs, recorder, elector)
        finally:
            await inputs.stop()

    async def _wait_synced(self, inputs: Inputs) -> None:
        while inputs.unsynced:
            log.info("waiting for the first lists of %s", ", ".join(inputs.unsynced))
            with suppress(TimeoutError):
                async with asyncio.timeout(TELL_WAITING_EVERY):
                    await asyncio.gather(*(informer.wait_synced() for informer in inputs))
        self._synced_at = time.monotonic()
        self._health.ready()
        log.info(
            "operator ready, pid %d, %d nodes, %d pods", os.getpid(), len(inputs.nodes.cache), len(inputs.pods.cache)
        )

    async def _elect(self, client: KubeClient, inputs: Inputs, recorder: EventRecorder, elector: LeaseElector) -> None:
        """Lead whenever the Lease can be had."""
        limit = elector.timing.duration - elector.timing.renew_deadline

        async def lead(term: Term) -> None:
            await self._lead(client, inputs, recorder, term, limit)

        while True:
            garbage.end()  # of the term before
            try:
                await elector.run(lead)
            except* LeaseLost as error:
                log.warning("no longer leading: %s", error.exceptions[0])
            except* Exception:
                log.exception("leading failed; the Lease was given back")
                await asyncio.sleep(AFTER_FAILURE)

    async def _lead(
        self, client: KubeClient, inputs: Inputs, recorder: EventRecorder, term: Term, limit: float
    ) -> None:
        """Until cancelled. `limit`: seconds that one write may take."""
        await inputs.reach_consistent()
        term.require()
        announcer = Announcer(client, recorder, inputs, term)
        ready = self._synced_at + self._settings.forget_settle
        services = await wiring.service_networks(client)
        with inputs.held(), garbage.building():
            # Of a large cluster this takes longer than a term: meanwhile the loop goes on renewing it.
            control = await asyncio.to_thread(
                Control, client, inputs, term, self._settings, announcer, limit=limit, ready=ready, services=services
            )
            term.require()
            control.start()
        try:
            users = wiring.parts(client, inputs, recorder, term, control.activate, control.last_valid)
            control.users_changed = users.installer.trigger  # whether or not kopf hears of it
            loop = asyncio.get_running_loop()
            deps = Deps(loop, client, inputs, recorder, term, control, self._settings, users.installer, users.reviewer)
            log.info("leading, epoch %d", term.epoch)
            await self._look_after_users(deps)
        finally:
            await control.stop()
            await announcer.stop()

    async def _look_after_users(self, deps: Deps) -> None:
        """The Installation, and what users are told; until cancelled, or the Lease is found lost."""
        async with asyncio.TaskGroup() as tasks:
            if self._settings.kopf:
                tasks.create_task(kopf_thread.supervise(lambda registry: _register(registry, deps)))
            if self._settings.installer:
                tasks.create_task(deps.installer.run())
            else:
                deps.control.activate(True)
            tasks.create_task(_for_ever())


async def _for_ever() -> None:
    await asyncio.Event().wait()


def _register(registry: kopf.OperatorRegistry, deps: Deps) -> None:
    """In kopf's thread: handlers import kopf, which a standby does without."""
    from manx_operator import handlers

    handlers.register(registry, deps)
