"""Mutants of rendered rules: a node's kernel with one thing wrong, and the probes that must notice.

Owns: `Subject` (one node's kernel of a random cluster, with everything that the reference says of packets there),
`mutate`, and the recognition of mutants that mean the same as the original. Must not: know how rules come about.

A mutant is caught where a probe's verdict, or whether it is logged, is not as the reference says. One that no probe
catches may mean the same as the original (a match beside another that implies it; a rule that nothing reaches). It is
taken for such an equivalent only where a far wider grid of packets sees no difference between the two kernels: every
boundary of every network, port, ICMP type and protocol in either's rules and sets, one step beyond it on both sides,
between all those addresses and each pod, tracked and untracked, by right and wrong interfaces. Where the grid sees a
difference the reference is asked about that very packet: it must side with the original.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import NamedTuple

from kernelsim import KernelSim, Packet
from manx_core.policy.cluster import Cluster, Direction, PodKey, is_endpoint
from policy_asking import Question, questions
from policy_chain import KERNEL_NAMES, Chain, fed, interface_of, kernel_packet, kernels_of
from policy_random import Drawer, Pair, addresses_of, packets
from policy_random import Packet as AskedPacket

NODE_ADDRESSES = {4: "198.51.100.1", 6: "2001:db8:9::1"}
NEIGHBOURLY = (131, 132, 133, 135, 136, 143)
"""ICMPv6 types that a node takes from its pods whatever their policy (RFC 2710, RFC 3810, RFC 4861)."""
_WITH_TWO = ("--match-set",)
_PORTS = ("--dports", "--sports")
_ICMP = ("--icmp-type", "--icmpv6-type")


class Probe(NamedTuple):
    """A packet at one node, and what must become of it."""

    packet: Packet
    passes: bool
    logged: bool


@dataclass(frozen=True)
class Subject:
    """One node's kernel, and every probe that concerns it."""

    cluster: Cluster
    node: str
    kernel: KernelSim
    probes: list[Probe]
    hit: set[tuple[str, str, int]]
    """(table, chain, position) of the rules that some probe meets."""


@dataclass(frozen=True)
class Mutant:
    """A kernel with one thing wrong."""

    kernel: KernelSim
    what: str


def subjects(random: Random) -> list[Subject]:
    """The nodes of a random cluster. AssertionError where a kernel is not as the reference says."""
    cluster = Drawer(random).cluster()
    kernels = kernels_of(cluster, fed(cluster))
    probes: dict[str, list[Probe]] = {node: [] for node in kernels}
    for node, probe in (*_asked(cluster, kernels), *_to_nodes(cluster, kernels), *_always(cluster, kernels)):
        probes[node].append(probe)
    found = []
    for node, kernel in kernels.items():
        hit = set()
        for probe in probes[node]:
            found_so = seen(kernel, probe.packet)
            rules = kernel.passage(probe.packet).rules
            assert found_so == probe, (found_so, probe, rules)
            hit.update(rules)
        random.shuffle(probes[node])
        found.append(Subject(cluster, node, kernel, probes[node], hit))
    return found


# --- what must become of packets --------------------------------------------------------------------------------------


def _asked(cluster: Cluster, kernels: dict[str, KernelSim]) -> Iterator[tuple[str, Probe]]:
    """What the reference says, at each node that a packet crosses."""
    chain = Chain(cluster, kernels)
    for question in questions(cluster):
        verdicts = {key: question.at(cluster, key, way) for key, way in question.ends()}
        for node, packet in chain.hops(question):
            passes, logged = True, False
            for key, found in verdicts.items():
                if cluster.pods[key].spec.node_name == node and passes:
                    passes = found.allowed
                    logged |= any(rule.action == "Log" for rule in found.passed)
            # What concerns a pod that is not in force is dropped before any policy is asked.
            ends = ((packet.source, packet.into), (packet.destination, packet.out))
            closed = any(its.startswith("mnx") and not _in_force(kernels[node], text, its) for text, its in ends)
            yield node, Probe(packet, passes, logged and not closed)


