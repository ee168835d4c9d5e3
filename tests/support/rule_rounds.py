"""Rounds of probes: views and packets that between them meet every shape of rule that can be written, and miss it by
each of its matches alone.

Owns: what is demanded (`demanded`), what a packet shows (`Round.shown`), and `rounds`, which draws rules until all is
shown, or says what is not. Must not: touch a kernel. A simulated kernel says which rules a packet meets; the real one
is held against that, packet counters of each rule.

What is demanded of the rules of both families, by the text that the renderer writes:

- in each kind of chain each match: met by a packet, and alone not met by another;
- in each kind of chain each target: reached;
- in the policies' chains each match beside each purpose (Allow, Deny, Pass, LOG, NFLOG): met together;
- in all other chains each rule, as a whole: met.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random

from kernelsim import KernelSim, Packet, Passage
from manx_agent.model import PolicyView
from manx_agent.render.family import FAMILIES
from manx_agent.render.image import Image, unsealed
from manx_agent.render.names import class_set, in_ipv6
from manx_agent.render.plan import plan
from manx_agent.render.policy import Renderer
from manx_agent.render.rules import render_program
from manx_agent.render.settle import Settled, settle
from manx_agent.render.style import Style
from manx_core.api.v1alpha1 import Rule
from policy_shapes import CONDITIONS, SHAPES
from rule_aim import UNTRACKED, Aim, Key, crossings, identity, reply
from rule_draw import ADDRESSES, INTERFACES, SETTINGS, TYPES, draw, only, view
from rule_shape import kind_of_chain, purpose, shape_of

CANDIDATES = 2000
"""Rules drawn, to see what the renderer can write."""
_A_ROUND = range(26, 2, -3)
"""Rules in question of each direction in a round: the fewer, the less stands in the way of what is still missing."""
_MOST_ROUNDS = 24
Item = tuple[str, ...]
Alteration = tuple[str, ...]
"""A program and its arguments: what is done by hand once the view is in force, in the real kernel and in the other."""

NEVER_ALONE = {
    ("filter6", "manx-nd", "-p ipv6-icmp"): "the jump to this chain asks it too, and a type is of no other protocol",
    **{
        (table, chain, "-p tcp"): "flags are of no other protocol"
        for table in ("filter", "filter6")
        for chain in ("manx-from", "manx-arrive")
    },
}
"""Matches that no packet can be short of."""


@dataclass
class Round:
    """A view, what is altered by hand, and packets in batches: connections are forgotten before each that says so."""

    view: PolicyView
    alterations: tuple[Alteration, ...] = ()
    batches: list[tuple[bool, list[Packet]]] = field(default_factory=list)
    expected: list[Counter[Key]] = field(default_factory=list)
    """Of each batch: how many packets each rule meets."""
    passages: list[tuple[bool, Packet, Passage]] = field(default_factory=list)
    shown: set[Item] = field(default_factory=set)


def items_of(table: str, chain: str, rule: str) -> Iterator[Item]:
    """What there is to show of a rule."""
    kind, shape = kind_of_chain(chain), shape_of(rule)
    yield "target", table, kind, shape.target
    in_policy = kind.startswith("manx-p") and kind.endswith("…")
    if not in_policy:
        yield "rule", table, kind, shape.text
    for part in shape.parts:
        yield "met", table, kind, part.shape
        if (table, kind, part.shape) not in NEVER_ALONE:
            yield "alone not met", table, kind, part.shape
        if in_policy:
            yield "beside", table, part.shape, purpose(shape.target)


def _shown(kernel: KernelSim, one: Packet, passage: Passage) -> Iterator[Item]:
    for table, chain, position in passage.rules:
        found = items_of(table, chain, kernel.tables[table][chain][position])
        yield from (item for item in found if item[0] != "alone not met")
    for table, chain, position in passage.missed:
        parts = shape_of(kernel.tables[table][chain][position]).parts
        unmet = parts if len(parts) == 1 else [part for part in parts if not kernel.meets(list(part.words), one)]
        if len(unmet) == 1:
            yield "alone not met", table, kind_of_chain(chain), unmet[0].shape


# --- kernels --------------------------------------------------------------------------------------------------------


def _image(of: PolicyView) -> Image:
    rendered = Renderer().render(settle(of, Settled(), 0.0), of.pools, of.settings)
    assert rendered.problems == ()
    return rendered.image


def kernel_of(one: Round) -> KernelSim:
    """As it is once the view is in force and the alterations are made."""
    kernel = KernelSim()
    for step in plan(Image(), _image(one.view)):
        kernel.run(step)
    for program, *words in one.alterations:
        if program == "ipset":
            kernel.sets[words[1]].members.discard(words[2])
        elif "-F" in words:
            kernel.tables["raw6" if program == "ip6tables" else "raw"]["PREROUTING"].clear()
    return kernel


def _rules_of(image: Image) -> Iterator[tuple[str, str, str]]:
    for table, chains in image.chains.items():
        yield from ((table, chain, rule) for chain, rules in chains.items() for rule in rules)
    for (table, chain), jumps in image.jumps.items():
        yield from ((table, chain, rule) for _, rule in jumps)


def _demanding(candidates: Sequence[Rule]) -> Iterator[tuple[str, str, str]]:
    """All rules that are written for the candidates, and for every view that goldens are made of."""
    views = [*SHAPES.values(), *(view(turn, candidates, candidates) for turn in range(len(SETTINGS)))]
    views += [only(view(0, (), ()), version) for version in (4, 6)]
    for one in views:
        yield from _rules_of(_image(one))


def demanded(candidates: Sequence[Rule]) -> set[Item]:
    """What there is to show of them."""
    return {item for place in _demanding(candidates) for item in items_of(*place)}


@cache
def demanded_rules() -> frozenset[str]:
    """The text of the rules that are demanded, without comments."""
    return frozenset(unsealed(rule) for _, _, rule in _demanding(_candidates(Random(1))))


def _candidates(random: Random) -> list[Rule]:
    return [*CONDITIONS, *(draw(random) for _ in range(CANDIDATES))]


# --- rounds ---------------------------------------------------------------------------------------------------------


_NOTRACK: tuple[Alteration, ...] = tuple(
    (program, *f"-t raw -A PREROUTING -p {which} -j CT --notrack".split())
    for program, foreign in (("iptables", "ipv6-icmp"), ("ip6tables", "icmp"))
    for which in (f"tcp --dport {UNTRACKED}", foreign)
)
"""Somebody else's rules that keep a port, and ICMP of the other family, from connection tracking."""


