"""The cluster to measure on: API server, kinds, load, players, and the operator when asked.

Owns: all of these from start to end, in a network namespace of its own, and knowing when nothing is written any more.
Must not: measure, or run the node that is measured (`node` does).

    async with world(FULL) as found:
        operator = found.operator()
        written = await found.written(operator)

Why a network namespace: nothing that a measured agent does to its kernel then concerns the machine, and everything
reaches everything on 127.0.0.1 without a relay in between. The calling thread is in it meanwhile, and so are threads
and processes that it starts.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml

import apiserver
from bench.scale import load
from bench.scale.load import Size
from bench.scale.players import Players
from bench.scale.processes import Process, python, until
from lab.binaries import KUBE
from lab.settings import CHECKOUT
from manx_core.api.lines import lines_of
from manx_core.api.v1alpha1 import NodeState
from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig
from manx_kube.resources import (
    ADDRESS_GROUPS,
    IPAM_BLOCKS,
    MESH_NODES,
    NODE_STATES,
    POLICY_CLASSES,
    POLICY_PROGRAMS,
)
from netns import Netns

OURS = (ADDRESS_GROUPS, POLICY_PROGRAMS, POLICY_CLASSES, NODE_STATES, MESH_NODES, IPAM_BLOCKS)
"""What the operator writes."""
INSTALLED = ("CustomResourceDefinition", "Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
WRITE_RATE = 2000
"""High enough to be no limit: what is measured is what the machine carries."""

LINGER = 3600
"""Seconds: no label is dropped while something else is measured."""
LEADS = "writing begins"
ACCOUNT = "bench"
USER = f"system:serviceaccount:default:{ACCOUNT}"

Say = Callable[[str], None]


@dataclass
class World:
    """A running cluster. What is started by it ends with it."""

    size: Size
    directory: Path
    netns: Netns
    server: apiserver.ApiServer
    client: KubeClient
    stack: AsyncExitStack
    say: Say

    def operator(self, name: str = "operator", **env: str) -> Process:
        """One more operator; `env` over what it is given otherwise."""
        given = {
            "KUBECONFIG": str(self.server.kubeconfig),
            "POD_NAMESPACE": "manx-system",
            "POD_NAME": name,
            "MANX_INSTALLER": "off",
            "MANX_KOPF": "off",
            "MANX_WRITE_RATE": str(WRITE_RATE),
            "MANX_WRITE_BURST": str(WRITE_RATE),
            "MANX_LABEL_LINGER": str(LINGER),
            "MANX_ALIVE_FILE": str(self.directory / f"{name}.alive"),
            "MANX_READY_FILE": str(self.directory / f"{name}.ready"),
        }
        process = Process(python("-m", "manx_operator"), {**given, **env}, self.directory / f"{name}.log")
        self.stack.callback(lambda: process.end(kill=True))
        return process

    async def written(self, operator: Process, seconds: float = 3.0) -> float:
        """Until an operator has begun to write and come to an end, with every pod of the load listed for its node; when
        it did."""
        await until(lambda: operator.says(LEADS), "the operator to lead")
        async with asyncio.timeout(600):
            await self._listed()
        return await self.quiet(seconds)

    async def _listed(self) -> None:
        """Until all pods are in NodeStates."""
        while True:
            states = await self.client.list_all(NODE_STATES, NodeState)
            if sum(len(lines_of(state.spec.pods)) for state in states.items) >= self.size.pods:
                return
            await asyncio.sleep(0.5)

    async def quiet(self, seconds: float = 3.0) -> float:
        """Until none of our objects has changed for so long; when (by time.perf_counter) the last did."""
        last, seen = time.perf_counter(), await self._versions()
        while time.perf_counter() - last < seconds:
            await asyncio.sleep(0.2)
            now = await self._versions()
            if now != seen:
                last, seen = time.perf_counter(), now
        return last

    async def _versions(self) -> list[str]:
        """What the server's caches are at: it answers without asking etcd. Each tells of its own kind alone. One object
        is asked for by its name, that there is none of: from its cache the server answers with all, whatever `limit`
        says, and that, again and again, would be more work than what is measured."""
        paths = [f"{resource.path()}?fieldSelector=metadata.name%3Dnone&resourceVersion=0" for resource in OURS]
        answers = await asyncio.gather(*(self.client.transport.request("GET", path) for path in paths))
        return [msgspec.json.decode(answer)["metadata"]["resourceVersion"] for answer in answers]

    def logs(self) -> str:
        """The end of each log of ours."""
        logs = [log for log in sorted(self.directory.glob("*.log")) if log.stem not in ("etcd", "kube-apiserver")]
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)


@asynccontextmanager
async def world(size: Size, say: Say | None = None, *, players: bool = True) -> AsyncIterator[World]:
    """With the load in it, and no operator yet. Raises AssertionError where the API server does not start."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="manx-scale-")))
        netns = stack.enter_context(Netns())
        stack.enter_context(netns.entered())
        server = stack.enter_context(apiserver.running(directory))
        server.kubeconfig = _with_token(server)
        config = ApiConfig.from_kubeconfig(server.kubeconfig)
        client = await stack.enter_async_context(KubeClient(config, timeout=60.0))
        found = World(size, directory, netns, server, client, stack, say or progress)
        await _fill(found)
        if players:
            await stack.enter_async_context(Players(client))
        try:
            yield found
        except BaseException:
            print(found.logs(), file=sys.stderr)
            raise


def _with_token(server: apiserver.ApiServer) -> Path:
    """A kubeconfig with a service account's token, as pods have it: the server remembers for some seconds whose it is.
    A client's certificate it verifies anew at each request, which was a twelfth of what it did."""
    kubectl(server, "wait", "namespace/default", "--for=create", "--timeout=60s")
    kubectl(server, "create", "serviceaccount", ACCOUNT, "--namespace=default")
    kubectl(server, "create", "clusterrolebinding", ACCOUNT, "--clusterrole=cluster-admin", f"--user={USER}")
    token = kubectl(server, "create", "token", ACCOUNT, "--namespace=default", "--duration=24h")
    document = yaml.safe_load(server.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": token.strip()}
    path = server.directory / "token.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path


def kubectl(server: apiserver.ApiServer, *args: str, given: str = "") -> str:
    """Blocking: what it prints; `given` is its standard input. Raises CalledProcessError."""
    argv = [str(KUBE.directory / "kubectl"), f"--kubeconfig={server.kubeconfig}", *args]
    return subprocess.run(argv, input=given, text=True, check=True, stdout=subprocess.PIPE).stdout


async def _fill(found: World) -> None:
    _install(found.server)
    for resource in OURS:
        await _established(found.client, resource.path())
    await load.create(found.client, found.size, found.say)


def _install(server: apiserver.ApiServer) -> None:
    """The kinds and what guards them, out of the manifest that users create."""
    text = (CHECKOUT / "manifests/operator.yaml").read_text()
    wanted = [obj for obj in yaml.safe_load_all(text) if obj and obj["kind"] in INSTALLED]
    kubectl(server, "create", "-f", "-", given=yaml.safe_dump_all(wanted))


async def _established(client: KubeClient, path: str) -> None:
    """Until the API server serves a kind."""
    async with asyncio.timeout(60):
        while True:
            try:
                await client.transport.request("GET", path, params={"limit": "1"})
                return
            except Exception:
                await asyncio.sleep(0.1)


STARTED = time.perf_counter()


def progress(text: str) -> None:
    """To stderr, with seconds since this process began to measure."""
    print(f"[{time.perf_counter() - STARTED:6.1f}] {text}", file=sys.stderr, flush=True)
