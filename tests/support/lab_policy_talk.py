"""Owns connections that stay open: a TCP connection from one end of the policy tests' world to a pod's HTTP server,
over which one asks again and again.

It must not open a second connection for a later question.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lab_policy_netns import inside
from lab_policy_world import World

_REQUEST = b"GET /hostname HTTP/1.1\r\nHost: pod\r\n\r\n"


class Talk:
    """One connection."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened

    def goes_on(self, seconds: float = 2) -> bool:
        """Whether a question over the connection is answered within so many seconds."""
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(_REQUEST)
            return self._socket.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


@contextmanager
def talks(world: World, *names: str, port: int = 80) -> Iterator[dict[str, Talk]]:
    """Connections ``y/a>x/a`` (over IPv6: ``y/a>x/a/6``), opened and tried. Raises OSError where one is not to be."""
    with ExitStack() as stack:
        found = {}
        for name in names:
            source, _, target = name.removesuffix("/6").partition(">")
            member, own = world.members[target], world.prober.sources[source]
            family, address = (
                (socket.AF_INET6, member.address6) if name.endswith("/6") else (socket.AF_INET, member.address)
            )
            with inside(own.namespace):
                opened = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            opened.settimeout(10)
            opened.connect((address, port))
            found[name] = Talk(opened)
            assert found[name].goes_on(10), name
        yield found
