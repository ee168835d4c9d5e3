"""iptables and ip6tables, on either back end.

Owns: which back end a node uses, and running its programs. Must not: know what is in a rule, or decide anything else.

A kernel may hold two independent rule sets, legacy tables and nf_tables. Ours have to be where kube-proxy's and the
administrator's are, or the order between them is not what anybody sees. The kubelet leaves a hint for this, a chain in
the mangle table of the back end that it uses (KEP-3178); where there is none, the back end that has more rules is in
use.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from manx_agent.drivers.process import DEFAULT_TIMEOUT, ProcessError, ProgramMissing, run
from manx_agent.model import AgentError, Backend

BACKEND_VARIABLE = "MANX_IPTABLES_BACKEND"
HINTS = (":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY ")
LOCK_WAIT = "10"
"""Seconds to wait for /run/xtables.lock, which the legacy programs share."""
_PACE = 100_000
"""Characters a second that a restore manages on the busiest of machines: 500 rules. To end it too early would be to end
it again and again."""


class BackendUnknown(AgentError):
    """The environment asks for a back end that does not exist."""


@dataclass(frozen=True, slots=True)
class Iptables:
    """The programs of one back end and family of addresses."""

    backend: Backend
    ipv6: bool = False

    def program(self, verb: str) -> str:
        return f"{'ip6' if self.ipv6 else 'ip'}tables-{self.backend}-{verb}"

    async def save(self, counters: bool = False) -> str:
        """All tables that there are, as text. Creates none. Raises ProcessError."""
        return await run((self.program("save"), *(["-c"] if counters else [])))

    async def restore(self, text: str) -> None:
        """Applies `text`, leaving everything that it does not name as it is; each table at once. Raises ProcessError,
        after which any number of its tables may have been applied."""
        patience = DEFAULT_TIMEOUT + len(text) / _PACE
        await run((self.program("restore"), "--noflush", "-w", LOCK_WAIT), text, patience)


def has_ipv6() -> bool:
    """Whether this network namespace has IPv6 at all."""
    return Path("/proc/thread-self/net/if_inet6").exists()


async def detect_backend(override: str | None = None) -> Backend:
    """Which back end this node uses. `override`: "nft" or "legacy", "" for none, None to take it from the environment
    (MANX_IPTABLES_BACKEND). Raises BackendUnknown."""
    wanted = os.environ.get(BACKEND_VARIABLE, "") if override is None else override
    for backend in get_args(Backend):
        if wanted == backend:
            return cast(Backend, backend)
    if wanted:
        raise BackendUnknown(f"{BACKEND_VARIABLE}: {wanted!r} is neither nft nor legacy")
    nft, legacy = await asyncio.gather(_everything("nft"), _everything("legacy"))
    return choose_backend(nft, legacy)


def choose_backend(nft: str, legacy: str) -> Backend:
    """Decides by what the save programs of both back ends print."""
    if any(hint in nft for hint in HINTS):
        return "nft"
    if any(hint in legacy for hint in HINTS):
        return "legacy"
    return "legacy" if _rules(legacy) > _rules(nft) else "nft"


def _rules(saved: str) -> int:
    """Those of others: ours follow from the choice."""
    return sum(line.startswith("-A") and "manx-" not in line for line in saved.splitlines())


async def _everything(backend: Backend) -> str:
    """Both families' tables; empty where the back end is not installed or not supported by the kernel."""
    return "".join([await _saved(Iptables(backend)), await _saved(Iptables(backend, ipv6=True))])


async def _saved(iptables: Iptables) -> str:
    try:
        return await iptables.save()
    except (ProgramMissing, ProcessError):
        return ""
