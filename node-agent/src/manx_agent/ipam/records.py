"""What the address journal says, one line for each change.

Owns: the records, their form on disk, and what a damaged file still tells. Must not: do I/O, or know what a change
means (`table` does).

A line is eight hexadecimal digits of CRC-32, a space, the record as JSON. A crash can cut the last line short, and only
that one was never answered for; a bad line with good ones after it is a damaged disk, which the caller must hear of.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from manx_core.api.v1alpha1 import Allocation

FORMAT = 1


class Header(msgspec.Struct, frozen=True, tag="header"):
    """The first line."""

    format: int = FORMAT


class Allocated(msgspec.Struct, frozen=True, tag="allocated"):
    """`allocation.address`, of the block, is in use."""

    block: str
    allocation: Allocation


class Freed(msgspec.Struct, frozen=True, tag="freed"):
    """The address is not in use any more, and its `sequence` is the block's highest so far."""

    block: str
    address: str
    sequence: int


class Sequence(msgspec.Struct, frozen=True, tag="sequence"):
    """No address of the block was ever freed under a higher number (where no Freed record shows it any more)."""

    block: str
    sequence: int


Record = Header | Allocated | Freed | Sequence
_decoder = msgspec.json.Decoder(Record)


@dataclass(frozen=True, slots=True)
class Parsed:
    """The content of a journal: `records` in order (without the header), and the numbers of lines that could not be
    read. `torn`: the last line is incomplete, as a crash leaves it."""

    records: tuple[Record, ...] = ()
    format: int = FORMAT
    bad_lines: tuple[int, ...] = ()
    torn: bool = False


def encode(records: Iterable[Record]) -> bytes:
    """Lines, ready to append."""
    return b"".join(_line(record) for record in records)


def _line(record: Record) -> bytes:
    body = msgspec.json.encode(record)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def parse(content: bytes) -> Parsed:
    """Whatever the bytes are, the records that can be read of them. Never raises."""
    *lines, rest = content.split(b"\n")
    decoded = [_decode(line) for line in lines]
    bad = [number for number, record in enumerate(decoded, 1) if record is None]
    torn = bool(rest)
    if bad and bad[-1] == len(lines) and not rest:
        bad, torn = bad[:-1], True
    good = [record for record in decoded if record is not None]
    formats = [record.format for record in good if isinstance(record, Header)]
    records = tuple(record for record in good if not isinstance(record, Header))
    return Parsed(records, max(formats, default=FORMAT), tuple(bad), torn)


def _decode(line: bytes) -> Record | None:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        record: Record = _decoder.decode(body)
    except msgspec.MsgspecError:
        return None
    return record
