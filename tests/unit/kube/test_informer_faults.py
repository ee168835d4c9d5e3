"""The informer against a server that fails in every way we know of: afterwards its cache is the server's state, and
whoever listened knows the same."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from fakeapi import Request, Watch
from fakeapi_state import Refused
from informing import LIMIT, Watched, eventually, pod, watching
from manx_core.api.core_v1 import Pod
from manx_kube.informer import CATCH_UP, Informer
from manx_kube.resources import PODS


def is_watch(request: Request) -> bool:
    return request.is_watch


def is_list(request: Request) -> bool:
    return request.is_list


def is_continued(request: Request) -> bool:
    return request.is_list and "continue" in request.query


async def test_follows_adds_changes_and_deletes() -> None:
    async with watching() as w:
        assert sorted(w.told) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]
        w.batches.clear()
        w.api.state.put(PODS, pod("d"))
        w.api.state.put(PODS, pod("d", ip="10.0.0.9"))
        w.api.state.delete(PODS, ("d", "a"))
        await eventually(w.agrees)
        assert w.told == [("ADDED", "d"), ("MODIFIED", "d"), ("DELETED", "a")]
        found = w.informer.get("d", "d")
        assert found is not None
        assert found.status.pod_ip == "10.0.0.9"


async def test_the_first_list_is_one_batch_over_several_pages() -> None:
    async with watching(page_size=1) as w:
        assert [len(batch.events) for batch in w.batches] == [3]
        assert w.api.count(is_continued) == 2


async def test_a_late_handler_gets_what_is_known() -> None:
    async with watching() as w:
        late: list[str] = []
        w.informer.add_handler(lambda batch: late.extend(event.key[1] for event in batch.events))
        assert sorted(late) == ["a", "b", "c"]


async def test_410_as_status_lists_again_and_tells_the_difference() -> None:
    async with watching() as w:
        w.batches.clear()
        w.api.fail(is_watch, Refused(500, "InternalError"), times=1)
        w.api.cut_watches()
        w.api.state.put(PODS, pod("d"))
        w.api.state.put(PODS, pod("b", ip="10.0.0.2"))
        w.api.state.delete(PODS, ("d", "a"))
        w.api.state.compact()
        await eventually(w.agrees)
        assert sorted(w.told) == [("ADDED", "d"), ("DELETED", "a"), ("MODIFIED", "b")]
        assert w.api.count(is_list) == 4


async def test_410_as_event_lists_again() -> None:
    async with watching() as w:
        w.api.freeze_watches()
        w.api.state.delete(PODS, ("d", "a"))
        w.api.state.compact()
        w.api.send_event("ERROR", Refused(410, "Expired").status())
        await w.in_agreement()
        assert w.told[-1] == ("DELETED", "a")


@pytest.mark.parametrize("code", [400, 403, 500, 504])
async def test_other_error_events_only_resume(code: int) -> None:
    async with watching() as w:
        w.api.freeze_watches()
        w.api.state.put(PODS, pod("d"))
        lists = w.api.count(is_list)
        w.api.send_event("ERROR", Refused(code, "Whatever").status())
        await w.in_agreement()
        assert w.api.count(is_list) == lists
        assert w.informer.last_error is None


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_watches_refused_for_long_end_in_a_list(status: int) -> None:
    async with watching() as w:
        w.api.fail(is_watch, Refused(status, "Whatever", retry_after=0), times=9)
        w.api.cut_watches()
        w.api.state.delete(PODS, ("d", "a"))
        await w.in_agreement()


async def test_410_between_pages_begins_the_list_again() -> None:
    async with watching(start=False, page_size=1) as w:

        def compact_twice(request: Request) -> None:
            times = w.api.count(is_continued)
            if is_continued(request) and times <= 2:
                w.api.state.delete(PODS, ("d", "-ab"[times]))
                w.api.state.compact()

        w.api.before_page = compact_twice
        w.informer.start()
        await w.in_agreement()
        assert w.told == [("ADDED", "c")]


async def test_a_list_that_always_expires_is_taken_unpaged() -> None:
    async with watching(start=False, page_size=1) as w:
        w.api.before_page = lambda request: w.api.state.compact() if is_continued(request) else None
        w.informer.start()
        await w.in_agreement()
        assert "limit" not in next(r for r in reversed(w.api.requests) if r.is_list).query


async def test_a_connection_cut_within_a_line_loses_nothing() -> None:
    async with watching() as w:
        w.api.freeze_watches()
        w.api.state.put(PODS, pod("d"))
        w.api.cut_watches(partial=b'{"type":"ADDED","object":{"metadata":{"name":"d","names')
        await w.in_agreement()
        assert w.told[-1] == ("ADDED", "d")


@pytest.mark.parametrize(
    "line",
    [b"<html>bad gateway</html>\n", b'{"type":"ADDED"}\n', b'{"type":"SURPRISE","object":{}}\n', b'["ADDED"]\n',
     b'{"type":"MODIFIED","object":{}}\n', b'{"type":"BOOKMARK","object":7}\n', b"\xff\xfe\n", b"[" * 5000 + b"\n"],
)  # fmt: skip
async def test_malformed_lines_cost_no_event(line: bytes) -> None:
    async with watching() as w:
        w.api.freeze_watches()
        w.api.state.put(PODS, pod("d"))
        w.api.send_to_watches(line)
        await w.in_agreement()


async def test_events_before_a_malformed_line_of_the_same_piece_are_taken() -> None:
    async with watching() as w:
        w.batches.clear()
        w.api.freeze_watches()
        new = w.api.state.put(PODS, pod("d"))
        w.api.send_event("ADDED", new)
        w.api.send_to_watches(b"garbage\n")
        await eventually(w.agrees)
        w.api.state.put(PODS, pod("e"))
        await eventually(w.agrees)
        assert w.told == [("ADDED", "d"), ("ADDED", "e")]


async def test_a_watch_that_ends_properly_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "manx_kube")
    ended: set[Watch] = set()
    async with watching() as w:
        for name in "de":
            w.api.state.put(PODS, pod(name))
            await w.in_agreement()
            ended.update(w.api.watches)
            w.api.end_watches()
            await eventually(lambda: w.api.watches and not (w.api.watches & ended))
        assert w.informer._lists_done == 1
        assert not caplog.records


async def test_watches_that_end_without_a_word_end_in_a_list() -> None:
    async with watching() as w:
        w.api.bookmark_every = 3600.0
        lists = w.api.count(is_list)

        async def end_all() -> None:
            while w.api.count(is_list) == lists:
                w.api.end_watches()
                await asyncio.sleep(0.001)

        async with asyncio.timeout(LIMIT):
            await end_all()
        await w.in_agreement()


async def test_a_silent_watch_is_abandoned() -> None:
    async with watching(idle_timeout=0.3) as w:
        w.api.freeze_watches()
        w.api.state.delete(PODS, ("d", "a"))
        await w.in_agreement()


async def test_objects_deleted_and_made_anew_while_away_are_other_objects() -> None:
    async with watching() as w:
        w.batches.clear()
        w.api.fail(is_watch, Refused(500, "InternalError"), times=1)
        w.api.cut_watches()
        w.api.state.delete(PODS, ("d", "a"))
        w.api.state.put(PODS, pod("a"))
        w.api.state.compact()
        await eventually(w.agrees)
        assert w.told == [("DELETED", "a"), ("ADDED", "a")]


async def test_unchanged_objects_are_not_told_after_a_relist() -> None:
    async with watching() as w:
        told = len(w.told)
        lists = w.api.count(is_list)
        w.api.fail(is_watch, Refused(410, "Expired"))
        w.api.cut_watches()
        await eventually(lambda: w.api.count(is_list) >= lists + 2 and w.api.watches)
        assert len(w.told) == told


async def test_the_server_goes_away_and_comes_back() -> None:
    async with watching() as w:
        await w.api.stop()
        await eventually(lambda: w.informer.last_error is not None)
        assert len(w.informer.cache) == 3
        w.api.state.delete(PODS, ("d", "a"))
        await w.api.start()
        await w.in_agreement()
        await eventually(lambda: w.informer.last_error is None)


async def test_a_crd_that_comes_late() -> None:
    async with watching(start=False) as w:
        w.api.state.established = set()
        w.informer.start()
        await eventually(lambda: w.api.count(is_list) >= 3)
        assert not w.informer.synced
        assert w.informer.last_error is not None
        assert w.informer.last_error.status == 404
        w.api.state.established.add("pods")
        await w.in_agreement()
        assert w.informer.synced


async def test_a_crd_that_vanishes_leaves_the_cache() -> None:
    async with watching() as w:
        w.api.state.established = set()
        w.api.cut_watches()
        lists = w.api.count(is_list)
        await eventually(lambda: w.api.count(is_list) > lists)
        assert len(w.informer.cache) == 3
        w.api.state.established = None
        w.api.state.put(PODS, pod("d"))
        await w.in_agreement()


# --- objects that do not fit ------------------------------------------------------------------------------------------

BROKEN = {"metadata": {"name": "b", "namespace": "d"}, "spec": {"nodeName": 7}}


async def test_a_bad_object_in_a_watch_keeps_its_last_good_version() -> None:
    async with watching() as w:
        good = w.informer.get("b", "d")
        w.api.state.put(PODS, BROKEN)
        w.api.state.put(PODS, pod("d"))
        await eventually(lambda: w.informer.get("d", "d"))
        assert w.informer.get("b", "d") is good
        assert list(w.informer.bad) == [("d", "b")]
        assert [(item.name, "spec.nodeName" in item.error) for item in w.bad] == [("b", True)]
        w.api.state.put(PODS, pod("b", ip="10.0.0.3"))
        await w.in_agreement()
        assert not w.informer.bad


async def test_a_bad_object_in_a_list_costs_only_itself() -> None:
    async with watching(start=False) as w:
        w.api.state.put(PODS, BROKEN)
        w.informer.start()
        await eventually(lambda: w.informer.synced)
        assert sorted(w.informer.cache) == [("d", "a"), ("d", "c")]
        assert [item.name for item in w.bad] == ["b"]


async def test_a_known_bad_object_is_reported_once_and_kept_over_a_relist() -> None:
    async with watching() as w:
        w.api.state.put(PODS, BROKEN)
        await eventually(lambda: w.informer.bad)
        async with asyncio.timeout(LIMIT):
            await w.informer.reach_consistent()
        assert len(w.bad) == 1
        assert w.informer.get("b", "d") is not None


async def test_a_bad_object_can_be_deleted() -> None:
    async with watching() as w:
        w.api.state.put(PODS, BROKEN)
        await eventually(lambda: w.informer.bad)
        w.api.state.delete(PODS, ("d", "b"))
        await w.in_agreement()
        assert not w.informer.bad


async def test_null_means_absent() -> None:
    async with watching() as w:
        nulls = pod("b") | {"status": None}
        nulls["metadata"]["labels"] = None
        w.api.state.put(PODS, nulls)
        await w.in_agreement()
        found = w.informer.get("b", "d")
        assert found is not None
        assert found.metadata.labels == {}


async def test_a_failing_handler_does_not_stop_the_others() -> None:
    async with watching(start=False) as w:

        def fails(batch: object) -> None:
            raise RuntimeError("handler")

        w.informer._handlers.insert(0, fails)
        w.informer.start()
        await w.in_agreement()
        assert w.informer.handler_errors == 1


# --- selection --------------------------------------------------------------------------------------------------------


async def test_relabelling_enters_and_leaves_the_selection() -> None:
    async with watching(label_selector="app=web") as w:
        assert w.told == []
        w.api.state.put(PODS, pod("a", labels={"app": "web"}))
        await eventually(lambda: w.told == [("ADDED", "a")])
        w.api.state.put(PODS, pod("a", labels={"app": "db"}))
        await eventually(lambda: w.told == [("ADDED", "a"), ("DELETED", "a")])
        assert not w.informer.cache


async def test_namespace_and_field_selection() -> None:
    async with watching(namespace="d", field_selector="metadata.name=b") as w:
        w.api.state.put(PODS, pod("b", namespace="other"))
        w.api.state.put(PODS, pod("b", ip="10.0.0.7"))
        await eventually(lambda: ("MODIFIED", "b") in w.told)
        assert list(w.informer.cache) == [("d", "b")]


# --- versions ---------------------------------------------------------------------------------------------------------


async def test_bookmarks_advance_the_version() -> None:
    async with watching() as w:
        w.api.state.version += 1000  # other kinds were written
        async with asyncio.timeout(LIMIT):
            await w.informer.wait_reached(str(w.api.state.version))
        assert w.informer.resource_version == str(w.api.state.version)


async def _write_unheard(w: Watched) -> None:
    w.api.freeze_watches()
    w.api.state.delete(PODS, ("d", "a"))


async def test_reach_consistent_on_an_idle_watch_lists() -> None:
    async with watching() as w:
        await _write_unheard(w)
        async with asyncio.timeout(LIMIT):
            await w.informer.reach_consistent()
        assert w.agrees()


async def test_reach_consistent_when_current_asks_for_one_object_only() -> None:
    async with watching() as w:
        lists = w.api.count(is_list)
        async with asyncio.timeout(LIMIT):
            await w.informer.reach_consistent()
        assert [r.query["limit"] for r in w.api.requests if r.is_list][lists:] == ["1"]


async def test_reach_consistent_survives_an_outage() -> None:
    async with watching() as w:
        await _write_unheard(w)
        w.api.fail(is_list, Refused(503, "ServiceUnavailable"), times=4)
        async with asyncio.timeout(LIMIT):
            await w.informer.reach_consistent()
        assert w.agrees()


async def test_a_list_asked_for_while_another_is_under_way_follows_it() -> None:
    """The one under way may have been begun before what the caller must see; a watch in between could last for ever."""
    async with watching(page_size=1) as w:
        await _write_unheard(w)
        later: list[asyncio.Task[None]] = []

        def between_pages(request: Request) -> None:
            if not later:
                later.append(asyncio.create_task(w.informer.reach_consistent()))

        w.api.before_page, w.api.slow = between_pages, 0.2
        async with asyncio.timeout(LIMIT):
            await w.informer.reach_consistent()
            await later[0]
        assert w.agrees()


async def test_two_callers_share_one_list() -> None:
    async with watching(page_size=0) as w:
        await _write_unheard(w)
        before = w.api.count(is_list)
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(w.informer.reach_consistent(), w.informer.reach_consistent())
        assert w.agrees()
        assert w.api.count(is_list) - before == 3  # one version read each, one list


async def test_a_caller_that_gives_up_during_a_list_begun_since_its_call_asks_for_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with watching(page_size=0) as w:
        await _write_unheard(w)
        before, read, list_begun = w.api.count(is_list), w.client.current_resource_version, asyncio.Event()
        callers = iter(("first", "second"))

        async def late_for_the_second(*args: Any, **options: Any) -> str:
            caller, version = next(callers), await read(*args, **options)
            if caller == "second":
                await list_begun.wait()
            return version

        def list_long(request: Request) -> None:
            if request.query.get("limit") != "1":
                w.informer.hold()
                asyncio.get_running_loop().call_later(3 * CATCH_UP, w.informer.release)
                list_begun.set()

        monkeypatch.setattr(w.client, "current_resource_version", late_for_the_second)
        w.api.before_page = list_long
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(w.informer.reach_consistent(), w.informer.reach_consistent())
        assert w.agrees()
        assert w.api.count(is_list) - before == 3


@pytest.mark.parametrize("type_", [dict, dict[str, Any]])
async def test_an_untyped_informer(type_: Any) -> None:
    async with watching(start=False) as w:
        informer = Informer(w.client, PODS, type_)
        async with informer, asyncio.timeout(LIMIT):
            await informer.wait_synced()
            assert informer.cache["d", "a"]["metadata"]["name"] == "a"
            w.api.state.put(PODS, pod("a", ip="10.0.0.4"))
            await eventually(lambda: informer.cache["d", "a"]["status"]["podIP"] == "10.0.0.4")


async def test_what_a_struct_does_not_name_is_not_decoded() -> None:
    async with watching() as w:
        w.api.state.put(PODS, pod("a") | {"unknown": {"deep": [1, 2, {"x": None}]}})
        await w.in_agreement()
        assert isinstance(w.informer.get("a", "d"), Pod)
