"""Events: posted once, then counted; never in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fakeapi import FakeApi
from fakeapi_state import Refused
from informing import eventually
from manx_core.api.core_v1 import ObjectMeta, ObjectReference, Pod
from manx_kube import events
from manx_kube.client import KubeClient
from manx_kube.events import EventRecorder, reference_to
from manx_kube.resources import EVENTS, IP_POOLS, PODS

POOL = ObjectReference(api_version="projectcalico.org/v3", kind="IPPool", name="default", uid="u1")


@asynccontextmanager
async def recording(**settings: Any) -> AsyncIterator[tuple[FakeApi, EventRecorder]]:
    async with (
        FakeApi() as api,
        KubeClient(api.config(), max_wait=0) as client,
        EventRecorder(client, component="manx.dev/test", instance="here", **settings) as recorder,
    ):
        yield api, recorder


def stored(api: FakeApi) -> list[dict[str, Any]]:
    return list(api.state.of(EVENTS).values())


async def test_an_event_says_who_what_and_where() -> None:
    async with recording() as (api, recorder):
        recorder.emit(POOL, "Warning", reason="InvalidPool", note="spec.cidr: must be a CIDR", action="Validate")
        await eventually(lambda: stored(api))
        (event,) = stored(api)
        assert event["metadata"]["namespace"] == "default"
        assert event["regarding"]["uid"] == "u1"
        assert (event["type"], event["reason"], event["action"]) == ("Warning", "InvalidPool", "Validate")
        assert (event["reportingController"], event["reportingInstance"]) == ("manx.dev/test", "here")
        assert event["apiVersion"] == "events.k8s.io/v1"
        assert event["eventTime"].endswith("Z")


async def test_repetitions_become_one_series() -> None:
    async with recording(series_every=0.05) as (api, recorder):
        for _ in range(100):
            recorder.emit(POOL, "Warning", reason="InvalidPool", note="again")
        await eventually(lambda: stored(api) and stored(api)[0].get("series", {}).get("count") == 100)
        assert len(stored(api)) == 1
        assert api.count(lambda r: r.method in ("POST", "PATCH")) == 2


async def test_repetitions_are_not_written_one_by_one() -> None:
    async with recording(series_every=3600.0) as (api, recorder):
        for _ in range(3):
            recorder.emit(POOL, "Warning", reason="InvalidPool", note="again")
            await eventually(lambda: stored(api))
            await recorder._post_all()
        assert api.count(lambda r: r.method == "PATCH") == 0


async def test_what_differs_is_another_event() -> None:
    async with recording() as (api, recorder):
        recorder.emit(POOL, "Warning", reason="A", note="x")
        recorder.emit(POOL, "Warning", reason="A", note="y")
        recorder.emit(POOL, "Warning", reason="B", note="x")
        await eventually(lambda: len(stored(api)) == 3)


async def test_what_is_left_is_posted_at_the_end() -> None:
    async with recording(series_every=3600.0) as (api, recorder):
        recorder.emit(POOL, "Normal", reason="A", note="x")
        await eventually(lambda: stored(api))
        recorder.emit(POOL, "Normal", reason="A", note="x")
        await recorder.__aexit__(None, None, None)
        assert stored(api)[0]["series"]["count"] == 2


async def test_an_event_whose_answer_was_lost_is_not_lost() -> None:
    async with recording(series_every=3600.0) as (api, recorder):
        api.after_write = recorder._task.cancel if recorder._task else None
        recorder.emit(POOL, "Normal", reason="A", note="x")
        await eventually(lambda: stored(api))
        recorder.emit(POOL, "Normal", reason="A", note="x")
        await recorder.__aexit__(None, None, None)
        assert stored(api)[0]["series"]["count"] == 2


async def test_an_expired_event_begins_anew() -> None:
    async with recording(series_every=0.02) as (api, recorder):
        recorder.emit(POOL, "Normal", reason="A", note="x")
        await eventually(lambda: stored(api))
        api.state.of(EVENTS).clear()
        recorder.emit(POOL, "Normal", reason="A", note="x")
        await eventually(lambda: stored(api))


async def test_a_refusal_is_retried_and_never_raised() -> None:
    async with recording(series_every=0.02) as (api, recorder):
        api.fail(lambda r: r.method == "POST", Refused(403, "Forbidden"), times=3)
        recorder.emit(POOL, "Normal", reason="A", note="x")
        await eventually(lambda: stored(api))


async def test_memory_is_bounded() -> None:
    async with recording() as (_, recorder):
        for number in range(events.MAX_SERIES + 10):
            recorder.emit(POOL, "Normal", reason="A", note=str(number))
        assert len(recorder._series) == events.MAX_SERIES
        assert recorder.dropped == 10
        await asyncio.sleep(0)


async def test_long_notes_fit_the_api() -> None:
    async with recording() as (api, recorder):
        recorder.emit(POOL, "Normal", reason="R" * 200, note="n" * 5000)
        await eventually(lambda: stored(api))
        assert len(stored(api)[0]["note"]) == 1024
        assert len(stored(api)[0]["reason"]) == 128


def test_references() -> None:
    web = Pod(metadata=ObjectMeta(name="web", namespace="d", uid="u", resource_version="5"))
    assert reference_to(PODS, web) == ObjectReference(
        api_version="v1", kind="Pod", namespace="d", name="web", uid="u", resource_version="5"
    )
    pool = reference_to(IP_POOLS, {"metadata": {"name": "p", "uid": "u2"}})
    assert (pool.api_version, pool.kind, pool.name, pool.uid) == ("projectcalico.org/v3", "IPPool", "p", "u2")
