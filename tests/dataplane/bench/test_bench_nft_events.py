"""What the bench hears of rules in a kernel is what is there, and where it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from bench.nft_events import NftEvents
from netns import Netns

ADDED = "*filter\n:bench-a - [0:0]\n:bench-b - [0:0]\n-A bench-a -p tcp --dport 80 -j ACCEPT\nCOMMIT\n"
REMOVED = "*filter\n-F bench-a\n-X bench-a\nCOMMIT\n"


@pytest.fixture
def namespace() -> Iterator[Netns]:
    with Netns() as made:
        yield made


async def test_a_rule_and_a_deleted_chain_are_heard_and_an_empty_chain_is_not(namespace: Netns) -> None:
    events = NftEvents(namespace.pid)
    try:
        rule, other, gone = events.rule_in("bench-a"), events.rule_in("bench-b"), events.gone("bench-a")
        await asyncio.to_thread(namespace.run, "iptables-nft-restore", "--noflush", stdin=ADDED)
        at = await asyncio.wait_for(rule, 30)
        assert not gone.done()
        await asyncio.to_thread(namespace.run, "iptables-nft-restore", "--noflush", stdin=REMOVED)
        assert at < await asyncio.wait_for(gone, 30)
        assert not other.done()
    finally:
        events.close()


async def test_another_namespace_is_not_heard(namespace: Netns) -> None:
    with Netns() as elsewhere:
        events = NftEvents(elsewhere.pid)
        try:
            rule = events.rule_in("bench-a")
            await asyncio.to_thread(namespace.run, "iptables-nft-restore", "--noflush", stdin=ADDED)
            between = time.perf_counter()
            await asyncio.to_thread(elsewhere.run, "iptables-nft-restore", "--noflush", stdin=ADDED)
            assert await asyncio.wait_for(rule, 30) > between
        finally:
            events.close()
