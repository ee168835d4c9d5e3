"""One set of objects, heard by two watches.

Owns: which object of a name counts while the watch for this node and the watch for every node both speak of it.
Must not: do I/O, or know what the objects are.

Why: an object whose span widens changes from one watch to the other, and the API server orders nothing between them.
The higher resourceVersion wins, and an object is forgotten only when it is in neither.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from manx_core.api.core_v1 import ObjectMeta


class HasMeta(Protocol):
    """An object of the API server."""

    @property
    def metadata(self) -> ObjectMeta: ...


T = TypeVar("T", bound=HasMeta)


def version(obj: HasMeta) -> int:
    """An object's resourceVersion as a number (KEP-5504 makes them comparable within one resource)."""
    text = obj.metadata.resource_version
    return int(text) if text.isdecimal() else 0


class Union(Generic[T]):
    """The objects in either of two watches, by name."""

    def __init__(self) -> None:
        self._sides: tuple[dict[str, T], dict[str, T]] = ({}, {})

    def put(self, side: int, name: str, obj: T | None) -> None:
        """Watch `side` (0 or 1) now has `obj` under this name, or no longer any."""
        if obj is None:
            self._sides[side].pop(name, None)
        else:
            self._sides[side][name] = obj

    def get(self, name: str) -> T | None:
        """The newest object of this name that either watch has."""
        present = [obj for objects in self._sides if (obj := objects.get(name)) is not None]
        return max(present, key=version, default=None)
