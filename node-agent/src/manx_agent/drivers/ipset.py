"""ipset: the program, and netlink for what is only a few members.

Owns: which of the two, running the program, and waiting for sets that are busy. Must not: know what a set is for.

Why the program for all else: a hundred thousand members take it a quarter of a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from manx_agent.drivers import ipset_netlink
from manx_agent.drivers.netlink_wire import NetlinkError
from manx_agent.drivers.process import ProcessFailed, in_executor, run

_BUSY = "in use by a kernel component"
_ATTEMPTS = 8
_FIRST_PAUSE = 0.005
"""Seconds; doubled after each attempt."""


async def save() -> str:
    """All sets of this network namespace, as text. Raises ProcessError."""
    return await run(("ipset", "save"))


async def digest() -> bytes | None:
    """The same as before: no set has changed. None where it cannot be had."""
    try:
        return await in_executor(ipset_netlink.digest)
    except NetlinkError:
        return None


async def restore(text: str) -> None:
    """Applies `text` line by line; what exists already, or is gone already, is no error. Raises ProcessError or
    NetlinkError, after which the lines before the failing one are in force."""
    changes = ipset_netlink.parsed(text)
    if changes is None:
        await run(("ipset", "-exist", "restore"), text)
    else:
        await in_executor(partial(ipset_netlink.apply, changes))


async def destroy(names: Iterable[str]) -> tuple[str, ...]:
    """Destroys sets, and returns those that stayed because something still refers to them. Raises ProcessError.

    nf_tables frees removed rules a moment after the transaction that removed them, so a set may be busy at first.
    """
    left = tuple(names)
    pause = _FIRST_PAUSE
    for _ in range(_ATTEMPTS):
        left = await _destroy(left)
        if not left:
            break
        await asyncio.sleep(pause)
        pause *= 2
    return left


async def _destroy(names: tuple[str, ...]) -> tuple[str, ...]:
    """One attempt. `ipset restore` stops at the first set that is busy; what comes after is tried again without it."""
    busy: list[str] = []
    left = list(names)
    while left:
        try:
            await restore("".join(f"destroy {name}\n" for name in left))
            break
        except ProcessFailed as failure:
            at = _failed_line(failure.stderr)
            if _BUSY not in failure.stderr or not 0 < at <= len(left):
                raise
            busy.append(left[at - 1])
            left = left[at:]
    return tuple(busy)


def _failed_line(said: str) -> int:
    """The number in "Error in line N:", 0 for none."""
    _, found, rest = said.partition("Error in line ")
    digits = rest.split(":", 1)[0] if found else ""
    return int(digits) if digits.isdigit() else 0
