"""Which relabellings a lag is found of, when chunks and pods are only looked at afterwards; and a watch that ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bench.scale import load
from bench.scale.lags import Lags
from bench.scale.load import Size
from bench.scale.wire import Wire
from fakeapi import FakeApi
from informing import eventually
from manx_core.api.lines import text_of
from manx_kube.client import KubeClient
from manx_kube.errors import KubeError
from manx_kube.resources import ADDRESS_GROUPS, IPAM_BLOCKS, PODS

SIZE = Size(pods=40, policies=1, namespaces=2, nodes=2, here=1)


def chunk(name: str, numbers: Iterable[int], as_list: bool = False) -> dict[str, Any]:
    members = [f"10.0.0.{number}" for number in numbers]
    spec = {"epoch": 1, "group": name, "members": members if as_list else text_of(members)}
    return {"metadata": {"name": name}, "spec": spec}


def block() -> dict[str, Any]:
    entries = [
        {"address": f"10.0.0.{n}", "namespace": f"ns-{n % 2}", "name": f"pod-{n}", "uid": f"u{n}", "containerID": "c"}
        for n in range(SIZE.pods)
    ]
    spec = {"epoch": 1, "cidr": "10.0.0.0/26", "node": "node-0", "pool": "pods", "nodeUID": "u"}
    return {"metadata": {"name": "b"}, "spec": spec, "status": {"allocations": entries}}


@asynccontextmanager
async def lags() -> AsyncIterator[tuple[FakeApi, Lags]]:
    """All pods, their addresses, and one chunk that holds those of even numbers."""
    async with FakeApi() as api, KubeClient(api.config()) as client:
        for number in range(SIZE.pods):
            api.state.put(PODS, load.pod(number, SIZE))
        api.state.put(IPAM_BLOCKS, block())
        api.state.put(ADDRESS_GROUPS, chunk("ag-there", range(0, SIZE.pods, 2)))
        async with Lags(client, SIZE) as found:
            yield api, found


async def test_the_chunk_that_lost_an_address_tells_of_its_pod_alone() -> None:
    async with lags() as (api, found):
        first, second = [await found.one(), await found.one()]
        left = set(range(0, SIZE.pods, 2)) ^ {first}
        api.state.put(ADDRESS_GROUPS, chunk("ag-there", left))
        await eventually(lambda: found.heard(first) > 0)
        assert found.heard(second) == 0.0
        assert len(list(found.found())) == 1
        assert [told + own for told, own in found.parts()] == pytest.approx(list(found.found()))


async def test_chunks_that_come_or_go_whole_tell_nothing() -> None:
    async with lags() as (api, found):
        number = await found.one()
        api.state.put(ADDRESS_GROUPS, chunk("ag-new", range(SIZE.pods)))
        api.state.delete(ADDRESS_GROUPS, ("", "ag-there"))
        api.state.put(ADDRESS_GROUPS, chunk("ag-there", [number]))
        api.state.put(ADDRESS_GROUPS, chunk("ag-there", [number, (number + 1) % SIZE.pods]))
        api.state.put(ADDRESS_GROUPS, chunk("ag-last", []))
        api.state.put(ADDRESS_GROUPS, chunk("ag-last", [other := await found.one()]))
        await eventually(lambda: found.heard(other) > 0)
        assert found.heard(number) == 0.0


async def test_members_as_a_list_are_the_same_as_their_text() -> None:
    async with lags() as (api, found):
        number = await found.one()
        api.state.put(ADDRESS_GROUPS, chunk("ag-there", range(0, SIZE.pods, 2), as_list=True))
        api.state.put(ADDRESS_GROUPS, chunk("ag-last", []))
        api.state.put(ADDRESS_GROUPS, chunk("ag-last", [other := await found.one()], as_list=True))
        await eventually(lambda: found.heard(other) > 0)
        assert found.heard(number) == 0.0


async def test_a_watch_that_ends_is_no_silence() -> None:
    async with lags() as (api, found):
        number = await found.one()
        await eventually(lambda: len(api.watches) == 3)
        api.end_watches()
        with pytest.raises(KubeError, match="ended a watch"):
            await eventually(lambda: found.heard(number) > 0)


async def test_a_line_in_two_pieces_is_one_and_an_error_is_said() -> None:
    async with FakeApi() as api, KubeClient(api.config()) as client, Wire(client, PODS, "1") as wire:
        await eventually(lambda: len(api.watches) == 1)
        api.send_to_watches(b'{"type":"MODIFIED","obj')
        await eventually(lambda: not any(watch.raw for watch in api.watches))
        assert list(wire.take()) == []
        api.send_to_watches(b'ect":{"a":1}}\n')
        await eventually(lambda: [bytes(line.object) for _, line in wire.take()] == [b'{"a":1}'])
        api.send_event("ERROR", {"code": 410})
        with pytest.raises(KubeError, match="410"):
            await eventually(lambda: list(wire.take()))
