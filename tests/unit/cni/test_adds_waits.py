"""What ADD waits for, and what it does not go on waiting for: an address where the pools have none, a policy for a pod
that was deleted meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from ipam_blocks import allocation, block
from manx_agent.cni import attachments
from manx_agent.cni.attachments import Attachments
from manx_agent.cni.protocol import TRY_AGAIN, CniError, NetConf, Request
from manx_agent.drivers.netlink import Netlink
from manx_agent.drivers.netlink_messages import PodLink
from manx_agent.ipam import Ipam
from manx_agent.model import AgentError, LocalEndpoint
from manx_core.api.v1alpha1 import NodeStateSpec, PoolSettings

NAME = "10-0-0-0-32"
FULL = "IPPool p (10.0.0.0/32): all 1 blocks are in use"
REQUEST = Request(
    command="ADD",
    container_id="second",
    if_name="eth0",
    args="K8S_POD_NAMESPACE=default;K8S_POD_NAME=second;K8S_POD_UID=2",
)


class NoKernel(Netlink):
    """Does nothing, successfully."""

    async def create(self, link: PodLink, namespace: int) -> None: ...

    async def activate(self, link: PodLink, namespace: int) -> None: ...

    async def delete(self, interface: str) -> None: ...

    async def flush_conntrack(self, address: str) -> None: ...

    async def mtu_of(self, address: str) -> int:
        return 1500


class Policy:
    """Admits an expected pod at once, others never."""

    def __init__(self) -> None:
        self.expected = True
        self.asked = asyncio.Event()
        self.withdrawn: list[str] = []

    async def admit(self, endpoint: LocalEndpoint) -> None:
        self.asked.set()
        if not self.expected:
            await asyncio.Event().wait()

    async def withdraw(self, container_id: str) -> None:
        self.withdrawn.append(container_id)

    def is_expected(self, namespace: str, name: str, uid: str) -> bool:
        return self.expected


class Fickle(Policy):
    """The operator takes the pod back once its policy is asked for."""

    async def admit(self, endpoint: LocalEndpoint) -> None:
        self.expected = False
        await super().admit(endpoint)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "FULL_TIMEOUT", 0.01)


@pytest.fixture
async def ipam(tmp_path: Path) -> AsyncIterator[Ipam]:
    """One block of one address, which is taken."""
    made = Ipam(tmp_path / "addresses")
    await made.open()
    made.set_blocks({NAME: block("10.0.0.0/32")})
    await made.allocate(allocation("", "first"))
    yield made
    await made.close()


def attachments_of(ipam: Ipam, problem: str) -> Attachments:
    state = NodeStateSpec(epoch=1, ipam_problem=problem)
    return Attachments(ipam, Policy(), NoKernel(), lambda: state, lambda _: None)


async def test_a_full_pool_is_an_error_that_says_so(ipam: Ipam) -> None:
    with pytest.raises(CniError) as error:
        await attachments_of(ipam, FULL).add(REQUEST, -1)
    assert error.value.code == TRY_AGAIN
    assert "pod default/second" in error.value.message
    assert "no address: all 1 addresses of this node's 1 blocks (pool p) are taken: 1 in use" in error.value.message
    assert error.value.message.endswith(f"; {FULL}")
    assert list(ipam.allocations()) == [("first", "eth0")]


async def test_with_a_block_to_come_it_is_waited_for(ipam: Ipam) -> None:
    adding = asyncio.create_task(attachments_of(ipam, "").add(REQUEST, -1))
    await asyncio.sleep(0.05)
    assert not adding.done()
    ipam.set_blocks({NAME: block("10.0.0.0/32"), "10-0-0-1-32": block("10.0.0.1/32")})
    assert (await adding)["ips"][0]["address"] == "10.0.0.1/32"


async def test_with_nothing_to_come_the_whole_time_is_the_limit(ipam: Ipam) -> None:
    request = msgspec.structs.replace(REQUEST, config=NetConf(timeout=0.1))
    with pytest.raises(CniError, match=r"gave up after 0\.1 s: no address: all 1 addresses"):
        await attachments_of(ipam, "").add(request, -1)


async def test_a_pod_deleted_while_it_starts_is_given_up_and_leaves_nothing(ipam: Ipam) -> None:
    ipam.set_blocks({NAME: block("10.0.0.0/32"), "10-0-0-1-32": block("10.0.0.1/32")})
    policy = Fickle()
    made = Attachments(ipam, policy, NoKernel(), lambda: NodeStateSpec(epoch=1), lambda _: None)
    with pytest.raises(CniError, match="it was deleted, or has ended") as error:
        await made.add(REQUEST, -1)
    assert error.value.code == TRY_AGAIN
    assert policy.asked.is_set()
    assert policy.withdrawn == ["second"]
    assert not made.endpoints
    assert list(ipam.allocations()) == [("first", "eth0")]


async def test_on_a_new_node_the_second_familys_block_is_waited_for(ipam: Ipam) -> None:
    pools = (PoolSettings("four", "10.0.0.0/24"), PoolSettings("six", "fd00::/64"))
    state = NodeStateSpec(epoch=1, ipv4="192.0.2.1", ipv6="2001:db8::1", pools=pools)
    four = block("10.0.0.8/29")
    ipam.set_blocks({"four": four})
    made = Attachments(ipam, Policy(), NoKernel(), lambda: state, lambda _: None)
    adding = asyncio.create_task(made.add(REQUEST, -1))
    await asyncio.sleep(0.05)
    assert not adding.done()
    ipam.set_blocks({"four": four, "six": block("fd00::/126")})
    assert [found["address"] for found in (await adding)["ips"]] == ["10.0.0.8/32", "fd00::/128"]


async def test_but_not_for_ever(ipam: Ipam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "FAMILIES_TIMEOUT", 0.0)
    pools = (PoolSettings("four", "10.0.0.0/24"), PoolSettings("six", "fd00::/64"))
    state = NodeStateSpec(epoch=1, ipv4="192.0.2.1", ipv6="2001:db8::1", pools=pools)
    ipam.set_blocks({"four": block("10.0.0.8/29")})
    made = Attachments(ipam, Policy(), NoKernel(), lambda: state, lambda _: None)
    assert [found["address"] for found in (await made.add(REQUEST, -1))["ips"]] == ["10.0.0.8/32"]


async def test_a_failed_add_leaves_its_addresses_to_its_pod(ipam: Ipam, monkeypatch: pytest.MonkeyPatch) -> None:
    ipam.set_blocks({"four": block("10.0.0.8/29")})
    policy = Policy()
    made = Attachments(ipam, policy, NoKernel(), lambda: NodeStateSpec(epoch=1), lambda _: None)

    async def refuse(endpoint: LocalEndpoint) -> None:
        raise AgentError("ipset restore failed")

    monkeypatch.setattr(policy, "admit", refuse)
    with pytest.raises(CniError, match="ipset restore failed"):
        await made.add(REQUEST, -1)
    assert ("second", "eth0") not in ipam.allocations()
    assert [held.address for held in ipam.reservations()["2"]] == ["10.0.0.8"]
    monkeypatch.undo()
    retried = msgspec.structs.replace(REQUEST, container_id="third")
    assert [found["address"] for found in (await made.add(retried, -1))["ips"]] == ["10.0.0.8/32"]


async def test_an_mtu_too_small_for_ipv6_is_said(ipam: Ipam) -> None:
    ipam.set_blocks({"six": block("fd00::/126")})
    made = Attachments(ipam, Policy(), NoKernel(), lambda: NodeStateSpec(epoch=1, mtu=1000), lambda _: None)
    with pytest.raises(CniError, match="the MTU is 1000: IPv6 needs 1280 at the least"):
        await made.add(REQUEST, -1)
