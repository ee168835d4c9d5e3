"""What is known of our own objects between a write's answer, which is their metadata alone, and the watch's word."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import msgspec
import pytest

from informing import eventually
from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.v1alpha1 import MeshNode, MeshNodeSpec
from manx_kube.client import KubeClient
from manx_kube.resources import MESH_NODES
from manx_operator.decide import Action, Decider, Wait
from manx_operator.limiter import TokenBucket
from manx_operator.observed import Key, Observed
from manx_operator.writer import Writer
from operating import new_term

KEY = Key(MESH_NODES, "n1")


class Played:
    """An informer's cache."""

    def __init__(self) -> None:
        self.cache: dict[tuple[str, str], Any] = {}
        self.resource_version = "0"

    def get(self, name: str) -> Any:
        return self.cache.get(("", name))

    def hear(self, obj: MeshNode) -> None:
        self.cache[("", obj.metadata.name)] = obj
        self.resource_version = obj.metadata.resource_version


class Looking:
    """Observed objects, and which of them are to be looked at again."""

    def __init__(self) -> None:
        self.informer, self.again = Played(), list[Key]()
        self.observed = Observed({MESH_NODES: self.informer}, self.again.append, lambda: None)  # type: ignore[dict-item]

    def hear(self, obj: MeshNode) -> None:
        self.informer.hear(obj)
        self.observed.heard(KEY)


def mesh_node(version: str, ipv4: str = "192.0.2.1", **labels: str) -> MeshNode:
    return MeshNode(ObjectMeta(name="n1", resource_version=version, labels=labels), MeshNodeSpec(epoch=1, ipv4=ipv4))


def written(version: str = "2", **labels: str) -> Looking:
    """Version 1 was there, another address was sent, and stored with this version and these labels."""
    looking = Looking()
    looking.informer.hear(mesh_node("1"))
    sent = mesh_node("1", "192.0.2.2")
    looking.observed.sent(KEY, sent, mesh_node(version, **labels).metadata)
    return looking


def test_what_was_sent_counts_from_the_answer_on_and_its_echo_is_nothing_new() -> None:
    looking = written()
    assert looking.observed.get(KEY) == mesh_node("2", "192.0.2.2")
    looking.hear(mesh_node("2", "192.0.2.2"))
    assert looking.observed.get(KEY) == mesh_node("2", "192.0.2.2")
    assert looking.again == []


def test_an_echo_that_came_before_the_answer_outlasts_it() -> None:
    looking = Looking()
    looking.informer.hear(mesh_node("1"))
    looking.hear(mesh_node("2", "192.0.2.9"))
    assert looking.again == [KEY]
    looking.observed.sent(KEY, mesh_node("1", "192.0.2.2"), mesh_node("2").metadata)
    assert looking.observed.get(KEY) == mesh_node("2", "192.0.2.9")


@pytest.mark.parametrize("made", [mesh_node("2", "192.0.2.9"), mesh_node("2", "192.0.2.2", a="b")])
def test_what_the_server_made_something_else_of_is_looked_at_again(made: MeshNode) -> None:
    looking = written()
    looking.hear(made)
    assert looking.again == [KEY]
    assert looking.observed.get(KEY) == made


def test_labels_that_are_not_what_was_sent_show_in_the_answer() -> None:
    assert written(a="b").again == [KEY]


def test_a_write_that_changed_nothing_for_the_server_shows_in_the_answer() -> None:
    """It makes of what was sent what it has: no watch will tell of that."""
    looking = written("1")
    assert looking.again == [KEY]
    assert looking.observed.get(KEY) == mesh_node("1")


def test_a_status_that_was_written_changes_nothing_else() -> None:
    looking = Looking()
    looking.informer.hear(mesh_node("1"))
    looking.observed.written(KEY, mesh_node("2"))
    assert looking.again == []
    looking.observed.written(KEY, msgspec.structs.replace(mesh_node("3"), spec=MeshNodeSpec(epoch=1, ipv4="192.0.2.9")))
    assert looking.again == [KEY]


class EarlyWatch:
    """A server of which the watch tells before the answer is there."""

    def __init__(self, looking: Looking, made: MeshNode) -> None:
        self.looking, self.made = looking, made

    async def store(self, _: object, obj: MeshNode, *, new: bool) -> ObjectMeta:
        self.looking.hear(self.made)
        await asyncio.sleep(0)
        return self.made.metadata


class Told:
    """A decider that says what it is told to, and counts."""

    def __init__(self, *found: Action | Wait) -> None:
        self.found, self.looks = [*found], 0

    def decide(self, key: Key) -> Action | Wait | None:
        self.looks += 1
        return self.found.pop(0) if self.found else None


def writer(looking: Looking, told: Told, client: Any) -> Writer:
    bucket = TokenBucket(1e6, 1e6, time.monotonic)
    found = Writer(cast("KubeClient", client), new_term(1), looking.observed, bucket=bucket, coalesce=0.0)
    looking.observed._changed = found.changed
    found.start(cast("Decider", told))
    return found


@pytest.mark.parametrize(("made", "looks"), [(mesh_node("2", "192.0.2.2"), 1), (mesh_node("2", "192.0.2.9"), 2)])
async def test_an_echo_before_the_answer_is_looked_at_only_if_it_is_something_else(made: MeshNode, looks: int) -> None:
    looking, told = Looking(), Told(Action("replace", mesh_node("1", "192.0.2.2")))
    looking.informer.hear(mesh_node("1"))
    found = writer(looking, told, EarlyWatch(looking, made))
    found.mark([KEY])
    await eventually(lambda: found.written and told.looks >= looks)
    await asyncio.sleep(0.02)  # time for a mistake
    assert (told.looks, found.written, found.idle) == (looks, 1, True)
    assert not found._timers


async def test_who_is_still_to_look_at_something_is_not_idle() -> None:
    told = Told()
    found = writer(Looking(), told, None)
    await eventually(lambda: found.idle)
    found.changed(KEY)
    assert (told.looks, found.idle) == (0, False)
    await eventually(lambda: told.looks == 1 and found.idle)


async def test_what_is_due_in_an_hour_keeps_nobody_from_being_idle() -> None:
    """As labels that linger are."""
    told = Told()
    found = writer(Looking(), told, None)
    found.later(KEY, 3600)
    found.changed(KEY)
    await eventually(lambda: told.looks == 1 and found.idle)
    found.later(KEY, 3600)
    assert found.idle


async def test_what_has_waited_is_not_looked_at_again_once_its_turn_has_come() -> None:
    other = Key(MESH_NODES, "n2")
    told = Told(Wait(frozenset({other})))
    found = writer(Looking(), told, None)
    found.mark([KEY])
    await eventually(lambda: told.looks)
    assert (told.looks, found.idle) == (1, False)
    assert KEY in found._timers  # should nobody tell
    found.changed(other)
    await eventually(lambda: told.looks == 3 and found.idle)  # `other` itself, too
    assert not found._timers
