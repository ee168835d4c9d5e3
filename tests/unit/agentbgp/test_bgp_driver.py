"""The driver between a relay that the test plays, and a kernel that the test keeps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manx_agent.bgp.driver import BgpDriver
from manx_agent.bgp.files import SharedPaths
from manx_agent.drivers.routes import RouteError, RouteOutcome
from manx_agent.model import BgpView
from manx_core.api.v1alpha1 import BgpSettings, MeshNodeSpec

A = "192.0.2.2"
AWAY: set[str] = set()
"""Addresses that no interface has just now."""
VIEW = BgpView(
    "own",
    "192.0.2.1",
    mesh={"a": MeshNodeSpec(epoch=1, ipv4=A, blocks=("10.0.2.0/24",))},
    announced=frozenset({"10.0.1.0/26"}),
)
UP = {"type": "session", "peer": A, "local_as": 64512, "peer_as": 64512, "state": "Established", "since": 1000.0}
UP |= {"reason": "", "lost": "", "restart_time": 120, "end_of_rib": True}
DOWN = {**UP, "state": "Connect", "lost": "closed", "end_of_rib": False, "reason": "closing connection"}


class FakeKernel:
    """Keeps routes; `broken` makes every operation fail."""

    def __init__(self, **found: str) -> None:
        self.routes = found
        self.applied = 0
        self.broken = False
        self.drift: tuple[str, ...] = ()

    async def learned(self) -> dict[str, str]:
        self._fail()
        return dict(self.routes)

    async def apply(self, routes: dict[str, str], blackholes: frozenset[str]) -> RouteOutcome:
        self._fail()
        self.routes, self.applied = dict(routes), self.applied + 1
        return RouteOutcome(dict(routes))

    async def check(self) -> tuple[str, ...]:
        found, self.drift = self.drift, ()
        return found

    def _fail(self) -> None:
        if self.broken:
            raise RouteError("the kernel does not answer")


class Relay:
    """The test's end of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def snapshot(self, *notes: dict[str, Any]) -> None:
        await self.say({"type": "begin"}, *notes, {"type": "end"})

    async def say(self, *notes: dict[str, Any]) -> None:
        self.writer.write(b"".join(json.dumps(note).encode() + b"\n" for note in notes))
        await self.writer.drain()


def learned(*prefixes: str) -> dict[str, Any]:
    return {"type": "routes", "peer": A, "announce": {p: [A, 100, 0, 0, []] for p in prefixes}, "withdraw": []}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@pytest.fixture
def paths(tmp_path: Path) -> SharedPaths:
    return SharedPaths(tmp_path)


@pytest.fixture
async def driver(kernel: FakeKernel, paths: SharedPaths) -> AsyncIterator[BgpDriver]:
    made = BgpDriver(paths, kernel, is_local=lambda address: address not in AWAY)
    await made.start()
    yield made
    await made.stop()


async def connect(paths: SharedPaths) -> Relay:
    return Relay(*await asyncio.open_unix_connection(paths.socket))


async def test_routes_heard_go_into_the_kernel_and_leave_it(
    driver: BgpDriver, kernel: FakeKernel, paths: SharedPaths
) -> None:
    await driver.apply(VIEW)
    relay = await connect(paths)
    await relay.snapshot(learned("10.0.2.0/26", "10.9.0.0/26"), UP)
    await until(lambda: kernel.routes == {"10.0.2.0/26": A})
    peer = driver.outcome().peers[0]
    assert (peer.name, peer.state, peer.since) == ("a", "Established", "1970-01-01T00:16:40Z")
    assert peer.message == "refused 10.9.0.0/26: not in a block of that node's MeshNode"
    await relay.say({"type": "routes", "peer": A, "announce": {}, "withdraw": ["10.0.2.0/26"]})
    await until(lambda: kernel.routes == {})


