"""Our own objects as they are at the API server, as well as we know, and who refers to whom among them.

Owns: the informers' caches with our own latest writes laid over them, and the index of references.
Must not: want anything (control.py does) or write (writer.py does).

Why an overlay: a watch tells of our own write a few milliseconds after its answer did. Deciding from the cache alone
would in between write again what is already there, and fail on its own conflict. An overlay is dropped as soon as the
informer is at its version or past it: from then on the cache knows better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.inside import ClassProgram, programs_in
from manx_core.api.lines import lines_of
from manx_core.api.v1alpha1 import (
    OPEN_CLASS,
    AddressGroupSpec,
    NodeStateSpec,
    PolicyClassSpec,
    PolicyProgramSpec,
    RuleEnd,
    StoredProgram,
)
from manx_core.policy.endpoint import classes_of
from manx_core.span import span_label
from manx_kube.informer import Informer
from manx_kube.resources import ADDRESS_GROUPS, NODE_STATES, POLICY_CLASSES, POLICY_PROGRAMS, Resource
from manx_kube.store import reached


class Key(NamedTuple):
    """One of our objects (all are cluster-scoped)."""

    resource: Resource
    name: str

    def __str__(self) -> str:
        return f"{self.resource.plural}/{self.name}"


@dataclass(frozen=True, slots=True)
class _Deleted:
    """We deleted this version, and the cache has it still."""

    resource_version: str


class Observed:
    """`changed(key)` is called whenever what `get` answers may have become something that nobody here asked for, or
    nothing; `released()` when something that was referred to may be no more."""

    def __init__(
        self,
        informers: Mapping[Resource, Informer[Any]],
        changed: Callable[[Key], None],
        released: Callable[[], None],
    ) -> None:
        self._informers = informers
        self._changed = changed
        self._released = released
        self._overlay: dict[Key, Any] = {}
        self._references: dict[Key, frozenset[Key]] = {}
        self._referrers: dict[Key, set[Key]] = {}
        self._node_of: dict[str, str] = {}
        for key in self.keys():
            self._index(key)

    def get(self, key: Key) -> Any | None:
        """The object, None if there is none."""
        informer = self._informers[key.resource]
        cached = informer.get(key.name)
        laid = self._overlay.get(key)
        if laid is None:
            return cached
        if self._outdated(laid, cached, informer.resource_version):
            del self._overlay[key]
            return cached
        return None if isinstance(laid, _Deleted) else laid

    @staticmethod
    def _outdated(laid: Any, cached: Any | None, version: str) -> bool:
        if isinstance(laid, _Deleted):
            return cached is None or cached.metadata.resource_version != laid.resource_version
        return reached(version, laid.metadata.resource_version)

    def keys(self) -> Iterator[Key]:
        for resource, informer in self._informers.items():
            yield from (Key(resource, name) for _, name in list(informer.cache))
        yield from list(self._overlay)

    def all(self, resource: Resource) -> Iterator[Any]:
        """The objects of a kind."""
        names = {name for _, name in self._informers[resource].cache}
        names |= {key.name for key in self._overlay if key.resource == resource}
        yield from (found for name in sorted(names) if (found := self.get(Key(resource, name))) is not None)

    def node_of(self, label: str) -> str | None:
        """The node that has this span label, if it has a NodeState."""
        return self._node_of.get(label)

    # --- what changes it ----------------------------------------------------------------------------------------------

    def heard(self, key: Key) -> None:
        """The cache has changed there, if only to what we wrote, which is known."""
        if not self._is_echo(key):
            self._index(key)
            self._changed(key)

    def _is_echo(self, key: Key) -> bool:
        laid, cached = self._overlay.get(key), self._informers[key.resource].get(key.name)
        if laid is None or (cached is None) != isinstance(laid, _Deleted):
            return False
        if cached is not None and cached.metadata.resource_version != laid.metadata.resource_version:
            return False
        del self._overlay[key]
        return cached is None or same(laid, cached)

    def sent(self, key: Key, obj: Any, meta: ObjectMeta) -> None:
        """The server took our write of `obj`, and answered with the metadata alone. If it made something else of it, it
        is to be looked at again: that shows here in the labels, or in that nothing has changed for the server; in the
        rest when the informer tells of this version."""
        self._overlay[key] = msgspec.structs.replace(obj, metadata=meta)
        self._index(key)
        if meta.labels != obj.metadata.labels or meta.resource_version == obj.metadata.resource_version:
            self._changed(key)

    def written(self, key: Key, obj: Any) -> None:
        """The server answered our write of the status with this."""
        expected = self.get(key)
        self._overlay[key] = obj
        self._index(key)
        if expected is None or not same(expected, obj):
            self._changed(key)

    def deleted(self, key: Key, obj: Any) -> None:
        """The server took our deletion of this version."""
        self._overlay[key] = _Deleted(obj.metadata.resource_version)
        self._index(key)
        self._changed(key)

    # --- references ---------------------------------------------------------------------------------------------------

    def needed_by(self, key: Key, node: str | None = None) -> bool:
        """Whether a NodeState (that of `node`, if given), by way of others, refers to this object."""
        seen: set[Key] = {key}
        pending = [key]
        while pending:
            for referrer in self._referrers.get(pending.pop(), ()):
                if referrer.resource == NODE_STATES and node in (None, referrer.name):
                    return True
                if referrer not in seen:
                    seen.add(referrer)
                    pending.append(referrer)
        return False

    def _index(self, key: Key) -> None:
        obj = self.get(key)
        if key.resource == NODE_STATES:
            self._index_node(key.name, there=obj is not None)
        now = references(obj.spec) if obj is not None and hasattr(obj, "spec") else frozenset()
        before = self._references.get(key, frozenset())
        if now == before:
            return
        self._references[key] = now
        if not now:
            del self._references[key]
        for gone in before - now:
            self._referrers[gone].discard(key)
            if not self._referrers[gone]:
                del self._referrers[gone]
        if before - now:
            self._released()
        for new in now - before:
            self._referrers.setdefault(new, set()).add(key)

    def _index_node(self, name: str, *, there: bool) -> None:
        if there:
            self._node_of[span_label(name)] = name
        else:
            self._node_of.pop(span_label(name), None)


def same(one: Any, other: Any) -> bool:
    """Whether two versions of an object are the same in all that is ours to write."""
    labels = one.metadata.labels == other.metadata.labels
    return labels and same_spec(one.spec, other.spec) and _declared(one) == _declared(other)


def same_spec(one: Any, other: Any) -> bool:
    """Apart from the epoch, which only says who wrote last."""
    return bool(one == (other if other.epoch == one.epoch else msgspec.structs.replace(other, epoch=one.epoch)))


def _declared(obj: Any) -> str:
    return obj.declared if isinstance(obj, StoredProgram) else ""


def new_references(spec: Any, before: Any) -> frozenset[Key]:
    """What an object comes to name by a change: of a NodeState, all that the pods are in that are not as they were."""
    if isinstance(spec, NodeStateSpec):
        return _classes(frozenset(lines_of(spec.pods)).difference(lines_of(before.pods)))
    return references(spec) - references(before)


def references(spec: Any) -> frozenset[Key]:
    """What an object of ours names and does not have inside. A group is referred to by its chunk 0, which refers to the
    others."""
    if isinstance(spec, AddressGroupSpec):
        return frozenset([Key(ADDRESS_GROUPS, f"{spec.group}-{chunk}") for chunk in range(1, spec.chunks)])
    if isinstance(spec, NodeStateSpec):
        return _classes(lines_of(spec.pods))
    if isinstance(spec, PolicyClassSpec):
        inside = programs_inside(spec)
        named = {name for tier in spec.tiers for name in tier.policies} - {program.name for program in inside}
        theirs = [key for program in inside for key in references(program.spec)]
        return frozenset([*theirs, *[Key(POLICY_PROGRAMS, name) for name in named]])
    if isinstance(spec, PolicyProgramSpec):
        rules = (*spec.ingress, *spec.egress)
        groups = {group for rule in rules for end in (rule.peer, rule.subject) for group in _groups(end)}
        return frozenset([Key(ADDRESS_GROUPS, f"{group}-0") for group in groups])
    return frozenset()


def programs_inside(spec: PolicyClassSpec) -> tuple[ClassProgram, ...]:
    """The programs that a class as it is stored has inside; none where that cannot be read, which is then no more what
    it shall be."""
    try:
        return programs_in(spec.programs)
    except msgspec.MsgspecError:
        return ()


def _classes(pods: Iterable[str]) -> frozenset[Key]:
    return frozenset(Key(POLICY_CLASSES, name) for name in classes_of(pods) - {OPEN_CLASS})


def _groups(end: RuleEnd) -> tuple[str, ...]:
    return (*end.groups, *end.not_groups, *end.port_groups, *end.not_port_groups)


LEVELS: dict[Resource, int] = {ADDRESS_GROUPS: 0, POLICY_PROGRAMS: 1, POLICY_CLASSES: 2, NODE_STATES: 4}
"""What is referred to comes first; kinds that nothing refers to are in between."""
