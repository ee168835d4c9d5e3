"""The speaker's program: ExaBGP, without what no session of ours needs.

Owns: which modules ExaBGP does without, all told a quarter of its memory, on every node. Must not: import of ExaBGP
more than its version before they are left out, nor anything that does.

- asyncio: ExaBGP makes an event loop for each turn with a command, in which nothing ever waits (`reactor.Commands`).
- pdb: for ExaBGP's authors.
- logging.handlers, and what that takes: for a log in files or over the network.
- The names of 5,000 TCP and UDP ports: for writing flow specifications (RFC 8955), which we have none of.

Nor is the name server asked for this machine's domain: only for a capability that we do not use
(draft-walton-bgp-hostname-capability), but before a session is begun, and it may be one that BGP leads to.
"""

from __future__ import annotations

import sys
from types import ModuleType

from exabgp.version import version

KNOWN = "5.0."
"""Versions that are known to do without, and whose loop is known to be as `reactor` describes it."""
PORTS = "exabgp.protocol.ip.port"


def is_known() -> bool:
    """Whether this ExaBGP is of a version for which all this was made."""
    return bool(version.startswith(KNOWN))


def leave_out() -> None:
    """Before the first import of the rest of ExaBGP."""
    for name in ("asyncio", "pdb", "logging.handlers", PORTS):
        sys.modules[name] = ModuleType(name, "Left out.")
    sys.modules[PORTS].__dict__["Port"] = type("Port", (int,), {})
    from exabgp.util import dns

    dns.domain = dns.host


def main() -> None:
    """Runs until ExaBGP ends."""
    if not is_known():
        from exabgp.application import server

        print(f"manx: ExaBGP {version} runs by its own loop: ours is for {KNOWN}x", file=sys.stderr, flush=True)
        server.main()
        return
    leave_out()
    from manx_agent.bgp import reactor

    reactor.main()


if __name__ == "__main__":
    main()
