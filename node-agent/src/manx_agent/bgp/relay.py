"""The relay between ExaBGP, the agent's files and the agent's socket.

Owns: the I/O around `speakerstate`. Must not: judge routes, keep anything on disk but what its successor needs, wait
for anything, or import more than the standard library and its small siblings: one runs on every node.

To ExaBGP it is the API process, which hears its events and gives it commands: inside ExaBGP's own process (`inside`),
or, where ExaBGP runs by its own loop, a process whose program is this module. The agent may be absent, slow or stopped:
what is written to it waits in memory, and past a limit the connection is dropped (the next one begins with a snapshot).

A process of its own reads events from its standard input and writes commands to its standard output. ExaBGP blocks
while its pipe to us is full, hold timers and all, so a thread does nothing but read that pipe. End of input means that
ExaBGP is gone, and so are we.
"""

from __future__ import annotations

import collections
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from manx_agent.bgp import messages
from manx_agent.bgp.files import DEFAULT_DIRECTORY, Desired, SharedPaths, write_atomically
from manx_agent.bgp.speakerstate import Note, SpeakerState

TICK_SECONDS = 0.2
"""Between two attempts at what nothing tells the time of: the agent's coming, room in its socket, a reload."""
RELOAD_SECONDS = 0.4
"""Until the second attempt at a reload, then doubling; ExaBGP drops one that comes while updates are pending."""
MAX_RELOAD_SECONDS = 10.0
CHECK_SECONDS = 30.0
"""Between two looks at ExaBGP's neighbors when nothing happens: with 200 sessions 0.02 s of processor, as much as all
else that they cost meanwhile."""
MAX_BACKLOG = 64 * 1024 * 1024
"""Bytes that may wait for an agent that does not read."""
RECEIVE_BYTES = 65536


class AgentLink:
    """The connection to the agent, while there is one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._backlog = bytearray()

    @property
    def filenos(self) -> list[int]:
        """What is readable once the agent has said something, or gone."""
        return [] if self._socket is None else [self._socket.fileno()]

    @property
    def at_rest(self) -> bool:
        """Whether there is nothing to attempt again."""
        return self._socket is not None and not self._backlog

    def connect(self) -> bool:
        """Tries to connect where there is no connection; true where a new one came about."""
        if self._socket is not None:
            return False
        attempt = socket.socket(socket.AF_UNIX)
        attempt.setblocking(False)  # it would wait for an agent that is stopped and has connections it has not taken
        try:
            attempt.connect(str(self._path))
        except OSError:
            attempt.close()
            return False
        self._socket = attempt
        return True

    def send(self, notes: list[Note]) -> None:
        """Sends what can be sent now, keeps the rest; without a connection forgets it all."""
        if self._socket is None:
            return
        for note in notes:
            self._backlog += json.dumps(note, separators=(",", ":")).encode() + b"\n"
        self._flush(self._socket)
        if len(self._backlog) > MAX_BACKLOG:
            self.close()

    def rung(self) -> bool:
        """Whether the agent sent anything, which always means: look at the files."""
        if self._socket is None:
            return False
        try:
            heard = bool(self._socket.recv(RECEIVE_BYTES))
        except BlockingIOError:
            return False
        except OSError:
            heard = False
        if not heard:
            self.close()
        return heard

    def close(self) -> None:
        """Ends the connection, if there is one; the next begins anew."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._backlog.clear()

    def _flush(self, connection: socket.socket) -> None:
        try:
            while self._backlog:
                del self._backlog[: connection.send(self._backlog[:RECEIVE_BYTES])]
        except BlockingIOError:
            return
        except OSError:
            self.close()


