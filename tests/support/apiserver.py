"""A real kube-apiserver on etcd, both on 127.0.0.1, and a gate in front of it that a test can shut.

Owns: starting, killing and restarting the two processes, credentials, and compacting etcd's history. Must not: run
nodes or controllers (the lab does); it needs no namespaces and no root, only the binaries that `hack/up` built.

Flags are the lab's where they matter to clients: Node and RBAC authorization, default admission plugins. Processes die
with the test's process (PR_SET_PDEATHSIG), also if that is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab import pki
from lab.binaries import KUBE

START_LIMIT = 90.0
_PR_SET_PDEATHSIG = 1


class ApiServer:
    """etcd and kube-apiserver in `directory`; `kubeconfig` is the administrator's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self._etcd_port, self._peer_port = _free_ports(3)
        self.kubeconfig = directory / "kubeconfig"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Both processes, until the API server is ready."""
        self._write_credentials()
        self._spawn("etcd", *self._etcd_flags())
        self.spawn_apiserver()
        self.wait_ready()

    def spawn_apiserver(self) -> None:
        """From the main thread only: a child's PR_SET_PDEATHSIG fires when the thread that made it ends."""
        self._spawn("kube-apiserver", *self._apiserver_flags())

    def wait_ready(self) -> None:
        """Raises AssertionError, with the end of the log, if the API server ends or takes too long."""
        deadline = time.monotonic() + START_LIMIT
        while not self._ready():
            if self._processes["kube-apiserver"].poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"kube-apiserver did not start:\n{self._log('kube-apiserver')[-3000:]}")
            time.sleep(0.1)

    def kill_apiserver(self) -> None:
        """As kill -9 does it: connections are reset."""
        self._end("kube-apiserver")

    def stop(self) -> None:
        for name in ("kube-apiserver", "etcd"):
            self._end(name)

    def compact(self, revision: int) -> None:
        """Make etcd forget everything before `revision` (etcd's JSON gateway)."""
        body = json.dumps({"revision": revision, "physical": True}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._etcd_port}/v3/kv/compaction", body)
        urllib.request.urlopen(request, timeout=10).read()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _write_credentials(self) -> None:
        keys = self.directory / "pki"
        authority = pki.Authority(keys)
        authority.issue("apiserver", "kube-apiserver", names=["127.0.0.1", "localhost"])
        authority.issue("admin", "test-admin", "system:masters")
        pki.write_service_account_key(keys)
        self.write_kubeconfig(self.kubeconfig, self.port)

    def write_kubeconfig(self, path: Path, port: int) -> None:
        """The administrator's, with the server at `port` (a gate's, say)."""
        pki.write_kubeconfig(path, f"https://127.0.0.1:{port}", self.directory / "pki", "admin")

    def _etcd_flags(self) -> list[str]:
        return [
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-url=http://127.0.0.1:{self._etcd_port}",
            f"--listen-peer-url=http://127.0.0.1:{self._peer_port}",
        ]

    def _apiserver_flags(self) -> list[str]:
        keys = self.directory / "pki"
        return [
            "--bind-address=127.0.0.1",
            "--advertise-address=192.0.2.1",  # never contacted; loopback is refused here
            f"--secure-port={self.port}",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--endpoint-reconciler-type=none",
            f"--client-ca-file={keys / 'ca.crt'}",
            f"--tls-cert-file={keys / 'apiserver.crt'}",
            f"--tls-private-key-file={keys / 'apiserver.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys / 'sa.pub'}",
            f"--service-account-signing-key-file={keys / 'sa.key'}",
        ]

    def _spawn(self, name: str, *flags: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [KUBE.directory / name, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def _ready(self) -> bool:
        command = [str(KUBE.directory / "kubectl"), f"--kubeconfig={self.kubeconfig}", "get", "--raw", "/readyz"]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).stdout == b"ok"

    def _log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")


@contextmanager
def running(directory: Path) -> Iterator[ApiServer]:
    server = ApiServer(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class Gate:
    """A TCP forwarder on 127.0.0.1 (`port`) that can be shut: connections are then reset and new ones too. Async
    context manager."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target = target_port
        self._open = True
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Gate:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self.shut()
        self._server.close()

    def shut(self) -> None:
        self._open = False
        for writer in list(self._writers):
            writer.transport.abort()

    def open(self) -> None:
        self._open = True

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        with suppress(OSError):
            upstream, downstream = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers |= {writer, downstream}
            try:
                await asyncio.gather(_pump(reader, downstream), _pump(upstream, writer))
            finally:
                self._writers -= {writer, downstream}
                writer.transport.abort()
                downstream.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
