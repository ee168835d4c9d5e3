"""Owns which figures a run owes, each under a key of its own and beside its floor, and says which it did not give.

It must not measure, nor judge a figure. A figure without a floor says here why there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from bench.figures import Figure
from bench.measures import SizeName

CHANGES = ("pod", "address", "relabel", "namespace", "policy", "rules", "nopolicy", "node", "nonode")
CASES = ("small-namespaces", "one-namespace", "large-namespaces", "policy-per-pod")
BURSTS = ("namespace", "pods", "policies", "drain", "stopped")
LISTENERS = (25, 50, 100, 200)


@dataclass(frozen=True)
class Promise:
    """What a measure owes. `keys`: of figures, or patterns of them that some figure has to match. `floorless`: why they
    have no floor (empty: they have to have one)."""

    measure: str
    text: str
    keys: tuple[str, ...]
    floorless: str = ""


def promises(size: SizeName) -> list[Promise]:
    return [*_agent(), *_operator(size), *_computing(), *_scaling(size), *_kernel(), *_speaker(size)]


def broken(measures: Collection[str], figures: Sequence[Figure], size: SizeName) -> list[str]:
    """What the measures that were run owe, a line each."""
    owed = [promise for promise in promises(size) if promise.measure in measures]
    return [line for promise in owed for line in _missing(promise, figures)] + _twice(figures)


def as_json(figure: Figure) -> dict[str, Any]:
    """The figure's JSON; its floor is a text where there is none for a reason."""
    found = figure.as_json()
    return found if figure.floor else {**found, "floor": reason(figure.key)}


def reason(key: str) -> str | None:
    """Why a figure has no floor."""
    known = [one for one in promises("full") if one.floorless]
    return next((one.floorless for one in known if any(fnmatchcase(key, pattern) for pattern in one.keys)), None)


def _missing(promise: Promise, figures: Iterable[Figure]) -> Iterator[str]:
    for pattern in promise.keys:
        found = [figure for figure in figures if fnmatchcase(figure.key, pattern)]
        if not found:
            yield f"{promise.measure}: no {pattern} ({promise.text})"
        for figure in found:
            if not figure.floor and not promise.floorless:
                yield f"{promise.measure}: {figure.key} has no floor"


def _twice(figures: Iterable[Figure]) -> list[str]:
    """A key's second figure would be the only one in the JSON."""
    counted = Counter(figure.key for figure in figures)
    return [f"{key}: measured {count} times" for key, count in counted.items() if count > 1]


def _agent() -> Iterator[Promise]:
    starts = ("agent.start", "agent.start.cpu", "agent.restart", "agent.restart.cpu")
    yield Promise("agent", "agent start → its whole state in the kernel", starts)
    memory = ("agent.resident", "agent.peak", "agent.proportional", "agent.resident.after")
    yield Promise("agent", "agent resident / peak, ExaBGP's process included", memory)
    yield Promise("agent", "agent CPU, 100 pods a second relabelled; idle", ("agent.relabel.cpu", "agent.idle.cpu"))
    yield Promise("agent", "a policy created → its rule in the node's kernel", ("agent.policy",))
    bare = ("floor.restore", "floor.restore.calico", "floor.loop", "floor.server")
    yield Promise("agent", "how fast the machine is today", bare, floorless="is a floor itself")


def _speaker(size: SizeName) -> Iterator[Promise]:
    sessions = (10,) if size == "quick" else (50, 200)
    yield Promise("speaker", "ExaBGP's CPU with live peers", tuple(f"speaker.{count}.idle" for count in sessions))


