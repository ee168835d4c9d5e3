"""The relay inside ExaBGP's own process: one Python on each node less.

ExaBGP starts its API process by `subprocess.Popen`, writes events to its standard input, and reads commands from its
standard output once its loop finds that readable. This is a `Popen` that starts nothing: what is written is heard at
once, commands come out of a real pipe, and a relay that fails looks like a process that has died, so that ExaBGP puts
another in its place, and ends after too many of them, as ever.

Owns: being what ExaBGP uses of the module subprocess, in whose place it stands there (`reactor.install`). Must not:
know what is heard or said, or wait for anything: ExaBGP's sessions would wait as well.
"""

from __future__ import annotations

import os
import sys
import traceback
from subprocess import PIPE, CalledProcessError, TimeoutExpired
from typing import Any

from manx_agent.bgp.relay import Relay, directory_of

__all__ = ["PIPE", "CalledProcessError", "Popen", "TimeoutExpired"]

FAILED = 1


class Popen:
    """`attend` is for the loop: in each turn, before it waits, for no longer than `relay.patience()`."""

    def __init__(self, argv: list[str], **_: Any) -> None:
        """`argv`: what starts it as a process of its own."""
        self.relay = Relay(directory_of(argv), os.getpid())
        self.stdin = self
        reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.stdout = os.fdopen(reader, "rb", buffering=0)
        self._unread = b""
        """Commands for which the pipe has had no room yet."""
        self._code: int | None = None

    def write(self, data: bytes) -> None:
        """ExaBGP says something. One that has failed is deaf: a broken pipe would make it stop all its neighbors."""
        if self._code is None:
            try:
                for line in data.decode("ascii").split("\n"):
                    self.relay.hear(line)
            except Exception:
                self._fail()

    def flush(self) -> None:
        """Nothing is kept back."""

    def attend(self) -> None:
        """Does what there is to do, and gives ExaBGP its commands."""
        if self._code is None:
            try:
                self._unread += "".join(f"{command}\n" for command in self.relay.attend()).encode("ascii")
                self._tell()
            except Exception:
                self._fail()

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        return self._code

    def terminate(self) -> None:
        """May be called again, and by another thread once ExaBGP's loop knows it no more."""
        if self._code is None:
            self._end(0)

    kill = terminate

    def wait(self, timeout: float | None = None) -> int | None:
        """It never takes any time."""
        return self._code

    def _tell(self) -> None:
        try:
            while self._unread:
                self._unread = self._unread[os.write(self._writer, self._unread) :]
        except BlockingIOError:
            return  # the pipe is full, and therefore readable: the loop turns without a pause until it is not

    def _fail(self) -> None:
        print(f"manx relay: {traceback.format_exc()}", file=sys.stderr, flush=True)
        self._end(FAILED)

    def _end(self, code: int) -> None:
        """To the loop a process that has ended is one whose output has."""
        self._code = code
        os.close(self._writer)
        self.relay.close()
