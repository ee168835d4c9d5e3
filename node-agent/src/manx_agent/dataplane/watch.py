"""Noticing at little cost that somebody else has changed what is ours.

Owns: how much is read at each check. Must not: repair anything.

- Rules, nft: nothing is read while nf_tables' generation is the one of the last reading.
- Rules, legacy: there is no such number. The tables' text is read each time (2 ms). python-iptables then decodes the
  chains that differ, and every `DECODE_EVERY` checks some others in turn, in a process of its own: it says what a rule
  really is, independently of how iptables prints it. It is slow (0.4 s, and 1 ms a rule), hence never all at once.
- Sets: there is no number either. Digests of what the kernel says of them are taken each time while they are small,
  else every `LARGE_EVERY` checks; they are read where those are others. We change sets ourselves all the time: where
  those that we changed have other digests, and no others, they are read only every `OWN_EVERY` seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from manx_agent.dataplane.kernel import Kernel
from manx_agent.drivers.nft_generation import generation
from manx_agent.drivers.process import ProcessError, run
from manx_agent.render.compare import differences, place
from manx_agent.render.decoded import disagreements
from manx_agent.render.image import Chains, Image, SetImage, Table

DECODE_EVERY = 60
DECODE_RULES = 300
LARGE_EVERY = 12
OWN_EVERY = 20.0
LARGE = 20_000
"""Members of all our sets together."""

_Decoded = dict[tuple[Table, str], str]
"""What python-iptables disagrees with: (table, chain) → sentence."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What sets there were when they were last read, and what they should have been."""

    known: Mapping[str, SetImage]
    found: Mapping[str, SetImage]
    digests: Mapping[str, bytes] | None
    at: float
    """Seconds, of the watch's clock."""

    def explains(self, known: Mapping[str, SetImage], digests: Mapping[str, bytes], now: float) -> bool:
        """Whether sets with these digests are as `known` says, without being read."""
        if digests == self.digests:
            return known == self.found
        if self.digests is None or self.found != self.known or now - self.at >= OWN_EVERY:
            return False
        return _others(digests, self.digests) == _others(known, self.known)


def _others(now: Mapping[str, object], before: Mapping[str, object]) -> set[str]:
    """The keys of what differs. What is the same object is not compared."""
    return {
        name
        for name in now.keys() | before.keys()
        if (one := now.get(name)) is not (other := before.get(name)) and one != other
    }


class Watch:
    """Checks one kernel again and again. `look` is to be called every few seconds. `clock`: seconds, never going
    back."""

    def __init__(self, kernel: Kernel, clock: Callable[[], float] = time.monotonic) -> None:
        self._kernel, self._clock = kernel, clock
        self._checks = 0
        self._generation: int | None = None
        self._reading: _Reading | None = None
        self._turn: list[tuple[Table, str]] = []

    def written(self) -> None:
        """We wrote rules ourselves: the next check reads them."""
        self._generation = None

    async def look(self, known: Image) -> tuple[Image, tuple[str, ...]]:
        """What the kernel holds now, and how that differs from `known`. Raises ProcessError."""
        self._checks += 1
        found = replace(known, sets=await self._sets(known.sets))
        if self._kernel.backend == "nft":
            found = await self._nft(found)
            return found, differences(known, found)
        found, decoded = await self._legacy(known, found)
        said_already = tuple(f"{place(table)}: chain {chain}" for table, chain in decoded)
        others = (said for said in differences(known, found) if not said.startswith(said_already))
        return found, (*decoded.values(), *others)

    async def _sets(self, known: Mapping[str, SetImage]) -> Mapping[str, SetImage]:
        large = sum(len(image.members) for image in known.values()) > LARGE
        if large and self._checks % LARGE_EVERY:
            return known
        digests, last = await self._kernel.digests_of_sets(), self._reading
        if digests is not None and last is not None and last.explains(known, digests, self._clock()):
            return known
        read = await self._kernel.read_sets()
        found = known if read == known else read  # the same objects are soon compared, and kept but once
        self._reading = _Reading(known, found, digests, self._clock())
        return found

    async def _nft(self, known: Image) -> Image:
        now = generation()
        if now is not None and now == self._generation:
            return known
        rules = await self._kernel.read_rules()
        self._generation = now
        return replace(rules, sets=known.sets)

    async def _legacy(self, known: Image, found: Image) -> tuple[Image, _Decoded]:
        rules = replace(await self._kernel.read_rules(), sets=found.sets)
        chains = _altered(known, rules)
        if not chains and self._checks % DECODE_EVERY == 0:
            chains = self._next_chains(known)
        return (await self._decoded(known, rules, chains)) if chains else (rules, {})

    def _next_chains(self, known: Image) -> Mapping[Table, list[str]]:
        """The next ones in turn, of about `DECODE_RULES` rules together."""
        if not self._turn:
            self._turn = [(table, chain) for table, chains in known.chains.items() for chain in chains]
        chosen: dict[Table, list[str]] = {}
        rules = 0
        while self._turn and rules < DECODE_RULES:
            table, chain = self._turn.pop()
            chosen.setdefault(table, []).append(chain)
            rules += len(known.chains.get(table, {}).get(chain, ()))
        return chosen

    async def _decoded(self, known: Image, read: Image, chains: Mapping[Table, list[str]]) -> tuple[Image, _Decoded]:
        """What python-iptables disagrees with. Chains that only it finds altered count as altered."""
        try:
            said = await run((sys.executable, "-m", "manx_agent.drivers.iptc_check"), json.dumps(chains))
            found = disagreements(_only(known, chains), json.loads(said))
        except (ProcessError, ValueError):
            return read, {}  # It crashes where tables are edited at the same time; the text has been compared already.
        tables: dict[Table, Chains] = dict(read.chains)
        for table, chain in found:
            own = tables.get(table, {})
            if chain in own and own[chain] == known.chains[table][chain]:
                tables[table] = {**own, chain: ()}
        return replace(read, chains=tables), found


def _altered(known: Image, found: Image) -> Mapping[Table, list[str]]:
    """The chains of `known` that are otherwise in `found`."""
    altered: dict[Table, list[str]] = {}
    for table, chains in known.chains.items():
        others = found.chains.get(table, {})
        names = [name for name, rules in chains.items() if others.get(name) != rules]
        if names:
            altered[table] = names
    return altered


def _only(image: Image, chosen: Mapping[Table, list[str]]) -> Image:
    """Some of an image's chains."""
    own = {table: image.chains.get(table, {}) for table in chosen}
    return Image(
        {table: {name: own[table][name] for name in names if name in own[table]} for table, names in chosen.items()}
    )
