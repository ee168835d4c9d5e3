"""The route driver on a real kernel, without BGP: many routes, foreign ones, links that go down."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator

import pytest

from manx_agent.drivers import routes
from manx_agent.drivers.netlink_codec import AF_INET, AF_INET6
from manx_agent.drivers.netlink_wire import NetlinkError
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
        await work(KernelRoutes())

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


# --- IPv6 -------------------------------------------------------------------------------------------------------------

NEAR6, OTHER6 = "2001:db8:1::2", "2001:db8:1::3"


@pytest.fixture
def node6() -> Iterator[Netns]:
    with Netns() as one, Netns() as other:
        for namespace in (one, other):
            namespace.sysctl("ipv6.conf.default.accept_dad", "0")
        addressed_veth(one, other, ("eth0", "eth0"), ("2001:db8:1::1/64", "2001:db8:1::2/64"))
        yield one


def shown6(node: Netns) -> list[str]:
    return node.ip("-6", "route", "show", "proto", "77").splitlines()


def many6(next_hop: str, count: int = 1000) -> dict[str, str]:
    return {f"fd00:{n:x}::/122": next_hop for n in range(1, count + 1)}


def test_a_thousand_ipv6_routes_come_change_and_go(node6: Netns) -> None:
    async def work(kernel: KernelRoutes) -> None:
        assert (await kernel.apply(many6(NEAR6), frozenset())).installed == many6(NEAR6)
        assert len(shown6(node6)) == 1000
        assert (await kernel.apply(many6(OTHER6), frozenset({"fd99::/122"}))).errors == ()
        assert sum(f"via {OTHER6} " in line for line in shown6(node6)) == 1000
        assert await kernel.check() == ()
        assert (await kernel.apply({}, frozenset())).installed == {}
        assert shown6(node6) == []

    inside(node6, work)


def test_an_administrators_ipv6_route_and_connected_ones_win_and_stay(node6: Netns) -> None:
    """Theirs have metrics 1024 and 256."""
    node6.ip("-6", "route", "add", "fd00:1::/64", "via", NEAR6)

    async def work(kernel: KernelRoutes) -> None:
        outcome = await kernel.apply({"fd00:1::/64": OTHER6, "2001:db8:1::/64": NEAR6}, frozenset())
        assert outcome.errors == ()
        assert f"via {NEAR6}" in node6.ip("-6", "route", "get", "fd00:1::5")
        assert "via" not in node6.ip("-6", "route", "get", OTHER6)
        await kernel.apply({}, frozenset())
        assert "fd00:1::/64 via 2001:db8:1::2" in node6.ip("-6", "route", "show")

    inside(node6, work)


def test_anothers_ipv6_route_of_our_metric_is_neither_replaced_nor_removed(node6: Netns) -> None:
    node6.ip("-6", "route", "add", "fd00:1::/64", "via", NEAR6, "proto", "static", "metric", "1077")

    async def work(kernel: KernelRoutes) -> None:
        outcome = await kernel.apply({"fd00:1::/64": OTHER6, "fd00:2::/64": OTHER6}, frozenset())
        assert outcome.installed == {"fd00:2::/64": OTHER6}
        assert "another's route has its metric" in outcome.errors[0]
        await kernel.apply({}, frozenset())

    inside(node6, work)
    assert "fd00:1::/64 via 2001:db8:1::2" in node6.ip("-6", "route", "show")


def test_an_ipv6_block_becomes_anothers(node6: Netns) -> None:
    async def work(kernel: KernelRoutes) -> None:
        await kernel.apply({}, frozenset({"fd00:7::/122"}))
        assert [line.split()[:2] for line in shown6(node6)] == [["blackhole", "fd00:7::/122"]]
        await kernel.apply({"fd00:7::/122": NEAR6}, frozenset())
        assert [line.split()[:3] for line in shown6(node6)] == [["fd00:7::/122", "via", NEAR6]]
        assert await kernel.learned() == {"fd00:7::/122": NEAR6}
        await kernel.apply({}, frozenset({"fd00:7::/122"}))
        assert [line.split()[:2] for line in shown6(node6)] == [["blackhole", "fd00:7::/122"]]
        assert await kernel.learned() == {}

    inside(node6, work)


def test_a_next_hop_behind_a_link_local_router(node6: Netns) -> None:
    """As where the default route comes from router advertisements; a successor finds the same routes."""
    node6.ip("-6", "route", "add", "default", "via", "fe80::99", "dev", "eth0")

    async def work(kernel: KernelRoutes) -> None:
        wanted = {"fd00:1::/122": "2001:db8:77::7", **{f"fd00:2:{n:x}::/122": "2001:db8:77::7" for n in range(1, 301)}}
        assert (await kernel.apply(wanted, frozenset())).installed == wanted
        assert all("via fe80::99 dev eth0" in line for line in shown6(node6))
        assert await kernel.check() == ()
        successor = KernelRoutes()
        found = await successor.learned()
        assert found.keys() == wanted.keys()
        assert (await successor.apply(found, frozenset())).errors == ()
        assert len(shown6(node6)) == 301

    inside(node6, work)


@pytest.mark.parametrize(
    ("next_hop", "said"),
    [
        ("2001:db8:99::1", "no route to next hop 2001:db8:99::1"),
        ("2001:db8:1::1", "next hop 2001:db8:1::1 is an address of this node"),
        ("fd00:5::1", "next hop fd00:5::1 can only be reached through a route that BGP learned"),
    ],
)
def test_ipv6_next_hops_that_cannot_be(node6: Netns, next_hop: str, said: str) -> None:
    outcomes: list[RouteOutcome] = []

    async def work(kernel: KernelRoutes) -> None:
        await kernel.apply({"fd00:5::/64": NEAR6}, frozenset())
        outcomes.append(await kernel.apply({"fd00:5::/64": NEAR6, "fd00:6::/64": next_hop}, frozenset()))

    inside(node6, work)
    assert outcomes[0].errors[0].startswith(said)
    assert outcomes[0].installed == {"fd00:5::/64": NEAR6}


def test_ipv6_routes_return_after_their_link_was_down(node6: Netns) -> None:
    async def work(kernel: KernelRoutes) -> None:
        await kernel.apply({"fd00:5::/64": NEAR6}, frozenset({"fd00:7::/122"}))
        node6.ip("link", "set", "eth0", "down")
        node6.ip("link", "set", "eth0", "up")
        node6.ip("address", "replace", "2001:db8:1::1/64", "dev", "eth0", "nodad")
        assert [line.split()[:2] for line in shown6(node6)] == [["blackhole", "fd00:7::/122"]]
        assert await kernel.check() == (f"route fd00:5::/64 via {NEAR6} was gone",)
        assert len(shown6(node6)) == 2

    inside(node6, work)


def test_what_a_former_agent_left_of_ipv6_is_found_and_removed(node6: Netns) -> None:
    node6.ip("-6", "route", "add", "fd00:5::/64", "via", NEAR6, "proto", "77", "metric", "1077")
    node6.ip("-6", "route", "add", "fd00:5::7", "dev", "eth0", "proto", "77")

    async def work(kernel: KernelRoutes) -> None:
        assert await kernel.learned() == {"fd00:5::/64": NEAR6}
        await kernel.apply({}, frozenset())

    inside(node6, work)
    assert [line.split()[0] for line in shown6(node6)] == ["fd00:5::7"]


def test_without_ipv6_in_the_kernel_ipv4_works(node: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel started with ipv6.disable=1 answers a dump of IPv6 routes with EOPNOTSUPP."""

    async def work(kernel: KernelRoutes) -> None:
        real = routes._dump

        def dump(family: int) -> list[tuple[str, str]]:
            if family != AF_INET:
                raise NetlinkError("netlink dump: Operation not supported", errno.EOPNOTSUPP)
            return real(family)

        monkeypatch.setattr(routes, "_dump", dump)
        assert (await kernel.apply({"10.1.0.0/24": NEAR}, frozenset())).installed == {"10.1.0.0/24": NEAR}
        assert await kernel.check() == ()

    inside(node, work)


def test_ipv6_is_read_only_where_there_is_something_of_it(node6: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check comes every few seconds, on every node."""
    read: list[int] = []

    async def work(kernel: KernelRoutes) -> None:
        real = routes._dump

        def dump(family: int) -> list[tuple[str, str]]:
            read.append(family)
            return real(family)

        monkeypatch.setattr(routes, "_dump", dump)
        await kernel.apply({}, frozenset({"10.7.0.0/26"}))
        assert read == [AF_INET, AF_INET6]
        read.clear()
        await kernel.check()
        assert read == [AF_INET]
        await kernel.apply({}, frozenset({"10.7.0.0/26", "fd00:7::/122"}))
        await kernel.check()
        assert read.count(AF_INET6) == 1
        await kernel.apply({}, frozenset({"10.7.0.0/26"}))
        await kernel.check()
        read.clear()
        await kernel.check()
        assert read == [AF_INET]

    inside(node6, work)
