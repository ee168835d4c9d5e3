"""The policy loop: one apply at a time, bursts coalesced, errors retried against the kernel, pods let in only once they
are in force."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from manx_agent import policy_loop
from manx_agent.model import AgentError, Dirty, LocalEndpoint, PolicyOutcome, PolicyView
from manx_agent.policy_loop import PolicyLoop
from manx_agent.state.share import Share
from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.v1alpha1 import Applied, NodeState, NodeStateSpec, PolicySettings


class Recorder:
    """A dataplane that notes what it is asked, and answers as it is told."""

    def __init__(self) -> None:
        self.applies: list[tuple[PolicyView, Dirty]] = []
        self.answer: Callable[[PolicyView], PolicyOutcome] = lambda view: PolicyOutcome("nft")
        self.busy = False
        self.drift: tuple[str, ...] = ()

    async def apply(self, view: PolicyView, dirty: Dirty) -> PolicyOutcome:
        assert not self.busy
        self.busy = True
        await asyncio.sleep(0.01)
        self.busy = False
        self.applies.append((view, dirty))
        return self.answer(view)

    async def check_drift(self) -> tuple[str, ...]:
        found, self.drift = self.drift, ()
        return found


def endpoint(container_id: str) -> LocalEndpoint:
    return LocalEndpoint("ns", container_id, "u", container_id, "mnx0", ("10.0.0.1",))


@asynccontextmanager
async def running(dataplane: Recorder, share: Share) -> AsyncIterator[PolicyLoop]:
    loop = PolicyLoop(share, dataplane, progress=lambda: Applied(nodestates="7"), changed=lambda: None)
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_the_first_apply_compares_with_the_kernel_and_is_reported() -> None:
    dataplane = Recorder()
    async with running(dataplane, Share("n1")) as loop:
        await loop.done_once.wait()
    assert dataplane.applies[0][1].everything
    assert loop.status.applied == Applied(nodestates="7")


async def test_a_burst_of_pods_is_one_apply_and_all_are_let_in() -> None:
    dataplane = Recorder()
    async with running(dataplane, Share("n1")) as loop:
        await loop.done_once.wait()
        await asyncio.gather(*(loop.admit(endpoint(f"c{number}")) for number in range(50)))
    assert len(dataplane.applies) == 2
    assert len(dataplane.applies[1][1].endpoints) == 50


async def test_a_pod_whose_policy_is_not_in_force_waits() -> None:
    dataplane = Recorder()
    dataplane.answer = lambda view: PolicyOutcome("nft", closed=frozenset(view.endpoints))
    share = Share("n1")
    async with running(dataplane, share) as loop:
        await loop.done_once.wait()
        admitted = asyncio.create_task(loop.admit(endpoint("c1")))
        await asyncio.sleep(0.1)
        assert not admitted.done()
        dataplane.answer = lambda view: PolicyOutcome("nft")
        share.dirty.classes.add("c")
        loop.wake()
        await asyncio.wait_for(admitted, 5)


async def test_withdraw_returns_once_the_endpoint_is_out() -> None:
    dataplane = Recorder()
    async with running(dataplane, Share("n1")) as loop:
        await loop.admit(endpoint("c1"))
        await loop.withdraw("c1")
        await loop.withdraw("c1")
    assert "c1" not in dataplane.applies[-1][0].endpoints


async def test_a_cancelled_admit_leaves_no_waiter_and_the_loop_goes_on() -> None:
    dataplane = Recorder()
    dataplane.answer = lambda view: PolicyOutcome("nft", closed=frozenset(view.endpoints))
    async with running(dataplane, Share("n1")) as loop:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.admit(endpoint("c1")), 0.05)
        dataplane.answer = lambda view: PolicyOutcome("nft")
        await asyncio.wait_for(loop.admit(endpoint("c2")), 5)


async def test_after_an_error_the_next_apply_compares_with_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_loop, "RETRY", 0.02)
    dataplane = Recorder()

    def fail_once(view: PolicyView) -> PolicyOutcome:
        dataplane.answer = lambda view: PolicyOutcome("nft")
        raise AgentError("iptables-restore: line 3")

    async with running(dataplane, Share("n1")) as loop:
        await loop.done_once.wait()
        dataplane.answer = fail_once
        await asyncio.wait_for(loop.admit(endpoint("c1")), 5)
    assert [dirty.everything for _, dirty in dataplane.applies] == [True, False, True]
    assert loop.status.error == ""


async def test_progress_is_not_claimed_while_something_is_missing() -> None:
    dataplane = Recorder()
    dataplane.answer = lambda view: PolicyOutcome("nft", missing=frozenset({"ag-1"}))
    async with running(dataplane, Share("n1")) as loop:
        await loop.done_once.wait()
        assert loop.status.applied == Applied()


async def test_drift_is_counted_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_loop, "DRIFT_POLL", 0.02)
    dataplane = Recorder()
    dataplane.drift = ("chain manx-from of table filter: rule 2 was removed",)
    async with running(dataplane, Share("n1")) as loop:
        await loop.done_once.wait()
        await asyncio.sleep(0.1)
    assert (loop.status.drift_count, loop.status.drift_last) == (
        1,
        "chain manx-from of table filter: rule 2 was removed",
    )


async def test_the_kernel_is_compared_as_often_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_loop, "DRIFT_POLL", 0.02)
    dataplane, share = Recorder(), Share("n1")
    spec = NodeStateSpec(epoch=1, policy=PolicySettings(refresh_interval=3600.0))
    share.set_node_state(NodeState(metadata=ObjectMeta(name="n1"), spec=spec))
    async with running(dataplane, share) as loop:
        await loop.done_once.wait()
        dataplane.drift = ("altered",)
        await asyncio.sleep(0.2)
        assert loop.status.drift_count == 0
        spec = NodeStateSpec(epoch=2, policy=PolicySettings(refresh_interval=0.01))
        share.set_node_state(NodeState(metadata=ObjectMeta(name="n1"), spec=spec))
        loop.wake()
        while not loop.status.drift_count:
            await asyncio.sleep(0.01)
    assert dataplane.applies[-1][1].settings


@pytest.fixture
def long_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than any test waits."""
    monkeypatch.setattr(policy_loop, "REST", 30.0)
    monkeypatch.setattr(policy_loop, "LONGEST_REST", 30.0)


