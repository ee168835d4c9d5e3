"""Lines out of a byte stream, however it is cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manx_kube import watch
from manx_kube.errors import DecodeError


def line(number: int) -> bytes:
    return json.dumps({"type": "ADDED", "object": {"n": number, "text": "né\n"}}).encode() + b"\n"


async def read(pieces: list[bytes]) -> tuple[list[int], str]:
    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    numbers: list[int] = []
    try:
        async for lines in watch.events(stream()):
            numbers += [json.loads(bytes(one.object))["n"] for one in lines]
    except DecodeError as error:
        return numbers, error.message
    return numbers, ""


@given(st.integers(0, 12), st.lists(st.integers(1, 600), max_size=20), st.binary(max_size=5))
def test_any_cut_gives_the_same_lines(count: int, cuts: list[int], tail: bytes) -> None:
    whole = b"".join(line(number) for number in range(count)) + tail.replace(b"\n", b"")
    edges = sorted({0, *[min(cut, len(whole)) for cut in cuts], len(whole)})
    pieces = [whole[a:b] for a, b in pairwise(edges)]
    assert asyncio.run(read(pieces)) == (list(range(count)), "")


@given(st.integers(0, 5), st.integers(0, 5))
def test_what_precedes_a_malformed_line_is_given(good: int, after: int) -> None:
    stream = b"".join(line(n) for n in range(good)) + b"garbage\n" + b"".join(line(n) for n in range(after))
    numbers, error = asyncio.run(read([stream]))
    assert numbers == list(range(good))
    assert "garbage" in error


def test_blank_lines_mean_nothing() -> None:
    assert asyncio.run(read([line(1) + b"\n" + line(2)])) == ([1, 2], "")


def test_an_endless_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_LINE", 100)
    numbers, error = asyncio.run(read([b"x" * 60, b"x" * 60]))
    assert numbers == []
    assert "longer than 100 bytes" in error
