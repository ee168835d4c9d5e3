"""How many rules the first packet of a connection meets, until it is allowed.

Owns: counting, in a simulated kernel for every pod, and in the real one for some: there, by the rules' own counters
after a single packet, which say which rules matched, and so how far each chain was gone through. Both must agree.
Must not: measure time.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from bench.figures import Figure, percentile
from bench.kernel import calico, load
from bench.kernel.load import Node
from bench.measures import Given
from kernelsim import KernelSim, Packet, Passage
from manx_agent.dataplane import KernelPolicy
from manx_agent.model import Backend, Dirty
from manx_agent.render.image import Image
from manx_agent.render.plan import plan
from manx_agent.render.policy import Renderer
from manx_agent.render.settle import Settled, settle
from netns import Netns, addressed_veth, make_node, wire_pod

Way = tuple[int | None, int | None]
"""From which pod to which; None: outside the node."""
OUTSIDE = "198.51.100.2"
_PATIENCE = 5.0
_RULES = 2
"""Of each policy, in each direction."""


class Counting(KernelSim):
    """Counts the rules that packets are held against."""

    evaluated = 0

    def _matches(self, words: list[str], passage: Passage) -> bool:
        self.evaluated += 1
        return super()._matches(words, passage)


def simulated(node: Node) -> Counting:
    kernel, view = Counting(), load.view(node)
    for step in plan(Image(), Renderer().render(settle(view, Settled(), 0.0), view.pools).image):
        kernel.run(step)
    return kernel


def packet(sender: int | None, receiver: int | None) -> Packet:
    """None: outside the node."""
    source, into = (OUTSIDE, "eth0") if sender is None else (load.address(sender), load.interface(sender))
    target, out = (OUTSIDE, "eth0") if receiver is None else (load.address(receiver), load.interface(receiver))
    return Packet(source, target, into, out, "tcp", load.PORT)


def count(kernel: Counting, sender: int | None, receiver: int | None) -> int:
    kernel.evaluated = 0
    if kernel.verdict(packet(sender, receiver)) != "ACCEPT":
        raise RuntimeError(f"{packet(sender, receiver)} was not let through")
    return kernel.evaluated


# --- the real kernel ------------------------------------------------------------------------------------------------


def counted(node: Node, backend: Backend, ways: list[Way]) -> list[int]:
    """The same in a real kernel."""
    with contextlib.ExitStack() as stack:
        here, outside = stack.enter_context(Netns()), stack.enter_context(Netns())
        make_node(here)
        addressed_veth(here, outside, ("eth0", "eth0"), ("198.51.100.1/24", f"{OUTSIDE}/24"))
        here.ip("route", "add", "default", "via", OUTSIDE)
        outside.ip("route", "add", "10.244.0.0/16", "via", "198.51.100.1")
        pods = {number: stack.enter_context(Netns()) for number in {n for way in ways for n in way if n is not None}}
        for number, pod in pods.items():
            wire_pod(here, pod, load.interface(number), load.address(number))
        for end in (outside, *pods.values()):  # One packet alone: nobody answers.
            end.run(f"iptables-{backend}", "-A", "OUTPUT", "-p", "tcp", "--tcp-flags", "RST", "RST", "-j", "DROP")
        with here.entered():
            outcome = asyncio.run(KernelPolicy(backend).apply(load.view(node), Dirty(everything=True)))
        if outcome.errors:
            raise RuntimeError("; ".join(outcome.errors))
        return [_one(here, backend, pods, outside, way) for way in ways]


def _one(here: Netns, backend: Backend, pods: Mapping[int, Netns], outside: Netns, way: Way) -> int:
    source = outside if way[0] is None else pods[way[0]]
    shape, before = packet(*way), _counters(here, backend)
    with source.entered(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(_syn(shape), (shape.destination, 0))
    deadline = time.monotonic() + _PATIENCE
    while (after := _counters(here, backend)) == before and time.monotonic() < deadline:
        time.sleep(0.02)
    met = {at for at, packets in after.items() if packets != before[at]}
    rules = _rules(here, backend)
    return sum(_through(rules, met, *hook)[0] for hook in (("raw", "PREROUTING"), ("filter", "FORWARD")))


def _syn(shape: Packet) -> bytes:
    """A segment that opens a connection (RFC 9293), in a packet of IPv4; the kernel fills in length and checksum."""
    ends = socket.inet_aton(shape.source) + socket.inet_aton(shape.destination)
    segment = struct.pack("!HHLLBBHHH", 40001, shape.port, 1, 0, 0x50, 0x02, 1024, 0, 0)
    words = struct.unpack(
        f"!{(len(ends) + 4 + len(segment)) // 2}H", ends + struct.pack("!HH", 6, len(segment)) + segment
    )
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    checked = segment[:16] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + segment[18:]
    return struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + ends + checked


_LINE = re.compile(r"\[(\d+):\d+\] -A (\S+) (.*)")


def _lines(here: Netns, backend: Backend) -> Iterator[tuple[str, str, int, int, str]]:
    """(table, chain, position, packets, rule)."""
    table, places = "", {"": 0}
    for line in here.run(f"iptables-{backend}-save", "-c").splitlines():
        if line.startswith("*"):
            table, places = line[1:], {}
        elif found := _LINE.fullmatch(line):
            at = places[found[2]] = places.get(found[2], -1) + 1
            yield table, found[2], at, int(found[1]), found[3]


def _counters(here: Netns, backend: Backend) -> dict[tuple[str, str, int], int]:
    return {(table, chain, at): packets for table, chain, at, packets, _ in _lines(here, backend)}


def _rules(here: Netns, backend: Backend) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for table, chain, _, _, rule in _lines(here, backend):
        found.setdefault((table, chain), []).append(rule)
    return found


def _through(
    rules: Mapping[tuple[str, str], list[str]], met: set[tuple[str, str, int]], table: str, chain: str
) -> tuple[int, bool]:
    """Rules of a chain, and of those below it, that a packet was held against which met these; and whether it found an
    end there."""
    total = 0
    for at, rule in enumerate(rules.get((table, chain), [])):
        total += 1
        if (table, chain, at) not in met:
            continue
        verb, target = re.search(r"-([jg]) (\S+)", rule).groups()  # type: ignore[union-attr]
        if (table, target) not in rules:
            return total, target != "RETURN"
        below, ended = _through(rules, met, table, target)
        total += below
        if ended or verb == "g":
            return total, ended
    return total, False


# --- figures --------------------------------------------------------------------------------------------------------


def measure(given: Given) -> Iterator[Figure]:
    node = load.QUICK if given.quick else load.FULL
    yield from _figures(node, "", f"{node.pods} pods")
    both = replace(node, egress=True)
    yield from _figures(both, ".both", "policies of both directions")
    crowd = replace(node, policies=100 * 3, kinds=3)
    yield from _figures(crowd, ".crowd", "100 policies to each pod")


def _figures(node: Node, suffix: str, text: str) -> Iterator[Figure]:
    kernel, pods = simulated(node), range(node.pods)
    names = [calico.name_of(f"ns.p{number}") for number in pods]
    ways: dict[str, tuple[str, list[Way]]] = {
        "to": ("to a pod", [(None, pod) for pod in pods]),
        "from": ("from a pod", [(pod, None) for pod in pods]),
        "between": ("between two pods", [(pod, (pod * 7 + 1) % node.pods) for pod in pods]),
    }
    last: list[Way] = []
    for key, (what, all_ways) in ways.items():
        found = {way: count(kernel, *way) for way in all_ways}
        theirs = [_theirs(node, names, way) for way in all_ways]
        last.append(max(found, key=lambda way: found[way]))
        yield Figure(
            f"kernel.walked{suffix}.{key}",
            f"rules met by the first packet {what}, {text}",
            "rules",
            _spread(list(found.values())),
            peer=f"Calico's layout on paper: median {percentile(theirs, 50)}, the last one {max(theirs)}",
            exact=True,
        )
        ratio = max(found.values()) / max(theirs)
        yield Figure(
            f"kernel.walked{suffix}.{key}.share",
            "  of those of Calico's layout",
            "%",
            (round(100 * ratio, 1),),
            exact=True,
        )
    for backend in ("nft", "legacy"):
        seen = counted(node, backend, last)
        if seen != [count(kernel, *way) for way in last]:
            raise RuntimeError(
                f"{backend}: the kernel's counters say {seen} rules for {last}, the simulation otherwise"
            )


def _theirs(node: Node, names: list[str], way: Way) -> int:
    sender, receiver = ("" if pod is None else names[pod] for pod in way)
    return calico.walked(names, sender, receiver, node.each, _RULES, node.egress)


def _spread(found: list[int]) -> tuple[float, ...]:
    """The first, the median and the last one."""
    return min(found), percentile(found, 50), max(found)
