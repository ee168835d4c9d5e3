"""The node that is measured: a real agent and speaker, pods attached by CNI, and its kernel.

Owns: starting these, attaching pods, reading what the kernel holds, and emptying it. Must not: time anything but ADDs.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from typing import Any

from bench.scale import load
from bench.scale.load import HERE, Obj
from bench.scale.processes import Process, imported, python, until
from bench.scale.world import World
from cni_node import compiled
from manx_kube.resources import PODS
from netns import Netns

READY = "manx_agent.agent ready"
_EMPTY = "".join(f"*{table}\nCOMMIT\n" for table in ("raw", "mangle", "nat", "filter"))


class MeasuredNode:
    """Node `load.HERE` of a world, in the world's network namespace."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._plugin = str(compiled(".", "manx"))
        self.place = world.directory / "agent"
        self.place.mkdir()

    # --- processes ----------------------------------------------------------------------------------------------------

    def agent(self, **env: str) -> Process:
        """One that has just been started."""
        given = {
            "KUBECONFIG": str(self._world.server.kubeconfig),
            "NODE_NAME": HERE,
            "MANX_CNI_SOCKET": str(self.place / "cni.sock"),
            "MANX_STATE_DIR": str(self.place / "state"),
            "MANX_BGP_DIR": str(self.place / "bgp"),
            "MANX_PROBE_PORT": "0",
            "MANX_CNI_INSTALL": "off",
        }
        process = Process(python("-m", "manx_agent"), {**given, **env}, self._world.directory / "agent.log")
        self._world.stack.callback(lambda: process.end(kill=True))
        return process

    async def ready_agent(self, **env: str) -> Process:
        """One that says of itself that policy is in the kernel."""
        process = self.agent(**env)
        await until(lambda: process.says(READY), "the agent to be ready", every=0.005)
        return process

    def speaker(self) -> Process:
        """The agent's sibling, as the DaemonSet starts it: it becomes ExaBGP, the relay in it."""
        imported("manx_agent.bgp.reactor")  # compiled now, where it was not
        env = {"NODE_NAME": HERE, "MANX_BGP_DIR": str(self.place / "bgp")}
        process = Process(python("-m", "manx_agent.bgp.speaker"), env, self._world.directory / "speaker.log")
        self._world.stack.callback(lambda: process.end(kill=True))
        return process

    # --- pods ---------------------------------------------------------------------------------------------------------

    async def attach(self, pods: list[Obj] | None = None) -> list[float]:
        """CNI ADD for pods, one after the other: how long (s) each took. Default: all of the load that are here.
        Raises RuntimeError."""
        size = self._world.size
        took = []
        for obj in pods if pods is not None else [load.pod(n, size) for n in range(size.here)]:
            meta = obj["metadata"]
            known = await self._world.client.get(PODS, dict[str, Any], meta["name"], namespace=meta["namespace"])
            inside = self._world.stack.enter_context(Netns())
            began = time.perf_counter()
            await asyncio.to_thread(self._add, known["metadata"], inside)
            took.append(time.perf_counter() - began)
        return took

    def _add(self, meta: Obj, inside: Netns) -> None:
        env = {
            "CNI_COMMAND": "ADD", "CNI_CONTAINERID": meta["uid"], "CNI_NETNS": inside.path, "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin", "CNI_ARGS": _arguments(meta), "PATH": os.environ["PATH"],
        }  # fmt: skip
        config = {
            "cniVersion": "1.1.0", "name": "manx", "type": "manx", "socket": str(self.place / "cni.sock"),
            "timeout": 60.0,
        }  # fmt: skip
        done = subprocess.run(
            [self._plugin], env=env, input=json.dumps(config), text=True, capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"ADD of {meta['name']}: {done.stdout}{done.stderr}")

    # --- the kernel ---------------------------------------------------------------------------------------------------

    def rules(self) -> list[str]:
        """Every rule of Manx's in both families, as the save programs print them, counters left out."""
        texts = [self._run(f"{program}-nft-save") for program in ("iptables", "ip6tables")]
        return sorted(line for text in texts for line in text.splitlines() if line.startswith("-A") and "manx-" in line)

    def sets(self) -> list[str]:
        """Every member of a set, as `ipset save` prints it."""
        return sorted(line for line in self._run("ipset", "save").splitlines() if line.startswith("add "))

    def saved(self) -> tuple[str, str]:
        """(rules of IPv4, sets), to be restored elsewhere."""
        return self._run("iptables-nft-save"), self._run("ipset", "save")

    def wipe(self) -> None:
        """Rules and sets go, as at a reboot; links, addresses and routes stay."""
        for program in ("iptables-nft-restore", "ip6tables-nft-restore"):
            subprocess.run(program, input=_EMPTY, check=True, text=True)
        self._run("ipset", "destroy")

    @staticmethod
    def _run(*argv: str) -> str:
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def _arguments(meta: Obj) -> str:
    names = {"IgnoreUnknown": "1", "K8S_POD_NAMESPACE": meta["namespace"], "K8S_POD_NAME": meta["name"]}
    return ";".join(f"{name}={value}" for name, value in {**names, "K8S_POD_UID": meta["uid"]}.items())


def wire_bytes(pid: int) -> int:
    """Bytes that a process's TCP connections of now have received, TLS and all."""
    text = subprocess.run(("ss", "-tinpH"), check=True, capture_output=True, text=True).stdout
    lines = text.replace("\n\t", "\t").splitlines()
    words = [word for line in lines if f"pid={pid}," in line for word in line.split()]
    return sum(int(word.partition(":")[2]) for word in words if word.startswith("bytes_received:"))
