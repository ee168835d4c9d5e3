"""Entry point of the speaker's container: becomes ExaBGP once the agent has written a configuration.

Owns: ExaBGP's environment. Must not: import anything but the standard library and `files`, keep running beside ExaBGP
(it is replaced by exec, so that signals and exit codes are ExaBGP's own), or talk to the agent.
"""

from __future__ import annotations

import os
import sys
import time

from manx_agent.bgp.files import SharedPaths

POLL_SECONDS = 0.2

REACTOR_SPEED = "5.0"
"""ExaBGP's loop waits a hundredth of this, in seconds, when nothing happens. Measured with two peers: idle CPU of
0.6 % of a core instead of 2 %; a session is up 0.3 s later (it notices incoming connections once per turn)."""

ENVIRONMENT = {
    "exabgp_daemon_user": "root",
    "exabgp_daemon_drop": "false",
    "exabgp_api_cli": "false",
    "exabgp_api_chunk": "1000",
    "exabgp_bgp_openwait": "10",
    "exabgp_log_level": "WARNING",
    "exabgp_log_destination": "stderr",
    "exabgp_reactor_speed": REACTOR_SPEED,
}
"""No `exabgp_tcp_bind`: each neighbor's section says where to listen. `exabgp_api_chunk` makes the answer to `show
adj-rib in` one piece for each thousand routes. Ten seconds for an OPEN, instead of sixty, because a peer that accepts
connections without ever answering would else hold the session's only slot."""


def main(program: tuple[str, ...] = ("-m", "manx_agent.bgp.server")) -> None:
    """Waits for the configuration, then executes ExaBGP, Python's arguments for which are `program`, in place of this
    process."""
    paths = SharedPaths.from_environment()
    if not paths.config.exists():
        print(f"waiting for the agent to write {paths.config}", file=sys.stderr, flush=True)
    while not paths.config.exists():
        time.sleep(POLL_SECONDS)
    paths.environment.touch(mode=0o600)
    environment = {**ENVIRONMENT, "EXABGP_ENVFILE": str(paths.environment), **os.environ}
    os.execve(sys.executable, [sys.executable, *program, str(paths.config)], environment)


if __name__ == "__main__":
    main()
