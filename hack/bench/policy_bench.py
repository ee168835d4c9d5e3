"""How long policy takes to reach the kernel, each figure beside its floor in the same run.

Owns: the measurement of `KernelPolicy` alone, without API server or operator. Must not: touch any network namespace but
its own, which it makes.

    python hack/bench/policy_bench.py [nft|legacy] [--programs N] [--repeat N]

The floor of an apply is running the same programs on the same input, with nothing around them.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from manx_agent.dataplane import KernelPolicy
from manx_agent.drivers import ipset
from manx_agent.drivers.iptables import Iptables
from manx_agent.model import Backend, Dirty, LocalEndpoint, PolicyView
from manx_core.api.v1alpha1 import ClassTier, PolicyProgramSpec, PolicySource, PoolSettings, Rule, RuleEnd

_CLONE_NEWNET = 0x40000000
_SOURCE = PolicySource(kind="NetworkPolicy", name="bench")


class Recorder:
    """Notes what programs are run with, while it is on."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.calls: list[tuple[tuple[str, ...], str]] = []

    def __enter__(self) -> Recorder:
        self._own = Iptables.restore, ipset.restore
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        setattr(Iptables, "restore", self._own[0])  # noqa: B010
        ipset.restore = self._own[1]

    def install(self) -> None:
        rules, sets = Iptables.restore, ipset.restore

        async def restore_rules(iptables: Iptables, text: str) -> None:
            self.calls.append(((iptables.program("restore"), "--noflush", "-w", "10"), text))
            await rules(iptables, text)

        async def restore_sets(text: str) -> None:
            self.calls.append((("ipset", "-exist", "restore"), text))
            await sets(text)

        setattr(Iptables, "restore", restore_rules)  # noqa: B010
        ipset.restore = restore_sets


def _program(port: int, group: str) -> PolicyProgramSpec:
    subject = RuleEnd(ports=(str(port),))
    rules = (
        Rule(protocol="TCP", subject=subject, peer=RuleEnd(groups=(group,))),
        Rule(protocol="UDP", index=1, subject=subject),
    )
    return PolicyProgramSpec(epoch=1, source=_SOURCE, types=("Ingress",), ingress=rules)


def _endpoint(number: int) -> LocalEndpoint:
    address = f"10.244.{number // 250}.{number % 250 + 1}"
    return LocalEndpoint("bench", f"p{number}", f"u{number}", f"c{number}", f"mnx{number:011x}", (address,))


def _view(programs: int, pods: int = 100, members: int = 100) -> PolicyView:
    names = [f"knp.bench.{number}" for number in range(programs)]
    groups = {f"ag-{n:020x}": frozenset(f"10.{n}.{m // 250}.{m % 250}" for m in range(members)) for n in range(10)}
    classes = {f"pc-{n:020x}": (ClassTier(name="default", policies=tuple(names[n::20])),) for n in range(20)}
    endpoints = [_endpoint(number) for number in range(pods + 1)]
    return PolicyView(
        endpoints={one.container_id: one for one in endpoints[:pods]},
        classes=classes,
        programs={name: _program(n % 60000 + 1, f"ag-{n % 10:020x}") for n, name in enumerate(names)},
        groups=groups,
        group_types=dict.fromkeys(groups, "Addresses"),
        class_of={(e.namespace, e.name, e.uid): f"pc-{n % 20:020x}" for n, e in enumerate(endpoints)},
        pools=(PoolSettings(name="p", cidr="10.244.0.0/16", nat_outgoing=True),),
    )


def _with_program(view: PolicyView, port: int) -> PolicyView:
    return replace(view, programs={**view.programs, "knp.bench.0": _program(port, f"ag-{0:020x}")})


def _with_member(view: PolicyView, number: int) -> PolicyView:
    group = f"ag-{1:020x}"
    return replace(view, groups={**view.groups, group: view.groups[group] ^ {f"192.0.2.{number}"}})


def _with_endpoint(view: PolicyView, there: int) -> PolicyView:
    extra = _endpoint(len(view.endpoints))
    return replace(view, endpoints={**view.endpoints, extra.container_id: extra}) if there % 2 else view


async def _measure(
    recorder: Recorder, policy: KernelPolicy, base: PolicyView, change: Callable[[PolicyView, int], PolicyView], n: int
) -> tuple[list[float], list[float]]:
    """Seconds for applying a change, and for its bare programs right after."""
    applies, floors = [], []
    for number in range(n):
        view = change(base, 20000 + number if change is _with_program else number)
        recorder.calls = []
        began = time.perf_counter()
        outcome = await policy.apply(view, Dirty())
        applies.append(time.perf_counter() - began)
        if outcome.errors:
            raise SystemExit("\n".join(outcome.errors))
        floors.append(_floor(recorder.calls))
    return applies, floors


def _floor(calls: Sequence[tuple[tuple[str, ...], str]]) -> float:
    began = time.perf_counter()
    for argv, text in calls:
        subprocess.run(argv, input=text.encode(), check=True, capture_output=True)
    return time.perf_counter() - began


async def _time(call: Callable[[], Awaitable[Any]], n: int) -> tuple[list[float], float]:
    """Seconds by the clock, and processor seconds for one call, children included."""
    took, before = [], _cpu()
    for _ in range(n):
        began = time.perf_counter()
        await call()
        took.append(time.perf_counter() - began)
    return took, (_cpu() - before) / n


def _cpu() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _line(what: str, took: Sequence[float], floor: Sequence[float] | None = None) -> None:
    def figures(seconds: Sequence[float]) -> str:
        return f"{statistics.median(seconds) * 1e3:8.1f} ms (p95 {sorted(seconds)[int(len(seconds) * 0.95)] * 1e3:.1f})"

    print(f"{what:42} {figures(took):26}" + (f"  floor {figures(floor)}" if floor else ""))


async def _bench(backend: Backend, programs: int, repeat: int) -> None:
    recorder = Recorder(backend)
    recorder.install()
    policy, view = KernelPolicy(backend), _view(programs)
    print(f"{backend}, {programs} policies of 2 rules, 20 classes, 100 pods, 10 groups of 100, {os.cpu_count()} cores")
    began = time.perf_counter()
    outcome = await policy.apply(view, Dirty(everything=True))
    _line("first apply, empty kernel", [time.perf_counter() - began])
    if outcome.errors:
        raise SystemExit("\n".join(outcome.errors))
    restarted = KernelPolicy(backend)
    began = time.perf_counter()
    await restarted.apply(view, Dirty(everything=True))
    _line("first apply of a restarted agent", [time.perf_counter() - began])
    for what, change in (
        ("a policy's rule changed", _with_program),
        ("a member in or out of a group", _with_member),
        ("an endpoint in or out", _with_endpoint),
    ):
        _line(what, *await _measure(recorder, policy, view, change, repeat))
    _line("an apply with nothing to do", (await _time(lambda: policy.apply(view, Dirty()), repeat))[0])
    await policy.check_drift()
    took, cpu = await _time(policy.check_drift, repeat)
    _line("a check for drift, nothing changed", took)
    print(f"{'':42} {cpu * 1e3:8.1f} ms of processor time: {cpu / 5:.2%} of a core at one every 5 s")


def main() -> None:
    """Measures both back ends, or the one named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("backend", nargs="?", choices=["nft", "legacy"])
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=40)
    options = parser.parse_args()
    chosen: list[Backend] = [options.backend] if options.backend else ["nft", "legacy"]
    for backend in chosen:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
            raise SystemExit("cannot make a network namespace: run as root")
        asyncio.run(_bench(backend, options.programs, options.repeat))


if __name__ == "__main__":
    main()
