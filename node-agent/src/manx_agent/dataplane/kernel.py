"""One kernel's rules and sets of ours: reading them back, and running the steps of a plan.

Owns: the choice of program for each step, and the differences in how versions of iptables print a rule.
Must not: decide what should be in the kernel.

Spelling: rules are rendered as iptables-save 1.8 prints them. Where another version prints a rule differently, the
chain looks altered. It is then written again, and if what was written still does not read back as it was written,
though the hashes in the comments are right and in order, that is how this kernel spells it, and from then on both
spellings are the same.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import replace

from manx_agent.drivers import ipset
from manx_agent.drivers.iptables import Iptables, has_ipv6
from manx_agent.drivers.process import ProcessError
from manx_agent.model import Backend
from manx_agent.render.family import IPV4
from manx_agent.render.image import Chains, Image, Jumps, Rules, SetImage, Table, hash_of
from manx_agent.render.plan import Step, plan
from manx_agent.render.saved import merged, parse_rules, parse_sets

_PROBE = "manx-probe"
_LOGGING = '-j NFLOG --nflog-prefix "x"', '-j LOG --log-prefix "x" --log-level 5'


class Kernel:
    """Drives the network namespace of the threads that the running loop's default executor makes."""

    def __init__(self, backend: Backend) -> None:
        self.backend: Backend = backend
        self.from_end = False
        """Our rules are to stand last among others': positions are read accordingly."""
        self.ipv6 = has_ipv6()
        self.has_nat6 = False
        """Whether a table nat of IPv6 is known to be there."""
        self._spellings: dict[tuple[str, Rules], Rules] = {}
        """(place, as printed) → as rendered."""

    async def read(self) -> Image:
        """All that is there of ours. Raises ProcessError."""
        rules, sets = await asyncio.gather(self.read_rules(), self.read_sets())
        return replace(rules, sets=sets)

    async def read_rules(self) -> Image:
        """Chains and jumps alone."""
        return self._respelt(await self._read_backend(self.backend))

    async def read_sets(self) -> dict[str, SetImage]:
        return parse_sets(await ipset.save())

    async def digests_of_sets(self) -> dict[str, bytes] | None:
        """By set. The same as before: it has not changed. None where that cannot be told."""
        return await ipset.digests()

    async def run(self, steps: Sequence[Step]) -> frozenset[str]:
        """Runs a plan, and returns the names of sets that could not be destroyed yet. Raises AgentError, after which
        what the kernel holds is not known."""
        busy: tuple[str, ...] = ()
        for step in steps:
            if step.kind == "sets":
                await ipset.restore(step.text)
            elif step.kind == "destroy":
                busy = await ipset.destroy(step.text.split())
            else:
                await Iptables(self.backend, ipv6=step.kind == "rules6").restore(step.text)
        return frozenset(busy)

    async def can_compare_addresses(self) -> bool:
        """Whether rules with the classic BPF filter `Family.same` are accepted."""
        return await self._accepts(f"{IPV4.same}-j ACCEPT")

    async def can_log(self) -> bool:
        """Whether rules with the targets LOG and NFLOG are accepted."""
        return await self._accepts(*_LOGGING)

    async def can_masquerade_ipv6(self) -> bool:
        """Whether the back end has a table nat of IPv6. What fails for another reason is no answer, and asked again."""
        if not self.has_nat6:
            try:
                await Iptables(self.backend, ipv6=True).restore("*nat\nCOMMIT\n")
            except ProcessError as error:
                return "initialize" not in error.stderr
        self.has_nat6 = True
        return True

    async def _accepts(self, *rules: str) -> bool:
        lines = "".join(f"-A {_PROBE} {rule}\n" for rule in rules)
        try:
            await Iptables(self.backend).restore(f"*filter\n:{_PROBE} - [0:0]\n{lines}COMMIT\n")
        except ProcessError:
            return False
        await Iptables(self.backend).restore(f"*filter\n:{_PROBE} - [0:0]\n-X {_PROBE}\nCOMMIT\n")
        return True

    async def clear_other_backend(self) -> tuple[str, ...]:
        """Removes our rules from the back end that is not in use, and says whether there were any. What was left there
        would go on dropping packets. Raises ProcessError where there are some and they cannot be removed."""
        other: Backend = "legacy" if self.backend == "nft" else "nft"
        try:
            left = await self._read_backend(other)
        except ProcessError:
            return ()
        if not left.chains and not left.jumps:
            return ()
        for step in plan(left, Image()):
            await Iptables(other, ipv6=step.kind == "rules6").restore(step.text)
        return (f"iptables: rules of Manx were left in the {other} back end, {self.backend} being in use",)

    def learn(self, rendered: Image, printed: Image) -> None:
        """Takes note of spelling: `printed` was read right after `rendered` was written."""
        for place, ours, theirs in _pairs(rendered, printed):
            if ours != theirs and [*map(hash_of, ours)] == [*map(hash_of, theirs)]:
                self._spellings[place, theirs] = ours

    async def _read_backend(self, backend: Backend) -> Image:
        families = [Iptables(backend), Iptables(backend, ipv6=True)][: 2 if self.ipv6 else 1]
        texts = await asyncio.gather(*(family.save() for family in families))
        return merged(*map(self._parsed, texts, (family.ipv6 for family in families)))

    def _parsed(self, text: str, ipv6: bool) -> Image:
        return parse_rules(_NAMED_PROTOCOL.sub(_by_number, text), ipv6, self.from_end)

    def _respelt(self, image: Image) -> Image:
        if not self._spellings:
            return image
        known = self._spellings
        chains: dict[Table, Chains] = {
            table: {name: known.get((f"{table} {name}", rules), rules) for name, rules in own.items()}
            for table, own in image.chains.items()
        }
        jumps = {place: _respelt_jumps(known, place, rules) for place, rules in image.jumps.items()}
        return Image(chains, jumps, image.sets)


_NAMED_PROTOCOL = re.compile(r"(?<= -p )(?!(?:tcp|udp|sctp|udplite|icmp|ipv6-icmp) )[a-z][\w.+-]*")


def _by_number(protocol: re.Match[str]) -> str:
    """iptables-save names protocols as /etc/protocols does where it runs, which is here."""
    try:
        return str(socket.getprotobyname(protocol[0]))
    except OSError:
        return protocol[0]


def _respelt_jumps(known: dict[tuple[str, Rules], Rules], place: tuple[Table, str], jumps: Jumps) -> Jumps:
    rules = _unpositioned(jumps)
    spelt = known.get((" ".join(place), rules), rules)
    return tuple((index, rule) for (index, _), rule in zip(jumps, spelt, strict=True))


def _unpositioned(jumps: Jumps) -> Rules:
    return tuple(rule for _, rule in jumps)


def _pairs(rendered: Image, printed: Image) -> list[tuple[str, Rules, Rules]]:
    """Chains that are in both images: (place, as rendered, as printed)."""
    pairs = [
        (f"{table} {name}", rules, printed.chains.get(table, {}).get(name, ()))
        for table, own in rendered.chains.items()
        for name, rules in own.items()
    ]
    for place, jumps in rendered.jumps.items():
        pairs.append((" ".join(place), _unpositioned(jumps), _unpositioned(printed.jumps.get(place, ()))))
    return pairs
