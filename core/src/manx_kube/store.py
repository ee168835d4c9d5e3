"""An informer's cache, and what changes in it.

Owns: objects by (namespace, name), the difference between a fresh list and what was known, and the objects that could
not be decoded. Must not: do I/O, decode, or call handlers; everything here is synchronous and total.

Why this way: watch events and relists meet in the same three operations (put, remove, merge), each of which says what
it changed. Replaying those changes over an empty cache therefore always gives this cache, whatever the server did.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar, get_origin, is_typeddict

import msgspec

from manx_kube.client import BadItem

T = TypeVar("T")
Key = tuple[str, str]
"""(namespace, name); the namespace of a cluster-scoped object is ""."""


class EventKind(enum.Enum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class Event(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """One change of the cache: `old` is what it held (None for ADDED), `new` what it holds now (None for DELETED).
    `deleted_at`: the version of a deletion as the watch told it; "" where only a list showed that it is gone."""

    kind: EventKind
    key: Key
    old: T | None
    new: T | None
    deleted_at: str = ""


class Batch(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """Changes that arrived together, in order; `resource_version` is the cache's after them."""

    events: list[Event[T]]
    resource_version: str


class Identity(NamedTuple):
    key: Key
    uid: str
    resource_version: str


def _identity_of_struct(obj: Any) -> Identity:
    meta = obj.metadata
    return Identity((meta.namespace, meta.name), meta.uid, meta.resource_version)


def _identity_of_dict(obj: Any) -> Identity:
    meta = obj.get("metadata") or {}
    key = (meta.get("namespace") or "", meta.get("name") or "")
    return Identity(key, meta.get("uid") or "", meta.get("resourceVersion") or "")


class Store(Generic[T]):
    """The cache of one collection. `type_`: a struct with `metadata: ObjectMeta`, dict (of str and Any), or a
    TypedDict."""

    def __init__(self, type_: type[T]) -> None:
        self.objects: dict[Key, T] = {}
        self.bad: dict[Key, BadItem] = {}
        is_dict = (get_origin(type_) or type_) is dict or is_typeddict(type_)  # dict[str, Any] too
        self.identify: Callable[[T], Identity] = _identity_of_dict if is_dict else _identity_of_struct

    def put(self, obj: T) -> list[Event[T]]:
        """The server has `obj`. Nothing changes if its resourceVersion is the cached one."""
        identity = self.identify(obj)
        key = identity.key
        if self.bad:
            self.bad.pop(key, None)
        old = self.objects.get(key)
        self.objects[key] = obj
        if old is None:
            return [Event(EventKind.ADDED, key, None, obj)]
        before = self.identify(old)
        if before.resource_version == identity.resource_version:
            self.objects[key] = old
            return []
        if before.uid != identity.uid:  # deleted and made anew while nobody looked: not the same object
            return [Event(EventKind.DELETED, key, old, None), Event(EventKind.ADDED, key, None, obj)]
        return [Event(EventKind.MODIFIED, key, old, obj)]

    def put_bad(self, item: BadItem) -> bool:
        """The server has an object that cannot be decoded: the last good one stays. False if that was known already."""
        key = (item.namespace, item.name)
        known = self.bad.get(key)
        self.bad[key] = item
        return known is None or known.resource_version != item.resource_version

    def remove(self, key: Key, deleted_at: str = "") -> list[Event[T]]:
        """The server no longer has it."""
        self.bad.pop(key, None)
        old = self.objects.pop(key, None)
        return [] if old is None else [Event(EventKind.DELETED, key, old, None, deleted_at)]

    def merge(self, items: Iterable[T], bad: Iterable[BadItem]) -> tuple[list[Event[T]], list[BadItem]]:
        """The server has exactly these: the changes (deletes first, so that what names claim is free again), and those
        bad items that were not known."""
        items, bad = list(items), list(bad)
        present = {self.identify(obj).key for obj in items} | {(item.namespace, item.name) for item in bad}
        events = [event for key in self.objects.keys() - present for event in self.remove(key)]
        for key in self.bad.keys() - present:
            del self.bad[key]
        news = [item for item in bad if self.put_bad(item)]
        for obj in items:
            events += self.put(obj)
        return events, news


def reached(have: str, want: str) -> bool:
    """Whether resourceVersion `have` is `want` or later. With etcd they always were integers that grow, officially so
    since KEP-5504; where they are none, only equality counts."""
    if have == want:
        return True
    return have.isdecimal() and want.isdecimal() and int(have) >= int(want)
