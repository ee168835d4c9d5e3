"""How rules are written on this node, whatever they are about: verdicts, marks, log entries.

Owns: what PolicySettings mean in iptables' words. Must not: know policies.

Marks: a policy's chain is shared by classes, so where a packet goes next can be said only by whoever jumped to it. That
is needed in two cases, each of which has one bit of the packet's mark: a rule with action Pass sets the lowest bit of
`mark_mask` and returns (to the class's chain, which goes on with the next tier), and where allowed packets are to meet
the rules of others (`allow_action: Return`) an Allow sets the next bit and returns. Whoever jumped looks at once, and
clears the bit before anybody else sees the packet. The other bits of the mark are never touched.

A denied packet may be rejected (`deny_action: Reject`) only where a rule or a tier decided so. What is undecided (an
endpoint not in force, a rule whose group is missing) is dropped, so that it can come again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from manx_agent.render import names
from manx_agent.render.family import Family
from manx_core.api.v1alpha1 import PolicyProgramSpec, PolicySettings

Direction = Literal["ingress", "egress"]

DROP = "-j DROP"
"""For what is undecided."""
NFLOG_GROUP = 0
"""Of the entries about denied packets. iptables-save prints a group only where it is another."""
_DEFAULT_MASK = 0xFFFF0000
_LOG_PREFIX = 29
"""Characters of a LOG prefix (xt_LOG.h, less the NUL)."""
_NFLOG_PREFIX = 63
"""Of NFLOG's (xt_NFLOG.h, less the NUL)."""
_TIER = 16
"""Characters of a tier's name that a prefix has room for."""
_QUOTED = re.compile(r"[^ !#-&(-\[\]-~]")
"""What cannot stand between double quotes as it is."""


@dataclass(frozen=True, slots=True)
class Style:
    """PolicySettings, put into words. `logs`: the kernel has the targets LOG and NFLOG."""

    settings: PolicySettings = field(default_factory=PolicySettings)
    logs: bool = True

    @property
    def problems(self) -> tuple[str, ...]:
        """What in the settings means nothing here."""
        found = []
        if len(_bits(self.settings.mark_mask)) < 2:
            mask = f"NodeState: spec.policy.markMask: {self.settings.mark_mask:#x}"
            found.append(f"{mask} has fewer than two bits; {_DEFAULT_MASK:#x} is used")
        if self.settings.nat_port_range and not self.nat_ports:
            found.append(
                f"NodeState: spec.policy.natPortRange: {self.settings.nat_port_range!r} is not like 1024:65535"
            )
        return tuple(found)

    # --- verdicts --------------------------------------------------------------------------------------------------

    @property
    def final(self) -> str:
        """The end of a packet that is allowed in every respect."""
        return "-j ACCEPT" if self.settings.allow_action == "Accept" else "-j RETURN"

    @property
    def to_host(self) -> str:
        """The end of a pod's packet to its own node."""
        action = self.settings.default_endpoint_to_host_action
        return self.final if action == "Accept" else f"-j {action.upper()}"

    def returns(self, direction: Direction) -> bool:
        """Whether an Allow has to return to the class's chain, because others' rules may come after ours."""
        if self.settings.allow_action == "Return":
            return True
        return direction == "egress" and self.settings.default_endpoint_to_host_action == "Return"

    def allowed(self, direction: Direction) -> str:
        """Where a packet goes that a class allows, said in the class's own chain. An egress Allow goes to manx-to,
        where the receiver's ingress is decided: that chain always comes to a verdict."""
        return self.final if direction == "ingress" else f"-g {names.TO}"

    def allow(self, direction: Direction) -> str:
        """The same, said in a policy's chain."""
        return f"-g {names.ALLOW}" if self.returns(direction) else self.allowed(direction)

    def deny(self, family: Family) -> str:
        """What a rule or a tier denies."""
        if self.settings.deny_action == "Drop":
            return DROP
        return f"-j REJECT --reject-with {family.unreachable}"

    # --- marks -----------------------------------------------------------------------------------------------------

    @property
    def pass_bit(self) -> int:
        return self._two_bits[0]

    @property
    def allow_bit(self) -> int:
        return self._two_bits[1]

    @property
    def _two_bits(self) -> tuple[int, int]:
        found = _bits(self.settings.mark_mask)
        first, second, *_ = found if len(found) >= 2 else _bits(_DEFAULT_MASK)
        return first, second

    @property
    def unmarked(self) -> str:
        """A target that clears both bits."""
        return f"-j MARK --set-xmark 0x0/{self.pass_bit | self.allow_bit:#x}"

    # --- log entries -----------------------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """The target of a rule with action Log; at level "notice", as Calico's are."""
        prefix = plain(self.settings.log_prefix)[: _LOG_PREFIX - 2]
        return f'-j LOG --log-prefix "{prefix}: " --log-level 5'

    def denial(self, direction: Direction, tier: str, what: str) -> str:
        """The target that notes a denied packet: which way, in which tier, by which policy and rule."""
        way = "in" if direction == "ingress" else "out"
        front = f"manx deny {way} {fitting(tier, _TIER)} " if tier else f"manx deny {way} "
        return f'-j NFLOG --nflog-prefix "{front}{plain(what)[: _NFLOG_PREFIX - len(front)]}"'

    def room(self, direction: Direction, tier: str) -> int:
        """Characters that `denial` has left for `what`."""
        return _NFLOG_PREFIX - len(f"manx deny {'in' if direction == 'ingress' else 'out'} {fitting(tier, _TIER)} ")

    @property
    def nat_ports(self) -> str:
        """natPortRange as MASQUERADE takes it; empty where there is none, or none that means anything."""
        parts = re.fullmatch(r"([0-9]{1,5})[:-]([0-9]{1,5})", self.settings.nat_port_range)
        if parts is None or not 0 < int(parts[1]) <= int(parts[2]) < 65536:
            return ""
        return f"{int(parts[1])}-{int(parts[2])}"


def logs(spec: PolicyProgramSpec) -> bool:
    """Whether a policy has something to log."""
    return spec.log_denied or any(rule.action == "Log" for rule in (*spec.ingress, *spec.egress))


def _bits(mask: int) -> list[int]:
    return [1 << place for place in range(32) if mask >> place & 1]


def plain(text: str) -> str:
    """The text without what cannot stand between double quotes."""
    return _QUOTED.sub("_", text)


def fitting(text: str, room: int) -> str:
    """The text, or as much of it as there is room for, with a hash by which it can be told from others."""
    if len(text) <= room:
        return text
    return f"{text[: room - 7]}~{names.digest(text)[:6]}"