@pytest.mark.usefixtures("long_rests")
async def test_a_stream_rests_between_applies_and_a_pod_waits_for_no_rest() -> None:
    dataplane, share = Recorder(), Share("n1")
    async with running(dataplane, share) as loop:
        await loop.done_once.wait()
        for number in range(20):
            share.dirty.groups.add(f"ag-{number}")
            loop.wake()
            await asyncio.sleep(0.01)
        assert len(dataplane.applies) == 1
        await asyncio.wait_for(loop.admit(endpoint("c1")), 10)
        await asyncio.wait_for(loop.withdraw("c1"), 10)
    assert [len(dirty.groups) for _, dirty in dataplane.applies] == [0, 20, 0]


@pytest.mark.usefixtures("long_rests")
async def test_in_a_stream_of_members_a_policy_waits_for_a_moment_alone() -> None:
    dataplane, share = Recorder(), Share("n1")
    async with running(dataplane, share) as loop:
        await loop.done_once.wait()
        share.dirty.groups.add("ag-1")
        loop.wake()
        await asyncio.sleep(0.05)
        assert len(dataplane.applies) == 1
        share.dirty.programs.add("knp.d.p")
        loop.wake()
        async with asyncio.timeout(10):
            while len(dataplane.applies) == 1:
                await asyncio.sleep(0.01)
    assert (dataplane.applies[1][1].groups, dataplane.applies[1][1].programs) == ({"ag-1"}, {"knp.d.p"})


async def test_what_changes_nothing_here_counts_as_in_the_kernel() -> None:
    dataplane, share = Recorder(), Share("n1")
    heard, told = [Applied(nodestates="7")], 0

    def changed() -> None:
        nonlocal told
        told += 1

    loop = PolicyLoop(share, dataplane, progress=lambda: heard[-1], changed=changed)
    task = asyncio.create_task(loop.run())
    await loop.done_once.wait()
    for _ in range(2):
        heard.append(Applied(nodestates="8"))
        loop.wake()
        await asyncio.sleep(0.05)
    task.cancel()
    assert loop.status.applied == Applied(nodestates="8")
    assert (len(dataplane.applies), told) == (1, 2)
