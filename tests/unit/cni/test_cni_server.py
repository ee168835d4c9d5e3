"""The socket: whatever comes in, an answer goes out, and the next client is served."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manx_agent.cni import server as module
from manx_agent.cni.protocol import CniError, Request
from manx_agent.cni.server import CniServer

STATUS = b'{"command":"STATUS"}\n'


class Handler:
    """Answers with the command's name, unless told otherwise by the request's netns."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.started = asyncio.Event()
        self.files: list[str] = []

    async def __call__(self, request: Request, namespace: int) -> dict[str, Any]:
        self.started.set()
        self.files.append(os.readlink(f"/proc/self/fd/{namespace}") if namespace >= 0 else "")
        match request.netns:
            case "refuse":
                raise CniError(11, "no", "why")
            case "break":
                raise ZeroDivisionError
            case "hang":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled.set()
        return {"did": request.command}


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
async def path(tmp_path: Path, handler: Handler) -> AsyncIterator[Path]:
    server = CniServer(tmp_path / "run" / "cni.sock", handler, allowed_uids=frozenset({os.geteuid()}))
    await server.start()
    yield tmp_path / "run" / "cni.sock"
    await server.stop()


async def say(path: Path, *parts: bytes, close: bool = False) -> dict[str, Any] | None:
    """The answer; None for a connection that was closed without one."""
    reader, writer = await asyncio.open_unix_connection(path)
    for part in parts:
        writer.write(part)
        await writer.drain()
    if close:
        writer.write_eof()
    line = await reader.read()
    writer.close()
    return json.loads(line) if line else None


def code_of(answer: dict[str, Any] | None) -> int:
    assert answer is not None
    code: int = answer["error"]["code"]
    return code


def asking(**fields: str) -> bytes:
    return json.dumps({"command": "STATUS", **fields}).encode() + b"\n"


async def test_only_root_can_open_the_socket(path: Path) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


async def test_a_request_in_pieces(path: Path) -> None:
    assert await say(path, STATUS[:5], STATUS[5:10], STATUS[10:]) == {"result": {"did": "STATUS"}}


async def test_errors_and_bugs_become_cni_errors(path: Path) -> None:
    refused = await say(path, asking(netns="refuse"))
    assert refused == {"error": {"code": 11, "msg": "no", "details": "why"}}
    assert code_of(await say(path, asking(netns="break"))) == 999
    assert await say(path, STATUS) == {"result": {"did": "STATUS"}}


async def test_what_is_no_request(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REQUEST", 1000)
    assert code_of(await say(path, b"x\n")) == 6
    assert code_of(await say(path, b"{", close=True)) == 6
    assert await say(path, b"", close=True) is None
    assert code_of(await say(path, b"x" * 1001)) == 6
    assert await say(path, STATUS) == {"result": {"did": "STATUS"}}


async def test_a_slow_client_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_TIMEOUT", 0.05)
    answer = await say(path, b'{"command"')
    assert code_of(answer) == 5


async def test_a_client_that_goes_away_is_not_worked_for(path: Path, handler: Handler) -> None:
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(asking(netns="hang"))
    await handler.started.wait()
    writer.close()
    await handler.cancelled.wait()


async def test_stopping_closes_without_an_answer(tmp_path: Path, handler: Handler) -> None:
    server = CniServer(tmp_path / "cni.sock", handler, allowed_uids=frozenset({os.geteuid()}))
    await server.start()
    asked = asyncio.create_task(say(tmp_path / "cni.sock", asking(netns="hang")))
    await handler.started.wait()
    await server.stop()
    assert await asked is None
    assert handler.cancelled.is_set()
    assert not (tmp_path / "cni.sock").exists()


async def test_another_user_is_refused(tmp_path: Path, handler: Handler) -> None:
    server = CniServer(tmp_path / "cni.sock", handler, allowed_uids=frozenset({os.geteuid() + 1}))
    await server.start()
    answer = await say(tmp_path / "cni.sock", STATUS)
    assert code_of(answer) == 4
    assert not handler.started.is_set()
    await server.stop()


async def test_too_many_at_once_may_try_again(path: Path, handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 1)
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(asking(netns="hang"))
    await handler.started.wait()
    assert code_of(await say(path, STATUS)) == 11
    writer.close()
    await handler.cancelled.wait()


async def test_the_namespace_comes_as_a_file_and_is_closed(path: Path, handler: Handler, tmp_path: Path) -> None:
    file = tmp_path / "namespace"
    file.touch()
    before = len(os.listdir("/proc/self/fd"))
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as client, file.open() as opened:
        client.setblocking(False)
        await loop.sock_connect(client, str(path))
        socket.send_fds(client, [STATUS[:1]], [opened.fileno(), opened.fileno()])
        await loop.sock_sendall(client, STATUS[1:])
        assert await loop.sock_recv(client, 100) == b'{"result":{"did":"STATUS"}}\n'
    assert handler.files == [str(file)]
    while len(os.listdir("/proc/self/fd")) > before:
        await asyncio.sleep(0.01)


async def test_a_stale_socket_is_replaced(tmp_path: Path, handler: Handler) -> None:
    path = tmp_path / "cni.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = CniServer(path, handler, allowed_uids=frozenset({os.geteuid()}))
    await server.start()
    assert await say(path, STATUS) == {"result": {"did": "STATUS"}}
    await server.stop()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), close=st.booleans())
def test_any_bytes_and_the_next_client_is_served(tmp_path: Path, content: bytes, close: bool) -> None:
    async def run() -> None:
        server = CniServer(tmp_path / "cni.sock", Handler(), allowed_uids=frozenset({os.geteuid()}))
        await server.start()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "cni.sock")
        writer.write(content)
        if close or b"\n" not in content:
            writer.write_eof()
        answer = await reader.read()
        assert not answer or "error" in json.loads(answer)
        writer.close()
        assert await say(tmp_path / "cni.sock", STATUS) == {"result": {"did": "STATUS"}}
        await server.stop()

    asyncio.run(run())