def _to_nodes(cluster: Cluster, kernels: dict[str, KernelSim]) -> Iterator[tuple[str, Probe]]:
    """A pod's packets to its own node: subject to its egress policy, save for what makes it the pod's neighbour."""
    for key, node, address in _held(cluster, kernels):
        version = 6 if ":" in address else 4
        near = tuple(AskedPacket("ICMPv6", icmp_type=kind, icmp_code=0) for kind in range(130, 145) if version == 6)
        for packet in (*packets(version), *near):
            question = Question(Pair(address, NODE_ADDRESSES[version], key, None, version), packet)
            found = question.at(cluster, key, "Egress")
            in_force = _in_force(kernels[node], address, interface_of(key))
            neighbourly = packet.protocol == "ICMPv6" and version == 6 and packet.icmp_type in NEIGHBOURLY and in_force
            logged = not neighbourly and any(rule.action == "Log" for rule in found.passed)
            sent = kernel_packet(question, interface_of(key), "")
            yield node, Probe(sent, neighbourly or found.allowed, logged)
            if in_force and packet in near:
                linked = replace(sent, source="fe80::1", destination="fe80::2")
                yield node, Probe(linked, packet.icmp_type in NEIGHBOURLY, False)


def _held(cluster: Cluster, kernels: dict[str, KernelSim]) -> Iterator[tuple[PodKey, str, str]]:
    """Every endpoint's node and addresses."""
    for key, pod in cluster.pods.items():
        if is_endpoint(pod) and pod.spec.node_name in kernels:
            yield from ((key, pod.spec.node_name, address) for address in cluster.addresses[key])


def _always(cluster: Cluster, kernels: dict[str, KernelSim]) -> Iterator[tuple[str, Probe]]:
    """What holds whatever the policies."""
    for key, node, address in _held(cluster, kernels):
        interface = interface_of(key)
        in_force = _in_force(kernels[node], address, interface)
        other = addresses_of(next(k for k in (("east", "a"), ("east", "b")) if k != key))[":" in address]
        peer = "2001:db8::1" if ":" in address else "203.0.113.9"
        for state in ("ESTABLISHED", "INVALID"):
            passes = in_force and state == "ESTABLISHED"
            yield node, Probe(Packet(address, peer, interface, "eth0", state=state), passes, False)
            yield node, Probe(Packet(peer, address, "eth0", interface, state=state), passes, False)
        yield node, Probe(Packet(other, peer, interface, "eth0"), False, False)
        yield node, Probe(Packet(peer, other, "eth0", interface, state="ESTABLISHED"), False, False)
        if in_force:
            for packet in packets(6 if ":" in address else 4):
                question = Question(Pair(address, address, key, key, 0), packet)
                yield node, Probe(kernel_packet(question, interface, interface), True, False)
            yield node, Probe(Packet(address, address, interface, interface, state="INVALID"), False, False)


def _in_force(kernel: KernelSim, address: str, interface: str) -> bool:
    name = "manx-6-endpoints" if ":" in address else "manx-endpoints"
    return name in kernel.sets and f"{address},{interface}" in kernel.sets[name].members


# --- mutants ----------------------------------------------------------------------------------------------------------


def mutate(subject: Subject, random: Random) -> Mutant | None:
    """One thing wrong; None where chance picked what cannot be done."""
    kernel = _copy(subject.kernel)
    if random.randrange(6) == 0:
        return _mutate_set(kernel, random)
    places = sorted(subject.hit) if random.randrange(5) else _places(kernel)
    ours = [place for place in places if place[1].startswith("manx-") and not place[0].startswith("nat")]
    if not ours:
        return None
    table, chain, at = random.choice(ours)
    rules = kernel.tables[table][chain]
    before, made = rules[at], _wrong(rules, at, random)
    return Mutant(kernel, f"{made}: {table} {chain}[{at}] {before}") if made else None


