"""Typed JSON: tolerant of null and of unknown fields, clear about the rest; and what the core kinds read."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from manx_core.api import core_v1
from manx_core.api.core_v1 import KubeStruct, NetworkPolicy, Node, ObjectMeta, Pod, PodSpec
from manx_kube import codec
from manx_kube.errors import DecodeError
from manx_kube.resources import NODES, PODS


def test_null_is_absent_everywhere() -> None:
    body = {
        "metadata": {"name": "a", "labels": None, "annotations": None, "creationTimestamp": None},
        "spec": {"containers": None, "initContainers": [{"name": "i", "ports": None}]},
        "status": None,
    }
    pod = codec.decode(json.dumps(body).encode(), Pod)
    assert pod.metadata.labels == {}
    assert pod.spec.containers == ()
    assert pod.spec.init_containers[0].ports == ()
    assert pod.status.phase == ""


@pytest.mark.parametrize("body", [b"", b"7", b"[]", b"{", b"{}", b'{"metadata":[]}', b"[" * 100_000, b"\xff"])
def test_what_does_not_fit_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        codec.decode(body, Pod)


def test_the_error_names_kind_and_field() -> None:
    with pytest.raises(DecodeError, match=r"Pod: .*spec\.containers\[0\]\.name"):
        codec.decode(b'{"metadata":{},"spec":{"containers":[{"name":1}]}}', Pod)


@pytest.mark.parametrize(
    ("obj", "head"),
    [
        (Pod(metadata=ObjectMeta(name="a")), {"apiVersion": "v1", "kind": "Pod"}),
        ({"metadata": {"name": "a"}}, {"apiVersion": "v1", "kind": "Pod"}),
        ({"kind": "Pod", "apiVersion": "v2", "metadata": {"name": "a"}}, {"apiVersion": "v2", "kind": "Pod"}),
    ],
)
def test_objects_are_sent_with_their_kind(obj: Any, head: dict[str, str]) -> None:
    assert json.loads(codec.encode_object(PODS, obj)) == {**head, "metadata": {"name": "a"}}


@pytest.mark.parametrize(
    "obj",
    [
        Pod(metadata=ObjectMeta(name="a", labels={"x": '{"metadata":{'}), spec=PodSpec(node_name="n")),
        Pod(metadata=ObjectMeta()),
        {"spec": {"nodeName": "n"}, "metadata": {"name": "a"}},
        {"metadata": {}},
    ],
)
def test_what_is_not_tracked_differs_in_nothing_else(obj: Any) -> None:
    tracked, untracked = (json.loads(codec.encode_object(PODS, obj, tracked=tracked)) for tracked in (True, False))
    assert untracked["metadata"].pop("managedFields") == [{}]
    assert untracked == tracked


def test_untracked_objects_begin_with_their_metadata() -> None:
    class Late(KubeStruct, frozen=True, gc=False):
        spec: PodSpec
        metadata: ObjectMeta

    with pytest.raises(ValueError, match="metadata"):
        codec.encode_object(PODS, Late(spec=PodSpec(node_name="n"), metadata=ObjectMeta(name="a")), tracked=False)


def test_metadata_of_structs_and_dicts() -> None:
    node = Node(metadata=ObjectMeta(name="n", resource_version="5"))
    as_dict = json.loads(codec.encode_object(NODES, node))
    for field in ("name", "namespace", "resource_version", "uid"):
        assert codec.metadata_of(node, field) == codec.metadata_of(as_dict, field)
    assert codec.metadata_of(as_dict, "resource_version") == "5"
    assert codec.metadata_of({}, "name") == ""


# --- the core kinds ---------------------------------------------------------------------------------------------------

BLOCK = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}
POLICY = {
    "metadata": {"name": "p", "namespace": "d"},
    "spec": {
        "podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}
        ],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"x": "y"}}}], "ports": [{"port": 1, "endPort": 2}, {}]}],
    },
}


def test_a_network_policy_survives_the_round_trip() -> None:
    policy = codec.decode(json.dumps(POLICY).encode(), NetworkPolicy)
    assert json.loads(codec.encode(policy)) == POLICY


def test_absent_and_empty_selectors_differ() -> None:
    policy = codec.decode(json.dumps(POLICY).encode(), NetworkPolicy)
    peer = policy.spec.ingress[0].from_[0]
    assert peer.pod_selector is None
    assert peer.namespace_selector == core_v1.LabelSelector()
    assert policy.spec.egress[0].ports[1].port is None
    assert policy.spec.egress[0].ports[1].protocol == "TCP"


def _fields() -> list[tuple[str, str]]:
    found = []
    for struct in KubeStruct.__subclasses__():
        if struct.__module__ == core_v1.__name__:
            found += [(struct.__name__, name) for name in struct.__struct_encode_fields__]
    return found


# As the API reference spells them; camelCase made from snake_case would not.
SPELLED = {"podIP", "podIPs", "hostIP", "podCIDR", "podCIDRs", "clusterIP", "clusterIPs", "externalIPs", "providerID"}


def test_abbreviations_are_spelled_as_the_api_spells_them() -> None:
    names = {name for _, name in _fields()}
    assert names >= SPELLED
    assert not {name for name in names if name.endswith(("_", "Id")) or "Ip" in name or "Cidr" in name}


def test_structs_are_frozen_and_untracked() -> None:
    structs = [s for s in KubeStruct.__subclasses__() if s.__module__ == core_v1.__name__]
    assert len(structs) > 30
    for struct in structs:
        config = struct.__struct_config__
        assert config.frozen, struct
        assert not config.gc, struct
    with pytest.raises(AttributeError):
        ObjectMeta().name = "x"  # type: ignore[misc]


def test_decoding_is_direct() -> None:
    """The fast way is used for an ordinary object: the tolerant one is for nulls alone."""
    assert msgspec.json.decode(json.dumps(POLICY).encode(), type=NetworkPolicy)


def test_an_agent_imports_none_of_the_heavy_packages() -> None:
    code = (
        "import sys, manx_kube.informer, manx_kube.lease, manx_kube.events, manx_kube.config;"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'kubernetes','kopf','pydantic','yaml','requests'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