async def test_a_lost_session_keeps_its_routes_and_a_notification_ends_them(
    driver: BgpDriver, kernel: FakeKernel, paths: SharedPaths
) -> None:
    await driver.apply(VIEW)
    relay = await connect(paths)
    await relay.snapshot(learned("10.0.2.0/26"), UP)
    await until(lambda: kernel.routes == {"10.0.2.0/26": A})
    await relay.say(DOWN)
    await until(lambda: driver.outcome().peers[0].state == "Connect")
    assert kernel.routes == {"10.0.2.0/26": A}
    await relay.say(learned("10.0.2.0/26"), UP, {**DOWN, "lost": "notified", "reason": "notification sent (4,0)"})
    await until(lambda: kernel.routes == {})
    assert driver.outcome().peers[0].message == "NOTIFICATION sent: hold timer expired (4/0)"


async def test_a_former_agents_routes_are_left_until_the_relay_has_spoken(
    driver: BgpDriver, kernel: FakeKernel, paths: SharedPaths
) -> None:
    kernel.routes = {"10.0.2.0/26": A, "10.0.2.64/26": A}
    outcome = await driver.apply(VIEW)
    assert set(outcome.routes) == {"10.0.2.0/26", "10.0.2.64/26"}
    relay = await connect(paths)
    await relay.snapshot(learned("10.0.2.0/26"), UP)
    await until(lambda: kernel.routes == {"10.0.2.0/26": A})


async def test_half_a_snapshot_changes_nothing(driver: BgpDriver, kernel: FakeKernel, paths: SharedPaths) -> None:
    await driver.apply(VIEW)
    relay = await connect(paths)
    await relay.snapshot(learned("10.0.2.0/26", "10.0.2.64/26"), UP)
    await until(lambda: len(kernel.routes) == 2)
    successor = await connect(paths)
    await successor.say({"type": "begin"}, learned("10.0.2.0/26"), UP)
    await until(lambda: driver.outcome().peers[0].state == "Established")
    await driver.apply(VIEW)
    assert len(kernel.routes) == 2
    await successor.say({"type": "end"})
    await until(lambda: kernel.routes == {"10.0.2.0/26": A})


async def test_nothing_is_touched_before_the_first_view(
    driver: BgpDriver, kernel: FakeKernel, paths: SharedPaths
) -> None:
    relay = await connect(paths)
    await relay.snapshot(learned("10.0.2.0/26"), UP)
    await relay.reader.readline()
    await asyncio.sleep(0.2)
    assert kernel.applied == 0
    assert not paths.config.exists()
    await driver.apply(VIEW)
    assert kernel.routes == {"10.0.2.0/26": A}


async def test_a_kernel_that_does_not_answer_is_an_error_and_loses_nothing(
    driver: BgpDriver, kernel: FakeKernel, paths: SharedPaths
) -> None:
    kernel.routes, kernel.broken = {"10.0.2.0/26": A}, True
    assert (await driver.apply(VIEW)).errors == ("the kernel does not answer",)
    kernel.broken = False
    outcome = await driver.apply(VIEW)
    assert outcome.errors == ()
    assert set(outcome.routes) == {"10.0.2.0/26"}


async def test_the_bell_is_rung_for_changes_alone(driver: BgpDriver, paths: SharedPaths) -> None:
    await driver.apply(VIEW)
    relay = await connect(paths)
    await relay.reader.readline()
    before = paths.config.read_bytes()
    await driver.apply(replace(VIEW, mesh=dict(VIEW.mesh)))
    await driver.apply(replace(VIEW, announced=frozenset({"10.0.7.0/26"})))
    async with asyncio.timeout(5):
        assert await relay.reader.readline() == b"{}\n"
    assert paths.config.read_bytes() == before
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(relay.reader.readline(), 0.1)


async def test_a_relay_that_speaks_nonsense_is_dropped(driver: BgpDriver, paths: SharedPaths) -> None:
    await driver.apply(VIEW)
    relay = await connect(paths)
    await relay.reader.readline()
    relay.writer.write(b"not JSON\n")
    async with asyncio.timeout(5):
        assert await relay.reader.read() == b""


