"""The agent's BGP alone, as a process: for tests that need it in a network namespace of its own, and killable.

Owns: reading BgpViews, one JSON line each, and writing outcomes. `python bgp_agent.py DIRECTORY`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from manx_agent.bgp.driver import BgpDriver
from manx_agent.bgp.files import SharedPaths
from manx_agent.drivers.routes import KernelRoutes
from manx_agent.model import BgpOutcome, BgpView


class Line(msgspec.Struct):
    """What is written. `applied`: it answers a view."""

    outcome: BgpOutcome
    applied: bool = False
    drift: tuple[str, ...] = ()


def say(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


async def main() -> None:
    driver = BgpDriver(
        SharedPaths(Path(sys.argv[1])), KernelRoutes(), lambda: say(Line(driver.outcome(), drift=driver.take_drift()))
    )
    await driver.start()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        say(Line(await driver.apply(msgspec.json.decode(line, type=BgpView)), applied=True))


if __name__ == "__main__":
    asyncio.run(main())
