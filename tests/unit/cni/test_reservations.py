"""For whom addresses are reserved, and when they are freed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ipam_blocks import allocation, block
from manx_agent.cni import reservations
from manx_agent.cni.reservations import Reservations
from manx_agent.ipam import Ipam
from manx_core.api.lines import text_of
from manx_core.api.v1alpha1 import NodeStateSpec

NAME = "10-0-0-0-29"


class Node:
    """A node with one block, whose NodeState tests write."""

    def __init__(self, path: Path) -> None:
        self.ipam = Ipam(path)
        self.state: NodeStateSpec | None = None
        self.reservations = Reservations(self.ipam, lambda: self.state)

    async def lists(self, *names: str) -> None:
        """The pods that the operator lists now; each one's UID is its name."""
        pods = text_of(f"default/{name} {name} -" for name in names)
        self.state = NodeStateSpec(epoch=1, pods=pods)
        await self.look()

    async def look(self) -> None:
        """What the task does on news, here and now."""
        await self.reservations._look()

    def blocks(self, cidr: str = "10.0.0.0/29", forgotten: int = 0) -> None:
        self.ipam.set_blocks({NAME: block(cidr, forgotten=forgotten)})

    async def attach(self, container: str, uid: str) -> str:
        (held,) = await self.ipam.allocate(allocation("", container, uid=uid))
        return held.address

    @property
    def reserved(self) -> dict[str, str]:
        return {uid: held[0].address for uid, held in self.ipam.reservations().items()}

    @property
    def freed(self) -> list[str]:
        return [freed.address for freed in self.ipam.status(NAME).freed]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path / "addresses")
    await made.ipam.open()
    made.blocks()
    yield made
    await made.ipam.close()


async def test_a_pod_is_reserved_for_when_it_is_listed_and_freed_when_it_is_not(node: Node) -> None:
    await node.lists("a", "b")
    assert set(node.reserved) == {"a", "b"}
    before = node.reserved["b"]
    await node.lists("a")
    assert set(node.reserved) == {"a"}
    assert node.freed == [before], "it may be in groups: not given again before it is forgotten"


async def test_before_the_operator_has_said_anything_nothing_is_touched(node: Node) -> None:
    await node.lists("a")
    node.state = None
    await node.look()
    assert set(node.reserved) == {"a"}


async def test_a_sandbox_takes_it_and_its_end_is_no_new_reservation(node: Node) -> None:
    await node.lists("a")
    assert await node.attach("c1", "a") == "10.0.0.0"
    await node.lists("a")
    assert node.reserved == {}
    await node.ipam.free(("c1", "eth0"))
    await node.lists("a", "b")
    assert set(node.reserved) == {"b"}, "a pod whose sandbox went is most likely going"
    assert await node.attach("c2", "a") not in ("10.0.0.0", node.reserved["b"])


async def test_the_same_name_with_another_uid_is_another_pod(node: Node) -> None:
    await node.lists("a")
    node.state = NodeStateSpec(epoch=1, pods="default/a a2 -")
    await node.look()
    assert set(node.reserved) == {"a2"}
    assert node.freed == ["10.0.0.0"]
    assert node.reserved["a2"] != "10.0.0.0"


async def test_an_exhausted_block_is_no_storm_and_a_forgotten_address_is_used(node: Node) -> None:
    node.blocks("10.0.0.0/31")
    await node.lists("a", "b", "c", "d")
    assert len(node.reserved) == 2
    requests = node.ipam.status(NAME)
    await node.look()
    assert node.ipam.status(NAME) == requests
    gone = min(node.reserved)
    await node.lists(*({"a", "b", "c", "d"} - {gone}))
    assert len(node.reserved) == 1
    node.blocks("10.0.0.0/31", forgotten=1)
    await node.look()
    assert len(node.reserved) == 2
    assert gone not in node.reserved


async def test_no_block_at_first(tmp_path: Path, node: Node) -> None:
    node.ipam.set_blocks({})
    await node.lists("a")
    assert node.reserved == {}
    node.blocks()
    await node.look()
    assert set(node.reserved) == {"a"}


async def test_a_restarted_agent_keeps_whose_pods_are_still_listed(tmp_path: Path, node: Node) -> None:
    await node.lists("a", "b")
    before = node.reserved
    node.reservations = Reservations(node.ipam, lambda: node.state)
    await node.lists("b")
    assert node.reserved == {"b": before["b"]}


async def test_another_family_is_added_to_what_is_reserved(node: Node) -> None:
    await node.lists("a")
    node.ipam.set_blocks({NAME: block("10.0.0.0/29"), "six": block("fd00::/126")})
    await node.look()
    assert [held.address for held in node.ipam.reservations()["a"]] == ["10.0.0.0", "fd00::"]


async def test_a_waiting_sandbox_gets_what_a_pod_that_does_not_come_has(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.blocks("10.0.0.0/32")
    await node.lists("stuck")
    waiting = asyncio.create_task(node.attach("c", "other"))
    while not node.ipam.waiting:
        await asyncio.sleep(0)
    await node.lists("stuck", "other")
    assert set(node.reserved) == {"stuck"}, "not before some time has passed"
    monkeypatch.setattr(reservations, "PATIENCE", 0.0)
    await node.look()
    assert node.reserved == {}
    node.blocks("10.0.0.0/32", forgotten=1)
    assert await waiting == "10.0.0.0"
    await node.look()
    assert node.reserved == {}


async def test_the_task_looks_on_news_and_while_a_sandbox_waits(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservations, "POLL", 0.005)
    monkeypatch.setattr(reservations, "PATIENCE", 0.0)
    node.blocks("10.0.0.0/32")
    task = asyncio.create_task(node.reservations.run())
    node.state = NodeStateSpec(epoch=1, pods="default/a a -")
    node.reservations.notify()
    while not node.reserved:
        await asyncio.sleep(0.001)
    waiting = asyncio.create_task(node.attach("c", "other"))
    while node.reserved:
        await asyncio.sleep(0.001)
    node.blocks("10.0.0.0/32", forgotten=1)
    assert await waiting == "10.0.0.0"
    task.cancel()
