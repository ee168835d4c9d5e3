"""Which nodes a pod's change concerns: those alone whose number of pods, or of pods that wait, may be another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from manx_core.api.core_v1 import ObjectMeta, Pod, PodSpec, PodStatus
from manx_operator.pods_by_node import PodsByNode

KEY, NODES = ("d", "p"), ("n1", "n2")

pods = st.builds(
    lambda uid, node, phase, app, deleted: Pod(
        metadata=ObjectMeta(name="p", namespace="d", uid=uid, labels={"app": app}, deletion_timestamp=deleted),
        spec=PodSpec(node_name=node),
        status=PodStatus(phase=phase),
    ),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["", *NODES]),
    st.sampled_from(["Running", "Succeeded"]),
    st.sampled_from(["web", "db"]),
    st.sampled_from([None, "2026-01-01T00:00:00Z"]),
)


def counts(found: PodsByNode) -> dict[str, tuple[int, int]]:
    return {node: (found.pods(node), found.waiting(node)) for node in NODES}


@given(st.lists(st.none() | pods, max_size=6), st.sampled_from(["", "a"]))
def test_no_node_counts_otherwise_that_was_not_named(states: list[Pod | None], allocated: str) -> None:
    cache: dict[tuple[str, str], Pod] = {}
    index = PodsByNode(cache, lambda key, uid: uid == allocated)
    for state in states:
        before = counts(index)
        old = cache.pop(KEY, None)
        named: set[str] = set()
        if old is not None and state is not None and old.metadata.uid != state.metadata.uid:
            named, old = set(index.changed(KEY, old)), None  # an informer tells of both
        if state is not None:
            cache[KEY] = state
        named |= set(index.changed(KEY, old))
        after = counts(index)
        assert after == counts(PodsByNode(cache, lambda key, uid: uid == allocated))
        assert {node for node in NODES if after[node] != before[node]} <= named


def test_a_relabelled_pod_concerns_no_node() -> None:
    old, new = (
        Pod(metadata=ObjectMeta(uid="a", labels={"app": app}), spec=PodSpec(node_name="n1")) for app in ("web", "db")
    )
    cache = {KEY: old}
    index = PodsByNode(cache, lambda key, uid: False)
    cache[KEY] = new
    assert not set(index.changed(KEY, old))
    assert index.waiting("n1") == 1