def _by_hand() -> tuple[Alteration, ...]:
    """Pod f is taken out of its class's sets: in force, and nobody says what is in force for it."""
    name = class_set(f"pc-{'f' * 20}")
    members = [(name, ADDRESSES[4]["f"]), (in_ipv6(name), ADDRESSES[6]["f"])]
    removed = [("ipset", "del", owner, f"{address},{INTERFACES['f']}") for owner, address in members]
    return (*removed, *_NOTRACK)


def _batched(one: Round, kernel: KernelSim, packets: Iterable[tuple[Packet, Passage]]) -> None:
    """Puts packets into batches in which no two are of the same connection, and answers to a few of them."""
    batches: list[dict[tuple[object, ...], tuple[Packet, Passage]]] = []
    for packet, passage in packets:
        name = identity(packet)
        free = next((batch for batch in batches if name not in batch), None)
        if free is None:
            batches.append(free := {})
        free[name] = packet, passage
    for batch in batches:
        listed = list(batch.values())
        _add(one, True, listed)
        for _ in range(2):  # The first answer makes a connection established, for the one who asked too.
            listed = [(answer, kernel.whole_passage(answer)) for answer in _answers(listed)]
            _add(one, False, listed)
    for _, packet, passage in one.passages:
        one.shown.update(_shown(kernel, packet, passage))


def _answers(passages: Iterable[tuple[Packet, Passage]]) -> list[Packet]:
    """Of UDP between each two places in one connection that came about, and was not masqueraded."""
    found: dict[tuple[object, ...], Packet] = {}
    for packet, passage in passages:
        tracked = packet.protocol == "udp" and packet.state in ("NEW", "ESTABLISHED") and packet.out
        masqueraded = any(chain == "manx-nat" for _, chain, _ in passage.rules)
        if tracked and passage.verdict == "ACCEPT" and not masqueraded:
            found.setdefault((packet.version, packet.into, packet.out), reply(packet))
    return list(found.values())


def _add(one: Round, forget: bool, passages: Iterable[tuple[Packet, Passage]]) -> None:
    if listed := list(passages):
        one.batches.append((forget, [packet for packet, _ in listed]))
        one.expected.append(Counter(key for _, passage in listed for key in passage.rules))
        one.passages += [(forget, *pair) for pair in listed]


def _closed(version: int) -> list[Round]:
    """The other family is not in use; what comes past its raw table by mistake is dropped all the same."""
    program = "iptables" if version == 6 else "ip6tables"
    one = only(view(0, (), ()), version)
    return [Round(one, _NOTRACK), Round(one, ((program, "-t", "raw", "-F", "PREROUTING"), *_NOTRACK))]


