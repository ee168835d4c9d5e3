"""How large the largest object of each kind is, on a node with many pods and very many policies.

Owns: a node's 250 pods, all selected by each of 10,000 policies of their namespace, and 49 nodes with one more each;
through the operator's model and the agent's report, as objects; their size. Must not: need an API server; what that
adds (managedFields, a time) is some hundred bytes, and for each label 40 more.

So many policies of one selector are not inside the class, which only names them. Names are what makes objects large:
those of policies, pods, their namespace and the nodes are as long as usual, or as long as Kubernetes lets them be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from bench.figures import Figure
from bench.measures import Given
from bench.scale import load
from bench.scale.load import Size
from manx_agent.model import BgpOutcome, PolicyOutcome
from manx_agent.policy_loop import PolicyStatus
from manx_agent.report import Inputs, node_report
from manx_agent.state.share import Share
from manx_core.api import v1alpha1
from manx_core.api.core_v1 import Namespace, NetworkPolicy, ObjectMeta, Pod
from manx_core.policy.endpoint import Endpoint
from manx_core.span import span_labels
from manx_operator.model import DesiredObject, PolicyId, PolicyModel

PODS = 250
NODES = 50
"""As many as an object has a label each for."""


class Lengths(NamedTuple):
    """Characters of the names of the namespace, and of all else."""

    namespace: int
    name: int


USUAL = Lengths(24, 24)
LONGEST = Lengths(63, 253)
_UID = "0" * 36
_ADDRESSES = PODS + 6
"""Of one block that has them all."""


def measure(given: Given) -> Iterator[Figure]:
    """In the quick size with a tenth of the policies."""
    policies = 1_000 if given.quick else 10_000
    for key, text, lengths in (("usual", "usual names", USUAL), ("longest", "the longest names", LONGEST)):
        for kind, octets in largest(policies, lengths).items():
            name = f"largest {kind}: {PODS} pods, {policies} policies, {text}"
            figure = f"size.{kind.lower()}.{key}.{policies}"
            yield Figure(figure, name, "bytes", (octets,), exact=True)


def largest(policies: int, lengths: Lengths) -> dict[str, int]:
    """Bytes of JSON, by kind."""
    found: dict[str, int] = {}
    for kind, size in _sizes(_model(policies, lengths), lengths):
        found[kind] = max(size, found.get(kind, 0))
    return found


def _sizes(model: PolicyModel, lengths: Lengths) -> Iterator[tuple[str, int]]:
    here, share = _node(0, lengths), Share(_node(0, lengths))
    for kind, name in sorted(model.all_keys()):
        desired = model.desired(kind, name)
        if desired is not None:
            yield kind, len(msgspec.json.encode(_object(desired, share)))
    others: tuple[Any, ...] = (
        v1alpha1.NodeState(_meta(here), v1alpha1.NodeStateSpec(1, pods=model.lines(here))),
        v1alpha1.NodeReport(_meta(here), _report(share)),
        _block(here, model.endpoints(here)),
    )
    yield from ((type(one).__name__, len(msgspec.json.encode(one))) for one in others)


def _object(desired: DesiredObject, share: Share) -> Any:
    """As it is stored; the node hears of it, but for the groups."""
    meta, spec = _meta(desired.name, desired.nodes), desired.spec
    if isinstance(spec, v1alpha1.PolicyClassSpec):
        share.set_class(0, desired.name, found := v1alpha1.PolicyClass(meta, spec))
        return found
    if isinstance(spec, v1alpha1.AddressGroupSpec):
        return v1alpha1.AddressGroup(meta, spec)
    share.set_program(0, desired.name, v1alpha1.PolicyProgram(meta, spec))
    return v1alpha1.StoredProgram(meta, spec, _standing(sorted(desired.nodes)), desired.declared)


def _standing(nodes: list[str]) -> v1alpha1.PolicyProgramStatus:
    """In force nowhere yet, and with something to remark."""
    conditions = (_condition("InForce", ", ".join(nodes[:3])), _condition("Remarks", "spec.ingress[0] " * 10))
    return v1alpha1.PolicyProgramStatus(1, v1alpha1.PolicyNodes(NODES, 1, 1, "1000000"), conditions)


def _condition(kind: str, message: str) -> v1alpha1.Condition:
    return v1alpha1.Condition(kind, "False", "Waiting", message, "2026-01-01T00:00:00Z")


def _report(share: Share) -> v1alpha1.NodeReportStatus:
    """Of a node that lacks all of its groups, and cannot understand any program."""
    view = share.policy_view()
    groups = frozenset(group for spec in view.programs.values() for rule in spec.ingress for group in rule.peer.groups)
    outcome = PolicyOutcome("nft", missing=groups, problems=tuple(view.programs))
    status = PolicyStatus(outcome, error="x" * 2_000)
    return node_report(Inputs("0", 1.0, share, status, BgpOutcome()), v1alpha1.NodeReportStatus(), 1.0)


def _block(node: str, endpoints: Iterable[Endpoint]) -> v1alpha1.IPAMBlock:
    """With the node's pods in one block, all other addresses freed."""
    addresses = [f"100.100.100.{number}" for number in range(_ADDRESSES)]
    allocations = tuple(
        v1alpha1.Allocation(address, pod.namespace, pod.name, pod.uid, "0" * 64, "eth0")
        for address, pod in zip(addresses, endpoints, strict=False)
    )
    freed = tuple(v1alpha1.FreedAddress(address, 1_000_000) for address in addresses[len(allocations) :])
    spec = v1alpha1.IPAMBlockSpec(1, "100.100.100.0/24", "p" * 253, node, _UID)
    return v1alpha1.IPAMBlock(_meta(node), spec, v1alpha1.IPAMBlockStatus(allocations, freed, 1_000_000))


