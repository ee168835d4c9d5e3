"""What is to be done about one object: nothing, wait, create, replace or delete.

Owns: the comparison of wanted and observed, and the order of writes across objects. Must not: do I/O.

The order (make before break): what an object comes to refer to is there, right, and spans every node that needs it,
before the object is written. Only of groups it is enough that they are there: their members come and go at any time, as
they do for those who have them already, and who waits until a busy one is right waits in vain. What the object referred
to already is looked at for the nodes that it comes to, and no others: those have it. Nothing is deleted, and no node's
label taken off, while that node's NodeState still leads to it.
A watch gives agents no order across kinds; they hold what they have for some seconds where something is missing. So an
object that waits too long for what it refers to (one that the server refuses, say) is written all the same: one bad
object shall not keep a node from hearing of anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal, Protocol

import msgspec

from manx_core.api.core_v1 import ObjectMeta
from manx_core.span import EVERYWHERE, span_label, spans
from manx_kube.resources import ADDRESS_GROUPS
from manx_operator.inputs import OURS
from manx_operator.observed import Key, Observed, new_references, references, same_spec
from manx_operator.span_labels import SpanLabels

PATIENCE = 10.0
"""Seconds for which an object waits for what it refers to."""


class Keep(Enum):
    """The object may stay as it is, and is not ours to write."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an object shall be: its spec with epoch 0, and the nodes that its labels shall span (None: it has no such
    labels). `more`: fields beside the spec."""

    spec: Any
    nodes: frozenset[str] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


class Wants(Protocol):
    """The desired state, asked one object at a time."""

    def wanted(self, key: Key) -> Wanted | Keep | None: ...


@dataclass(frozen=True, slots=True)
class Action:
    """One write. `obj` is what to send, or, for a deletion, the version to delete."""

    verb: Literal["create", "replace", "delete"]
    obj: Any


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing now; again when one of these changes. None named: when some reference anywhere goes."""

    for_: frozenset[Key] = frozenset()


class Decider:
    def __init__(
        self, wants: Wants, observed: Observed, spans: SpanLabels, epoch: int, clock: Callable[[], float]
    ) -> None:
        self._wants = wants
        self._observed = observed
        self._spans = spans
        self._epoch = epoch
        self._clock = clock
        self._waiting_since: dict[Key, float] = {}

    def decide(self, key: Key) -> Action | Wait | None:
        have, want = self._observed.get(key), self._wants.wanted(key)
        if want is None:
            return self._removal(key, have)
        if isinstance(want, Keep):
            return None
        labels = self._labels(key, want, have)
        if have is not None and have.metadata.labels == labels and _same(have, want):
            self._waiting_since.pop(key, None)
            return None
        if missing := self._missing(key, want, have):
            return Wait(missing)
        return Action("create" if have is None else "replace", self._object(key, want, have, labels))

    def _removal(self, key: Key, have: Any | None) -> Action | Wait | None:
        if have is None:
            self._spans.forget(key)
            self._waiting_since.pop(key, None)
            return None
        return Wait() if self._observed.needed_by(key) else Action("delete", have)

    # --- the object ---------------------------------------------------------------------------------------------------

    def _labels(self, key: Key, want: Wanted, have: Any | None) -> dict[str, str]:
        labels: dict[str, str] = have.metadata.labels if have is not None else {}
        if want.nodes is None:
            return labels
        return self._spans.labels(key, want.nodes, labels, lambda label: self._in_use(key, label))

    def _object(self, key: Key, want: Wanted, have: Any | None, labels: dict[str, str]) -> Any:
        spec = msgspec.structs.replace(want.spec, epoch=self._epoch)
        if have is None:
            return OURS[key.resource](metadata=ObjectMeta(name=key.name, labels=labels), spec=spec, **want.more)
        meta = msgspec.structs.replace(have.metadata, labels=labels)
        return msgspec.structs.replace(have, metadata=meta, spec=spec, **want.more)

    def _in_use(self, key: Key, label: str) -> bool:
        if label == EVERYWHERE:
            return False  # the single labels that replace it are on the object already
        node = self._observed.node_of(label)
        return node is not None and self._observed.needed_by(key, node)

    # --- what it waits for --------------------------------------------------------------------------------------------

    def _missing(self, key: Key, want: Wanted, have: Any | None) -> frozenset[Key]:
        """What the object refers to and is not as it shall be; nothing once that has lasted too long. What it refers to
        already, where it is already, waiting would not keep from anybody."""
        named = references(want.spec)
        missing = self._not_ready(key, want, have, named) if named else None
        if not missing:
            self._waiting_since.pop(key, None)
            return frozenset()
        since = self._waiting_since.setdefault(key, self._clock())
        return frozenset(missing) if self._clock() < since + PATIENCE else frozenset()

    def _not_ready(self, key: Key, want: Wanted, have: Any | None, named: frozenset[Key]) -> set[Key]:
        nodes = frozenset((key.name,)) if want.nodes is None else want.nodes
        if have is None:
            return {ref for ref in named if not self._ready(ref, nodes)}
        added, reached = new_references(want.spec, have.spec), _not_spanned(have, want)
        missing = {ref for ref in added if not self._ready(ref, nodes)}
        return missing | {ref for ref in named - added if reached and not self._ready(ref, reached)}

    def _ready(self, key: Key, nodes: frozenset[str]) -> bool:
        """There, right (a group: whatever its members), and known to these nodes; or not wanted at all."""
        have = self._observed.get(key)
        known = have is not None and all(spans(have.metadata.labels, node) for node in nodes)
        if known and key.resource == ADDRESS_GROUPS:
            return True
        want = self._wants.wanted(key)
        if want is None or isinstance(want, Keep):
            return True
        return have is not None and known and same_spec(have.spec, want.spec)


def _not_spanned(have: Any, want: Wanted) -> frozenset[str]:
    """The nodes that the object comes to."""
    labels = have.metadata.labels
    if want.nodes is None or EVERYWHERE in labels:
        return frozenset()
    return frozenset(node for node in want.nodes if span_label(node) not in labels)


def _same(have: Any, want: Wanted) -> bool:
    return same_spec(have.spec, want.spec) and all(getattr(have, name) == value for name, value in want.more.items())
