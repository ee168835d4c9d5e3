"""One speaker among many neighbors, in a network namespace of their own.

Owns: the addresses, Manx's speaker started as its container starts it, the neighbors' process, and the agent's end of
the files and the socket between agent and speaker. Must not: measure.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from bench.scale.processes import COMPILED, Usage, imported, usage
from bench.speaker import neighbors
from bench.speaker.neighbors import Heard
from manx_agent.bgp.config import render
from manx_agent.bgp.files import SharedPaths, write_atomically
from manx_agent.bgp.link import BELL
from manx_agent.bgp.peers import wanted_peers
from manx_agent.model import BgpView
from manx_core.api.v1alpha1 import BgpSettings, MeshNodeSpec
from netns import Netns

OWN, OWN6 = "10.99.0.1", "fd99::1"
PATIENCE = 60.0
RELAY = "manx_agent.bgp.relay"

Usages = dict[str, Usage]
"""By what the process is: "speaker", "neighbors"."""


class Setting:
    """A context manager: up once every session is. `dual`: a session of each family with every neighbor."""

    def __init__(self, count: int, *, dual: bool = False) -> None:
        self.view = BgpView("here", OWN, OWN6 if dual else "", BgpSettings(), members(count, dual))
        self.sessions = count * (1 + dual)
        self._stack = ExitStack()
        self.started_in = 0.0

    def __enter__(self) -> Setting:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self._namespace = self._stack.enter_context(Netns())
        self._paths = SharedPaths(Path(self._stack.enter_context(TemporaryDirectory())))
        self._address()
        self._neighbors = self._play()
        self._agent = self._listen()
        self.announce(frozenset())
        began = time.monotonic()
        self._speaker = self._speak()
        self._relay, _ = self._agent.accept()
        self._stack.callback(self._relay.close)
        until(lambda: self.heard().established == self.sessions, "every session is established", self._speaker)
        self.started_in = time.monotonic() - began

    def announce(self, cidrs: frozenset[str]) -> float:
        """Says which blocks are to be announced; returns when, in seconds of the monotonic clock."""
        self.view = replace(self.view, announced=cidrs)
        command = (sys.executable, "-m", RELAY, "--dir", str(self._paths.directory))
        rendered = render(self.view, wanted_peers(self.view), command)
        if not self._paths.config.exists():
            write_atomically(self._paths.config, rendered.text)
        write_atomically(self._paths.desired, rendered.desired.encode())
        if hasattr(self, "_relay"):
            self._relay.send(BELL)
        return time.monotonic()

    def await_updates(self, before: Heard, number: int) -> Heard:
        """Until every session has heard so many UPDATEs more."""
        until(lambda: self._more(before) >= number * self.sessions, f"{number} UPDATEs on every session", self._speaker)
        return self.heard()

    def _more(self, before: Heard) -> int:
        return sum(self.heard().updates.values()) - sum(before.updates.values())

    def heard(self) -> Heard:
        """What the neighbors have heard by now."""
        assert self._neighbors.stdin is not None
        assert self._neighbors.stdout is not None
        self._neighbors.stdin.write(b"\n")
        self._neighbors.stdin.flush()
        return msgspec.json.decode(self._neighbors.stdout.readline(), type=Heard)

    def usages(self) -> Usages:
        """Of the speaker's process, the relay in it, and of the neighbors' one."""
        return {"speaker": usage(self._speaker.pid), "neighbors": usage(self._neighbors.pid)}

    @property
    def pid(self) -> int:
        """The speaker's."""
        return self._speaker.pid

    def _address(self) -> None:
        self._namespace.sysctl("ipv6.conf.all.accept_dad", "0")
        every = [own for own in (self.view.address, self.view.address6) if own] + self._others()
        lines = (f"address add {one}/{128 if ':' in one else 32} dev lo nodad\n" for one in every)
        self._namespace.run("ip", "-batch", "-", stdin="".join(lines).replace("/32 dev lo nodad", "/32 dev lo"))

    def _others(self) -> list[str]:
        return [one for member in self.view.mesh.values() for one in (member.ipv4, member.ipv6) if one]

    def _play(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, neighbors.__file__, str(self.view.settings.listen_port), *self._others()]
        process = self._stack.enter_context(self._namespace.popen(*argv))
        self._stack.callback(process.kill)
        assert process.stdout is not None
        if process.stdout.readline() != b"listening\n":
            raise RuntimeError("the speaker's neighbors did not start")
        return process

    def _listen(self) -> socket.socket:
        listening = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.settimeout(PATIENCE)
        listening.bind(str(self._paths.socket))
        listening.listen()
        return listening

    def _speak(self) -> subprocess.Popen[bytes]:
        argv = self._namespace.argv(sys.executable, "-m", "manx_agent.bgp.speaker")
        imported("manx_agent.bgp.reactor")  # compiled now, where it was not
        environment = {**os.environ, **COMPILED, "MANX_BGP_DIR": str(self._paths.directory)}
        process = self._stack.enter_context(subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL))
        self._stack.callback(process.kill)
        return process


def members(count: int, dual: bool) -> dict[str, MeshNodeSpec]:
    """The mesh without ourselves."""
    first, first6 = ipaddress.ip_address("10.99.1.0"), ipaddress.ip_address("fd99::1:0")
    return {
        f"n{number:04}": MeshNodeSpec(
            epoch=1, ipv4=str(first + number), ipv6=str(first6 + number) if dual else "", as_number=64512
        )
        for number in range(count)
    }


def until(condition: Callable[[], bool], what: str, process: subprocess.Popen[bytes]) -> None:
    """Raises RuntimeError where it takes too long, or the process ends first."""
    ends = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None or time.monotonic() > ends:
            raise RuntimeError(f"not within {PATIENCE:g} s: {what}; the speaker's exit code: {process.poll()}")
        time.sleep(0.02)
