"""The agent's end of the socket to the relay.

Owns: the listening socket, one connection at a time, lines to notes. Must not: know what notes mean. The newest
connection wins: an older relay is one whose ExaBGP is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manx_agent.model import AgentError

log = logging.getLogger(__name__)

MAX_LINE = 1024 * 1024
BELL = b"{}\n"
"""Any line means: look at the files."""

Note = dict[str, Any]


class LinkError(AgentError):
    """The agent cannot listen for the relay."""


class RelayLink:
    """`on_note` gets each note, and None when the connection ends."""

    def __init__(self, path: Path, on_note: Callable[[Note | None], None]) -> None:
        self._path = path
        self._on_note = on_note
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a relay."""
        return self._writer is not None

    async def start(self) -> None:
        """Listens. Raises LinkError."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            umask = os.umask(0o177)
            try:
                self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE)
            finally:
                os.umask(umask)
        except OSError as error:
            raise LinkError(f"cannot listen for the BGP speaker at {self._path}: {error}") from error

    async def stop(self) -> None:
        """Closes the socket; the relay waits for the next agent."""
        if self._server is not None:
            self._server.close()
        if self._writer is not None:
            self._writer.close()
        self._server = self._writer = None

    def ring(self) -> None:
        """Tells the relay, if there is one, to look at the files."""
        if self._writer is not None:
            self._writer.write(BELL)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = writer
        self.ring()
        try:
            while line := await reader.readline():
                if self._writer is writer:
                    self._on_note(json.loads(line))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("dropping the BGP relay's connection: %s", error)
        finally:
            writer.close()
            if self._writer is writer:
                self._writer = None
                self._on_note(None)