class Relay:
    """`hear` takes ExaBGP's lines; `attend` does what there is to do then, and whenever `patience` is over or one of
    `filenos` is readable."""

    def __init__(self, paths: SharedPaths, speaker: int) -> None:
        """`speaker`: ExaBGP's process."""
        self._paths = paths
        self._speaker = speaker
        self._agent = AgentLink(paths.socket)
        self._state = SpeakerState(_leftover(paths.announced, speaker))
        self._written: frozenset[str] | None = None
        self._next_reload = 0.0
        self._next_check = time.monotonic() + CHECK_SECONDS
        self._look()

    def hear(self, line: str) -> None:
        """A line of ExaBGP's."""
        event = messages.parse(line)
        if event is not None:
            self._state.handle(event, time.time())

    def attend(self) -> list[str]:
        """Returns commands for ExaBGP."""
        if self._agent.rung():
            self._look()
        self._ask_for_reload()
        if self._agent.connect() and not self._state.learning:
            self._state.take_notes()
            self._agent.send(list(self._state.snapshot()))
        commands = self._state.take_commands()
        if commands:
            self._remember()
        self._agent.send(self._state.take_notes())
        return commands

    @property
    def filenos(self) -> list[int]:
        """What is readable once there is something to do."""
        return self._agent.filenos

    def patience(self) -> float:
        """Seconds for which there is nothing to do unless something is heard."""
        if self._state.reload_due or not self._agent.at_rest:
            return TICK_SECONDS
        return max(0.0, self._next_check - time.monotonic())

    def close(self) -> None:
        """Leaves the agent."""
        self._agent.close()

    def _look(self) -> None:
        """Reads the desired state; what cannot be read leaves the last one in force."""
        try:
            desired = Desired.decode(self._paths.desired.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            _log(f"cannot read {self._paths.desired}: {error}")
            return
        if desired.marker != self._state.desired.marker:
            self._next_reload = 0.0
            self._state.reloads = 0
        self._state.want(desired)

    def _ask_for_reload(self) -> None:
        now = time.monotonic()
        if self._state.abandoned:
            _log("ExaBGP has stopped all its neighbors: ending it, to be started again")
            self._state.abandoned = False
            os.kill(self._speaker, signal.SIGTERM)
        elif self._state.reload_due and now >= self._next_reload:
            self._next_reload = now + min(MAX_RELOAD_SECONDS, RELOAD_SECONDS * 2 ** min(self._state.reloads, 10))
            self._state.reload()
        elif now >= self._next_check:
            self._next_check = now + CHECK_SECONDS
            self._state.inquire()

    def _remember(self) -> None:
        """Before anything is announced, so that no prefix is unknown to a successor."""
        announced = self._state.everything_announced()
        if announced == self._written:
            return
        try:
            write_atomically(
                self._paths.announced, json.dumps({"speaker": self._speaker, "prefixes": sorted(announced)})
            )
            self._written = announced
        except OSError as error:
            _log(f"cannot write {self._paths.announced}: {error}")


def _leftover(path: Path, speaker: int) -> frozenset[str]:
    """What a former relay of the same ExaBGP left; nothing where ExaBGP has been restarted since."""
    try:
        left = json.loads(path.read_text(encoding="ascii"))
        return frozenset(left["prefixes"]) if left["speaker"] == speaker else frozenset()
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def _log(text: str) -> None:
    print(f"manx relay: {text}", file=sys.stderr, flush=True)


class Input:
    """Standard input, drained by a thread of its own; `fileno` is readable when there are lines."""

    def __init__(self) -> None:
        self._lines: collections.deque[str] = collections.deque()
        self.ended = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        threading.Thread(target=self._drain, daemon=True).start()

    def fileno(self) -> int:
        """For select."""
        return self._reader.fileno()

    def take(self) -> list[str]:
        """The lines that have come."""
        swallow(self._reader)
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        return lines

    def _drain(self) -> None:
        for line in sys.stdin:
            self._lines.append(line)
            self._wake()
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        try:
            self._writer.send(b"x")
        except BlockingIOError:
            return  # unread wake-ups wake as well


def swallow(reader: socket.socket) -> None:
    """What is to be read without waiting: it only wakes."""
    try:
        while reader.recv(RECEIVE_BYTES):
            pass
    except BlockingIOError:
        return


def run(paths: SharedPaths) -> None:
    """As a process of its own: until ExaBGP is gone."""
    given, relay = Input(), Relay(paths, os.getppid())
    while not given.ended:
        commands = relay.attend()
        sys.stdout.write("".join(f"{command}\n" for command in commands))
        sys.stdout.flush()
        select.select([given.fileno(), *relay.filenos], [], [], relay.patience())
        for line in given.take():
            relay.hear(line)


def directory_of(argv: list[str]) -> SharedPaths:
    """From the command that starts it, `… --dir DIRECTORY`: the last argument (argparse would take a tenth of the
    memory)."""
    return SharedPaths(Path(argv[-1] if len(argv) > 1 else DEFAULT_DIRECTORY))


def main() -> None:
    """A process of its own."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    try:
        run(directory_of(sys.argv))
    except BrokenPipeError:
        os._exit(0)  # ExaBGP is gone; flushing standard output at exit would fail once more


if __name__ == "__main__":
    main()
