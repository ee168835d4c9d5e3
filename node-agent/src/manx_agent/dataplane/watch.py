"""Noticing at little cost that somebody else has changed what is ours.

Owns: how much is read at each check. Must not: repair anything.

- Rules, nft: nothing is read while nf_tables' generation is the one of the last reading.
- Rules, legacy: there is no such number. The tables' text is read each time (2 ms). Where it differs, and every
  `DECODE_EVERY` checks in any case, python-iptables decodes the chains in a process of its own (0.4 s): it says what a
  rule really is, independently of how iptables prints it.
- Sets: there is no number either. They are read each time as long as they are small, else every `LARGE_EVERY` checks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace

from manx_agent.dataplane.kernel import Kernel
from manx_agent.drivers.nft_generation import generation
from manx_agent.drivers.process import ProcessError, run
from manx_agent.render.compare import differences, place
from manx_agent.render.decoded import disagreements
from manx_agent.render.image import Chains, Image, SetImage, Table

DECODE_EVERY = 12
LARGE_EVERY = 12
LARGE = 20_000
"""Members of all our sets together."""

_Decoded = dict[tuple[Table, str], str]
"""What python-iptables disagrees with: (table, chain) → sentence."""


class Watch:
    """Checks one kernel again and again. `look` is to be called every few seconds."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._checks = 0
        self._generation: int | None = None

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
        found = await self._kernel.read_sets()
        return known if found == known else found

    async def _nft(self, known: Image) -> Image:
        now = generation()
        if now is not None and now == self._generation:
            return known
        rules = await self._kernel.read_rules()
        self._generation = now
        return replace(rules, sets=known.sets)

    async def _legacy(self, known: Image, found: Image) -> tuple[Image, _Decoded]:
        rules = replace(await self._kernel.read_rules(), sets=found.sets)
        if (rules.chains, rules.jumps) == (known.chains, known.jumps) and self._checks % DECODE_EVERY:
            return rules, {}
        return await self._decoded(known, rules)

    async def _decoded(self, known: Image, read: Image) -> tuple[Image, _Decoded]:
        """What python-iptables disagrees with. Chains that only it finds altered count as altered."""
        argv = (sys.executable, "-m", "manx_agent.drivers.iptc_check", *sorted(read.chains))
        try:
            found = disagreements(known, json.loads(await run(argv)))
        except (ProcessError, ValueError):
            return read, {}  # It crashes where tables are edited at the same time; the text has been compared already.
        chains: dict[Table, Chains] = dict(read.chains)
        for table, chain in found:
            own = chains.get(table, {})
            if chain in own and own[chain] == known.chains[table][chain]:
                chains[table] = {**own, chain: ()}
        return replace(read, chains=chains), found
