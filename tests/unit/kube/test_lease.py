"""The Lease: one leader at a time, rising epochs, and a leader that knows when its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeapi import FakeApi, Request
from fakeapi_state import Refused
from informing import LIMIT, eventually
from manx_kube.client import KubeClient
from manx_kube.lease import LeaseElector, LeaseLost, LeaseTiming, Term, boottime
from manx_kube.resources import LEASES

LONG = LeaseTiming(duration=3600, renew_deadline=3000, retry_period=0.02)  # never runs out by itself
SHORT = LeaseTiming(duration=1.5, renew_deadline=0.8, retry_period=0.05)
KEY = ("s", "l")


@dataclass
class Clock:
    """Real time, which can be made to jump as if the process had been stopped."""

    jumped: float = 0.0

    def __call__(self) -> float:
        return boottime() + self.jumped


@dataclass
class Candidate:
    elector: LeaseElector
    clock: Clock
    terms: list[Term] = field(default_factory=list)
    finish: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False

    async def lead(self, term: Term) -> None:
        self.terms.append(term)
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    @property
    def leads(self) -> bool:
        return bool(self.terms) and self.terms[-1].is_valid()


class Race:
    """A fake server and candidates for one Lease on it, each with its own connection."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.tasks: list[asyncio.Task[None]] = []
        self.clients: list[KubeClient] = []

    async def enter(self, identity: str, *, run: bool = True, clock: Clock | None = None, **settings: Any) -> Candidate:
        client = await KubeClient(self.api.config(), timeout=LIMIT).__aenter__()
        self.clients.append(client)
        clock = clock or Clock()
        elector = LeaseElector(
            client, name="l", namespace="s", identity=identity, clock=clock, **({"timing": LONG} | settings)
        )
        candidate = Candidate(elector, clock)
        if run:
            self.tasks.append(asyncio.create_task(elector.run(candidate.lead)))
        return candidate

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.api.state.of(LEASES)[KEY]["spec"]
        return spec

    def steal(self, **spec: Any) -> None:
        lease = self.api.state.of(LEASES)[KEY]
        self.api.state.put(LEASES, lease | {"spec": lease["spec"] | spec})


@asynccontextmanager
async def race() -> AsyncIterator[Race]:
    async with FakeApi() as api:
        run = Race(api)
        try:
            yield run
        finally:
            for task in run.tasks:
                task.cancel()
            await asyncio.gather(*run.tasks, return_exceptions=True)
            for client in run.clients:
                await client.__aexit__(None, None, None)


def writes(request: Request) -> bool:
    return request.method in ("PUT", "POST")