def _places(kernel: KernelSim) -> list[tuple[str, str, int]]:
    return [
        (table, chain, at)
        for table, chains in sorted(kernel.tables.items())
        for chain, rules in sorted(chains.items())
        for at in range(len(rules))
    ]


def _copy(kernel: KernelSim) -> KernelSim:
    copied = KernelSim()
    copied.tables = {table: {name: list(rules) for name, rules in own.items()} for table, own in kernel.tables.items()}
    copied.sets = {name: type(one)(one.kind, set(one.members), one.family) for name, one in kernel.sets.items()}
    return copied


def _mutate_set(kernel: KernelSim, random: Random) -> Mutant | None:
    names = sorted(name for name, one in kernel.sets.items() if one.members and not name.endswith(("pools", "nat")))
    if not names:
        return None
    name = random.choice(names)
    members = kernel.sets[name].members
    gone = random.choice(sorted(members))
    if random.randrange(2):
        members.discard(gone)
        return Mutant(kernel, f"member {gone} of {name} lost")
    other = random.choice(sorted(kernel.sets[random.choice(names)].members))
    if other in members or kernel.sets[name].kind == "hash:net,iface" or ("," in other) != ("," in gone):
        return None
    members.add(other)
    return Mutant(kernel, f"member {other} of {name} added")


def _wrong(rules: list[str], at: int, random: Random) -> str:
    """Makes one rule wrong and says how; empty where that cannot be."""
    way = random.choice(("dropped", "verdict", "match dropped", "negated", "port", "icmp", "protocol", "reordered"))
    if way == "dropped":
        del rules[at]
        return way
    if way == "reordered":
        if at + 1 == len(rules) or rules[at].split()[-1] == rules[at + 1].split()[-1]:
            return ""
        rules[at], rules[at + 1] = rules[at + 1], rules[at]
        return way
    units, target = _parts(rules[at])
    changed = _verdict(target, random) if way == "verdict" else _condition(units, way, random)
    if not changed:
        return ""
    rules[at] = shlex.join([*(word for unit in units for word in unit), *target])
    return way


def _parts(rule: str) -> tuple[list[list[str]], list[str]]:
    """A rule's conditions, each with the `-m` before it, and its target."""
    words = shlex.split(rule)
    end = next(at for at, word in enumerate(words) if word in ("-j", "-g"))
    units: list[list[str]] = []
    unit: list[str] = []
    at = 0
    while at < end:
        word = words[at]
        unit.append(word)
        at += 1
        if word == "-m":
            unit.append(words[at])
            at += 1
        elif word != "!":
            taken = 2 if word in _WITH_TWO else 1
            unit += words[at : at + taken]
            at += taken
            units.append(unit)
            unit = []
    return units, words[end:]


def _verdict(target: list[str], random: Random) -> bool:
    """The other verdict; for a chain, either."""
    if target[1] in ("MARK", "LOG", "NFLOG"):
        return False
    target[:] = ["-j", {"ACCEPT": "DROP", "DROP": "ACCEPT"}.get(target[1], random.choice(("ACCEPT", "DROP")))]
    return True


def _condition(units: list[list[str]], way: str, random: Random) -> bool:
    wanted = {"port": _PORTS, "icmp": _ICMP, "protocol": ("-p",)}.get(way)
    fitting = [
        unit
        for unit in units
        if "--comment" not in unit and (wanted is None or any(option in unit for option in wanted))
    ]
    if not fitting:
        return False
    unit = random.choice(fitting)
    if way == "match dropped":
        units.remove(unit)
    elif way == "negated":
        _negate(unit)
    elif way == "protocol":
        unit[-1] = random.choice([name for name in ("tcp", "udp", "sctp", "89") if name != unit[-1]])
    else:
        unit[-1] = _shifted(unit[-1], random)
    return True


def _negate(unit: list[str]) -> None:
    if "!" in unit:
        unit.remove("!")
    else:
        option = next(at for at, word in enumerate(unit) if word.startswith("-") and word != "-m")
        unit.insert(option, "!")


