"""The route driver on a real kernel, without BGP: many routes, foreign ones, links that go down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from manx_agent.drivers.routes import KernelRoutes, RouteOutcome
from netns import Netns, addressed_veth

NEAR, OTHER = "192.0.2.2", "192.0.2.3"


@pytest.fixture
def node() -> Iterator[Netns]:
    with Netns() as one, Netns() as other:
        addressed_veth(one, other, ("eth0", "eth0"), ("192.0.2.1/24", "192.0.2.2/24"))
        yield one


def inside(node: Netns, work: Callable[[KernelRoutes], Awaitable[None]]) -> None:
    """Runs with a driver whose sockets and programs are in the namespace."""

    async def run() -> None:
        kernel = KernelRoutes()
        try:
            await work(kernel)
        finally:
            kernel.close()

    with node.entered():
        asyncio.run(run())


def shown(node: Netns) -> list[str]:
    return node.ip("route", "show", "proto", "77").splitlines()


def many(next_hop: str, count: int = 1000) -> dict[str, str]:
    return {f"10.{n // 256}.{n % 256}.0/24": next_hop for n in range(count)}


def test_a_thousand_routes_come_change_and_go(node: Netns) -> None:
    async def work(kernel: KernelRoutes) -> None:
        assert (await kernel.apply(many(NEAR), frozenset())).installed == many(NEAR)
        assert len(shown(node)) == 1000
        assert (await kernel.apply(many(OTHER), frozenset({"10.99.0.0/26"}))).errors == ()
        assert sum(f"via {OTHER} " in line for line in shown(node)) == 1000
        assert await kernel.check() == ()
        assert (await kernel.apply({}, frozenset())).installed == {}
        assert shown(node) == []

    inside(node, work)


def test_anothers_route_is_neither_replaced_nor_removed(node: Netns) -> None:
    foreign = ("10.1.0.0/24", "via", NEAR, "proto", "static", "metric", "77")
    node.ip("route", "add", *foreign)

    async def work(kernel: KernelRoutes) -> None:
        outcome = await kernel.apply({"10.1.0.0/24": OTHER, "10.2.0.0/24": OTHER}, frozenset())
        assert outcome.installed == {"10.2.0.0/24": OTHER}
        assert outcome.errors == ("cannot add route 10.1.0.0/24 via 192.0.2.3: another's route has its metric",)
        await kernel.apply({}, frozenset())

    inside(node, work)
    assert "10.1.0.0/24 via 192.0.2.2 dev eth0 proto static metric 77" in node.ip("route", "show")


def test_the_connected_subnet_wins_over_a_learned_route_for_it(node: Netns) -> None:
    async def work(kernel: KernelRoutes) -> None:
        await kernel.apply({"192.0.2.0/24": NEAR, "0.0.0.0/0": NEAR}, frozenset())

    inside(node, work)
    assert "dev eth0" in node.ip("route", "get", OTHER)
    assert "via" not in node.ip("route", "get", OTHER)
    assert f"via {NEAR}" in node.ip("route", "get", "203.0.113.1")


@pytest.mark.parametrize(
    ("next_hop", "said"),
    [
        ("203.0.113.1", "no route to next hop 203.0.113.1: Network is unreachable"),
        ("192.0.2.1", "next hop 192.0.2.1 is an address of this node"),
        ("10.5.0.1", "next hop 10.5.0.1 can only be reached through a route that BGP learned"),
    ],
)
def test_next_hops_that_cannot_be(node: Netns, next_hop: str, said: str) -> None:
    outcomes: list[RouteOutcome] = []

    async def work(kernel: KernelRoutes) -> None:
        await kernel.apply({"10.5.0.0/16": NEAR}, frozenset())
        outcomes.append(await kernel.apply({"10.5.0.0/16": NEAR, "10.6.0.0/16": next_hop}, frozenset()))

    inside(node, work)
    assert outcomes[0].errors == (said,)
    assert outcomes[0].installed == {"10.5.0.0/16": NEAR}


def test_routes_return_after_their_link_was_down(node: Netns) -> None:
    async def work(kernel: KernelRoutes) -> None:
        await kernel.apply({"10.5.0.0/16": NEAR}, frozenset({"10.7.0.0/26"}))
        node.ip("link", "set", "eth0", "down")
        node.ip("link", "set", "eth0", "up")
        assert shown(node) == ["blackhole 10.7.0.0/26 metric 77 "]
        assert await kernel.check() == (f"route 10.5.0.0/16 via {NEAR} was gone",)
        assert len(shown(node)) == 2

    inside(node, work)


def test_a_block_becomes_anothers(node: Netns) -> None:
    """What was our own block's blackhole is then a route to the node that has it now, and back."""

    async def work(kernel: KernelRoutes) -> None:
        await kernel.apply({}, frozenset({"10.7.0.0/26"}))
        await kernel.apply({"10.7.0.0/26": NEAR}, frozenset())
        assert [line.split()[:3] for line in shown(node)] == [["10.7.0.0/26", "via", NEAR]]
        await kernel.apply({}, frozenset({"10.7.0.0/26"}))
        assert [line.split()[:2] for line in shown(node)] == [["blackhole", "10.7.0.0/26"]]
        assert await kernel.learned() == {}

    inside(node, work)
