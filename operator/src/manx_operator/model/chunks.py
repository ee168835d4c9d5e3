"""A group's members in chunks.

Owns: which chunk each member is in. Must not: know what members are.

1. A chunk holds at most CHUNK_SIZE members; a member stays where it is until it is removed.
2. New members fill the lowest chunk that has room, so that the highest empties; only the highest is ever taken away.
3. A removed member keeps its place until `settle`. One that comes back before that has not moved, and no other chunk
   gets a member that a reader could miss for a moment.
4. Placement that exists already is taken over the same way: as members removed that may come back.

Why lists, and nothing where nothing is: most groups of a big cluster have a few members; a set of a hundred takes ten
times a list's memory, and looking through a hundred costs less than a microsecond or two.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

CHUNK_SIZE = 100


class Chunks:
    """Members 0 … CHUNK_SIZE in each of at least one chunk."""

    __slots__ = ("_chunk_of", "_free", "_leaving", "_placed", "_touched")

    def __init__(self, placed: Mapping[int, Iterable[str]] | None = None) -> None:
        """`placed`: chunk number → members that existed there. Numbers without gap, from 0."""
        self._chunk_of: dict[str, int] = {}
        self._placed: list[list[str]] = [[]]
        """For each chunk: its members, those leaving included."""
        self._leaving: set[str] | None = None
        """None for an empty set, as of `_touched`."""
        self._free = [0]
        """A heap of exactly the chunks that have room."""
        self._touched: set[int] | None = {0}
        if placed:
            self._adopt(placed)

    def __len__(self) -> int:
        """How many chunks there are: one more than the highest in use."""
        return len(self._placed)

    def __contains__(self, member: str) -> bool:
        return member in self._chunk_of and not (self._leaving and member in self._leaving)

    @property
    def empty(self) -> bool:
        """Whether there is no member."""
        return len(self._chunk_of) == (len(self._leaving) if self._leaving else 0)

    @property
    def touched(self) -> bool:
        """Whether a chunk changed, came or went since the last `settle`."""
        return bool(self._touched)

    def touch_all(self) -> None:
        """Of all chunks something changed that is not known here."""
        self._touch(*range(len(self._placed)))

    def members(self, number: int) -> tuple[str, ...]:
        """A chunk's members, sorted. Raises IndexError for a chunk that there is not."""
        found, leaving = self._placed[number], self._leaving
        return tuple(sorted(member for member in found if member not in leaving) if leaving else sorted(found))

    def add(self, member: str) -> bool:
        """`member` is in the group; whether it was not."""
        number = self._chunk_of.get(member)
        if number is None:
            number = self._place(member)
        elif self._leaving and member in self._leaving:
            self._leaving.remove(member)
        else:
            return False
        self._touch(number)
        return True

    def remove(self, member: str) -> None:
        """`member` is not in the group any more; it was."""
        self._leave(member)
        self._touch(self._chunk_of[member])

    def settle(self) -> set[int]:
        """Frees the places of what left, and returns and forgets what was touched: the numbers of chunks that changed,
        came or went."""
        for member in self._leaving or ():
            self._give_up_place(member)
        self._leaving = None
        while len(self._placed) > 1 and not self._placed[-1]:
            self._drop_highest()
        touched, self._touched = self._touched, None
        return touched or set()

    def _touch(self, *numbers: int) -> None:
        if self._touched is None:
            self._touched = set(numbers)
        else:
            self._touched.update(numbers)

    def _leave(self, member: str) -> None:
        if self._leaving is None:
            self._leaving = {member}
        else:
            self._leaving.add(member)

    def _place(self, member: str) -> int:
        if not self._free:
            self._append()
        number = self._free[0]
        self._chunk_of[member] = number
        self._placed[number].append(member)
        if len(self._placed[number]) == CHUNK_SIZE:
            heapq.heappop(self._free)
        return number

    def _give_up_place(self, member: str) -> None:
        number = self._chunk_of.pop(member)
        if len(self._placed[number]) == CHUNK_SIZE:
            heapq.heappush(self._free, number)
        self._placed[number].remove(member)

    def _append(self) -> None:
        number = len(self._placed)
        self._placed.append([])
        heapq.heappush(self._free, number)
        self._touch(0, number)

    def _drop_highest(self) -> None:
        self._placed.pop()
        self._free.remove(len(self._placed))
        heapq.heapify(self._free)
        self._touch(0, len(self._placed))

    def _adopt(self, placed: Mapping[int, Iterable[str]]) -> None:
        for number, members in sorted(placed.items()):
            self._take_over(number, members)
        self._free = [number for number, members in enumerate(self._placed) if len(members) < CHUNK_SIZE]
        self._touch(*range(len(self._placed)))

    def _take_over(self, number: int, members: Iterable[str]) -> None:
        if number == len(self._placed):
            self._placed.append([])
        for member in list(members)[:CHUNK_SIZE]:
            if member not in self._chunk_of:
                self._chunk_of[member] = number
                self._placed[number].append(member)
                self._leave(member)
