"""What the agent makes of journal and kernel: at its start, when the API knows more, and between operations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from pathlib import Path

import pytest

from ipam_blocks import allocation, block
from manx_agent.cni.exclusion import Exclusion, Preempted, together, uninterrupted
from manx_agent.cni.service import CniService
from manx_agent.drivers.netlink import Netlink
from manx_agent.drivers.netlink_messages import NodeEnd, PodLink, interface_name
from manx_agent.drivers.netlink_wire import NetlinkError
from manx_agent.ipam import Ipam
from manx_agent.model import LocalEndpoint
from manx_core.api.v1alpha1 import Allocation, IPAMBlock

NAME = "10-0-0-0-29"


class Kernel(Netlink):
    """Interfaces are a set of names."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.behind: dict[str, str] = {}
        self.mended: dict[str, tuple[str, ...]] = {}
        self.failing = False

    async def prepare(self) -> None:
        pass

    async def create(self, link: PodLink, namespace: int) -> None:
        self.links.add(link.interface)

    async def delete(self, interface: str) -> None:
        if self.failing:
            raise NetlinkError("Operation not permitted", 1)
        self.links.discard(interface)

    async def present(self) -> frozenset[str]:
        if self.failing:
            raise NetlinkError("Operation not permitted", 1)
        return frozenset(self.links)

    async def addresses_behind(self, interfaces: Iterable[str]) -> frozenset[str]:
        return frozenset(self.behind[interface] for interface in interfaces)

    async def mend(self, ends: Collection[NodeEnd]) -> tuple[str, ...]:
        self.mended = {end.interface: end.addresses for end in ends}
        return ()


class Open:
    """Policy that admits at once."""

    async def admit(self, endpoint: LocalEndpoint) -> None:
        pass

    async def withdraw(self, container_id: str) -> None:
        pass

    def is_expected(self, namespace: str, name: str, uid: str) -> bool:
        return True


def name_of(container: str) -> str:
    return interface_name(container, "eth0")


async def given(ipam: Ipam, container: str) -> str:
    (held,) = await ipam.allocate(allocation("", container))
    return held.address


def with_status(*allocations: Allocation) -> dict[str, IPAMBlock]:
    return {NAME: block("10.0.0.0/29", status={"allocations": allocations})}


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def changes() -> list[str]:
    return []


@pytest.fixture
def ipam(tmp_path: Path) -> Ipam:
    return Ipam(tmp_path / "addresses")


@pytest.fixture
async def service(tmp_path: Path, ipam: Ipam, kernel: Kernel, changes: list[str]) -> AsyncIterator[CniService]:
    before = Ipam(tmp_path / "addresses")
    await before.open()
    before.set_blocks({NAME: block("10.0.0.0/29")})
    for container in ("kept", "lost"):
        await before.allocate(allocation("", container))
    await before.close()
    kernel.links.add(name_of("kept"))
    made = CniService(tmp_path / "cni.sock", ipam, Open(), kernel, lambda: None, on_change=changes.extend)
    yield made
    await made.stop()


async def test_at_the_start_the_kernel_decides_who_is_an_endpoint(
    service: CniService, ipam: Ipam, changes: list[str]
) -> None:
    await service.start()
    assert list(service.endpoints()) == changes == ["kept"]
    assert service.endpoints()["kept"].interface == name_of("kept")
    assert list(ipam.allocations()) == [("kept", "eth0")]


async def test_a_strangers_address_is_held(service: CniService, ipam: Ipam, kernel: Kernel) -> None:
    kernel.links.add("mnx00000000000")
    kernel.behind["mnx00000000000"] = "10.0.0.2"
    await service.start()
    service.set_blocks({NAME: block("10.0.0.0/29", forgotten=9)})
    assert await given(ipam, "new") == "10.0.0.1"
    assert await given(ipam, "newer") == "10.0.0.3"
    assert "mnx00000000000" in kernel.links
    kernel.links.discard("mnx00000000000")
    await service.resync()
    assert await given(ipam, "newest") == "10.0.0.2"


