"""The model's results depend on its inputs as they are now, and what it reports as changed is what changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manx_core.api.core_v1 import NetworkPolicy, ObjectMeta
from manx_core.api.v1alpha1 import AddressGroup, AddressGroupSpec, PolicyClass, PolicyClassSpec, StoredProgram
from manx_operator.model import DesiredObject, Key, PolicyId, PolicyModel, chunks, classes, programs
from manx_operator.model.policies import Declared
from model_cases import (
    ACCOUNTS,
    SETS,
    SLICES,
    TIERS_DECLARED,
    account,
    accounted_pod,
    calico_spec,
    network_sets,
    slices,
    tier,
    tier_specs,
)
from model_oracle import Inputs, expected, outcome_of
from policy_cases import (
    NAMESPACES,
    POD_NAMES,
    address_of,
    any_spec_strategy,
    egress,
    ingress,
    labels_strategy,
    namespace,
    peer,
    pod,
    policy,
    port,
    select,
    to_port,
)

PODS = [(ns, name) for ns in NAMESPACES for name in POD_NAMES]
POLICIES = [(ns, f"p{number}") for ns in NAMESPACES for number in range(2)]
CALICO = [PolicyId("np", ns, "p0") for ns in NAMESPACES] + [PolicyId("gnp", "", f"p{number}") for number in range(2)]
ACCOUNT_KEYS = [(ns, name) for ns in NAMESPACES for name in ACCOUNTS]


class Harness:
    """A model, what it was fed, and a mirror that believes only what drains report."""

    def __init__(self) -> None:
        self.inputs = Inputs()
        self.model = PolicyModel()
        self.objects: dict[Key, DesiredObject] = {}
        self.endpoints: dict[str, object] = {}
        self.concerned: dict[str, frozenset[str]] = {}

    def drain(self) -> None:
        changes = self.model.drain()
        for name in changes.moved | {name for kind, name in changes.objects if kind == "PolicyProgram"}:
            self.concerned[name] = self.model.nodes_of(name)
        assert all(self.model.nodes_of(name) == nodes for name, nodes in self.concerned.items())
        for key in changes.objects:
            found = self.model.desired(*key)
            self.objects.pop(key, None)
            if found is not None:
                self.objects[key] = found
        for node in changes.nodes:
            self.endpoints.pop(node, None)
            if self.model.endpoints(node):
                self.endpoints[node] = self.model.endpoints(node)
        assert self.objects.keys() == self.model.all_keys()
        assert all(self.model.desired(*key) == found for key, found in self.objects.items())
        assert self.endpoints == {node: self.model.endpoints(node) for node in self.model.nodes()}
        assert outcome_of(self.model) == expected(self.inputs)
        assert not self.model.drain()

    def populate(self) -> None:
        """Six pods that talk, under policies that see them by labels, namespaces and named ports."""
        for number, key in enumerate(PODS):
            web = pod(*key, {"app": "xyz"[number % 3]}, node=f"n{number % 2 + 1}", uid="u1", ports=(port(80, "http"),))
            self.inputs.pods[key] = web
            self.model.set_pod(key, web)
            self._set_addresses(key, "u1", (address_of(key),))
        for name in NAMESPACES:
            self.inputs.namespaces[name] = namespace(name, {"tier": "x"})
            self.model.set_namespace(name, self.inputs.namespaces[name])
            self._set_policy(
                policy(name, "p0", select(app="x"), (ingress((peer(namespaces=select(tier="x")),)),), uid="u1")
            )
            self._set_policy(policy(name, "p1", out=(egress((peer(select(app="y")),), to_port("http")),), uid="u1"))
        self.drain()

    def set_pod(self, draw: st.DrawFn) -> None:
        key = draw(st.sampled_from(PODS))
        self.inputs.pods[key] = draw(accounted_pod(*key))
        self.model.set_pod(key, self.inputs.pods[key])

    def remove_pod(self, draw: st.DrawFn) -> None:
        self._remove_pod(draw(st.sampled_from(PODS)))

    def _remove_pod(self, key: tuple[str, str]) -> None:
        self.inputs.pods.pop(key, None)
        self.model.set_pod(key, None)

    def set_addresses(self, draw: st.DrawFn) -> None:
        key, uid = draw(st.sampled_from(PODS)), draw(st.sampled_from(("u1", "u2")))
        own = address_of(key)
        self._set_addresses(key, uid, draw(st.sampled_from(((own,), (own,), (own, f"1{own}"), ()))))

    def _set_addresses(self, key: tuple[str, str], uid: str, addresses: tuple[str, ...]) -> None:
        self.inputs.addresses[key, uid] = addresses
        self.model.set_addresses(key, uid, addresses)

    def set_namespace(self, draw: st.DrawFn) -> None:
        name = draw(st.sampled_from(NAMESPACES))
        self.inputs.namespaces[name] = namespace(name, draw(labels_strategy))
        self.model.set_namespace(name, self.inputs.namespaces[name])

    def remove_namespace(self, draw: st.DrawFn) -> None:
        self._remove_namespace(draw(st.sampled_from(NAMESPACES)))

    def _remove_namespace(self, name: str) -> None:
        self.inputs.namespaces.pop(name, None)
        self.model.set_namespace(name, None)

    def set_policy(self, draw: st.DrawFn) -> None:
        key, uid = draw(st.sampled_from(POLICIES)), draw(st.sampled_from(("u1", "u1", "u2")))
        meta = ObjectMeta(namespace=key[0], name=key[1], uid=uid)
        self._set_policy(NetworkPolicy(metadata=meta, spec=draw(any_spec_strategy)))

    def _set_policy(self, declared: NetworkPolicy) -> None:
        self._declare(PolicyId("knp", declared.metadata.namespace, declared.metadata.name), declared)

    def _declare(self, policy: PolicyId, declared: Declared | None) -> None:
        self.inputs.set_policy(policy, declared)
        self.model.set_policy(policy, declared)

    def remove_policy(self, draw: st.DrawFn) -> None:
        self._declare(PolicyId("knp", *draw(st.sampled_from(POLICIES))), None)

    def set_calico_policy(self, draw: st.DrawFn) -> None:
        policy, uid = draw(st.sampled_from(CALICO)), draw(st.sampled_from(("u1", "u1", "u2")))
        meta = {"name": policy.name, "uid": uid} | ({"namespace": policy.namespace} if policy.namespace else {})
        spec = draw(calico_spec(cluster_wide=policy.kind == "gnp"))
        self._declare(policy, {"metadata": meta, "spec": spec})

    def remove_calico_policy(self, draw: st.DrawFn) -> None:
        self._declare(draw(st.sampled_from(CALICO)), None)

    def set_tier(self, draw: st.DrawFn) -> None:
        name = draw(st.sampled_from(TIERS_DECLARED))
        self.inputs.tiers[name] = tier(name, **draw(tier_specs))
        self.model.set_tier(name, self.inputs.tiers[name])

    def remove_tier(self, draw: st.DrawFn) -> None:
        self._remove_tier(draw(st.sampled_from(TIERS_DECLARED)))

    def _remove_tier(self, name: str) -> None:
        self.inputs.tiers.pop(name, None)
        self.model.set_tier(name, None)

    def set_network_set(self, draw: st.DrawFn) -> None:
        key = draw(st.sampled_from(SETS))
        self.inputs.network_sets[key] = draw(network_sets)
        self.model.set_network_set(key, self.inputs.network_sets[key])

    def remove_network_set(self, draw: st.DrawFn) -> None:
        self._remove_network_set(draw(st.sampled_from(SETS)))

    def _remove_network_set(self, key: tuple[str, str]) -> None:
        self.inputs.network_sets.pop(key, None)
        self.model.set_network_set(key, None)

    def set_service_account(self, draw: st.DrawFn) -> None:
        key = draw(st.sampled_from(ACCOUNT_KEYS))
        self.inputs.service_accounts[key] = account(key, draw(labels_strategy))
        self.model.set_service_account(key, self.inputs.service_accounts[key])

    def remove_service_account(self, draw: st.DrawFn) -> None:
        self._remove_service_account(draw(st.sampled_from(ACCOUNT_KEYS)))

    def _remove_service_account(self, key: tuple[str, str]) -> None:
        self.inputs.service_accounts.pop(key, None)
        self.model.set_service_account(key, None)

    def set_slice(self, draw: st.DrawFn) -> None:
        key = draw(st.sampled_from(SLICES))
        self.inputs.slices[key] = draw(slices(key))
        self.model.set_endpoint_slice(key, self.inputs.slices[key])

    def remove_slice(self, draw: st.DrawFn) -> None:
        self._remove_slice(draw(st.sampled_from(SLICES)))

    def _remove_slice(self, key: tuple[str, str]) -> None:
        self.inputs.slices.pop(key, None)
        self.model.set_endpoint_slice(key, None)

    def restart(self, draw: st.DrawFn) -> None:
        """Another operator takes over from the objects that exist: it finds nothing to write, not even where a policy
        is in force as it last was valid."""
        self.drain()
        before = dict(self.objects)
        self.model = PolicyModel()
        self.model.adopt(as_object(found) for found in before.values())
        self.model.adopt([leftover()])
        feeds = feeds_of(self.inputs, self.model)
        random.Random(draw(st.integers(0, 9))).shuffle(feeds)
        for feed in feeds:
            feed()
        changes = self.model.drain()
        assert changes.objects >= {*before, *self.model.all_keys(), ("PolicyClass", "pc-leftover")}
        assert changes.nodes == self.model.nodes()
        self.objects = {key: found for key in changes.objects if (found := self.model.desired(*key))}
        assert self.objects == before
        self.endpoints = {node: self.model.endpoints(node) for node in changes.nodes}
        self.drain()

    def tear_down(self) -> None:
        for name in NAMESPACES:
            self._remove_namespace(name)
        self.drain()
        for declared in [*(PolicyId("knp", *key) for key in POLICIES), *CALICO]:
            self._declare(declared, None)
        self.drain()
        for name in TIERS_DECLARED:
            self._remove_tier(name)
        for key in SETS:
            self._remove_network_set(key)
        for key in SLICES:
            self._remove_slice(key)
        for key in ACCOUNT_KEYS:
            self._remove_service_account(key)
        self.drain()
        for key in PODS:
            self._remove_pod(key)
            for uid in ("u1", "u2"):
                self._set_addresses(key, uid, ())
        self.drain()
        assert not self.objects
        assert not self.endpoints
        assert not leftovers(self.model)


def as_object(found: DesiredObject) -> PolicyClass | StoredProgram | AddressGroup:
    meta = ObjectMeta(name=found.name)
    if isinstance(found.spec, AddressGroupSpec):
        return AddressGroup(metadata=meta, spec=found.spec)
    if isinstance(found.spec, PolicyClassSpec):
        return PolicyClass(metadata=meta, spec=found.spec)
    return StoredProgram(metadata=meta, spec=found.spec, declared=found.declared)


def leftover() -> PolicyClass:
    return PolicyClass(metadata=ObjectMeta(name="pc-leftover"), spec=PolicyClassSpec(epoch=1))


def feeds_of(inputs: Inputs, model: PolicyModel) -> list[Callable[[], None]]:
    """Every input, as a call that feeds it."""
    doors: list[tuple[Callable[..., None], Mapping[Any, Any]]] = [
        (model.set_namespace, inputs.namespaces),
        (model.set_service_account, inputs.service_accounts),
        (model.set_pod, inputs.pods),
        (model.set_network_set, inputs.network_sets),
        (model.set_endpoint_slice, inputs.slices),
        (model.set_tier, inputs.tiers),
        (model.set_policy, inputs.policies),
    ]
    feeds: list[Callable[[], None]] = [partial(door, key, found) for door, all_ in doors for key, found in all_.items()]
    feeds += [partial(model.set_addresses, key, uid, held) for (key, uid), held in inputs.addresses.items()]
    return feeds


BUILT_IN_THERE = ("_known",)
"""The built-in tiers."""


def leftovers(owner: object, path: str = "model") -> list[str]:
    """The containers anywhere in the model's tables that are not empty."""
    found = []
    for name, value in vars(owner).items():
        if name in BUILT_IN_THERE:
            continue
        if type(value).__module__.startswith("manx_") and hasattr(value, "__dict__"):
            found += leftovers(value, f"{path}.{name}")
        elif isinstance(value, (dict, set)) and value:
            found.append(f"{path}.{name}")
    return found


STEPS = [name for name in vars(Harness) if name.startswith(("set_", "remove_", "restart"))]
WEIGHTED = ["set_pod", "set_pod", "set_policy", "set_addresses", "set_addresses", *["set_calico_policy"] * 3, *STEPS]


@settings(max_examples=250, deadline=None)
@given(st.data(), st.booleans(), st.sampled_from([(8, 4, 2048), (1, 1, 2048), (2, 2, 400), (0, 4, 2048)]))
def test_results_depend_on_the_inputs_as_they_are(
    data: st.DataObject, populated: bool, inside: tuple[int, int, int]
) -> None:
    """`inside`: how much of programs a class may have inside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_SIZE", 2)
        patch.setattr(classes, "ROOM", inside[0])
        patch.setattr(programs, "FEW", inside[1])
        patch.setattr(programs, "SMALL", inside[2])
        harness = Harness()
        if populated:
            harness.populate()
        for step in data.draw(st.lists(st.tuples(st.sampled_from(WEIGHTED), st.booleans()), max_size=40)):
            getattr(harness, step[0])(data.draw)
            if step[1]:
                harness.drain()
        harness.drain()
        harness.tear_down()
