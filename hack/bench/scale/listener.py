"""A process of `listening`, from its start to what it heard.

Owns: that process. Must not: know what it listens to.
"""

from __future__ import annotations

import json
from typing import Any

from bench.scale.listening import LISTENING
from bench.scale.processes import Process, python, until
from bench.scale.world import World


class Listener:
    """An async context manager: all watches are there when it is entered. `what`, `which`: as `listening` takes
    them. Raises TimeoutError, RuntimeError."""

    def __init__(self, found: World, what: str, which: str) -> None:
        argv = python("-m", "bench.scale.listening", str(found.server.kubeconfig), what, which)
        self.process = Process(argv, {}, found.directory / "listening.log")

    async def __aenter__(self) -> Listener:
        await until(lambda: self.process.says(LISTENING), "all to listen", every=0.1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.end(kill=True)

    def end(self) -> dict[str, Any]:
        """What it heard."""
        self.process.end()
        said = [line for line in self.process.log.read_text().splitlines() if line.startswith("{")]
        found: dict[str, Any] = json.loads(said[-1])
        return found