async def test_what_only_the_api_knows_is_kept_or_freed_by_the_kernel(
    service: CniService, ipam: Ipam, kernel: Kernel, changes: list[str]
) -> None:
    await service.start()
    kernel.links.add(name_of("adopted"))
    service.set_blocks(with_status(allocation("10.0.0.5", "adopted"), allocation("10.0.0.6", "gone")))
    assert set(ipam.allocations()) == {("kept", "eth0"), ("adopted", "eth0"), ("gone", "eth0")}
    while "adopted" not in service.endpoints():
        await asyncio.sleep(0)
    while ipam.find(("gone", "eth0")):
        await asyncio.sleep(0)
    assert changes == ["kept", "adopted"]
    assert [freed.address for freed in ipam.status(NAME).freed] == ["10.0.0.1", "10.0.0.6"]


async def test_a_kernel_that_cannot_be_read_frees_nothing(service: CniService, ipam: Ipam, kernel: Kernel) -> None:
    kernel.failing = True
    with pytest.raises(NetlinkError):
        await service.start()
    assert set(ipam.allocations()) == {("kept", "eth0"), ("lost", "eth0")}


async def test_resync_looks_after_live_endpoints(service: CniService, kernel: Kernel) -> None:
    await service.start()
    assert await service.resync() == ()
    assert kernel.mended == {name_of("kept"): ("10.0.0.0",)}


# --- exclusion ------------------------------------------------------------------------------------------------------


class Work:
    """Runs until told to end; says what happened to it."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.end = asyncio.Event()
        self.undone = False

    async def run(self) -> str:
        self.started.set()
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.undone = True
            raise
        return "done"


async def test_a_del_preempts_an_add_and_waits_until_it_is_undone() -> None:
    exclusion, add, delete = Exclusion(), Work(), Work()
    adding = asyncio.create_task(exclusion.run(("c", "eth0"), add.run(), preemptible=True))
    await add.started.wait()
    deleting = asyncio.create_task(exclusion.run(("c", "eth0"), delete.run(), preemptible=False))
    await delete.started.wait()
    assert add.undone
    with pytest.raises(Preempted):
        await adding
    delete.end.set()
    assert await deleting == "done"
    assert not exclusion.is_busy(("c", "eth0"))


async def test_an_add_waits_for_a_del() -> None:
    exclusion, delete, add = Exclusion(), Work(), Work()
    deleting = asyncio.create_task(exclusion.run(("c", "eth0"), delete.run(), preemptible=False))
    await delete.started.wait()
    adding = asyncio.create_task(exclusion.run(("c", "eth0"), add.run(), preemptible=True))
    other = asyncio.create_task(exclusion.run(("d", "eth0"), Work().run(), preemptible=True))
    await asyncio.sleep(0.01)
    assert not add.started.is_set()
    delete.end.set()
    await add.started.wait()
    add.end.set()
    assert [await deleting, await adding] == ["done", "done"]
    other.cancel()


async def test_a_del_goes_on_without_its_caller() -> None:
    exclusion, delete = Exclusion(), Work()
    deleting = asyncio.create_task(exclusion.run(("c", "eth0"), delete.run(), preemptible=False))
    await delete.started.wait()
    deleting.cancel()
    await asyncio.wait({deleting})
    assert exclusion.is_busy(("c", "eth0"))
    delete.end.set()
    await exclusion.drain()
    assert not delete.undone


async def test_a_cancelled_add_is_undone_before_its_caller_goes_on() -> None:
    exclusion, add = Exclusion(), Work()
    adding = asyncio.create_task(exclusion.run(("c", "eth0"), add.run(), preemptible=True))
    await add.started.wait()
    adding.cancel()
    await asyncio.wait({adding})
    assert add.undone
    assert adding.cancelled()


async def test_together_ends_all_before_it_fails() -> None:
    long = Work()

    async def fail() -> None:
        await long.started.wait()
        raise NetlinkError("no")

    with pytest.raises(NetlinkError, match="no"):
        await together(long.run(), fail())
    assert long.undone


async def test_uninterrupted_ends_its_work_first() -> None:
    work = Work()
    task = asyncio.create_task(uninterrupted(work.run()))
    await work.started.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not work.undone
    work.end.set()
    await asyncio.wait({task})
    assert task.cancelled()
    assert not work.undone