def _shifted(text: str, random: Random) -> str:
    """One of its numbers, one higher or lower."""
    numbers = list(re.finditer("[0-9]+", text))
    number = random.choice(numbers)
    value = max(0, int(number[0]) + random.choice((-1, 1)))
    return text[: number.start()] + str(value) + text[number.end() :]


# --- caught, or the same ----------------------------------------------------------------------------------------------


def catches(subject: Subject, mutant: Mutant) -> Probe | None:
    """The first probe that notices."""
    for probe in subject.probes:
        passage = mutant.kernel.passage(probe.packet)
        if (passage.verdict == "ACCEPT") != probe.passes or bool(passage.logged) != probe.logged:
            return probe
    return None


def difference(subject: Subject, mutant: Mutant, random: Random, most: int) -> Packet | None:
    """A packet of the wider grid that the two kernels treat differently; of a grid of more than `most`, so many."""
    for packet in _grid(subject.kernel, mutant.kernel, random, most):
        one, other = subject.kernel.passage(packet), mutant.kernel.passage(packet)
        if (one.verdict, bool(one.logged)) != (other.verdict, bool(other.logged)):
            return packet
    return None


def seen(kernel: KernelSim, packet: Packet) -> Probe:
    """What the kernel makes of a packet."""
    passage = kernel.passage(packet)
    return Probe(packet, passage.verdict == "ACCEPT", bool(passage.logged))


def expected(subject: Subject, packet: Packet) -> Probe | None:
    """What the reference says of a packet of the grid; None where a pod's interface is not that of the address."""
    source = _behind(subject, packet.source, packet.into)
    destination = _behind(subject, packet.destination, packet.out)
    doors = (packet.into, source), (packet.out, destination)
    if any(door.startswith("mnx") != (pod is not None) for door, pod in doors) or packet.state == "INVALID":
        return None
    held = ((packet.source, source), (packet.destination, destination))
    if any(pod is not None and not _in_force(subject.kernel, text, interface_of(pod)) for text, pod in held):
        return Probe(packet, False, False)
    if packet.state == "ESTABLISHED" or (source is not None and source == destination):
        return Probe(packet, True, False)
    ends: tuple[tuple[PodKey | None, Direction], ...] = ((source, "Egress"), (destination, "Ingress"))
    return _by_policy(subject.cluster, packet, [(pod, way) for pod, way in ends if pod is not None])


def _behind(subject: Subject, address: str, door: str) -> PodKey | None:
    """The node's pod that has the address and the interface."""
    pods = subject.cluster.pods.items()
    here = (key for key, pod in pods if is_endpoint(pod) and pod.spec.node_name == subject.node)
    return next((k for k in here if interface_of(k) == door and address in subject.cluster.addresses[k]), None)


def _by_policy(cluster: Cluster, packet: Packet, ends: list[tuple[PodKey, Direction]]) -> Probe:
    version = 6 if ":" in packet.source else 4
    names = {name: protocol for protocol, name in KERNEL_NAMES.items()}
    protocol = names.get(packet.protocol, packet.protocol)
    asked = AskedPacket(protocol, packet.port, packet.source_port, packet.icmp_type, packet.icmp_code)
    if packet.out == "" and protocol == "ICMPv6" and version == 6 and packet.icmp_type in NEIGHBOURLY:
        return Probe(packet, True, False)
    question, passes, logged = (
        Question(Pair(packet.source, packet.destination, None, None, version), asked),
        True,
        False,
    )
    for key, way in ends:
        if passes:
            found = question.at(cluster, key, way)
            passes, logged = found.allowed, logged or any(rule.action == "Log" for rule in found.passed)
    return Probe(packet, passes, logged)


