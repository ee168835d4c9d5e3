"""The process that is measured: reads the inputs' JSON, and computes every object that Manx would write.

    python -m bench.model.computing <directory of `cases.write`>

Owns: the steps, the clock around each, and the process's peak of memory. Must not: import more than computing needs, so
that the memory is that of computing.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from manx_core.api.core_v1 import Namespace, NetworkPolicy, Pod
from manx_core.api.v1alpha1 import IPAMBlock
from manx_operator import garbage
from manx_operator.addresses import Addresses
from manx_operator.model import Changes, PolicyId, PolicyModel

TYPES: dict[str, Any] = {
    "namespaces": Namespace,
    "networkpolicies": NetworkPolicy,
    "pods": Pod,
    "ipamblocks": IPAMBlock,
}
T = TypeVar("T")
Cache = dict[tuple[str, str], Any]


class Page(msgspec.Struct, Generic[T]):
    items: list[T]


def pages(directory: Path, kind: str) -> Iterator[list[Any]]:
    type_: Any = TYPES[kind]
    decoder = msgspec.json.Decoder(Page[type_])
    with (directory / kind).open("rb") as file:
        for line in file:
            yield decoder.decode(line).items


class Computing:
    """One run. `seconds`: of each step, by the clock; `cpu`: of the processor."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self.resident: dict[str, float] = {"start": resident()}
        self.caches: dict[str, Cache] = {kind: {} for kind in TYPES}
        self.model = PolicyModel()
        self.counts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.changes = Changes()

    def step(self, name: str, work: Callable[[], object]) -> None:
        start, cpu = time.perf_counter(), time.process_time()
        work()
        self.seconds[name], self.cpu[name] = time.perf_counter() - start, time.process_time() - cpu
        self.resident[name] = resident()

    def run(self, count_bytes: bool) -> None:
        self.step("decode", self.decode)
        self.step("dictionary", self.floor)
        with garbage.building():
            self.step("feed", self.feed)
        self.step("drain", self.drain)
        self.step("desired", self.desired)
        if count_bytes:
            self.count_bytes()

    def decode(self) -> None:
        for kind, cache in self.caches.items():
            for items in pages(self.directory, kind):
                for item in items:
                    cache[item.metadata.namespace, item.metadata.name] = item

    def floor(self) -> None:
        """The least that any model does: an entry for each input."""
        for cache in self.caches.values():
            dict(cache.items())

    def feed(self) -> None:
        model = self.model
        for (_, name), namespace in self.caches["namespaces"].items():
            model.set_namespace(name, namespace)
        for key, policy in self.caches["networkpolicies"].items():
            model.set_policy(PolicyId("knp", *key), policy)
        for key, pod in self.caches["pods"].items():
            model.set_pod(key, pod)
        addresses = Addresses(self.caches["pods"], model.set_addresses)
        for (_, name), block in self.caches["ipamblocks"].items():
            addresses.block_changed(name, block)

    def drain(self) -> None:
        self.changes = self.model.drain()

    def desired(self) -> None:
        """Each object once, as the writer asks for them."""
        for kind, name in self.changes.objects:
            if self.model.desired(kind, name) is not None:
                self.counts[kind] += 1
        for node in self.changes.nodes:
            self.counts["Endpoint"] += len(self.model.lines(node))

    def count_bytes(self) -> None:
        encode = msgspec.json.Encoder().encode
        for kind, name in self.changes.objects:
            found = self.model.desired(kind, name)
            if found is not None:
                self.bytes[kind] += len(encode(found.spec))


def resident() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    garbage.tune()
    run = Computing(Path(sys.argv[1]))
    run.run("--bytes" in sys.argv)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    found = {name: getattr(run, name) for name in ("seconds", "cpu", "resident", "counts", "bytes")}
    print(json.dumps({**found, "peak": peak}))


if __name__ == "__main__":
    main()
