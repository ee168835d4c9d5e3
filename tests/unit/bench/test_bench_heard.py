"""What a change was heard of, beside the fewest words that would tell it; and what an API server says of itself."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from bench.scale.ears import Heard
from bench.scale.server import seen, swept
from manx_kube.client import KubeClient

METRICS = b"""
apiserver_request_total{code="201",group="manx.dev",resource="addressgroups",subresource="",verb="POST"} 7
apiserver_request_total{code="409",group="manx.dev",resource="addressgroups",subresource="",verb="PUT"} 2
apiserver_request_total{code="200",group="manx.dev",resource="policyprograms",subresource="status",verb="PUT"} 3
apiserver_request_total{code="200",group="",resource="pods",subresource="",verb="PATCH"} 100
apiserver_request_duration_seconds_sum{group="manx.dev",resource="addressgroups",subresource="",verb="PUT"} 0.25
apiserver_request_duration_seconds_sum{group="manx.dev",resource="ipamblocks",subresource="status",verb="PATCH"} 3
apiserver_request_duration_seconds_sum{group="",resource="pods",subresource="",verb="PATCH"} 5
apiserver_request_duration_seconds_sum{group="manx.dev",resource="addressgroups",subresource="",verb="WATCH"} 60
apiserver_terminated_watchers_total{group="",resource="pods"} 2
apiserver_terminated_watchers_total{group="manx.dev",resource="nodestates"} 1
process_cpu_seconds_total 12.5
process_resident_memory_bytes 4e+08
go_memstats_heap_alloc_bytes 1.5e+08
go_memstats_stack_inuse_bytes 1e+07
"""


class Played:
    """An API server's client that answers /metrics, and counts what else is asked."""

    def __init__(self) -> None:
        self.transport = self
        self.asked: list[str] = []

    async def request(self, _method: str, path: str) -> bytes:
        self.asked.append(path)
        return METRICS if path == "/metrics" else b""


def test_what_goes_there_and_back_is_none_of_the_fewest() -> None:
    heard = Heard(
        objects={
            ("AddressGroup", "changed"): (b"a", b"b", 10),
            ("AddressGroup", "there and back"): (b"a", b"a", 20),
            ("PolicyClass", "new"): (None, b"c", 30),
            ("PolicyClass", "gone"): (b"d", None, 40),
            ("PolicyClass", "came and went"): (None, None, 50),
        }
    )
    assert heard.fewest == 3
    assert heard.least == 10 + 30 + 40


def test_an_api_server_is_read() -> None:
    found = asyncio.run(seen(cast(KubeClient, Played())))
    assert (found.writes, found.statuses, found.refused.total()) == (7, 3, 2)
    assert (found.cpu, found.behind, found.resident, found.live) == (12.5, 3, 400.0, 160.0)
    assert found.seconds == 0.25
    since = found.since(found)
    assert (since.writes, since.seconds, since.cpu, since.behind, since.resident) == (0, 0.0, 0.0, 0, 400.0)


def test_garbage_is_collected_before_an_api_server_is_read() -> None:
    client: Any = Played()
    asyncio.run(swept(client))
    assert client.asked[-1] == "/metrics"
    assert set(client.asked[:-1]) == {"/debug/pprof/heap?gc=1"}