def _operator(size: SizeName) -> Iterator[Promise]:
    starts = ("nothing", "again", "anew")
    for what in ("", ".cpu", ".writes", ".resident", ".peak"):
        yield Promise("operator", "start → everything written", tuple(f"operator.start.{key}{what}" for key in starts))
    addresses = ("operator.addresses", "operator.addresses.writes")
    yield Promise("operator", "start from nothing, the pods' addresses given", addresses)
    busy = ("operator.relabel.cpu", "operator.relabel.lag", "operator.relabel.lag.p99", "operator.relabel.writes")
    yield Promise("operator", "CPU and lag at 100 relabels a second", busy)
    parts = tuple(f"operator.relabel.lag.{part}{what}" for part in ("told", "own") for what in ("", ".p99"))
    yield Promise("operator", "that lag in its parts", (*parts, "operator.relabel.lag.write"))
    yield Promise("operator", "idle; resident memory", ("operator.idle.cpu", "operator.resident", "operator.peak"))
    bare = ("floor.list", "floor.loop.operator")
    yield Promise("operator", "how fast the machine is today", bare, floorless="is a floor itself")
    if size == "full":
        killed = ("operator.failover", "operator.standby.resident", "burst.killed.time", "burst.killed.writes")
        yield Promise("operator", "failover; the operator down for a minute", killed)
    for key in BURSTS:
        yield Promise("operator", "bursts, coalesced", (f"burst.{key}.time", f"burst.{key}.writes"))
    rates = tuple(f"burst.{key}.rate" for key in BURSTS)
    yield Promise("operator", "no write storm", rates, floorless="is held to a ceiling")


def _computing() -> Iterator[Promise]:
    for case in CASES:
        keys = tuple(f"model.{case}.{what}" for what in ("whole", "computing", "cpu", "peak"))
        yield Promise("model", "Antrea's published cases", keys)
    yield Promise("model", "single changes", ("model.change.*[0-9]",))


def _scaling(size: SizeName) -> Iterator[Promise]:
    for pods in (200,) if size == "quick" else (1_000, 10_000):
        for change in CHANGES:
            what = ("time", "writes", "written", "heard", "octets")
            yield Promise("agent", "the cost table", tuple(f"cost.{change}.{pods}.{one}" for one in what))
        if size == "full":
            yield Promise("agent", "the first pod on a cold node", (f"cost.cold.{pods}",))
    yield Promise("sizes", "the largest objects", ("size.*",), floorless="is held to 400 KiB")
    yield from _watchers()


def _watchers() -> Iterator[Promise]:
    alone = ("watch.none.server.cpu", "watch.none.server.resident", "watch.none.server.live")
    yield Promise("watchers", "the API server with no listeners", alone, floorless="is a floor itself")
    one = ("watch.one.memory", "watch.one.write", "watch.one.filtered", "watch.one.told")
    yield Promise("watchers", "what one watch costs", one, floorless="is a difference to there being no watch")
    for count in LISTENERS:
        for what in ("agents", "everything"):
            of_server = ("server.cpu", "server.resident", "server.live", "events", "missed", "behind")
            keys = tuple(f"watch.{what}.{count}.{one}" for one in of_server)
            yield Promise("watchers", "agents on one API server, beside watching everything", keys)
        lags = (f"watch.agents.{count}.lag", f"watch.agents.{count}.lag.p99")
        yield Promise("watchers", "no watch falls behind", lags, floorless="is counted from the first that heard")


def _kernel() -> Iterator[Promise]:
    ways = tuple(f"{kind}.{way}" for kind in ("", ".both", ".crowd") for way in ("to", "from", "between"))
    walked = tuple(f"kernel.walked{way}{share}" for way in ways for share in ("", ".share"))
    on_paper = "Calico's layout, counted on paper, stands beside it"
    yield Promise("kernel", "rules evaluated for a first packet", walked, floorless=on_paper)
    backends = ("nft", "legacy")
    for what in ("throughput", "connection", "round-trip", "policy"):
        keys = tuple(f"kernel.{what}.{backend}" for backend in backends)
        yield Promise("kernel", "through the rules; one policy among 100,000 rules", keys)
    yield Promise("kernel", "members into an ipset", ("kernel.members.many", "kernel.members.one"))
    yield Promise("kernel", "50 CNI ADDs at once", ("kernel.adds.p50", "kernel.adds.p99"))
