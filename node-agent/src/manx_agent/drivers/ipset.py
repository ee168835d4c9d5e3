"""ipset: the program; netlink for what is only a few members, and for sets that go.

Owns: which of the two, running the program, and waiting for sets that are busy. Must not: know what a set is for.

Why the program for all else: a hundred thousand members take it a quarter of a second. A handful are put into the
kernel on the event loop itself: at some 20 µs each they hold it up for less than handing them to a thread takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from manx_agent.drivers import ipset_netlink
from manx_agent.drivers.netlink_wire import NetlinkError
from manx_agent.drivers.process import in_executor, run

_AT_ONCE = 16
"""Lines that are done on the event loop."""
_ATTEMPTS = 8
_FIRST_PAUSE = 0.005
"""Seconds; doubled after each attempt."""


async def save() -> str:
    """All sets of this network namespace, as text. Raises ProcessError."""
    return await run(("ipset", "save"))


async def digests() -> dict[str, bytes] | None:
    """By set. The same as before: it has not changed. None where they cannot be had."""
    try:
        return await in_executor(ipset_netlink.digests)
    except NetlinkError:
        return None


async def restore(text: str) -> None:
    """Applies `text` line by line; what exists already, or is gone already, is no error. Raises ProcessError or
    NetlinkError, after which the lines before the failing one are in force."""
    changes = ipset_netlink.parsed(text)
    if changes is None:
        await run(("ipset", "-exist", "restore"), text)
    elif len(changes) <= _AT_ONCE:
        ipset_netlink.apply(changes)
    else:
        await in_executor(partial(ipset_netlink.apply, changes))


async def destroy(names: Iterable[str]) -> tuple[str, ...]:
    """Destroys sets, and returns those that stayed because something still refers to them. Raises NetlinkError.

    nf_tables frees removed rules a moment after the transaction that removed them, so a set may be busy at first.
    """
    left = tuple(names)
    pause = _FIRST_PAUSE
    for _ in range(_ATTEMPTS):
        left = await in_executor(partial(ipset_netlink.destroy, left))
        if not left:
            break
        await asyncio.sleep(pause)
        pause *= 2
    return left
