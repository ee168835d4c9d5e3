"""A watch's byte stream, as events.

Owns: cutting the stream into lines and lines into (type, raw object). Must not: know the objects' type (one that does
not fit it must cost only itself) or reconnect.

Why this way: a piece of the stream often holds many lines; they are decoded in one call. A line that is no watch event
means that the stream cannot be trusted from there on: skipping it could lose a change for ever, so reading ends there
and the informer resumes from the last version it has.
Source: Kubernetes API concepts, "Efficient detection of changes".
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from manx_kube.errors import DecodeError

MAX_LINE = 32 << 20  # bytes; etcd refuses objects over 1.5 MiB, aggregated API servers may hold larger ones


class WatchLine(msgspec.Struct, frozen=True):
    """meta/v1 WatchEvent: ADDED, MODIFIED, DELETED, BOOKMARK (only a resourceVersion) or ERROR (a Status)."""

    type: str
    object: msgspec.Raw


_decoder = msgspec.json.Decoder(WatchLine)


class LineBuffer:
    """Collects pieces until lines are complete."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> bytes:
        """All lines completed by `piece`, together; b"" if none. Raises DecodeError for an endless line."""
        end = piece.rfind(b"\n") + 1
        self._size += len(piece)
        if not end:
            self._rest.append(piece)
            if self._size > MAX_LINE:
                raise DecodeError(f"a watch line is longer than {MAX_LINE} bytes", reason="MalformedWatch")
            return b""
        complete = b"".join([*self._rest, piece[:end]])
        self._rest = [piece[end:]]
        self._size = len(piece) - end
        return complete


def decode_lines(lines: bytes) -> tuple[list[WatchLine], DecodeError | None]:
    """The events in complete lines, up to the first malformed one, and the error for that one."""
    try:
        return _decoder.decode_lines(lines), None
    except (msgspec.MsgspecError, RecursionError):
        return _decode_until_malformed(lines)


def _decode_until_malformed(lines: bytes) -> tuple[list[WatchLine], DecodeError | None]:
    good: list[WatchLine] = []
    for line in lines.splitlines():
        try:
            if line.strip():
                good.append(_decoder.decode(line))
        except (msgspec.MsgspecError, RecursionError) as error:
            shown = line[:80].decode("utf-8", "replace")
            return good, DecodeError(f"malformed watch line {shown!r}: {error}", reason="MalformedWatch")
    return good, None


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[list[WatchLine]]:
    """Lists of events, each with all that was available. Ends with the stream (an incomplete last line is dropped: it
    comes again after resuming). Raises DecodeError after the good events before a malformed line."""
    buffer = LineBuffer()
    async for piece in pieces:
        complete = buffer.feed(piece)
        if not complete:
            continue
        lines, error = decode_lines(complete)
        yield lines
        if error is not None:
            raise error