async def loses(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(LIMIT):
        with pytest.raises(LeaseLost):
            await task


async def test_the_first_takes_it_and_renews() -> None:
    async with race() as r:
        a = await r.enter("a")
        await eventually(lambda: a.leads)
        assert a.terms[0].epoch == 1
        assert (r.spec["holderIdentity"], r.spec["leaseTransitions"]) == ("a", 0)
        first = r.spec["renewTime"]
        await eventually(lambda: r.spec["renewTime"] > first)
        assert r.spec["acquireTime"] <= first


async def test_a_second_waits_until_it_is_released() -> None:
    async with race() as r:
        a = await r.enter("a")
        await eventually(lambda: a.leads)
        b = await r.enter("b")
        await eventually(lambda: b.elector.holder == "a")
        assert not b.terms
        a.finish.set()
        await r.tasks[0]
        assert r.spec["holderIdentity"] != "a"
        await eventually(lambda: b.leads)
        assert b.terms[0].epoch == 2


async def test_cancelling_releases() -> None:
    async with race() as r:
        a = await r.enter("a")
        await eventually(lambda: a.leads)
        r.tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await r.tasks[0]
        assert r.spec["holderIdentity"] == ""
        assert not a.terms[0].is_valid()


async def test_a_release_that_meets_an_edit_is_repeated() -> None:
    async with race() as r:
        a = await r.enter("a")
        await eventually(lambda: a.leads)

        def edit(request: Request) -> None:
            if request.body["spec"]["holderIdentity"] == "":
                r.api.before_write = None
                r.steal(strategy="edited")

        r.api.before_write = edit
        a.finish.set()
        await r.tasks[0]
        assert r.spec["holderIdentity"] == ""


async def test_what_lead_raises_is_raised_after_the_release() -> None:
    async with race() as r:
        a = await r.enter("a", run=False)

        async def fails(term: Term) -> None:
            raise RuntimeError("bug")

        with pytest.raises(RuntimeError, match="bug"):
            await a.elector.run(fails)
        assert r.spec["holderIdentity"] == ""


async def test_a_dead_leader_is_succeeded_after_the_duration_only() -> None:
    async with race() as r:
        a = await r.enter("a", timing=SHORT)
        await eventually(lambda: a.leads)
        b = await r.enter("b", timing=SHORT)
        first = r.spec["renewTime"]
        await eventually(lambda: b.elector.holder == "a" and r.spec["renewTime"] > first)
        r.api.fail(lambda q: writes(q) and q.body["spec"]["holderIdentity"] == "a", Refused(500, "x"), times=10**6)
        await eventually(lambda: b.leads)
        assert not a.leads
        await loses(r.tasks[0])
        assert a.cancelled
        assert b.terms[0].epoch == 2


async def test_a_term_that_is_never_renewed_ends() -> None:
    async with race() as r:
        r.api.fail(lambda q: q.method == "PUT", Refused(500, "x"), times=10**6)
        a = await r.enter("a", timing=SHORT)
        await loses(r.tasks[0])
        assert a.cancelled


async def test_a_stopped_process_notices_before_any_write() -> None:
    async with race() as r:
        a = await r.enter("a")
        await eventually(lambda: a.leads)
        a.clock.jumped = 6000.0
        # Nothing of ours has run since: the answer comes from the clock alone.
        assert not a.terms[0].is_valid()
        with pytest.raises(LeaseLost):
            a.terms[0].require()
        await loses(r.tasks[0])
        assert a.cancelled


async def test_a_renewal_answered_too_late_does_not_revive_the_term() -> None:
    async with race() as r:
        a = await r.enter("a")
        await eventually(lambda: a.leads)
        r.api.fail(writes, Refused(500, "x"), times=10**6)
        a.clock.jumped = 2900.0  # 100 s are left when it is sent, none when it is answered
        r.api.before_write = lambda q: setattr(a.clock, "jumped", 3100.0)
        r.api.faults.clear()
        await loses(r.tasks[0])
        assert not a.terms[0].is_valid()


@pytest.mark.parametrize("spec", [{"holderIdentity": "thief", "leaseTransitions": 1}, {"leaseTransitions": 7}])
async def test_another_term_ends_ours_at_once(spec: dict[str, Any]) -> None:
    async with race() as r:
        a = await r.enter("a")
        await eventually(lambda: a.leads)
        r.steal(**spec)
        await loses(r.tasks[0])
        assert r.spec | spec == r.spec


async def test_short_outages_and_foreign_edits_do_not_end_the_term() -> None:
    async with race() as r:
        a = await r.enter("a")
        await eventually(lambda: a.leads)
        for refused in (
            Refused(500, "x"),
            Refused(503, "x"),
            Refused(429, "x", retry_after=0),
            Refused(404, "NotFound"),
        ):
            r.api.fail(writes, refused, times=2)
        lease = r.api.state.of(LEASES)[KEY]
        r.api.state.put(LEASES, lease | {"metadata": lease["metadata"] | {"labels": {"edited": "yes"}}})
        renewed = r.spec["renewTime"]
        await eventually(lambda: r.spec["renewTime"] > renewed)
        assert a.leads
        assert not r.tasks[0].done()


async def test_a_renewal_whose_answer_was_lost_is_recognised() -> None:
    async with race() as r:
        a = await r.enter("a")
        await eventually(lambda: a.leads)
        r.steal(renewTime="2999-01-01T00:00:00.000000Z")  # as if our own write had been stored
        await eventually(lambda: r.spec["renewTime"] < "2999")
        assert a.leads


async def test_a_deleted_lease_is_made_anew_by_its_leader_in_the_same_epoch() -> None:
    async with race() as r:
        a = await r.enter("a", floor_epoch=lambda: 41)
        await eventually(lambda: a.leads)
        b = await r.enter("b")
        await eventually(lambda: b.elector.holder == "a")
        r.api.state.delete(LEASES, KEY)
        await eventually(lambda: KEY in r.api.state.of(LEASES))
        assert (r.spec["holderIdentity"], r.spec["leaseTransitions"]) == ("a", 41)
        assert a.terms[0].epoch == 42
        assert a.leads
        assert not b.terms


async def test_the_epoch_rises_over_a_deleted_lease() -> None:
    async with race() as r:
        a = await r.enter("a", floor_epoch=lambda: 7)
        await eventually(lambda: a.leads)
        a.finish.set()
        await r.tasks[0]
        r.api.state.delete(LEASES, KEY)
        b = await r.enter("b", floor_epoch=lambda: 8)
        await eventually(lambda: b.leads)
        assert (a.terms[0].epoch, b.terms[0].epoch) == (8, 9)


async def test_the_same_process_in_a_new_term_has_a_new_epoch() -> None:
    async with race() as r:
        a = await r.enter("a", run=False)
        a.finish.set()
        await a.elector.run(a.lead)
        await a.elector.run(a.lead)
        assert [term.epoch for term in a.terms] == [1, 2]


async def test_a_server_that_is_away_at_first() -> None:
    async with race() as r:
        r.api.fail(lambda q: True, Refused(503, "x"), times=3)
        a = await r.enter("a")
        await eventually(lambda: a.leads)


@pytest.mark.parametrize("times", [(10, 10, 2), (10, 15, 2), (15, 2, 2), (15, 10, 0), (15, 10, -1)])
def test_timing_that_cannot_keep_leaders_apart_is_refused(times: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must be greater"):
        LeaseTiming(*times)


# --- property: whatever happens, one valid leader and rising epochs ---------------------------------------------------

STEPS = st.lists(
    st.sampled_from(["wait", "fail_a", "fail_b", "suspend", "delete", "end_a", "end_b", "edit"]), max_size=8
)


@settings(max_examples=15, deadline=None)
@given(STEPS)
def test_never_two_leaders_and_epochs_rise(steps: list[str]) -> None:
    asyncio.run(_never_two_leaders(steps))


async def _never_two_leaders(steps: list[str]) -> None:
    timing = LeaseTiming(duration=0.15, renew_deadline=0.1, retry_period=0.01)
    async with race() as r:
        clock = Clock()  # one for both: when time passes unseen, it passes for everybody
        both = {name: await r.enter(name, run=False, timing=timing, clock=clock) for name in "ab"}
        for candidate in both.values():
            r.tasks.append(asyncio.create_task(_campaign(candidate)))
        for step in steps:
            await _do(r, both, step)
            for _ in range(20):
                assert sum(candidate.leads for candidate in both.values()) <= 1
                await asyncio.sleep(0.002)
        epochs = sorted(term.epoch for candidate in both.values() for term in candidate.terms)
        assert len(set(epochs)) == len(epochs)
        for candidate in both.values():
            own = [term.epoch for term in candidate.terms]
            assert own == sorted(own)


async def _campaign(candidate: Candidate) -> None:
    while True:
        with suppress(LeaseLost):
            await candidate.elector.run(candidate.lead)
        candidate.finish.clear()


async def _do(r: Race, both: dict[str, Candidate], step: str) -> None:
    what, _, who = step.partition("_")
    match what:
        case "fail":
            r.api.fail(lambda q: writes(q) and q.body["spec"]["holderIdentity"] == who, Refused(500, "x"), times=20)
        case "suspend":
            both["a"].clock.jumped += 0.2
        case "delete":
            r.api.state.of(LEASES).pop(KEY, None)
        case "end":
            both[who].finish.set()
        case "edit" if KEY in r.api.state.of(LEASES):
            r.steal(strategy="edited")
        case "wait":
            await asyncio.sleep(0.05)
