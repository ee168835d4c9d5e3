"""What items have of their surroundings: the labels of namespaces and service accounts.

Owns: those labels, and the flat labels of an item in its place. Must not: know which items there are.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from manx_core.policy import network_set_item, pod_item
from manx_operator.model.types import ObjectKey

K = TypeVar("K", bound=Hashable)


class Surroundings:
    """Both kinds by name; what is not known has no labels (`pod_item` says what that means)."""

    def __init__(self) -> None:
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._service_accounts: dict[ObjectKey, Mapping[str, str]] = {}

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """None: gone. Whether anything is new."""
        return _replace(self._namespaces, name, labels)

    def set_service_account(self, key: ObjectKey, labels: Mapping[str, str] | None) -> bool:
        """None: gone. Whether anything is new."""
        return _replace(self._service_accounts, key, labels)

    def knows(self, namespace: str) -> bool:
        return namespace in self._namespaces

    def pod(self, namespace: str, labels: Mapping[str, str], service_account: str) -> dict[str, str]:
        """A pod's flat labels. `service_account` empty: not named, or of no interest."""
        account = self._service_accounts.get((namespace, service_account))
        return pod_item(namespace, self._namespaces.get(namespace), labels, service_account, account)

    def network_set(self, namespace: str, labels: Mapping[str, str]) -> dict[str, str]:
        """The flat labels of a NetworkSet, or of a GlobalNetworkSet where `namespace` is empty."""
        return network_set_item(namespace, self._namespaces.get(namespace), labels)


def _replace(table: dict[K, Mapping[str, str]], key: K, labels: Mapping[str, str] | None) -> bool:
    old = table.pop(key, None)
    if labels is not None:
        table[key] = labels
    return old != labels
