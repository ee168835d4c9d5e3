"""Both families: what a pod gets of which node, and that it gets all or nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ipam_blocks import allocation, block
from manx_agent.ipam import Ipam
from manx_agent.ipam.allocator import reservation
from manx_agent.ipam.records import Allocated, Header, encode
from manx_agent.ipam.table import Table, reservation_key
from manx_core.api.v1alpha1 import IPAMBlock

FOUR, SIX = block("10.0.0.0/30"), block("fd00::/126")


def by_name(*blocks: IPAMBlock) -> dict[str, IPAMBlock]:
    return {item.metadata.name: item for item in blocks}


def chosen(*blocks: IPAMBlock, supported: frozenset[int] = frozenset({4, 6})) -> list[str]:
    table = Table()
    table.supported = supported
    table.set_blocks(by_name(*blocks))
    return [address for _, address in table.choose() or ()]


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ((FOUR,), ["10.0.0.0"]),
        ((SIX,), ["fd00::"]),
        ((SIX, FOUR), ["10.0.0.0", "fd00::"]),
        ((FOUR, block("fd00::/126", state="Releasing")), ["10.0.0.0"]),
        ((block("10.0.0.0/30", state="Releasing"), SIX), ["fd00::"]),
        ((), []),
        ((FOUR, block("fd00::/129")), ["10.0.0.0"]),
    ],
)
def test_one_of_each_family_with_an_active_block(blocks: tuple[IPAMBlock, ...], expected: list[str]) -> None:
    assert chosen(*blocks) == expected


def test_a_kernel_without_ipv6_gets_none() -> None:
    assert chosen(FOUR, SIX, supported=frozenset({4})) == ["10.0.0.0"]
    assert chosen(SIX, supported=frozenset({4})) == []


def test_where_one_family_is_full_nothing_is_given() -> None:
    table = Table()
    table.set_blocks(by_name(FOUR, block("fd00::/128")))
    for name, address in table.choose() or ():
        table.apply(Allocated(name, allocation(address, "a")))
    assert table.choose() is None
    assert table.shortage().startswith("all 1 addresses of this node's 1 blocks (pool p) are taken: 1 in use, 0 freed")


def test_both_are_freed_each_in_its_block() -> None:
    table = Table()
    table.set_blocks(by_name(FOUR, SIX))
    for name, address in table.choose() or ():
        table.apply(Allocated(name, allocation(address, "a")))
    assert [found.address for found in table.find(("a", "eth0"))] == ["10.0.0.0", "fd00::"]
    for record in table.freeing(("a", "eth0")):
        table.apply(record)
    assert table.find(("a", "eth0")) == ()
    for name in (FOUR.metadata.name, SIX.metadata.name):
        assert [freed.sequence for freed in table.status(name).freed] == [1]


async def test_a_journal_of_one_family_is_read_and_its_pods_stay_as_they_are(tmp_path: Path) -> None:
    """As an agent before IPv6 wrote it."""
    old = Allocated(FOUR.metadata.name, allocation("10.0.0.2", "old"))
    (tmp_path / "addresses").write_bytes(encode([Header(), old]))
    ipam = Ipam(tmp_path / "addresses")
    await ipam.open()
    ipam.set_blocks(by_name(FOUR, SIX))
    assert await ipam.allocate(allocation("", "old")) == (old.allocation,)
    assert len(await ipam.allocate(allocation("", "new"))) == 2
    await ipam.close()


async def test_a_sandbox_takes_what_is_reserved_for_its_pod(tmp_path: Path) -> None:
    ipam = Ipam(tmp_path / "addresses")
    await ipam.open()
    ipam.set_blocks(by_name(FOUR, SIX))
    await ipam.reserve([reservation("default", name, f"uid-{name}") for name in "ab"])
    reserved = {uid: [one.address for one in held] for uid, held in ipam.reservations().items()}
    assert reserved == {"uid-a": ["10.0.0.0", "fd00::"], "uid-b": ["10.0.0.1", "fd00::1"]}
    assert ipam.allocations() == {}
    given = await ipam.allocate(allocation("", "b"))
    assert [one.address for one in given] == reserved["uid-b"]
    assert {one.container_id for one in given} == {"b"}
    assert list(ipam.reservations()) == ["uid-a"]
    assert ipam.status(FOUR.metadata.name).freed == ()
    await ipam.close()


async def test_what_lacks_of_a_reservation_is_added_when_it_is_taken(tmp_path: Path) -> None:
    ipam = Ipam(tmp_path / "addresses")
    await ipam.open()
    ipam.set_blocks(by_name(FOUR))
    await ipam.reserve([reservation("default", "a", "uid-a")])
    ipam.set_blocks(by_name(FOUR, SIX))
    assert [one.address for one in await ipam.allocate(allocation("", "a"))] == ["10.0.0.0", "fd00::"]
    await ipam.close()


async def test_a_failed_sandboxs_addresses_go_back_to_its_pod(tmp_path: Path) -> None:
    ipam = Ipam(tmp_path / "addresses")
    await ipam.open()
    ipam.set_blocks(by_name(FOUR, SIX))
    first = await ipam.allocate(allocation("", "a"))
    await ipam.give_up(("a", "eth0"))
    assert ipam.find(("a", "eth0")) == ()
    retried = await ipam.allocate(allocation("", "a2", uid="uid-a"))
    assert [one.address for one in retried] == [one.address for one in first]
    other = await ipam.allocate(allocation("", "a3", uid="another"))
    assert {one.address for one in other}.isdisjoint(one.address for one in first)
    await ipam.close()


async def test_an_address_that_an_unknown_interface_has_is_not_taken_over(tmp_path: Path) -> None:
    ipam = Ipam(tmp_path / "addresses")
    await ipam.open()
    ipam.set_blocks(by_name(FOUR))
    await ipam.reserve([reservation("default", "a", "uid-a")])
    ipam.hold({"10.0.0.0"})
    assert [one.address for one in await ipam.allocate(allocation("", "a"))] == ["10.0.0.1"]
    await ipam.free(reservation_key("uid-a"))
    assert [freed.address for freed in ipam.status(FOUR.metadata.name).freed] == ["10.0.0.0"]
    await ipam.close()


async def test_reservations_survive_a_crash(tmp_path: Path) -> None:
    ipam = Ipam(tmp_path / "addresses")
    await ipam.open()
    ipam.set_blocks(by_name(FOUR, SIX))
    await ipam.reserve([reservation("default", "a", "uid-a"), reservation("default", "b", "uid-b")])
    await ipam.allocate(allocation("", "b"))
    await ipam.close()
    again = Ipam(tmp_path / "addresses")
    await again.open()
    assert list(again.reservations()) == ["uid-a"]
    assert list(again.allocations()) == [("b", "eth0")]
    await again.close()


async def test_many_reservations_are_one_write_each_family(tmp_path: Path) -> None:
    ipam = Ipam(tmp_path / "addresses")
    await ipam.open()
    ipam.set_blocks(by_name(block("10.0.0.0/25"), block("fd00::/121")))
    writes = 0
    ipam.set_on_change(lambda: None)
    append, replace = ipam._journal._append, ipam._journal._replace

    def counted(content: bytes) -> None:
        nonlocal writes
        writes += 1
        append(content) if ipam._journal._file >= 0 else replace(content)

    ipam._journal._append = ipam._journal._replace = counted  # type: ignore[method-assign]
    await ipam.reserve(reservation("default", str(n), str(n)) for n in range(100))
    assert writes <= 2
    assert len(ipam.reservations()) == 100
    await asyncio.sleep(0)
    await ipam.close()