async def test_drift_is_handed_over_once(kernel: FakeKernel, paths: SharedPaths) -> None:
    told = asyncio.Event()
    kernel.drift = ("route 10.0.2.0/26 via 192.0.2.2 was gone",)
    driver = BgpDriver(paths, kernel, told.set, is_local=lambda _: True)
    await driver.start()
    await driver.apply(VIEW)
    async with asyncio.timeout(20):
        await told.wait()
    assert driver.take_drift() == ("route 10.0.2.0/26 via 192.0.2.2 was gone",)
    assert driver.take_drift() == ()
    await driver.stop()


async def test_the_kernel_is_looked_at_as_often_as_the_view_says(kernel: FakeKernel, paths: SharedPaths) -> None:
    now = 0.0
    seldom = BgpDriver(paths, kernel, clock=lambda: now, is_local=lambda _: True)
    await seldom.start()
    await seldom.apply(replace(VIEW, refresh_interval=60.0))
    await until(lambda: seldom._next_check == 60.0)
    now = 59.0
    kernel.drift = ("a route",)
    seldom._changed.set()
    await asyncio.sleep(0.2)
    assert seldom.take_drift() == ()
    now = 60.0
    seldom._changed.set()
    await until(lambda: seldom.take_drift() == ("a route",))
    assert seldom._next_check == 120.0
    now, kernel.drift = 61.0, ("another route",)
    await seldom.apply(replace(VIEW, refresh_interval=1.0))  # what was to be an hour is a second from now on
    await until(lambda: seldom.take_drift() == ("another route",))
    await seldom.stop()


async def test_trouble_with_exabgp_is_an_error(driver: BgpDriver, paths: SharedPaths) -> None:
    await driver.apply(VIEW)
    relay = await connect(paths)
    await relay.snapshot({"type": "trouble", "text": "ExaBGP does not load"})
    await until(lambda: driver.outcome().errors == ("ExaBGP does not load",))
    await relay.say({"type": "trouble", "text": ""})
    await until(lambda: driver.outcome().errors == ())


async def test_files_that_cannot_be_written_are_an_error_until_they_can(driver: BgpDriver, paths: SharedPaths) -> None:
    paths.desired.mkdir()
    outcome = await driver.apply(VIEW)
    assert outcome.errors[0].startswith("cannot tell the BGP speaker: ")
    paths.desired.rmdir()
    await until(lambda: driver.outcome().errors == ())
    assert '"10.0.1.0/26"' in paths.desired.read_text()


async def test_settings_that_cannot_be_are_told(driver: BgpDriver) -> None:
    settings = BgpSettings(as_number=0)
    outcome = await driver.apply(replace(VIEW, settings=settings))
    assert outcome.errors == ("Mesh a: AS numbers 0 and 64512 must be from 1 to 4294967295",)
    assert outcome.peers == ()


async def test_where_an_address_is_missing_there_is_no_listening_until_it_came_and_for_ever_after(
    driver: BgpDriver, paths: SharedPaths
) -> None:
    """ExaBGP would end at its start; and a listener less or more resets the session."""
    try:
        AWAY.add("2001:db8::1")
        mesh = {"a": MeshNodeSpec(epoch=1, ipv4=A, ipv6="2001:db8::2")}
        view = replace(VIEW, address6="2001:db8::1", mesh=mesh)
        outcome = await driver.apply(view)
        assert outcome.errors == ("no interface of this node has its address 2001:db8::1",)
        assert paths.config.read_text().count("listen 179;") == 1
        AWAY.clear()
        assert (await driver.apply(view)).errors == ()
        assert paths.config.read_text().count("listen 179;") == 2
        AWAY.add("2001:db8::1")
        await driver.apply(view)
        assert paths.config.read_text().count("listen 179;") == 2
    finally:
        AWAY.clear()
