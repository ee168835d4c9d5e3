"""How large the largest object of each kind is, on a node with many pods and very many policies.

Owns: a node's 250 pods, all selected by each of 10,000 policies of their namespace, through the operator's model, and
the size of what comes of it. Must not: need an API server; what it adds (managedFields, a uid) is some 400 bytes.

The longest names that policies may have make a class's list several times as long as usual ones do; both are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from bench.figures import Figure
from bench.measures import Given
from bench.scale import load
from bench.scale.load import Size
from manx_core.api.core_v1 import Namespace, NetworkPolicy, Pod
from manx_core.span import span_labels
from manx_operator.model import PolicyId, PolicyModel

PODS = 250
USUAL, LONGEST = 24, 63
"""Characters of a policy's name, and of its namespace's."""
KINDS = ("PolicyClass", "PolicyProgram", "AddressGroup")


def measure(given: Given) -> Iterator[Figure]:
    """In the quick size with a tenth of the policies."""
    policies = 1_000 if given.quick else 10_000
    for key, text, length in (("usual", "usual names", USUAL), ("longest", "the longest names", LONGEST)):
        for kind, octets in _largest(policies, length).items():
            name = f"largest {kind}: {PODS} pods, {policies} policies, {text}"
            figure = f"size.{kind.lower()}.{key}.{policies}"
            yield Figure(figure, name, "bytes", (octets,), exact=True)


def _largest(policies: int, length: int) -> dict[str, int]:
    """Bytes, by kind."""
    model, space = PolicyModel(), "n".ljust(length, "s")
    model.set_namespace(space, _typed(load.namespace(0) | {"metadata": {"name": space}}, Namespace))
    for number in range(policies):
        name = f"p{number}-".ljust(length, "x")
        model.set_policy(PolicyId("knp", space, name), _typed(_policy(number, space, name), NetworkPolicy))
    for number in range(PODS):
        pod = _pod(number, space)
        model.set_pod((space, pod.metadata.name), pod)
        model.set_addresses((space, pod.metadata.name), pod.metadata.uid, (f"10.100.{number >> 6}.{number & 63}",))
    model.drain()
    return {kind: _size(model, kind) for kind in KINDS} | {"NodeState": len(_encoded(model.endpoints(load.HERE)))}


def _size(model: PolicyModel, kind: Any) -> int:
    found = [model.desired(kind, name) for one, name in model.all_keys() if one == kind]
    return max(len(_encoded([one.name, one.spec, span_labels(one.nodes, False)])) for one in found if one is not None)


def _policy(number: int, space: str, name: str) -> load.Obj:
    spec = load.policy(number, Size(namespaces=1))["spec"]
    return {"metadata": {"namespace": space, "name": name}, "spec": {**spec, "podSelector": {}}}


def _pod(number: int, space: str) -> Pod:
    pod = load.pod(number, Size(namespaces=1, here=PODS))
    pod["metadata"] |= {"namespace": space, "uid": f"{number:036d}"}
    found: Pod = _typed(pod, Pod)
    return found


def _typed(obj: load.Obj, type_: Any) -> Any:
    return msgspec.convert(obj, type_)


def _encoded(found: Any) -> bytes:
    return msgspec.json.encode(found)
