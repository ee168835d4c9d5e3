"""Scopes: which items a selector is about, and the groups of addresses that come of it.

Owns: the flat labels of items (pods and network sets), and `GroupDef`: what a group's members are, and its identity.
Must not: resolve members; whoever knows the items does (the operator's model, or a test).

Why flat: whatever a policy asks of a pod, its namespace and its service account becomes one selector over one map of
labels, in which the item's own labels keep their keys and all else has keys that no label can have (a colon in front),
so that nobody can forge them. One index then answers for all scopes, and anchors at whichever label is most selective.
An item whose namespace is not known yet lacks that namespace's labels, and is in no scope that asks for them, however
little: not even in one that wants a label to be absent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from manx_core.policy.endpoint import NamedPort
from manx_core.selectors import EVERYTHING, NOTHING, Labels, Selector, Selects, equals, exists

NAMESPACE = ":namespace"
"""The name of the item's namespace; absent for items of none."""
NAMESPACE_KNOWN = ":known"
"""Present unless the item's namespace has labels that are not known."""
NAMESPACE_LABEL = ":namespace:"
ORCHESTRATOR = ":orchestrator"
"""KUBERNETES for pods; absent for network sets."""
KUBERNETES = "k8s"
SERVICE_ACCOUNT = ":serviceaccount"
"""The name of the pod's service account."""
SERVICE_ACCOUNT_LABEL = ":serviceaccount:"
CALICO_NAME = "projectcalico.org/name"
"""The label that Calico gives namespaces and service accounts: their name."""
_LONGEST_TEXT = 1000
_DELETE = b"\x7f"
"""The one character of ASCII that `json` escapes and msgspec does not."""
_encode = msgspec.json.Encoder().encode
_encode_ascii = json.JSONEncoder(separators=(",", ":")).encode


def pod_item(
    namespace: str,
    namespace_labels: Labels | None,
    labels: Labels,
    service_account: str = "",
    service_account_labels: Labels | None = None,
) -> dict[str, str]:
    """A pod's flat labels. None for labels that are not known; an unknown service account has none, not even a name."""
    item = network_set_item(namespace, namespace_labels, labels)
    item[ORCHESTRATOR] = KUBERNETES
    if service_account:
        item[SERVICE_ACCOUNT] = service_account
    if service_account_labels is not None:
        for key, value in service_account_labels.items():
            item[_prefixed(SERVICE_ACCOUNT_LABEL, key)] = value
        item[_prefixed(SERVICE_ACCOUNT_LABEL, CALICO_NAME)] = service_account
    return item


def network_set_item(namespace: str, namespace_labels: Labels | None, labels: Labels) -> dict[str, str]:
    """The flat labels of a NetworkSet, or of a GlobalNetworkSet where `namespace` is empty."""
    item = dict(labels)
    if namespace:
        item[NAMESPACE] = namespace
    if not namespace or namespace_labels is not None:
        item[NAMESPACE_KNOWN] = ""
    if namespace_labels:
        for key, value in namespace_labels.items():
            item[_prefixed(NAMESPACE_LABEL, key)] = value
    return item


_IN_KUBERNETES = equals(ORCHESTRATOR, KUBERNETES)
_OF_KNOWN_NAMESPACE = exists(NAMESPACE_KNOWN)


def kubernetes_pods(pods: Selector, namespace: str = "", namespaces: Selector | None = None) -> Selector:
    """Pods, never network sets: those of one namespace by name; or of the namespaces that a selector selects; or, where
    neither is given, wherever they are."""
    where = [_IN_KUBERNETES]
    if namespace:
        where.append(equals(NAMESPACE, namespace))
    if namespaces is not None:
        if namespaces == NOTHING:
            return NOTHING
        where += [_OF_KNOWN_NAMESPACE, *namespaces.prefixed(NAMESPACE_LABEL).requirements]
    return pods.narrowed(where)  # no selector of users' reads keys with a colon in front


ALL_PODS = kubernetes_pods(EVERYTHING)


class ServiceRef(NamedTuple):
    """The endpoints of a Service, by its EndpointSlices."""

    namespace: str
    name: str
    with_ports: bool
    """Whether only the endpoints' own ports count (AddressPorts), or all of each address (Addresses)."""


@dataclass(frozen=True, slots=True)
class GroupDef:
    """A group of addresses: those of the items that are selected; with `port`, what that named port is on each of them;
    with `service`, its endpoints instead."""

    selects: Selects = EVERYTHING
    """Over flat labels. Of no meaning where there is a service."""
    port: str = ""
    protocol: str = ""
    """TCP, UDP or SCTP; only with `port`."""
    service: ServiceRef | None = None
    _id: str = field(default="", init=False, repr=False, compare=False)

    @property
    def type(self) -> Literal["Addresses", "AddressPorts"]:
        with_ports = self.service.with_ports if self.service else bool(self.port)
        return "AddressPorts" if with_ports else "Addresses"

    @property
    def id(self) -> str:
        """`ag-` and 20 hexadecimal digits; definitions whose selectors are equal in canonical form have the same."""
        if not self._id:
            selector = ("selector", self.selects.key, self.port, self.protocol)
            what = ("service", *self.service) if self.service else selector
            object.__setattr__(self, "_id", "ag-" + hash20([self.type, *what]))
        return self._id

    @property
    def selector(self) -> str:
        """What the group selects, for people."""
        text = self._text()
        return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"

    def members_of(self, addresses: Iterable[str], ports: Iterable[NamedPort] = ()) -> tuple[str, ...]:
        """What a selected item with these addresses (a network set's nets) and named ports adds to the group, in the
        form of `AddressGroupSpec.members`. Port names are unique in a pod; where they are not, each counts."""
        if not self.port:
            return tuple(addresses)
        numbers = [p.number for p in ports if p.name == self.port and p.protocol == self.protocol]
        return tuple(f"{address},{self.protocol.lower()}:{number}" for address in addresses for number in numbers)

    def _text(self) -> str:
        if self.service:
            what = "addresses and ports" if self.service.with_ports else "addresses"
            return f"{what} of service {self.service.namespace}/{self.service.name}"
        return f"port {self.port}/{self.protocol} of {self.selects.key}" if self.port else self.selects.key


def hash20(value: object) -> str:
    """20 hexadecimal digits (80 bits) of the SHA-256 of a value's JSON, in ASCII: enough that no two of a cluster's are
    alike."""
    text = _encode(value)
    if not text.isascii() or _DELETE in text:
        text = _encode_ascii(value).encode()
    return hashlib.sha256(text).hexdigest()[:20]


@lru_cache(maxsize=4096)
def _prefixed(prefix: str, key: str) -> str:
    """One text for all items."""
    return prefix + key
