"""What is kept of a pod says all that the operator reads; what is shared is equal, and nobody gets another's."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manx_core.api.core_v1 import Pod
from manx_core.policy import is_endpoint, named_ports
from manx_kube import codec
from manx_kube.errors import DecodeError
from manx_operator.kept_pods import KeptPod
from policy_random import PODS, Drawer

UNREAD = {
    "annotations": {"a": "b"},
    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u"}],
    "creationTimestamp": "2026-01-01T00:00:00Z",
}


def both(pod: Pod, **metadata: object) -> tuple[Pod, KeptPod]:
    """Decoded as it is, and as it is kept."""
    raw = msgspec.json.decode(msgspec.json.encode(pod))
    raw["metadata"] |= metadata
    raw.setdefault("status", {})["podIP"] = "192.0.2.1"
    body = msgspec.json.encode(raw)
    return codec.decode(body, Pod), codec.decode(body, KeptPod)


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_is_read_is_kept(random: Random) -> None:
    drawer = Drawer(random)
    for key in PODS:
        deleted = {"deletionTimestamp": "2026-01-02T00:00:00Z"} if drawer.sometimes() else {}
        whole, kept = both(drawer.pod(key), resourceVersion=str(random.randrange(9)), **UNREAD, **deleted)
        assert kept.spec == whole.spec
        assert kept.status.phase == whole.status.phase
        for field in ("name", "namespace", "uid", "resource_version", "labels", "deletion_timestamp"):
            assert getattr(kept.metadata, field) == getattr(whole.metadata, field)
        assert is_endpoint(kept) == is_endpoint(whole)
        assert named_ports(kept) == named_ports(whole)


def test_what_nobody_reads_is_not_kept() -> None:
    _, kept = both(Drawer(Random(1)).pod(PODS[0]), **UNREAD)
    assert (kept.metadata.annotations, kept.metadata.owner_references) == ({}, ())
    assert (kept.metadata.creation_timestamp, kept.status.pod_ip) == (None, "")


def test_equal_parts_are_kept_once() -> None:
    body = msgspec.json.encode(Drawer(Random(4)).pod(PODS[0]))
    one, other = (codec.decode(body, KeptPod) for _ in range(2))
    assert one.metadata is not other.metadata
    assert one.metadata.labels is other.metadata.labels
    assert one.metadata.namespace is other.metadata.namespace
    assert one.spec is other.spec
    assert one.status is other.status


def test_a_pod_that_does_not_fit_is_refused_as_ever() -> None:
    with pytest.raises(DecodeError, match=r"metadata\.labels"):
        codec.decode(b'{"metadata": {"name": "p", "labels": {"a": 1}}}', KeptPod)


def test_nulls_count_as_absent() -> None:
    kept = codec.decode(b'{"metadata": {"name": "p", "labels": null}, "spec": {"nodeName": null}}', KeptPod)
    assert (kept.metadata.labels, kept.spec.node_name) == ({}, "")
