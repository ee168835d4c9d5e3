"""A group's members in chunks.

Owns: which chunk each member is in. Must not: know what members are.

1. A chunk holds at most CHUNK_SIZE members; a member stays where it is until it is removed.
2. New members fill the lowest chunk that has room, so that the highest empties; only the highest is ever taken away.
3. A removed member keeps its place until `settle`. One that comes back before that has not moved, and no other chunk
   gets a member that a reader could miss for a moment.
4. Placement that exists already is taken over the same way: as members removed that may come back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

CHUNK_SIZE = 100


class Chunks:
    """Members 0 … CHUNK_SIZE in each of at least one chunk. `touched` has the numbers of chunks that changed since the
    last `settle`, or that came or went."""

    __slots__ = ("_chunk_of", "_free", "_leaving", "_live", "_places", "touched")

    def __init__(self, placed: Mapping[int, Iterable[str]] | None = None) -> None:
        """`placed`: chunk number → members that existed there. Numbers without gap, from 0."""
        self._chunk_of: dict[str, int] = {}
        self._leaving: set[str] = set()
        self._live: list[set[str]] = [set()]
        self._places: list[int] = [0]
        """For each chunk: how many members, those leaving included."""
        for number, members in sorted((placed or {}).items()):
            self._take_over(number, members)
        self._free = [number for number, places in enumerate(self._places) if places < CHUNK_SIZE]
        """A heap of exactly the chunks that have room."""
        self.touched: set[int] = set(range(len(self._live)))

    def __len__(self) -> int:
        """How many chunks there are: one more than the highest in use."""
        return len(self._live)

    def members(self, number: int) -> tuple[str, ...]:
        """A chunk's members, sorted. Raises IndexError for a chunk that there is not."""
        return tuple(sorted(self._live[number]))

    def add(self, member: str) -> None:
        """`member` is in the group; it was not."""
        if member in self._leaving:
            self._leaving.remove(member)
            number = self._chunk_of[member]
        else:
            number = self._place(member)
        self._live[number].add(member)
        self.touched.add(number)

    def remove(self, member: str) -> None:
        """`member` is not in the group any more; it was."""
        number = self._chunk_of[member]
        self._live[number].remove(member)
        self._leaving.add(member)
        self.touched.add(number)

    def settle(self) -> set[int]:
        """Frees the places of what left, and returns and forgets what was touched."""
        for member in self._leaving:
            self._give_up_place(self._chunk_of.pop(member))
        self._leaving.clear()
        while len(self._live) > 1 and not self._live[-1]:
            self._drop_highest()
        touched, self.touched = self.touched, set()
        return touched

    def _place(self, member: str) -> int:
        if not self._free:
            self._append()
        number = self._free[0]
        self._chunk_of[member] = number
        self._places[number] += 1
        if self._places[number] == CHUNK_SIZE:
            heapq.heappop(self._free)
        return number

    def _give_up_place(self, number: int) -> None:
        if self._places[number] == CHUNK_SIZE:
            heapq.heappush(self._free, number)
        self._places[number] -= 1

    def _append(self) -> None:
        number = len(self._live)
        self._live.append(set())
        self._places.append(0)
        heapq.heappush(self._free, number)
        self.touched.update((0, number))

    def _drop_highest(self) -> None:
        self._live.pop()
        self._places.pop()
        self._free.remove(len(self._live))
        heapq.heapify(self._free)
        self.touched.update((0, len(self._live)))

    def _take_over(self, number: int, members: Iterable[str]) -> None:
        if number == len(self._live):
            self._live.append(set())
            self._places.append(0)
        for member in list(members)[:CHUNK_SIZE]:
            if member not in self._chunk_of:
                self._chunk_of[member] = number
                self._places[number] += 1
                self._leaving.add(member)
