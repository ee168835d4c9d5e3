"""Scopes: which pods a selector is about, and the groups of addresses that come of it.

Owns: `Scope` (namespace and pod selectors together), `GroupDef` (what a group's members are) and their identity.
Must not: resolve members; whoever knows the pods does (the operator's model, or a test).

Why flat: a scope becomes one selector over one map of labels, in which the pod's own labels keep their keys and what
comes of its namespace has keys that no label can have (a colon in front). So one index answers for all scopes, and
anchors at whichever of namespace and labels is more selective. A pod whose namespace is not known lacks these labels
and so is in no scope that asks for a namespace by its labels, however little: fail closed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from manx_core.policy.cluster import NamedPort
from manx_core.selectors import EVERYTHING, Labels, Requirement, Selector, conjunction, equals, exists

NAMESPACE_NAME = ":namespace"
NAMESPACE_KNOWN = ":known"
NAMESPACE_LABEL = ":label:"
_LONGEST_TEXT = 1000


@dataclass(frozen=True, slots=True)
class Scope:
    """Pods of one namespace by name, or of the namespaces that a selector selects, or wherever they are."""

    pod_selector: Selector = EVERYTHING
    namespace: str = ""
    namespace_selector: Selector | None = None
    """Only where `namespace` is empty. None: namespaces do not matter, known or not."""

    def flat(self) -> Selector:
        """This scope as one selector over `item_labels`."""
        return conjunction([*self._namespace_requirements(), *self.pod_selector.requirements])

    def _namespace_requirements(self) -> list[Requirement]:
        if self.namespace:
            return [equals(NAMESPACE_NAME, self.namespace)]
        if self.namespace_selector is None:
            return []
        return [exists(NAMESPACE_KNOWN), *self.namespace_selector.prefixed(NAMESPACE_LABEL).requirements]

    def identity(self) -> tuple[str, str, str]:
        """Equal for equal scopes: how namespaces are selected, by what, and the pods' selector."""
        if self.namespace_selector is not None:
            return "selector", self.namespace_selector.key, self.pod_selector.key
        return "name" if self.namespace else "any", self.namespace, self.pod_selector.key

    def __str__(self) -> str:
        how, namespaces, pods = self.identity()
        where = {"name": f"in namespace {namespaces}", "selector": f"in namespaces {namespaces}", "any": "anywhere"}
        return f"pods {pods} {where[how]}"


ALL_PODS = Scope()


@dataclass(frozen=True, slots=True)
class GroupDef:
    """A group of addresses: the pods of a scope, or with `port`, what that named port is on each of them."""

    scope: Scope
    port: str = ""
    protocol: str = ""
    """TCP, UDP or SCTP; only with `port`."""

    @property
    def type(self) -> Literal["Addresses", "AddressPorts"]:
        return "AddressPorts" if self.port else "Addresses"

    @property
    def id(self) -> str:
        """`ag-` and 20 hexadecimal digits; equal scopes have the same."""
        return "ag-" + hash20([self.type, *self.scope.identity(), self.port, self.protocol])

    @property
    def selector(self) -> str:
        """What the group selects, for people."""
        text = f"port {self.port}/{self.protocol} of {self.scope}" if self.port else str(self.scope)
        return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"

    def members_of(self, addresses: Iterable[str], ports: Iterable[NamedPort]) -> tuple[str, ...]:
        """What a pod of the scope with these addresses and named ports adds to the group, in the form of
        `AddressGroupSpec.members`. Port names are unique in a pod; where they are not, each counts."""
        if not self.port:
            return tuple(addresses)
        numbers = [p.number for p in ports if p.name == self.port and p.protocol == self.protocol]
        return tuple(f"{address},{self.protocol.lower()}:{number}" for address in addresses for number in numbers)


def item_labels(namespace: str, namespace_labels: Labels | None, pod_labels: Labels) -> dict[str, str]:
    """The map of labels that flat scopes select by. `namespace_labels` is None while the namespace is not known."""
    labels = {**pod_labels, NAMESPACE_NAME: namespace}
    if namespace_labels is not None:
        labels[NAMESPACE_KNOWN] = ""
        labels.update(_prefixed(namespace_labels))
    return labels


def hash20(value: object) -> str:
    """20 hexadecimal digits (80 bits) of the SHA-256 of a value's JSON: enough that no two of a cluster's are alike."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()[:20]


def _prefixed(labels: Labels) -> Mapping[str, str]:
    return {NAMESPACE_LABEL + key: value for key, value in labels.items()}