def _grid(kernel: KernelSim, mutant: KernelSim, random: Random, most: int) -> Iterable[Packet]:
    texts = [
        rule for one in (kernel, mutant) for own in one.tables.values() for rules in own.values() for rule in rules
    ]
    members = [member for one in (kernel, mutant) for found in one.sets.values() for member in found.members]
    pods = sorted({(member.split(",")[0], member.split(",")[1]) for member in members if ",mnx" in member})
    addresses = _addresses(texts, members)
    kinds = _kinds(texts, members)
    grid = []
    for (own, interface), other in product(pods, addresses):
        if "/" in own or own == "::" or (":" in own) != (":" in other):
            continue
        out = next((its for address, its in pods if address == other), "eth0")
        for into, onward in ((interface, out), (interface, ""), (out, interface), ("eth0", interface)):
            ends = (other, own) if onward == interface else (own, other)
            if ends[0] != ends[1] or into == onward:
                grid.append((ends, into, onward))
    drawn = [(random.choice(grid), random.choice(kinds)) for _ in range(most)] if grid else []
    for (ends, into, onward), (protocol, port, source_port, icmp, state) in drawn:
        yield Packet(*ends, into, onward, protocol, port, state, source_port, *icmp)  # type: ignore[arg-type]


def _addresses(texts: Iterable[str], members: Iterable[str]) -> list[str]:
    nets = [member.split(",")[0] for member in members]
    nets += [found for text in texts for found in re.findall(r"(?:^| )-[sd] (\S+)", text)]
    found = set()
    for net in map(ipaddress.ip_network, nets):
        first, last, most = int(net[0]), int(net[-1]), 2**net.max_prefixlen - 1
        kind = type(net[0])
        found |= {str(kind(value)) for value in (first - 1, first, last, last + 1) if 0 < value < most}
    return sorted(found)


def _kinds(texts: Iterable[str], members: Iterable[str]) -> list[tuple[str, int, int, tuple[int, int], str]]:
    """Protocol, ports, ICMP type and code, state."""
    said = [part for text in texts for part in re.findall(r"--[ds]ports (\S+)", text)]
    said += [member.rpartition(":")[2] for member in members if re.search(r",\w+:\d+$", member)]
    ports = sorted({int(n) + step for text in said for n in re.split("[,:]", text) for step in (-1, 0, 1)} | {40000, 9})
    types = [tuple(map(int, part.split("/"))) for t in texts for part in re.findall(r"--icmp(?:v6)?-type (\S+)", t)]
    icmps = sorted(
        {(kind + a, code + b) for kind, *rest in types for code in [*rest, 0] for a in (0, 1) for b in (0, 1)}
    )
    ported = [
        (name, port, source, (-1, 0), "NEW")
        for name in ("tcp", "udp", "sctp", "udplite")
        for port in ports
        for source in ports
    ]
    rest = [(name, 0, 0, icmp, "NEW") for name in ("icmp", "ipv6-icmp") for icmp in [*icmps, (8, 0), (200, 3)]]
    rest += [(name, 0, 0, (-1, 0), "NEW") for name in ("89", "47")]
    tracked = [("tcp", 80, 40000, (-1, 0), state) for state in ("ESTABLISHED", "INVALID", "UNTRACKED")]
    return [*ported, *rest * (1 + len(ported) // (4 * len(rest))), *tracked * (1 + len(ported) // 20)]


def try_mutants(random: Random, wanted: int) -> Counter[str]:
    """So many mutants that are no equivalents, at most four of one cluster: "caught", and "equivalent" for those passed
    over. AssertionError for one that no probe catches and that is none."""
    count: Counter[str] = Counter()
    while count["caught"] < wanted:
        found = [subject for subject in subjects(random) if subject.probes]
        count["clusters"] += 1
        for _ in range(4 if found else 0):
            subject = random.choice(found)
            mutant = mutate(subject, random)
            if mutant is None or count["caught"] == wanted:
                continue
            if catches(subject, mutant):
                count["caught"] += 1
                continue
            packet = difference(subject, mutant, random, 8000)
            count["equivalent" if packet is None else "caught"] += 1
            if packet is not None:
                assert expected(subject, packet) == seen(subject.kernel, packet), (mutant.what, packet)
    return count
