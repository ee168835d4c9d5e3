"""pyroute2's classes of netlink messages, without the rest of pyroute2.

Owns: loading them. Must not: be passed by; whoever wants a message class takes it from here.

Why this way: `import pyroute2` loads everything that it has, sockets, DHCP and traffic control among it, for 16 MB and
0.4 s of processor on every node; the classes alone come to 5 MB and 0.05 s. All that the package's own module does is
to export its parts, so it is left out while they are loaded.
"""

from __future__ import annotations

import importlib.util
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _parts_alone() -> Iterator[None]:
    """Within it, modules of pyroute2 are loaded without pyroute2 itself. Raises ImportError where it is missing."""
    spec = importlib.util.find_spec("pyroute2")
    if spec is None:
        raise ImportError("pyroute2 is not installed")
    if "pyroute2" in sys.modules:
        yield
        return
    sys.modules["pyroute2"] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules["pyroute2"]  # so that whoever imports it after all gets all of it


with _parts_alone():
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.ndmsg import ndmsg

__all__ = ["decoded", "encoded", "ifaddrmsg", "ifinfmsg", "ndmsg"]

_HEADER = struct.Struct("=IHHII")
"""Of every message (RFC 3549, 2.3.2); the length is all that the classes look at."""


def encoded(message: Any) -> bytes:
    """A filled-in message's own header and attributes."""
    message.encode()
    return bytes(message.data[_HEADER.size :])


def decoded(kind: Any, body: bytes) -> Any:
    """A message of one of the classes from its own header and attributes."""
    message = kind(_HEADER.pack(_HEADER.size + len(body), 0, 0, 0, 0) + body)
    message.decode()
    return message
