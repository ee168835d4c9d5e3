"""Lists that objects between operator and agents hold as one text of lines.

Owns: how such a list becomes text and is read from it. Must not: know what a line says.

Why text: the API server makes a validator for each item of a list, and several copies of the list, at every write
(docs/decisions/0009). Objects that an earlier operator wrote as lists are read as well.
"""

from __future__ import annotations

from collections.abc import Iterable

Lines = str | tuple[str, ...]
"""Written as a text, whose lines have a newline between them."""


def text_of(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def lines_of(lines: Lines) -> tuple[str, ...]:
    if isinstance(lines, str):
        return tuple(lines.removesuffix("\n").split("\n")) if lines else ()
    return lines
