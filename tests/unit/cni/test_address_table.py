"""Which address is given, what keeps one from being given, and what the API is told."""

from __future__ import annotations

import pytest

from ipam_blocks import allocation, block
from manx_agent.ipam.records import Allocated, Freed
from manx_agent.ipam.table import Table, key_of
from manx_core.api.v1alpha1 import FreedAddress, IPAMBlock

NAME = "10-0-0-0-30"


def table_of(*blocks: IPAMBlock, held: frozenset[str] = frozenset()) -> Table:
    table = Table()
    table.held = held
    table.set_blocks({item.metadata.name: item for item in blocks})
    return table


def take(table: Table, container: str) -> str:
    chosen = table.choose()
    assert chosen is not None
    (choice,) = chosen
    table.apply(Allocated(choice[0], allocation(choice[1], container)))
    return choice[1]


def release(table: Table, container: str) -> Freed:
    (record,) = table.freeing((container, "eth0"))
    table.apply(record)
    return record


def test_every_address_of_a_block_is_given_once() -> None:
    table = table_of(block("10.0.0.0/30"))
    assert [take(table, f"c{number}") for number in range(4)] == ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert table.choose() is None
    assert "all 4 addresses of this node's 1 blocks (pool p) are taken: 4 in use, 0 freed" in table.shortage()


def test_the_second_block_follows_the_first() -> None:
    table = table_of(block("10.0.0.0/32"), block("10.0.0.8/32"))
    assert [take(table, "a"), take(table, "b")] == ["10.0.0.0", "10.0.0.8"]


def test_a_freed_address_waits_for_the_operator() -> None:
    table = table_of(block("10.0.0.0/32"))
    take(table, "a")
    freed = release(table, "a")
    assert freed.sequence == 1
    assert table.choose() is None
    table.set_blocks({freed.block: block("10.0.0.0/32", forgotten=1)})
    assert table.choose() == ((freed.block, "10.0.0.0"),)
    assert table.status(freed.block).freed == ()
    assert table.status(freed.block).sequence == 1


def test_sequences_only_grow() -> None:
    table = table_of(block("10.0.0.0/30"))
    for number in range(3):
        take(table, str(number))
    assert [release(table, str(number)).sequence for number in (2, 0, 1)] == [1, 2, 3]


def test_held_addresses_are_not_given() -> None:
    table = table_of(block("10.0.0.0/30"), held=frozenset({"10.0.0.0", "10.0.0.2"}))
    assert [take(table, "a"), take(table, "b")] == ["10.0.0.1", "10.0.0.3"]
    assert table.choose() is None


def test_a_releasing_block_gives_nothing_and_is_released_when_quarantine_is_over() -> None:
    table = table_of(block("10.0.0.0/30"))
    take(table, "a")
    table.set_blocks({NAME: block("10.0.0.0/30", state="Releasing")})
    assert table.choose() is None
    assert not table.status(NAME).released
    release(table, "a")
    assert not table.status(NAME).released
    table.set_blocks({NAME: block("10.0.0.0/30", state="Releasing", forgotten=1)})
    assert table.status(NAME).released
    table.set_blocks({NAME: block("10.0.0.0/30", forgotten=1)})
    assert not table.status(NAME).released


def test_a_block_taken_away_gives_nothing_and_keeps_its_pods() -> None:
    table = table_of(block("10.0.0.0/30"))
    take(table, "a")
    table.set_blocks({})
    assert table.choose() is None
    assert table.shortage() == "this node has no address block"
    assert table.find(("a", "eth0"))
    assert release(table, "a").sequence == 1


def test_a_bad_cidr_is_reported_and_harms_no_other_block() -> None:
    table = table_of(block("10.0.0.0/33"), block("10.1.0.0/32"))
    assert table.choose() == (("10-1-0-0-32", "10.1.0.0"),)
    assert len(table.problems) == 1
    assert "spec.cidr" in table.problems[0]


def test_the_apis_status_is_honoured_where_the_journal_is_silent() -> None:
    status = {
        "allocations": (allocation("10.0.0.1", "old"), allocation("192.0.2.1", "outside"), allocation("x", "bad")),
        "freed": (FreedAddress(address="10.0.0.2", sequence=7), FreedAddress(address="10.0.0.3", sequence=4)),
        "sequence": 9,
    }
    table = Table()
    adopted = table.set_blocks({NAME: block("10.0.0.0/30", forgotten=4, status=status)})
    assert [key_of(r.allocation) for r in adopted if isinstance(r, Allocated)] == [("old", "eth0")]
    assert [take(table, "a"), take(table, "b")] == ["10.0.0.0", "10.0.0.3"]
    assert table.choose() is None
    assert release(table, "a").sequence == 10


def test_the_journal_wins_over_a_stale_status() -> None:
    table = Table()
    table.apply(Freed(NAME, "10.0.0.0", 3))
    table.apply(Allocated(NAME, allocation("10.0.0.1", "new")))
    status = {"allocations": (allocation("10.0.0.0", "old"), allocation("10.0.0.1", "older")), "sequence": 1}
    assert table.set_blocks({NAME: block("10.0.0.0/30", status=status)}) == []
    assert [found.container_id for found in table.status(NAME).allocations] == ["new"]
    assert table.status(NAME).freed == (FreedAddress(address="10.0.0.0", sequence=3),)


def test_a_status_is_merged_once_only() -> None:
    table = table_of(block("10.0.0.0/30"))
    late = block("10.0.0.0/30", status={"allocations": (allocation("10.0.0.1", "forged"),)})
    assert table.set_blocks({NAME: late}) == []


def test_the_shortest_journal_makes_an_equal_table() -> None:
    table = table_of(block("10.0.0.0/30"))
    for container in "abc":
        take(table, container)
    release(table, "b")
    again = Table()
    for record in table.records():
        again.apply(record)
    again.set_blocks({NAME: block("10.0.0.0/30")})
    assert again.status(NAME) == table.status(NAME)
    assert again.allocations() == table.allocations()


def test_the_status_of_a_block_that_is_not_known() -> None:
    with pytest.raises(KeyError):
        Table().status("10-0-0-0-30")