def _meta(name: str, nodes: Iterable[str] = ()) -> ObjectMeta:
    labels = span_labels(tuple(nodes), False)
    return ObjectMeta(name=name, uid=_UID, resource_version="1000000", generation=1, labels=labels)


# --- the node and what is declared ----------------------------------------------------------------------------------


def _model(policies: int, lengths: Lengths) -> PolicyModel:
    model, space = PolicyModel(), "n".ljust(lengths.namespace, "s")
    model.set_namespace(space, _typed(load.namespace(0) | {"metadata": {"name": space}}, Namespace))
    for number in range(policies):
        name = f"p{number}-".ljust(lengths.name, "x")
        model.set_policy(PolicyId("knp", space, name), _typed(_policy(number, space, name), NetworkPolicy))
    for number in range(PODS + NODES - 1):
        pod = _pod(number, space, lengths)
        key = space, pod.metadata.name
        model.set_pod(key, pod)
        model.set_addresses(key, pod.metadata.uid, (f"100.100.{100 + (number >> 6)}.{100 + (number & 63)}",))
    model.drain()
    return model


def _policy(number: int, space: str, name: str) -> load.Obj:
    spec = load.policy(number, Size(namespaces=1))["spec"]
    return {"metadata": {"namespace": space, "name": name}, "spec": {**spec, "podSelector": {}}}


def _pod(number: int, space: str, lengths: Lengths) -> Pod:
    """Alike but for the app; those beyond the node's own are on a node each."""
    pod = load.pod(number, Size(namespaces=1, here=PODS))
    name = pod["metadata"]["name"].ljust(lengths.name, "x")
    pod["metadata"] |= {"namespace": space, "uid": f"{number:036d}", "name": name}
    pod["spec"]["nodeName"] = _node(max(0, number - PODS + 1), lengths)
    found: Pod = _typed(pod, Pod)
    return found


def _node(number: int, lengths: Lengths) -> str:
    return f"node-{number}-".ljust(lengths.name, "n")


def _typed(obj: load.Obj, type_: Any) -> Any:
    return msgspec.convert(obj, type_)
