"""How many blocks a node needs: always one, the next before the last is full, and none that only comes and goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manx_core.ipam.need import BlockUse, free, headroom, missing, surplus


def block(name: str = "b", **uses: int | bool) -> BlockUse:
    return BlockUse(name, 64, **uses)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("blocks", "waiting", "wanted"),
    [
        ([], 0, 1),
        ([], 48, 1),
        ([], 49, 2),
        ([], 113, 3),
        ([block()], 48, 0),
        ([block()], 49, 1),
        ([block(allocated=48)], 0, 0),
        ([block(allocated=48)], 1, 1),
        ([block(quarantined=49)], 0, 1),
        ([block(usable=False)], 0, 1),
        ([block(), block("c", usable=False, allocated=64)], 10, 0),
    ],
)
def test_the_next_block_is_there_before_the_last_is_full(blocks: list[BlockUse], waiting: int, wanted: int) -> None:
    assert missing(blocks, waiting, 64) == wanted


@pytest.mark.parametrize(("addresses", "kept"), [(1, 1), (4, 1), (8, 2), (64, 16), (4096, 16)])
def test_a_quarter_is_kept_free_and_at_most_sixteen(addresses: int, kept: int) -> None:
    assert headroom(addresses) == kept


@pytest.mark.parametrize(
    ("blocks", "waiting", "goes"),
    [
        ([block("a")], 0, None),
        ([block("a"), block("b")], 0, "b"),
        ([block("a"), block("b")], 32, "b"),
        ([block("a"), block("b")], 33, None),
        ([block("a"), block("b", quarantined=1)], 0, "a"),
        ([block("a", allocated=1), block("b", allocated=1)], 0, None),
        ([block("a"), block("b", usable=False)], 0, None),
    ],
)
def test_only_an_empty_block_goes_and_never_the_last(blocks: list[BlockUse], waiting: int, goes: str | None) -> None:
    assert surplus(blocks, waiting) == goes


uses = st.builds(
    lambda name, allocated, quarantined, usable: BlockUse(f"b{name}", 64, allocated, quarantined, usable),
    st.integers(0, 9), st.integers(0, 32), st.integers(0, 32), st.booleans(),
)  # fmt: skip


@given(st.lists(uses, max_size=6, unique_by=lambda use: use.name), st.integers(0, 300))
def test_adding_what_is_missing_is_enough_and_no_more_is_wanted(blocks: list[BlockUse], waiting: int) -> None:
    more = missing(blocks, waiting, 64)
    then = [*blocks, *(block(f"new{index}") for index in range(more))]
    assert missing(then, waiting, 64) == 0
    assert free(then, waiting) >= headroom(64)
    assert more == 0 or missing(then[:-1], waiting, 64) > 0


@given(st.lists(uses, max_size=6, unique_by=lambda use: use.name), st.integers(0, 300))
def test_what_goes_as_surplus_is_not_wanted_back(blocks: list[BlockUse], waiting: int) -> None:
    name = surplus(blocks, waiting)
    if name is not None:
        rest = [block for block in blocks if block.name != name]
        assert missing(rest, waiting, 64) == 0
