"""What the API server hears of addresses: coalesced, tried again, never into another's block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ipam_blocks import allocation, block
from manx_agent.ipam import Ipam, StatusWriter
from manx_core.api.v1alpha1 import IPAMBlock
from manx_kube.errors import Conflict, KubeError, NotFound, Unavailable

NAME = "10-0-0-0-29"


class Server:
    """One API server with IPAMBlocks; `failures` are raised first."""

    def __init__(self) -> None:
        self.blocks = {NAME: block("10.0.0.0/29")}
        self.failures: list[KubeError] = []
        self.patches: list[dict[str, Any]] = []
        self.requests = 0
        self.news = asyncio.Event()

    async def get(self, resource: object, type_: type[Any], name: str) -> Any:
        return self.blocks[name]

    async def patch(
        self, resource: object, type_: type[Any], name: str, patch: Any, *, subresource: str | None = None
    ) -> Any:
        assert subresource == "status"
        self.requests += 1
        self.news.set()
        if self.failures:
            raise self.failures.pop(0)
        found = self.blocks[name]
        if patch["metadata"]["resourceVersion"] != found.metadata.resource_version:
            raise Conflict("not the latest version")
        self.patches.append(msgspec.json.decode(msgspec.json.encode(patch["status"])))
        self.blocks[name] = self.next(found, patch["status"])
        return self.blocks[name]

    @staticmethod
    def next(found: IPAMBlock, status: Any) -> IPAMBlock:
        version = str(int(found.metadata.resource_version) + 1)
        metadata = msgspec.structs.replace(found.metadata, resource_version=version)
        typed = msgspec.convert(status, type(found.status))
        return msgspec.structs.replace(found, metadata=metadata, status=typed)

    async def until(self, condition: Any) -> None:
        while not condition():
            self.news.clear()
            await self.news.wait()
            await asyncio.sleep(0)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def ipam(tmp_path: Path, server: Server) -> AsyncIterator[Ipam]:
    made = Ipam(tmp_path / "addresses")
    await made.open()
    writer = StatusWriter(server, made, delay=0.02)
    made.set_on_change(writer.poke)
    made.set_blocks(server.blocks)
    task = asyncio.create_task(writer.run())
    yield made
    task.cancel()
    await made.close()


def addresses(status: dict[str, Any]) -> list[str]:
    return [found["address"] for found in status["allocations"]]


async def test_a_burst_is_one_write(ipam: Ipam, server: Server) -> None:
    await asyncio.gather(*(ipam.allocate(allocation("", str(number))) for number in range(5)))
    await server.until(lambda: server.patches)
    assert [len(addresses(status)) for status in server.patches] == [5]
    ipam.set_blocks(server.blocks)
    await asyncio.sleep(0.05)
    assert server.requests == 1, "its own echo is no reason to write"


async def test_without_an_echo_the_next_write_goes_to_the_version_just_written(ipam: Ipam, server: Server) -> None:
    await ipam.allocate(allocation("", "a"))
    await server.until(lambda: len(server.patches) == 1)
    await ipam.free(("a", "eth0"))
    await server.until(lambda: len(server.patches) == 2)
    assert server.requests == 2
    assert server.patches[1] == {
        "allocations": [], "freed": [{"address": "10.0.0.0", "sequence": 1}], "sequence": 1, "released": False,
    }  # fmt: skip


async def test_a_conflict_is_settled_by_reading_again(ipam: Ipam, server: Server) -> None:
    server.blocks[NAME] = Server.next(server.blocks[NAME], {})
    await ipam.allocate(allocation("", "a"))
    await server.until(lambda: server.patches)
    assert addresses(server.patches[0]) == ["10.0.0.0"]


async def test_failures_are_tried_again(ipam: Ipam, server: Server) -> None:
    server.failures = [Unavailable("down"), Unavailable("down")]
    await ipam.allocate(allocation("", "a"))
    await server.until(lambda: server.patches)
    assert addresses(server.patches[0]) == ["10.0.0.0"]


async def test_a_block_that_is_gone_or_anothers_is_not_insisted_on(ipam: Ipam, server: Server) -> None:
    server.failures = [NotFound("gone")]
    await ipam.allocate(allocation("", "a"))
    await server.until(lambda: server.requests >= 1)
    other = block("10.0.0.0/29", version="9")
    metadata = msgspec.structs.replace(other.metadata, uid="another")
    server.blocks[NAME] = msgspec.structs.replace(other, metadata=metadata)
    await ipam.allocate(allocation("", "b"))
    await server.until(lambda: server.requests >= 2)
    await asyncio.sleep(0.1)
    assert server.patches == []


async def test_a_status_altered_by_others_is_put_right(ipam: Ipam, server: Server) -> None:
    await ipam.allocate(allocation("", "a"))
    await server.until(lambda: server.patches)
    ipam.set_blocks(server.blocks)
    server.blocks[NAME] = Server.next(server.blocks[NAME], {"allocations": []})
    ipam.set_blocks(server.blocks)
    await server.until(lambda: len(server.patches) == 2)
    assert addresses(server.patches[1]) == ["10.0.0.0"]
