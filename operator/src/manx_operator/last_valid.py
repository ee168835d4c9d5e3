"""Which version of a user's object counts.

Owns: that choice: the version declared; where that is invalid, the one last valid; where none ever was, what of it can
be read. And the text by which the last valid version outlives a leader.
Must not: write that text (`review` does), or know what a kind means.

An object that becomes invalid stays as it last was, for as long as it is the same object (uid): what worked goes on
working. The text is in the status of the object itself: it comes and goes with it, whoever may write an object's status
may as well write the object, and no annotation and no other object has to be kept in step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

from manx_core.api.fields import InvalidObject

Raw = Mapping[str, Any]
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
OUR_ANNOTATIONS = "manx.dev/"
LONGEST_TEXT = 500_000
"""Characters. An API server takes objects of up to about 1.5 MB; what is longer does not outlive a leader."""


class LastValid(Generic[K, T]):
    """The objects of one kind by name. `parse` raises InvalidObject; `readable` says what counts of an object that
    never was valid: None for nothing, which is as if it was absent."""

    def __init__(self, parse: Callable[[Raw], T], readable: Callable[[Raw], T | None] = lambda raw: None) -> None:
        self._parse = parse
        self._read = readable
        self._uids: dict[K, str] = {}
        self._raws: dict[K, Raw] = {}
        self._readable: dict[K, T] = {}
        self.valid: dict[K, T] = {}
        """As they last were valid."""

    def __contains__(self, name: K) -> bool:
        """Whether there is such an object, valid or not."""
        return name in self._uids

    def get(self, name: K) -> T | None:
        """What counts of the object."""
        return self.valid.get(name, self._readable.get(name))

    def text(self, name: K) -> str:
        """Of the version that last was valid: `text_of`. Empty where there never was one."""
        return text_of(self._raws[name]) if name in self._raws else ""

    def put(self, name: K, raw: Raw | None) -> None:
        """None: gone."""
        uid = _uid(raw) if raw is not None else ""
        self._readable.pop(name, None)
        if raw is None or self._uids.get(name) != uid:
            for table in (self.valid, self._raws, self._uids):
                table.pop(name, None)
        if raw is None:
            return
        self._uids[name] = uid
        if not self._take(name, raw) and name not in self.valid and not self._take(name, _stored(raw)):
            found = self._read(raw)
            if found is not None:
                self._readable[name] = found

    def _take(self, name: K, raw: Raw | None) -> bool:
        """Whether that is valid."""
        if raw is None:
            return False
        try:
            self.valid[name] = self._parse(raw)
        except InvalidObject:
            return False
        self._raws[name] = raw
        return True


# --- the text ---------------------------------------------------------------------------------------------------------


def text_of(raw: Raw) -> str:
    """An object as JSON, without what means nothing. Empty where it would be too long for the object to carry it."""
    meta = raw["metadata"]
    kept = {key: meta[key] for key in ("name", "namespace", "uid", "labels") if meta.get(key)}
    ours = our_annotations(meta.get("annotations"))
    kept |= {"annotations": ours} if ours else {}
    text = json.dumps({"metadata": kept, "spec": raw.get("spec")}, sort_keys=True)
    return text if len(text) <= LONGEST_TEXT else ""


def our_annotations(annotations: Mapping[str, str] | None) -> dict[str, str]:
    """Those that mean something to Manx."""
    if not annotations:
        return {}
    return {key: value for key, value in annotations.items() if key.startswith(OUR_ANNOTATIONS)}


def stored_text(raw: Raw) -> str:
    """The text that the object carries; empty where there is none."""
    status = raw.get("status")
    text = status.get("lastValid") if isinstance(status, Mapping) else None
    return text if isinstance(text, str) else ""


def _stored(raw: Raw) -> Raw | None:
    """The version that the object's text tells of, if that is of the same object."""
    try:
        found = json.loads(stored_text(raw) or "null")
    except ValueError:
        return None
    if not isinstance(found, Mapping) or not isinstance(found.get("metadata"), Mapping):
        return None
    return found if _uid(found) == _uid(raw) else None


def _uid(raw: Raw) -> str:
    return str(raw["metadata"].get("uid") or "")


# --- what never was valid ---------------------------------------------------------------------------------------------


def readable_part(raw: Raw, parse: Callable[[Raw], T], *needed: str) -> T | None:
    """The object with those fields of its spec, and of our annotations, alone that `parse` takes each by itself. None
    where that is no object, or has not the fields needed."""
    meta, spec = raw["metadata"], raw.get("spec")

    def read(spec: Raw, annotations: Raw) -> T | None:
        try:
            return parse({"metadata": {"name": meta.get("name"), "annotations": annotations}, "spec": spec})
        except InvalidObject:
            return None

    spec = spec if isinstance(spec, Mapping) else {}
    kept = {key: value for key, value in spec.items() if read({key: value}, {}) is not None}
    annotations = meta.get("annotations") or {}
    ours = {key: value for key, value in annotations.items() if read({}, {key: value}) is not None}
    return read(kept, ours) if kept.keys() >= set(needed) else None
