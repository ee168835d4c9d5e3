"""What agent and speaker share: the names and forms of the files in their directory, and of the lines on their socket.

Owns: paths, the desired state's JSON form, atomic writing. Must not: import anything beyond the standard library,
since the relay, which has to stay small, imports it.

The agent writes what it wants into files, and the socket says only "look again" one way and what was received the
other way: so the speaker starts, restarts and announces by itself, whether an agent is alive or not.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIRECTORY_VARIABLE = "MANX_BGP_DIR"
DEFAULT_DIRECTORY = "/run/manx/bgp"

MARKER_ADDRESS = "127.255.255.254"
"""The peer address of a neighbor that never speaks: its router-id tells which configuration ExaBGP has loaded."""


@dataclass(frozen=True, slots=True)
class SharedPaths:
    """The files in the shared directory."""

    directory: Path

    @classmethod
    def from_environment(cls) -> SharedPaths:
        """Takes MANX_BGP_DIR, /run/manx/bgp where it is not set."""
        return cls(Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY))

    @property
    def config(self) -> Path:
        """ExaBGP's configuration; written by the agent."""
        return self.directory / "exabgp.conf"

    @property
    def desired(self) -> Path:
        """The `Desired`; written by the agent, after the configuration."""
        return self.directory / "desired.json"

    @property
    def announced(self) -> Path:
        """What the running ExaBGP may have announced; written by the relay for its successor."""
        return self.directory / "announced.json"

    @property
    def environment(self) -> Path:
        """An empty file, without which ExaBGP complains of none at each start; made by the speaker."""
        return self.directory / "exabgp.env"

    @property
    def socket(self) -> Path:
        """Where the agent listens for the relay."""
        return self.directory / "agent.sock"


@dataclass(frozen=True, slots=True)
class Desired:
    """What the relay is to bring about."""

    marker: str = ""
    """The router-id of the marker in the configuration that ExaBGP should have loaded."""
    peers: frozenset[str] = frozenset()
    """Addresses of the wanted sessions."""
    announce: frozenset[str] = field(default_factory=frozenset)
    """CIDRs to announce to every peer of the same IP version, with our own address as next hop."""

    def encode(self) -> str:
        """JSON, equal for equal values."""
        return json.dumps({"marker": self.marker, "peers": sorted(self.peers), "announce": sorted(self.announce)})

    @classmethod
    def decode(cls, text: str) -> Desired:
        """Raises ValueError where the text is not what `encode` gives."""
        try:
            fields: dict[str, Any] = json.loads(text)
            return cls(str(fields["marker"]), frozenset(fields["peers"]), frozenset(fields["announce"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"desired state lacks or misuses {error}") from error


def write_atomically(path: Path, text: str) -> None:
    """Replaces the file's content at once, readable by the owner only. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    temporary.replace(path)
