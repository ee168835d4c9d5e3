"""The relay inside ExaBGP: ExaBGP's own handling of API processes, around one that is none."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from exabgp.reactor.api import processes
from exabgp.reactor.api.processes import ProcessError, Processes

from manx_agent.bgp import inside, relay
from manx_agent.bgp.files import MARKER_ADDRESS, Desired, SharedPaths, write_atomically
from manx_agent.bgp.messages import SHOW_FENCE, SHOW_NEIGHBORS, SHOW_RECEIVED

FIRST = [SHOW_NEIGHBORS, SHOW_RECEIVED, SHOW_FENCE]
FENCE = "Peer            AS        up/down state       |     #sent     #recvd"
LIMIT = 5
"""How many in about a minute ExaBGP replaces."""


def neighbors(marker: str) -> str:
    """The answer to `show neighbor json`, of the marker alone."""
    peer = {"address": MARKER_ADDRESS, "as": 64512, "capabilities": {}}
    return json.dumps([{"local": {"as": 64512, "id": marker}, "peer": peer, "fsm": "IDLE", "duration": 0}])


@pytest.fixture
def paths(tmp_path: Path) -> SharedPaths:
    write_atomically(SharedPaths(tmp_path).desired, Desired("1.2.3.4").encode())
    return SharedPaths(tmp_path)


@pytest.fixture
def agent(paths: SharedPaths) -> Iterator[socket.socket]:
    """Its listening socket."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(paths.socket))
        listening.listen(1)
        listening.settimeout(10)
        yield listening


@pytest.fixture
def helper(paths: SharedPaths) -> Iterator[inside.Popen]:
    one = inside.Popen(["python3", "-m", "manx_agent.bgp.relay", "--dir", str(paths.directory)], stdin=inside.PIPE)
    yield one
    one.terminate()
    one.stdout.close()


def said(helper: inside.Popen) -> list[str]:
    """The commands that ExaBGP can read by now."""
    helper.attend()
    return (helper.stdout.read() or b"").decode().splitlines()


def hear(helper: inside.Popen, *lines: str) -> None:
    for line in lines:
        helper.stdin.write(f"{line}\n".encode())
    helper.stdin.flush()


def test_it_learns_reloads_and_tells_the_agent(helper: inside.Popen, agent: socket.socket) -> None:
    assert said(helper) == FIRST
    connection, _ = agent.accept()
    connection.settimeout(10)
    hear(helper, neighbors("9.9.9.9"), FENCE)
    assert said(helper) == ["reload", SHOW_NEIGHBORS]
    with connection, connection.makefile() as notes:
        assert [json.loads(next(notes))["type"] for _ in range(3)] == ["begin", "trouble", "end"]


def test_what_the_agent_says_is_waited_for_and_makes_it_look_again(
    helper: inside.Popen, agent: socket.socket, paths: SharedPaths
) -> None:
    said(helper)
    connection, _ = agent.accept()
    hear(helper, neighbors("1.2.3.4"), FENCE)
    assert said(helper) == []
    assert helper.relay.patience() > relay.TICK_SECONDS
    write_atomically(paths.desired, Desired("5.6.7.8").encode())
    assert said(helper) == []
    with connection:
        connection.send(b"{}\n")
        assert select.select(helper.relay.filenos, [], [], 10)[0] == helper.relay.filenos
        assert said(helper) == ["reload", SHOW_NEIGHBORS]


def test_without_an_agent_it_tries_again_soon(helper: inside.Popen) -> None:
    said(helper)
    assert helper.relay.filenos == []
    assert helper.relay.patience() == relay.TICK_SECONDS


def test_an_agent_that_is_stopped_is_not_waited_for(helper: inside.Popen, agent: socket.socket) -> None:
    """Its socket has as many connections untaken as it may have."""
    waiting: list[socket.socket] = []
    while not waiting or waiting[-1].connect_ex(agent.getsockname()) == 0:
        waiting.append(socket.socket(socket.AF_UNIX))
        waiting[-1].setblocking(False)
    assert said(helper) == FIRST
    assert helper.relay.filenos == []
    for one in waiting:
        one.close()


def test_what_the_pipe_has_no_room_for_comes_later(helper: inside.Popen, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [f"{number} {'x' * 1000}" for number in range(1000)]
    monkeypatch.setattr(helper.relay, "attend", lambda: [commands.pop(0) for _ in commands[:]])
    wanted, found = list(commands), b""
    for _ in range(100):
        helper.attend()
        found += helper.stdout.read() or b""
    assert found.decode().splitlines() == wanted


def test_one_that_fails_looks_dead_and_is_deaf(
    helper: inside.Popen, agent: socket.socket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said(helper)
    connection, _ = agent.accept()
    monkeypatch.setattr(helper.relay, "hear", explode)
    hear(helper, FENCE)
    assert helper.poll() == inside.FAILED
    assert "ZeroDivisionError" in capsys.readouterr().err
    hear(helper, FENCE)
    assert said(helper) == []
    poller = select.poll()
    poller.register(helper.stdout)
    assert poller.poll(0)[0][1] & select.POLLHUP
    with connection:
        assert connection.recv(1) == b""


def explode(*_: Any) -> list[str]:
    return [str(1 // 0)]


# As ExaBGP sees it


@pytest.fixture
def exabgp(paths: SharedPaths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    """ExaBGP's processes, one of which is the relay."""
    monkeypatch.setattr(processes, "subprocess", inside)
    monkeypatch.setattr(processes, "log", MagicMock())
    monkeypatch.setenv("TERM", os.environ.get("TERM", ""))  # ExaBGP sets it
    monkeypatch.setattr(time, "time", lambda: 640.0)  # ExaBGP counts by the minute
    one = Processes()
    run = ["/usr/bin/python3", "-m", "manx_agent.bgp.relay", "--dir", str(paths.directory)]
    one.start({"manx": {"run": run, "encoder": "json", "respawn": True}})
    yield one
    one.terminate()


def running(exabgp: Processes) -> inside.Popen:
    found = exabgp._process["manx"]
    assert isinstance(found, inside.Popen)
    return found


def commands(exabgp: Processes) -> list[str]:
    running(exabgp).attend()
    return [command for service, command in exabgp.received() if service == "manx"]


def test_exabgp_hears_it_and_is_heard(exabgp: Processes) -> None:
    assert exabgp.fds == [running(exabgp).stdout.fileno()]
    assert commands(exabgp) == FIRST
    exabgp.write("manx", neighbors("9.9.9.9"))
    exabgp.write("manx", FENCE)
    assert commands(exabgp) == ["reload", SHOW_NEIGHBORS]


def fails_at_work(one: inside.Popen) -> None:
    one.relay.attend = explode  # type: ignore[method-assign]


def fails_at_hearing(one: inside.Popen) -> None:
    one.relay.hear = explode  # type: ignore[method-assign, assignment]
    hear(one, FENCE)


@pytest.mark.parametrize("fails", [fails_at_work, fails_at_hearing])
def test_exabgp_puts_another_in_the_place_of_one_that_failed_until_there_were_too_many(
    exabgp: Processes, fails: Callable[[inside.Popen], None]
) -> None:
    for _ in range(LIMIT):
        former = running(exabgp)
        fails(former)
        commands(exabgp)
        assert running(exabgp) is not former
        assert commands(exabgp) == FIRST
    fails(running(exabgp))
    with pytest.raises(ProcessError):
        commands(exabgp)


def test_exabgp_ends_it(exabgp: Processes) -> None:
    former = running(exabgp)
    exabgp.terminate()
    assert former.poll() == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(former._writer)
