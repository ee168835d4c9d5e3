"""The agent as a process: environment, logging, signals, exit code.

Owns: what is read from the process and said by it. Must not: wire the agent's parts (`agent` does).

SIGTERM ends it within seconds and leaves the kernel as it is: a node whose agent is replaced keeps its network.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping

from manx_agent.agent import Agent
from manx_agent.cni.install import Places, places_from
from manx_agent.config import Config, config_from
from manx_agent.model import AgentError
from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig, adopt_endpoint
from manx_kube.errors import ConfigError as ApiConfigError

log = logging.getLogger("manx_agent")


def main() -> int:
    """Returns the exit code: 0 after SIGTERM, 1 after a failure, 2 for settings that are wrong."""
    try:
        config = config_from(os.environ)
        places = places_from(os.environ, config.cni_socket)
        adopt_endpoint()
        api = ApiConfig.load()
    except (AgentError, ApiConfigError) as error:
        print(f"manx-agent: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=config.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    return asyncio.run(_run(config, places if _installs(os.environ) else None, api))


def _installs(environment: Mapping[str, str]) -> bool:
    return environment.get("MANX_CNI_INSTALL", "on") != "off"


async def _run(config: Config, places: Places | None, api: ApiConfig) -> int:
    async with KubeClient(api, field_manager="manx-agent") as client:
        work = asyncio.create_task(Agent(config, client, places).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        try:
            await work
        except asyncio.CancelledError:
            log.info("ending; the kernel stays as it is")
            return 0
        except Exception as error:
            for cause in _causes(error):
                log.error("ending: %s", cause, exc_info=cause)
            return 1
    return 0


def _causes(error: BaseException) -> list[BaseException]:
    """The errors in a task group's, flattened."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in _causes(inner)]
    return [error]
