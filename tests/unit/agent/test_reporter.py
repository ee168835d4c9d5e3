"""When the NodeReport is written: at once, and ever less often while there is always something new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import msgspec
import pytest

from manx_agent.reporter import SLOWEST, Reporter
from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.v1alpha1 import NodeReport, NodeReportStatus
from manx_kube.client import KubeClient


class Server:
    """Holds the report, and notes when it was written."""

    def __init__(self) -> None:
        self.began = asyncio.get_running_loop().time()
        self.written: list[float] = []

    async def get(self, *_: object) -> NodeReport:
        return NodeReport(metadata=ObjectMeta(name="n1", resource_version="1"))

    async def replace(self, _: object, report: NodeReport, *, tracked: bool) -> NodeReport:
        assert not tracked
        self.written.append(asyncio.get_running_loop().time() - self.began)
        return report


class News:
    """A report that is new each time that `count` is raised."""

    def __init__(self) -> None:
        self.count = 0

    def make(self, before: NodeReportStatus) -> NodeReportStatus:
        return msgspec.structs.replace(before, policies=self.count)


@asynccontextmanager
async def reporting(server: Server, news: News) -> AsyncIterator[Reporter]:
    reporter = Reporter(cast(KubeClient, cast(Any, server)), "n1", news.make)
    task = asyncio.create_task(reporter.run())
    yield reporter
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def tell(reporter: Reporter, news: News) -> None:
    news.count += 1
    reporter.wake()
    await asyncio.sleep(0.01)


@pytest.mark.looptime
async def test_what_comes_alone_is_reported_at_once() -> None:
    server, news = Server(), News()
    async with reporting(server, news) as reporter:
        for _ in range(3):
            await tell(reporter, news)
            await asyncio.sleep(0.99)
    assert server.written == pytest.approx([0.0, 1.0, 2.0])


@pytest.mark.looptime
async def test_a_stream_is_reported_ever_less_often_and_its_end_is() -> None:
    server, news = Server(), News()
    async with reporting(server, news) as reporter:
        for _ in range(1000):
            await tell(reporter, news)
        await asyncio.sleep(2 * SLOWEST)
        written = len(server.written)
        await tell(reporter, news)
    assert server.written[:5] == pytest.approx([0.0, 0.1, 0.3, 0.7, 1.5], abs=0.02)
    assert written == 4 + 5 + 1
    assert len(server.written) == written + 1
