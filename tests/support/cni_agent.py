"""An agent's CNI part alone, as a process of its own: what tests start inside a node's namespace, and kill.

Policy is played: files in the state directory steer it. `unexpected`: the operator has told of no pod. `hold`: no
policy gets into the kernel. `refuse`: policy fails. `die`, with the name of a step in it: SIGKILL there, once. Every
admission and withdrawal is a line in `events`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from pathlib import Path

from ipam_blocks import block
from manx_agent.cni.service import CniService
from manx_agent.drivers.netlink import Netlink
from manx_agent.drivers.netlink_messages import PodLink
from manx_agent.ipam import Ipam
from manx_agent.model import AgentError, LocalEndpoint
from manx_core.api.v1alpha1 import IPAMBlock, NodeStateSpec

STEPS = (
    "before create", "after create", "before flush", "after flush", "before admit", "after admit",
    "before activate", "after activate", "before delete", "after delete", "before withdraw", "after withdraw",
)  # fmt: skip


class Fate:
    """Kills this process at the step that the file `die` names."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "die"
        self._spelt = str(self._path)

    def at(self, step: str) -> None:
        assert step in STEPS
        if os.path.exists(self._spelt) and self._path.read_text() == step:
            self._path.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


class MortalNetlink(Netlink):
    """The real thing, with a fate before and after each step."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self._fate = fate

    async def create(self, link: PodLink, namespace: int) -> None:
        self._fate.at("before create")
        await super().create(link, namespace)
        self._fate.at("after create")

    async def activate(self, link: PodLink, namespace: int) -> None:
        self._fate.at("before activate")
        await super().activate(link, namespace)
        self._fate.at("after activate")

    async def delete(self, interface: str) -> None:
        self._fate.at("before delete")
        await super().delete(interface)
        self._fate.at("after delete")

    async def flush_conntrack(self, address: str) -> None:
        self._fate.at("before flush")
        await super().flush_conntrack(address)
        self._fate.at("after flush")


class PlayedPolicy:
    """EndpointAdmission by files."""

    def __init__(self, directory: Path, fate: Fate) -> None:
        self._directory = str(directory)
        self._fate = fate
        self._events = os.open(directory / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)

    def _note(self, text: str) -> None:
        os.write(self._events, f"{text}\n".encode())

    def _is(self, steering: str) -> bool:
        return os.path.exists(f"{self._directory}/{steering}")

    async def admit(self, endpoint: LocalEndpoint) -> None:
        self._fate.at("before admit")
        self._note(f"admitting {endpoint.name} {endpoint.interface}")
        while self._is("hold"):
            await asyncio.sleep(0.02)
        if self._is("refuse"):
            raise AgentError("ipset restore failed")
        self._note(f"admitted {endpoint.name} {' '.join(endpoint.addresses)}")
        self._fate.at("after admit")

    async def withdraw(self, container_id: str) -> None:
        self._fate.at("before withdraw")
        self._note(f"withdrew {container_id}")
        self._fate.at("after withdraw")

    def is_expected(self, namespace: str, name: str, uid: str) -> bool:
        return not self._is("unexpected") and uid != "unknown"


def blocks_of(cidrs: str) -> dict[str, IPAMBlock]:
    """By name; everything freed counts as forgotten if the word `forgotten` is among the comma-separated CIDRs."""
    words = cidrs.split(",") if cidrs else []
    forgotten = 1 << 40 if "forgotten" in words else 0
    found = [block(word, forgotten=forgotten) for word in words if word != "forgotten"]
    return {item.metadata.name: item for item in found}


async def run(directory: Path, socket: Path, cidrs: str, mtu: int) -> None:
    ipam = Ipam(directory / "addresses")
    state = NodeStateSpec(epoch=1, mtu=mtu)
    fate = Fate(directory)
    service = CniService(socket, ipam, PlayedPolicy(directory, fate), MortalNetlink(fate), lambda: state)
    await service.start()
    service.set_blocks(blocks_of(cidrs))
    service.set_unready("")
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(_resync(service)))
    print("ready", sorted(service.endpoints()), flush=True)
    await stopping.wait()
    await service.stop()


async def _resync(service: CniService) -> None:
    print("resync", *await service.resync(), sep="|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("socket", type=Path)
    parser.add_argument("--blocks", default="10.99.0.0/28")
    parser.add_argument("--mtu", type=int, default=1400)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    asyncio.run(run(options.directory, options.socket, options.blocks, options.mtu))


if __name__ == "__main__":
    main()
