"""The cache's three operations, against the plain definition of a difference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manx_core.api.core_v1 import ObjectMeta, Pod
from manx_kube.client import BadItem
from manx_kube.store import Event, EventKind, Key, Store, reached

PODS = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.sampled_from(["u1", "u2"]), st.sampled_from("123")))


def pods(spec: dict[str, tuple[str, str]]) -> list[Pod]:
    return [
        Pod(metadata=ObjectMeta(namespace="d", name=name, uid=uid, resource_version=version))
        for name, (uid, version) in spec.items()
    ]


def replay(known: dict[Key, Pod], events: list[Event[Pod]]) -> dict[Key, Pod]:
    known = dict(known)
    for event in events:
        assert known.get(event.key) == event.old
        if event.new is None:
            del known[event.key]
        else:
            known[event.key] = event.new
    return known


@given(PODS, PODS, st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("xyz")))
def test_merge_is_the_difference(
    before: dict[str, tuple[str, str]], after: dict[str, tuple[str, str]], broken: set[str], once_broken: set[str]
) -> None:
    store = Store(Pod)
    store.merge(pods(before), [BadItem("d", name, "8", "bad") for name in once_broken])
    old = dict(store.objects)
    after = {name: value for name, value in after.items() if name not in broken}
    events, news = store.merge(pods(after), [BadItem("d", name, "9", "bad") for name in broken])
    assert replay(old, events) == store.objects
    kept = {("d", name) for name in broken & before.keys()}
    assert store.objects.keys() == {("d", name) for name in after} | kept
    assert {item.name for item in news} == broken
    assert store.bad.keys() == {("d", name) for name in broken}
    for event in events:
        if event.old is not None and event.new is not None:
            assert event.old.metadata.resource_version != event.new.metadata.resource_version


def test_the_same_version_is_no_change() -> None:
    store = Store(Pod)
    (first,) = pods({"a": ("u1", "1")})
    store.put(first)
    assert store.put(pods({"a": ("u1", "1")})[0]) == []
    assert store.objects["d", "a"] is first


def test_another_uid_is_another_object() -> None:
    store = Store(Pod)
    store.merge(pods({"a": ("u1", "1")}), [])
    assert [event.kind for event in store.put(pods({"a": ("u2", "2")})[0])] == [EventKind.DELETED, EventKind.ADDED]


def test_deletes_come_before_adds() -> None:
    store = Store(Pod)
    store.merge(pods({"z": ("u1", "1")}), [])
    events, _ = store.merge(pods({"a": ("u2", "2")}), [])
    assert [event.kind for event in events] == [EventKind.DELETED, EventKind.ADDED]


@pytest.mark.parametrize(
    ("have", "want", "answer"),
    [("10", "9", True), ("9", "10", False), ("10", "10", True), ("", "1", False), ("x", "x", True), ("x", "1", False),
     ("99999999999999999999", "99999999999999999998", True), ("-1", "-2", False), ("²", "1", False)],
)  # fmt: skip
def test_reached(have: str, want: str, answer: bool) -> None:
    assert reached(have, want) is answer
