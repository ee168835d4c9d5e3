"""What a change costs that goes to the kernel, beside the bare programs with the very same lines.

Owns: one policy changed among 100,000 rules, on both back ends; many members into a set, and one into many. Must not:
have an API server or an operator; the agent's own way begins with the view.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from bench.figures import Figure
from bench.kernel import load
from bench.measures import Given
from bench.policy_bench import Recorder
from manx_agent.dataplane import KernelPolicy
from manx_agent.model import Backend, Dirty, PolicyView
from manx_core.api.v1alpha1 import ClassTier, PolicyProgramSpec, PolicySource, PoolSettings, Rule, RuleEnd
from netns import Netns

_RULES, _KINDS = 20, 50
"""Rules of a policy, and kinds of pods, over which the policies are spread."""
_BACKENDS: tuple[Backend, ...] = ("nft", "legacy")
_GROUP = "ag-" + "g" * 20
_CHANGED = "knp.ns.policy-0"
_RESTORE = ("ipset", "-exist", "restore")
_T = TypeVar("_T")


@dataclass
class Samples:
    """Milliseconds of each change, and of its bare programs."""

    ours: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)

    def figure(self, key: str, name: str, floor_name: str, peer: str = "") -> Figure:
        return Figure(key, name, "ms", tuple(self.ours), floor_name, tuple(self.bare), peer)


def measure(given: Given) -> Iterator[Figure]:
    rules, members, rounds = (2_000, 1_000, 3) if given.quick else (100_000, 10_000, 15)
    for backend in _BACKENDS:
        found = _in_namespace(lambda backend=backend: _policies(backend, rules, rounds))  # type: ignore[misc]
        name = f"one policy changed among {rules} rules, {backend}"
        yield found.figure(f"kernel.policy.{backend}", name, f"iptables-{backend}-restore of the same lines")
    for key, name, found in _in_namespace(lambda: _members(members, rounds)):
        yield found.figure(f"kernel.{key}", name, "ipset restore of the same lines")


def _in_namespace(work: Callable[[], _T]) -> _T:
    with Netns() as here, here.entered():
        return work()


def _many(rules: int, port: int = 1) -> PolicyView:
    """Policies of 20 rules. `port`: of the one that changes."""
    names = [f"knp.ns.policy-{number}" for number in range(rules // _RULES)]
    programs = {name: _program(number) for number, name in enumerate(names)}
    kinds = {
        load.class_name(kind): (ClassTier(name="default", policies=tuple(names[kind::_KINDS])),)
        for kind in range(_KINDS)
    }
    endpoints = [load.endpoint(number) for number in range(_KINDS)]
    view = PolicyView(
        endpoints={one.container_id: one for one in endpoints},
        classes=kinds,
        programs=programs,
        groups={_GROUP: frozenset({"10.1.0.1"})},
        group_types={_GROUP: "Addresses"},
        class_of={(e.namespace, e.name, e.uid): load.class_name(n) for n, e in enumerate(endpoints)},
        pools=(PoolSettings(name="p", cidr="10.244.0.0/16", nat_outgoing=False),),
    )
    return _changed(view, port)


def _changed(view: PolicyView, port: int) -> PolicyView:
    return replace(view, programs={**view.programs, _CHANGED: _program(port)})


def _program(number: int) -> PolicyProgramSpec:
    rules = tuple(
        Rule(
            protocol="TCP",
            index=at,
            peer=RuleEnd(groups=(_GROUP,)),
            subject=RuleEnd(ports=(str(1 + (number * _RULES + at) % 65000),)),
        )
        for at in range(_RULES)
    )
    source = PolicySource(kind="NetworkPolicy", name=f"policy-{number}", namespace="ns")
    return PolicyProgramSpec(epoch=1, source=source, types=("Ingress",), ingress=rules)


def _policies(backend: Backend, rules: int, rounds: int) -> Samples:
    view = _many(rules)
    with Recorder(backend) as recorder:

        async def run() -> Samples:
            found, policy = Samples(), KernelPolicy(backend)
            await _applied(policy, view)
            for number in range(rounds):
                await _sample(found, recorder, policy, _changed(view, 7000 + number))
            return found

        return asyncio.run(run())


async def _applied(policy: KernelPolicy, view: PolicyView) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    outcome = await policy.apply(view, Dirty())
    took = (time.perf_counter() - began) * 1000
    if outcome.errors:
        raise RuntimeError("; ".join(outcome.errors))
    return took


async def _sample(
    found: Samples, recorder: Recorder, policy: KernelPolicy, view: PolicyView, instead: tuple[str, str] = ("", "")
) -> None:
    """A change, and its programs once more; `instead`: what they are to speak of, so that there is as much to do."""
    recorder.calls = []
    found.ours.append(await _applied(policy, view))
    calls = [(argv, text.replace(*instead) if instead[0] else text) for argv, text in recorder.calls]
    found.bare.append(_bare(calls))


def _bare(calls: Sequence[tuple[tuple[str, ...], str]]) -> float:
    began = time.perf_counter()
    for argv, text in calls:
        subprocess.run(argv, input=text.encode(), check=True, capture_output=True)
    return (time.perf_counter() - began) * 1000


def _members(members: int, rounds: int) -> list[tuple[str, str, Samples]]:
    """All in, and one more."""
    empty = replace(_many(_RULES * _KINDS), groups={_GROUP: frozenset({"10.1.0.1"})})
    every = frozenset(f"10.{2 + (n >> 16)}.{n >> 8 & 255}.{n & 255}" for n in range(members))
    full = replace(empty, groups={_GROUP: every | {"10.1.0.1"}})
    name, other = f"manx-g-{'g' * 20}", "bench-floor"
    into, one = Samples(), Samples()
    with Recorder("nft") as recorder:

        async def run() -> None:
            policy = KernelPolicy("nft")
            await _applied(policy, empty)
            for number in range(rounds):
                _bare([(_RESTORE, f"create {other} hash:net maxelem 1048576\n")])
                await _sample(into, recorder, policy, full, (name, other))
                _bare([(_RESTORE, f"destroy {other}\n")])
                more = replace(full, groups={_GROUP: full.groups[_GROUP] | {f"192.0.2.{number}"}})
                await _sample(one, recorder, policy, more)
                await _applied(policy, empty)

        asyncio.run(run())
    return [
        ("members.many", f"{members} members into a set", into),
        ("members.one", f"one member into a set of {members}", one),
    ]
