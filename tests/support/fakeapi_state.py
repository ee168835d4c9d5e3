"""What a fake API server holds: objects, their history, and the rules of resourceVersions.

Owns: optimistic concurrency, one version counter for all kinds, a compactable history, snapshots for paged lists,
selectors. Must not: do I/O, or validate objects by kind. Just enough of kube-apiserver for clients to be tested on;
what depends on the real server's finer behaviour is tested in the lab.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from manx_kube.resources import Resource

Obj = dict[str, Any]
Key = tuple[str, str]


class Refused(Exception):
    """The request fails with this status and reason."""

    def __init__(self, code: int, reason: str, message: str = "", retry_after: int | None = None) -> None:
        super().__init__(message or reason)
        self.code, self.reason, self.message, self.retry_after = code, reason, message or reason, retry_after

    def status(self) -> Obj:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": self.code,
            "reason": self.reason,
            "message": self.message,
        }


EXPIRED = Refused(410, "Expired", "too old resource version")


@dataclass(frozen=True)
class Change:
    """One write: `old` None for a creation, `new` None for a deletion (then `last` is the object as deleted)."""

    version: int
    resource: str
    old: Obj | None
    new: Obj | None
    last: Obj


@dataclass
class State:
    """All collections. `established` None: every resource exists; else only those named (by `str(resource)`)."""

    version: int = 100
    compacted: int = 0
    objects: dict[str, dict[Key, Obj]] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)
    snapshots: dict[str, tuple[int, list[Obj]]] = field(default_factory=dict)
    established: set[str] | None = None
    _uids: int = 0

    def of(self, resource: Resource) -> dict[Key, Obj]:
        return self.objects.setdefault(str(resource), {})

    def check_established(self, resource: str) -> None:
        if self.established is not None and resource not in self.established:
            raise Refused(404, "NotFound", "the server could not find the requested resource")

    # --- writes -------------------------------------------------------------------------------------------------------

    def put(self, resource: Resource | str, obj: Obj) -> Obj:
        """Create or overwrite, whatever is there: how a test says what other clients did."""
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        old = self.objects.setdefault(str(resource), {}).get(key)
        return self._store(str(resource), key, old, obj)

    def create(self, resource: str, namespace: str, obj: Obj) -> Obj:
        name = obj.get("metadata", {}).get("name")
        if not name:
            raise Refused(422, "Invalid", "metadata.name: Required value")
        if (namespace, name) in self.objects.setdefault(resource, {}):
            raise Refused(409, "AlreadyExists", f'{resource} "{name}" already exists')
        return self._store(resource, (namespace, name), None, obj)

    def replace(self, resource: str, key: Key, obj: Obj, subresource: str = "") -> Obj:
        old = self.get(resource, key)
        self._check(old, obj.get("metadata", {}))
        if subresource == "status":
            obj = {**old, "status": obj.get("status", {})}
        elif "status" in old:
            obj = {**obj, "status": obj.get("status", old["status"])}
        return self._store(resource, key, old, obj)

    def merge(self, resource: str, key: Key, patch: Obj) -> Obj:
        old = self.get(resource, key)
        self._check(old, patch.get("metadata", {}))
        return self._store(resource, key, old, merge_patch(old, patch))

    def delete(self, resource: Resource | str, key: Key, preconditions: Obj | None = None) -> Obj:
        old = self.get(str(resource), key)
        self._check(old, preconditions or {})
        self.version += 1
        last = copy.deepcopy(old)
        last["metadata"]["resourceVersion"] = str(self.version)
        del self.objects[str(resource)][key]
        self.history.append(Change(self.version, str(resource), old, None, last))
        return last

    def _store(self, resource: str, key: Key, old: Obj | None, obj: Obj) -> Obj:
        self.version += 1
        new = copy.deepcopy(obj)
        meta = new.setdefault("metadata", {})
        if old is None:
            self._uids += 1
        uid = f"uid-{self._uids}" if old is None else old["metadata"]["uid"]
        meta.update(name=key[1], uid=uid, resourceVersion=str(self.version))
        if key[0]:
            meta["namespace"] = key[0]
        self.objects[resource][key] = new
        self.history.append(Change(self.version, resource, old, new, new))
        return new

    @staticmethod
    def _check(old: Obj, wanted: Obj) -> None:
        for name in ("uid", "resourceVersion"):
            if wanted.get(name) and wanted[name] != old["metadata"][name]:
                raise Refused(409, "Conflict", f"the object's {name} is {old['metadata'][name]}")

    # --- reads --------------------------------------------------------------------------------------------------------

    def get(self, resource: str, key: Key) -> Obj:
        try:
            return self.objects.get(resource, {})[key]
        except KeyError:
            raise Refused(404, "NotFound", f'{resource} "{key[1]}" not found') from None

    def page(self, resource: str, namespace: str, query: dict[str, str]) -> Obj:
        """A list, or its next page. Continue tokens die with compaction, as etcd's do."""
        token = query.get("continue", "")
        if token:
            if token not in self.snapshots:
                raise Refused(410, "Expired", "the provided continue parameter is too old")
            version, items = self.snapshots.pop(token)
        else:
            version, items = self.version, self._select(resource, namespace, query)
        limit = int(query.get("limit", "0")) or len(items)
        meta: Obj = {"resourceVersion": str(version)}
        if len(items) > limit:
            meta["continue"] = f"c{len(self.snapshots)}-{version}-{len(items)}"
            self.snapshots[meta["continue"]] = (version, items[limit:])
        return {"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items[:limit]}

    def _select(self, resource: str, namespace: str, query: dict[str, str]) -> list[Obj]:
        found = self.objects.get(resource, {})
        return [
            copy.deepcopy(found[key])
            for key in sorted(found)
            if (not namespace or key[0] == namespace) and selected(found[key], query)
        ]

    def changes(self, after: int, resource: str, namespace: str, query: dict[str, str]) -> Iterable[tuple[str, Obj]]:
        """The watch events after a version; leaving the selection is DELETED, entering it ADDED. Raises EXPIRED."""
        if after < self.compacted:
            raise EXPIRED
        for change in self.history:
            meta = change.last["metadata"]
            if change.version <= after or change.resource != resource:
                continue
            if namespace and meta.get("namespace", "") != namespace:
                continue
            was = change.old is not None and selected(change.old, query)
            now = change.new is not None and selected(change.new, query)
            if was or now:
                yield ("MODIFIED" if was and now else "ADDED" if now else "DELETED"), change.last

    def compact(self) -> None:
        """Forget all history: watches from before now, and continue tokens, get 410."""
        self.compacted = self.version
        self.history.clear()
        self.snapshots.clear()


# --- selectors and patches --------------------------------------------------------------------------------------------

_SET = re.compile(r"^\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*$")


def selected(obj: Obj, query: dict[str, str]) -> bool:
    labels = obj["metadata"].get("labels") or {}
    wanted = re.split(r",(?![^(]*\))", query.get("labelSelector", ""))
    fields = [term for term in query.get("fieldSelector", "").split(",") if term]
    return all(_label_matches(labels, term) for term in wanted if term) and all(
        _field_matches(obj, term) for term in fields
    )


def _label_matches(labels: dict[str, str], term: str) -> bool:
    found = _SET.match(term)
    if found:
        key, operator, values = found.groups()
        inside = key in labels and labels[key] in [value.strip() for value in values.split(",")]
        return inside if operator == "in" else not inside
    if "!=" in term:
        key, value = term.split("!=")
        return labels.get(key) != value
    if "=" in term:
        key, value = re.split("==?", term, maxsplit=1)
        return labels.get(key) == value
    return term[1:] not in labels if term.startswith("!") else term in labels


def _field_matches(obj: Obj, term: str) -> bool:
    path, negated, value = re.match(r"([^!=]+)(!?)==?(.*)", term).groups()  # type: ignore[union-attr]
    found: Any = obj
    for part in path.split("."):
        found = (found or {}).get(part)
    return ((found or "") == value) != bool(negated)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result
