"""A class's chains: its policies, tier by tier.

Owns: the order of evaluation. Must not: know any rule of a policy.

A tier has a say about a direction if one of its policies has. With one such tier, the class's chain tries its policies
in order. With several, each has a chain of its own, which comes back where it decides nothing, and the class's chain
tries them in order: so chains are nested as deep for ten tiers as for two, and nf_tables allows 15.

```
manx-ce-CLASS    → manx-te-TIER             comes back where nothing in it decided, or with a mark
                 allowed: → manx-allowed-out             where allowed packets are to meet others' rules
                 …
                 passed by the last: allowed
manx-te-TIER     [both bits cleared]         where anything before or below sets one
                 → manx-pe-POLICY            comes back where no rule decided, or with a mark
                 passed: back                            where the policy has rules with action Pass
                 allowed: back                           where allowed packets are to meet others' rules
                 …
                 the tier's default action: denied, or back
```

After the last tier the packet is allowed. A tier that denies by default and of which nothing is passed on is the last
one that can be reached; the rest is not rendered. One tier without Pass is what it looks like: policies, then denial.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from manx_agent.render import names
from manx_agent.render.family import Family
from manx_agent.render.image import Rules, seal
from manx_agent.render.rules import Program
from manx_agent.render.style import Direction, Style, fitting
from manx_core.api.v1alpha1 import ClassTier


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier, as far as it has a say about a direction."""

    name: str
    policies: tuple[tuple[str, bool], ...]
    """In order: name, and whether it has rules with action Pass."""
    denies: bool
    """By default."""
    noted: tuple[str, ...]
    """Where what it denies by default is logged: its policies, for people."""

    @property
    def passes(self) -> bool:
        return any(passing for _, passing in self.policies)


def tiers_of(
    tiers: Iterable[ClassTier], programs: Mapping[str, Program], direction: Direction, style: Style
) -> tuple[Tier, ...]:
    """The tiers that a packet in this direction can reach. None: the class is not isolated."""
    found: list[Tier] = []
    for tier in tiers:
        applied = [name for name in tier.policies if programs[name].chain(direction) is not None]
        if not applied:
            continue
        noted = style.logs and (style.settings.log_denied or any(programs[name].log_denied for name in applied))
        policies = tuple(programs[name].said for name in applied) if noted else ()
        listed = tuple((name, direction in programs[name].passes) for name in applied)
        found.append(Tier(tier.name, listed, tier.default_action == "Deny", policies))
        if found[-1].denies and not found[-1].passes:
            break
    return tuple(found)


def class_chains(
    name: str, tiers: Sequence[Tier], direction: Direction, family: Family, style: Style
) -> dict[str, Rules]:
    """One class in one direction."""
    if not tiers:
        return {}
    marked = style.returns(direction) or any(tier.passes for tier in tiers)
    unmark = [marked, *(tier.passes for tier in tiers)]
    first = names.class_ingress(name) if direction == "ingress" else names.class_egress(name)
    if len(tiers) == 1:
        passed = f"-g {_allowed(direction)}"
        return {first: _tier(first, tiers[0], direction, passed, unmark[0], family, style)}
    chains = [_chain(name, tier, direction) for tier in tiers]
    sealed = {first: seal(first, _in_turn(chains, tiers[-1], direction, style))}
    for chain, tier, clear in zip(chains, tiers, unmark, strict=False):
        sealed[chain] = _tier(chain, tier, direction, "-j RETURN", clear, family, style)
    return sealed


def _chain(name: str, tier: Tier, direction: Direction) -> str:
    return names.tier_ingress(name, tier.name) if direction == "ingress" else names.tier_egress(name, tier.name)


def _allowed(direction: Direction) -> str:
    return names.ALLOWED_IN if direction == "ingress" else names.ALLOWED_OUT


def _in_turn(chains: Iterable[str], last: Tier, direction: Direction, style: Style) -> Iterable[str]:
    for chain in chains:
        yield f"-j {chain}"
        if style.returns(direction):
            yield f"{_marked(style.allow_bit)}-g {_allowed(direction)}"
    if last.passes:
        yield f"-g {_allowed(direction)}"
    elif not last.denies:
        yield style.allowed(direction)


def _tier(
    chain: str, tier: Tier, direction: Direction, decided: str, unmark: bool, family: Family, style: Style
) -> Rules:
    """A tier's chain. `decided`: where a packet goes that a policy passed, or allowed and marked."""
    rules = [style.unmarked] if unmark else []
    rules += [rule for policy in tier.policies for rule in _policy(*policy, direction, decided, style)]
    rules += _end(tier, direction, decided, family, style)
    return seal(chain, rules, _labels(rules, tier, direction))


def _policy(name: str, passing: bool, direction: Direction, decided: str, style: Style) -> Iterable[str]:
    yield f"-j {names.program_ingress(name) if direction == 'ingress' else names.program_egress(name)}"
    if passing:
        yield f"{_marked(style.pass_bit)}{decided}"
    if style.returns(direction):
        yield f"{_marked(style.allow_bit)}{decided}"


def _marked(bit: int) -> str:
    return f"-m mark --mark {bit:#x}/{bit:#x} "


def _end(tier: Tier, direction: Direction, decided: str, family: Family, style: Style) -> list[str]:
    """The default action. A tier of several comes back where it passes, one alone says where to."""
    if not tier.denies:
        return [style.allowed(direction)] if decided != "-j RETURN" else []
    noted = [style.denial(direction, tier.name, _nobody(tier, direction, style))] if tier.noted else []
    return [*noted, style.deny(family)]


def _nobody(tier: Tier, direction: Direction, style: Style) -> str:
    """The policies none of which allowed it, as far as they fit."""
    listed = tier.noted
    room = style.room(direction, tier.name)
    for shown in range(min(len(listed), room // 2), 0, -1):
        more = f" +{len(listed) - shown}" if shown < len(listed) else ""
        said = f"none of {' '.join(listed[:shown])}{more}"
        if len(said) <= room:
            return said
    more = f" +{len(listed) - 1}" if len(listed) > 1 else ""
    front = "none of "
    return f"{front}{fitting(listed[0], room - len(front) - len(more))}{more}"


def _labels(rules: Sequence[str], tier: Tier, direction: Direction) -> list[str]:
    """Only the denial at the end has one: it is what users count."""
    last = f"tier {tier.name} {direction} denial" if tier.denies else ""
    return ["" if at < len(rules) - 1 else last for at in range(len(rules))]


def marking_chains(style: Style) -> dict[str, Rules]:
    """The chains that set the marks, and those that clear them, for which there may be use."""
    chains = {
        names.PASS: [f"-j MARK --set-xmark {style.pass_bit:#x}/{style.pass_bit:#x}"],
        names.ALLOW: [f"-j MARK --set-xmark {style.allow_bit:#x}/{style.allow_bit:#x}"],
        names.ALLOWED_OUT: [style.unmarked, style.allowed("egress")],
        names.ALLOWED_IN: [style.unmarked, style.allowed("ingress")],
    }
    return {name: seal(name, rules) for name, rules in chains.items()}