def _filled(one: Round, missing: set[Item], random: Random, crossed: bool) -> Round:
    """Adds packets to a round: those that may show something that is missing."""
    kernel = kernel_of(one)
    packets = [packet for version in (4, 6) for packet in crossings(version)] if crossed else []
    passages = [(packet, kernel.whole_passage(packet)) for packet in packets]
    left = missing.difference(*(_shown(kernel, *both) for both in passages))
    aim = Aim(kernel, random)
    for table, chain, rule in _rules_of(_image(one.view)):
        kind = kind_of_chain(chain)
        if kind in ("manx-pi-…", "manx-pe-…"):
            key = table, chain, kernel.tables[table][chain].index(rule)
            for found in _aimed(aim, key, kind, rule, left):
                passages.append(found)
                left.difference_update(_shown(kernel, *found))
    _batched(one, kernel, passages)
    return one


def _aimed(aim: Aim, key: Key, kind: str, rule: str, left: set[Item]) -> Iterator[tuple[Packet, Passage]]:
    """`left` may lose what was shown meanwhile."""
    if any(item in left for item in items_of(key[0], key[1], rule) if item[0] != "alone not met"):
        yield from aim.met(key)
    for at, part in enumerate(shape_of(rule).parts):
        if ("alone not met", key[0], kind, part.shape) in left:
            yield from aim.alone_not_met(key, at)


@dataclass
class _Choice:
    """Rules to choose from, and how often each was chosen."""

    candidates: list[Rule]
    random: Random
    items: dict[int, set[Item]] = field(default_factory=dict)
    chosen: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.items = {id(rule): _items_alone(rule) for rule in self.candidates}

    def some(self, missing: set[Item], way: str, most: int) -> list[Rule]:
        """Rules that have much of what is missing for what they ask: one that asks much may ask what nothing can meet.
        Those that ask most stand first, so that others are reached."""
        left = {item for item in missing if item[0] == "beside" or way in item[2]}
        pool = [rule for rule in self.candidates if self.items[id(rule)] & left]
        found: list[Rule] = []
        while len(found) < most and pool:
            best = max(pool, key=lambda rule: self._worth(rule, left))
            found.append(best)
            self.chosen[id(best)] += 1
            left -= self.items[id(best)]
            pool = [rule for rule in pool if self.items[id(rule)] & left]
        return sorted(found, key=lambda rule: -_asks(rule))

    def _worth(self, rule: Rule, left: set[Item]) -> float:
        new = len(self.items[id(rule)] & left)
        return self.random.random() * new / (2 + _asks(rule)) / (1 + self.chosen[id(rule)])


def _asks(rule: Rule) -> int:
    ends = [getattr(end, name) for end in (rule.peer, rule.subject) for name in end.__struct_fields__]
    return sum(map(bool, (rule.protocol, rule.not_protocol, rule.icmp, rule.not_icmp, *ends)))


@cache
def rounds(seed: int = 1) -> tuple[list[Round], set[Item]]:
    """The rounds, and what of what is demanded none of them shows."""
    random = Random(seed)
    choice = _Choice(_candidates(random), random)
    missing = demanded(choice.candidates)
    plain = [Round(view(turn, (), ()), _by_hand()) for turn in range(len(SETTINGS))]
    found = [_filled(one, missing, random, crossed=True) for one in (*_closed(4), *_closed(6), *plain)]
    missing = missing.difference(*(one.shown for one in found))
    for turn in range(_MOST_ROUNDS):
        most = _A_ROUND[min(turn, len(_A_ROUND) - 1)]
        into, out = (choice.some(missing, way, most) for way in ("manx-pi", "manx-pe"))
        one = _filled(Round(view(turn, into, out), _by_hand()), missing, random, crossed=False)
        if one.shown & missing:
            found.append(one)
            missing -= one.shown
        if not missing:
            break
    return found, missing


def _items_alone(rule: Rule) -> set[Item]:
    """Of a rule as it is written with the default settings, in both directions."""
    spec = view(0, (rule,), (rule,)).programs["gnp.security.a"]
    found: set[Item] = set()
    for family in FAMILIES:
        program = render_program("x", spec, frozenset(), TYPES, family, Style())
        table = family.table("filter")
        for chain, written in (("manx-pi-x", program.ingress), ("manx-pe-x", program.egress)):
            found.update(item for text in written or () for item in items_of(table, chain, text))
    return found
