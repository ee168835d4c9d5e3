"""Whatever changes and whatever fails, in any order: in the end the cache is the server's state, and the batches,
replayed, give the same."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from fakeapi_state import Refused
from informing import Watched, pod, watching
from manx_kube.resources import PODS

NAMES = st.sampled_from("abcde")
CHANGES = st.one_of(
    st.tuples(st.just("put"), NAMES),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("anew"), NAMES),
    st.tuples(st.just("break"), NAMES),
)
FAULTS = st.tuples(
    st.sampled_from(
        ["compact", "cut", "cut_midline", "freeze", "garbage", "error_410", "error_500", "refuse", "refuse_lists",
         "consistent", "restart", "wait", "other_kinds", "expire_pages"]
    ),
    st.just(""),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(CHANGES, FAULTS), max_size=25), st.sampled_from([0, 1, 3]))
def test_the_cache_ends_as_the_servers_state(steps: list[tuple[str, str]], page_size: int) -> None:
    asyncio.run(_run(steps, page_size))


async def _run(steps: list[tuple[str, str]], page_size: int) -> None:
    async with watching(page_size=page_size, idle_timeout=0.2) as w:
        helpers: list[asyncio.Task[None]] = []
        for number, (what, name) in enumerate(steps):
            if name:
                _change(w, what, name, f"10.0.0.{number}")
            else:
                await _fault(w, what, helpers)
        for name in "abcde":  # what is broken is mended in the end, for the last good version stays until then
            if ("d", name) in w.api.state.of(PODS):
                w.api.state.put(PODS, pod(name, ip="10.1.1.1"))
        await w.in_agreement()
        await asyncio.gather(*helpers)
        assert not w.informer.bad
        assert w.informer.handler_errors == 0


def _change(w: Watched, what: str, name: str, ip: str) -> None:
    key = ("d", name)
    exists = key in w.api.state.of(PODS)
    if what in ("delete", "anew") and exists:
        w.api.state.delete(PODS, key)
    if what in ("put", "anew"):
        w.api.state.put(PODS, pod(name, ip=ip))
    if what == "break":
        w.api.state.put(PODS, {"metadata": {"name": name, "namespace": "d"}, "status": {"podIP": 1}})


async def _fault(w: Watched, what: str, helpers: list[asyncio.Task[None]]) -> None:
    api = w.api
    match what:
        case "compact":
            api.state.compact()
        case "cut":
            api.cut_watches()
        case "cut_midline":
            api.cut_watches(partial=b'{"type":"DELETED","object":{"metadata":{"name":"a","namespace":"d"')
        case "freeze":
            api.freeze_watches()
        case "garbage":
            api.send_to_watches(b"}{\n")
        case "error_410":
            api.send_event("ERROR", Refused(410, "Expired").status())
        case "error_500":
            api.send_event("ERROR", Refused(500, "InternalError").status())
        case "refuse":
            api.fail(lambda r: r.is_watch, Refused(503, "ServiceUnavailable"), times=2)
        case "refuse_lists":
            api.fail(lambda r: r.is_list, Refused(500, "InternalError"), times=2)
        case "consistent":
            helpers.append(asyncio.create_task(w.informer.reach_consistent()))
        case "restart":
            await api.stop()
            await api.start()
        case "wait":
            await asyncio.sleep(0.02)
        case "other_kinds":
            api.state.version += 10
        case "expire_pages":
            api.before_page = lambda r: api.state.compact() if "continue" in r.query else None
