"""Members stay where they are, chunks stay small, and only the highest goes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manx_operator.model import chunks
from manx_operator.model.chunks import Chunks


@pytest.fixture(autouse=True)
def _pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_SIZE", 2)


def contents(of: Chunks) -> list[tuple[str, ...]]:
    return [of.members(number) for number in range(len(of))]


def filled(*members: str) -> Chunks:
    made = Chunks()
    for member in members:
        made.add(member)
    made.settle()
    return made


def test_there_is_always_a_first_chunk() -> None:
    assert contents(Chunks()) == [()]
    assert Chunks().settle() == {0}


def test_a_full_chunk_is_followed_by_another_and_the_first_says_so() -> None:
    made = filled("a", "b")
    made.add("c")
    assert contents(made) == [("a", "b"), ("c",)]
    assert made.settle() == {0, 1}
    made.add("d")
    assert made.settle() == {1}


def test_a_freed_place_is_used_again_after_settling() -> None:
    made = filled("a", "b", "c")
    made.remove("a")
    made.add("d")
    assert contents(made) == [("b",), ("c", "d")]
    made.settle()
    made.add("e")
    assert contents(made) == [("b", "e"), ("c", "d")]


def test_what_comes_back_before_settling_has_not_moved() -> None:
    made = filled("a", "b", "c", "d", "e")
    made.remove("d")
    made.remove("a")
    made.add("d")
    assert contents(made) == [("b",), ("c", "d"), ("e",)]


def test_only_the_highest_chunk_goes() -> None:
    made = filled("a", "b", "c", "d", "e")
    for member in "cd":
        made.remove(member)
    assert made.settle() == {1}
    assert contents(made) == [("a", "b"), (), ("e",)]
    made.remove("e")
    assert made.settle() == {0, 1, 2}
    assert contents(made) == [("a", "b")]


def test_placement_is_taken_over() -> None:
    made = Chunks({0: ("c",), 1: ("a", "b"), 2: ("d",)})
    for member in ("x", "b", "c"):
        made.add(member)
    made.settle()
    assert contents(made) == [("c", "x"), ("b",)]


def test_an_overfull_chunk_is_not_taken_over_whole() -> None:
    made = Chunks({0: ("a", "b", "c"), 1: ("c", "a")})
    for member in "cba":
        made.add(member)
    made.settle()
    assert contents(made) == [("a", "b"), ("c",)]


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(0, 8), st.none()), max_size=60), st.booleans())
def test_members_stay_and_chunks_stay_small(steps: list[int | None], adopted: bool) -> None:
    """A number adds that member or, where it is in, removes it; None settles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_SIZE", 2)
        made = Chunks({0: ("1", "2"), 1: ("3",)} if adopted else None)
        expected: set[str] = set()
        before: dict[int, tuple[str, ...]] = {0: (), 1: ()} if adopted else {0: ()}
        for step in [*steps, None]:
            if step is not None:
                _flip(made, expected, str(step))
                continue
            touched = made.settle()
            after = dict(enumerate(contents(made)))
            assert all(n in touched for n in before.keys() | after.keys() if before.get(n) != after.get(n))
            assert (0 in touched) or len(before) == len(after)
            assert after[max(after)] or len(after) == 1
            before = after
        assert {m for members in before.values() for m in members} == expected
        assert sum(map(len, before.values())) == len(expected)
        assert all(len(members) <= 2 for members in before.values())


def _flip(made: Chunks, expected: set[str], member: str) -> None:
    if member in expected:
        expected.remove(member)
        made.remove(member)
    else:
        expected.add(member)
        made.add(member)
