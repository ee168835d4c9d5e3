"""What the policy model is fed: every input that policy is made of, as the informers tell of it.

Owns: which kind goes to which of the model's doors. Must not: compute what follows, or judge policies.

A change that leaves what is declared as it was (a status, an annotation of others) is not parsed, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from manx_kube import resources as r
from manx_kube.informer import Event
from manx_operator.inputs import CALICO_POLICY, Inputs
from manx_operator.model import PolicyId, PolicyModel
from manx_operator.model.types import ObjectKey, PolicyKind
from manx_operator.user_kinds import UserKinds, declared

Feed = Callable[[ObjectKey, Any], None]
"""(namespace and name, the object or None)."""


class PolicyFeed:
    def __init__(self, inputs: Inputs, model: PolicyModel, kinds: UserKinds) -> None:
        self._inputs = inputs
        self._model = model
        self._kinds = kinds
        self._feeds: dict[r.Resource, Feed] = {
            r.TIERS: self._tier,
            r.NAMESPACES: lambda key, found: model.set_namespace(key[1], found),
            r.SERVICE_ACCOUNTS: model.set_service_account,
            r.NETWORK_POLICIES: self._policies("knp"),
            r.CALICO_NETWORK_POLICIES: self._policies("np"),
            r.GLOBAL_NETWORK_POLICIES: self._policies("gnp"),
            r.NETWORK_SETS: self._network_set,
            r.GLOBAL_NETWORK_SETS: self._network_set,
            r.ENDPOINT_SLICES: model.set_endpoint_slice,
            r.PODS: model.set_pod,
        }

    def fill(self) -> None:
        """Everything that the caches hold, policies before pods: each pod then comes into its class at once."""
        for resource, feed in self._feeds.items():
            for key, found in self._inputs.of(resource).cache.items():
                feed(key, found)

    def hear(self, resource: r.Resource, event: Event[Any]) -> bool:
        """Whether this kind is one of those that policy is made of."""
        feed = self._feeds.get(resource)
        if feed is None:
            return False
        if resource not in CALICO_POLICY or declared(event.old) != declared(event.new):
            feed(event.key, event.new)
        return True

    def _policies(self, kind: PolicyKind) -> Feed:
        return lambda key, found: self._model.set_policy(PolicyId(kind, *key), found)

    def _tier(self, key: ObjectKey, found: Any) -> None:
        self._kinds.tiers.put(key[1], found)
        self._model.set_tier(key[1], self._kinds.tiers.get(key[1]))

    def _network_set(self, key: ObjectKey, found: Any) -> None:
        self._kinds.network_sets.put(key, found)
        self._model.set_network_set(key, self._kinds.network_sets.get(key))
