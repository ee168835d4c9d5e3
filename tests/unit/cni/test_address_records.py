"""The journal's lines: what a torn or damaged file still tells."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from manx_agent.ipam.records import Allocated, Freed, Header, Parsed, Record, Sequence, encode, parse
from manx_core.api.v1alpha1 import Allocation

names = st.text(max_size=8)
allocations = st.builds(
    Allocation, address=names, namespace=names, name=names, uid=names, container_id=names, interface=names
)
record = st.one_of(
    st.builds(Allocated, block=names, allocation=allocations),
    st.builds(Freed, block=names, address=names, sequence=st.integers(0, 2**40)),
    st.builds(Sequence, block=names, sequence=st.integers(0, 2**40)),
)
THREE: list[Record] = [Sequence("b", 1), Freed("b", "10.0.0.1", 2), Sequence("c", 3)]


@settings(deadline=None)
@given(st.lists(record))
def test_what_was_written_is_read(written: list[Record]) -> None:
    assert parse(encode([Header(), *written])) == Parsed(tuple(written))


@settings(deadline=None)
@given(st.lists(record, min_size=1), st.data())
def test_cut_at_any_byte_only_the_last_record_is_lost(written: list[Record], data: st.DataObject) -> None:
    whole = encode(written)
    length = data.draw(st.integers(0, len(whole)))
    parsed = parse(whole[:length])
    kept = whole[:length].count(b"\n")
    assert parsed.records == tuple(written[:kept])
    assert parsed.bad_lines == ()
    assert parsed.torn == (length != len(encode(written[:kept])))


def test_a_bad_line_in_the_middle_is_told_and_the_others_are_read() -> None:
    lines = encode(THREE).split(b"\n")
    lines[1] = lines[1].replace(b"10.0.0.1", b"10.0.0.9")
    parsed = parse(b"\n".join(lines))
    assert parsed.records == (THREE[0], THREE[2])
    assert parsed.bad_lines == (2,)


def test_a_last_line_of_nonsense_counts_as_torn() -> None:
    parsed = parse(encode(THREE) + b"\0\0\0\0\n")
    assert parsed == Parsed(tuple(THREE), torn=True)


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_survived(content: bytes) -> None:
    assert parse(content).records == ()


def test_a_later_format_is_seen() -> None:
    assert parse(encode([Header(format=2)])).format == 2
