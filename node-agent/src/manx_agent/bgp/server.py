"""The speaker's program: ExaBGP, without what no session of ours needs.

Owns: which modules ExaBGP does without, all told a fifth of its memory, on every node. Must not: import ExaBGP before
they are left out, nor anything that does.

- ssl: comes with asyncio, which does without where there is none.
- The names of 5,000 TCP and UDP ports: for writing flow specifications (RFC 8955), which we have none of.
"""

from __future__ import annotations

import sys
from types import ModuleType

PORTS = "exabgp.protocol.ip.port"


def leave_out() -> None:
    """Before the first import of ExaBGP."""
    sys.modules["ssl"] = None  # type: ignore[assignment]
    ports = ModuleType(PORTS, "Ports without names.")
    ports.__dict__["Port"] = type("Port", (int,), {})
    sys.modules[PORTS] = ports


def main() -> None:
    """Runs until ExaBGP ends."""
    leave_out()
    from manx_agent.bgp import reactor

    reactor.main()


if __name__ == "__main__":
    main()
