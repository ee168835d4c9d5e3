"""What the API server counts: the requests that write our kinds, its own CPU and memory.

Owns: reading its /metrics. Must not: know who sent the requests. Addresses, which agents write, are in a status of
their own, so that writes of specs are the operator's alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from manx_kube.client import KubeClient

GROUP = b'group="manx.dev"'
_REQUEST = re.compile(rb"^apiserver_request_total\{(.*?)\} (\S+)$", re.MULTILINE)
_SECONDS = re.compile(rb"^apiserver_request_duration_seconds_sum\{(.*?)\} (\S+)$", re.MULTILINE)
_BEHIND = re.compile(rb"^apiserver_terminated_watchers_total\{.*?\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(rb'(\w+)="(.*?)"')
_WRITING = {b"POST", b"PUT", b"PATCH", b"APPLY", b"DELETE"}
_SWEEPS = 3
"""What a pool of Go's holds is only given up by the second one."""
Kind = tuple[str, str]
"""(plural, subresource)"""


@dataclass(frozen=True)
class Seen:
    """Since the server began, or between two looks. `seconds`: from its having a request that writes one of our objects
    to its answer, of all of them. `cpu`: seconds. `behind`: watches that it ended because they were too slow.
    `resident`, `live`: MB, at the later look; `live`: of the heap and the stacks."""

    taken: Counter[Kind]
    refused: Counter[Kind]
    seconds: float
    cpu: float
    behind: int
    resident: float
    live: float

    def since(self, before: Seen) -> Seen:
        taken, refused, cpu = self.taken - before.taken, self.refused - before.refused, self.cpu - before.cpu
        seconds = self.seconds - before.seconds
        return Seen(taken, refused, seconds, cpu, self.behind - before.behind, self.resident, self.live)

    @property
    def writes(self) -> int:
        """Objects created, replaced or deleted."""
        return sum(count for (_, subresource), count in self.taken.items() if not subresource)

    @property
    def statuses(self) -> int:
        """Statuses of policies that the operator wrote."""
        return self.taken["policyprograms", "status"]


async def seen(client: KubeClient) -> Seen:
    """Raises KubeError."""
    text = await client.transport.request("GET", "/metrics")
    taken: Counter[Kind] = Counter()
    refused: Counter[Kind] = Counter()
    for labels, value in _writing(_REQUEST, text):
        counts = taken if labels[b"code"].startswith(b"2") else refused
        counts[labels[b"resource"].decode(), labels[b"subresource"].decode()] += int(value)
    seconds = sum(value for labels, value in _writing(_SECONDS, text) if not labels[b"subresource"])
    live = _value(text, b"go_memstats_heap_alloc_bytes") + _value(text, b"go_memstats_stack_inuse_bytes")
    behind = sum(float(value) for value in _BEHIND.findall(text))
    resident = _value(text, b"process_resident_memory_bytes")
    cpu = _value(text, b"process_cpu_seconds_total")
    return Seen(taken, refused, seconds, cpu, int(behind), resident / 1e6, live / 1e6)


def _writing(line: re.Pattern[bytes], text: bytes) -> Iterator[tuple[dict[bytes, bytes], float]]:
    """Labels and value, of what is said of requests that write our kinds."""
    for found, value in line.findall(text):
        labels = dict(_LABEL.findall(found)) if GROUP in found else {}
        if labels.get(b"verb") in _WRITING:
            yield labels, float(value)


async def swept(client: KubeClient) -> Seen:
    """After the server has collected its garbage: `live` is then what it needs. Raises KubeError."""
    for _ in range(_SWEEPS):
        await client.transport.request("GET", "/debug/pprof/heap?gc=1")
    return await seen(client)


def _value(text: bytes, name: bytes) -> float:
    found = re.search(rb"^" + name + rb" (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0
