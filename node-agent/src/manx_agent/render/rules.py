"""One policy's rules as iptables rules, in one family of addresses.

Owns: what a compiled Rule means in iptables' terms. Must not: know classes, endpoints or other policies; a policy's
chains are the same for everyone to whom it applies.

How nothing opens by mistake: a condition that cannot be known, for want of a group or because it cannot be read, makes
Allow and Log rules vanish. In a Deny rule it is taken as met; in a Pass rule too, and as neither this tier nor a later
one can then be believed, what it might have passed on is denied. Such denials are undecided: dropped, never rejected.
A rule that can match nothing in this family (its networks are all of the other one) vanishes, whatever it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from manx_agent.render import names
from manx_agent.render.conditions import Scope, alternatives
from manx_agent.render.family import Family
from manx_agent.render.image import Rules, SetImage, seal
from manx_agent.render.style import DROP, Direction, Style, fitting, plain
from manx_core.api.v1alpha1 import PolicyProgramSpec, PolicySource, Rule

DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")
_LABEL = 200
"""Characters of a policy's name in a rule's comment, which has room for 255."""


@dataclass(frozen=True, slots=True)
class Program:
    """A policy's chains. None: the policy says nothing in that direction."""

    ingress: Rules | None
    egress: Rules | None
    sets: Mapping[str, SetImage] = field(default_factory=dict)
    """The sets of networks that the rules refer to. Those of groups are not among them."""
    problems: tuple[str, ...] = ()
    passes: frozenset[Direction] = frozenset()
    """Directions in which some rule hands packets on to the next tier."""
    log_denied: bool = False
    said: str = ""
    """The policy, for people."""

    def chain(self, direction: Direction) -> Rules | None:
        return self.ingress if direction == "ingress" else self.egress


def render_program(
    name: str,
    spec: PolicyProgramSpec,
    lacking: frozenset[str],
    types: Mapping[str, str],
    family: Family,
    style: Style,
) -> Program:
    """Renders one policy. `lacking`: ids of the groups that rules must do without; `types`: group id → its type."""
    scope = Scope(family, lacking, types)
    writer = _Writer(name, spec, style, scope)
    ingress = writer.chain("ingress") if "Ingress" in spec.types else None
    egress = writer.chain("egress") if "Egress" in spec.types else None
    passing = frozenset(way for way in DIRECTIONS if any(rule.action == "Pass" for rule in rules_of(spec, way)))
    return Program(ingress, egress, scope.sets, tuple(scope.problems), passing, spec.log_denied, writer.said)


def said(name: str, source: PolicySource) -> str:
    """A program's policy, for people: its kind, as the program's name begins with it, its namespace, its name. The
    program's own name may be cut."""
    parts = (name.partition(".")[0], source.namespace, source.name)
    return plain(".".join(part for part in parts if part))


def rules_of(spec: PolicyProgramSpec, direction: Direction) -> tuple[Rule, ...]:
    return spec.ingress if direction == "ingress" else spec.egress


@dataclass(frozen=True, slots=True)
class _Writer:
    name: str
    spec: PolicyProgramSpec
    style: Style
    scope: Scope

    @property
    def said(self) -> str:
        return said(self.name, self.spec.source)

    def chain(self, direction: Direction) -> Rules:
        chain = names.program_ingress(self.name) if direction == "ingress" else names.program_egress(self.name)
        rules: list[str] = []
        labels: list[str] = []
        policy = fitting(self.said, _LABEL)
        for position, rule in enumerate(rules_of(self.spec, direction)):
            made = list(self._rule(f"PolicyProgram {self.name}: spec.{direction}[{position}]", rule, direction))
            rules += made
            labels += [f"{policy} {direction}[{rule.index}] {rule.action}"] * len(made)
        return seal(chain, rules, labels)

    def _rule(self, where: str, rule: Rule, direction: Direction) -> Iterable[str]:
        matches, known = alternatives(self.scope, where, rule, direction)
        for match in matches:
            if rule.action == "Deny" and self._logged():
                yield f"{match}{self._denial(rule, direction)}"
            verdict = self._verdict(rule, direction) if known else DROP
            if verdict:
                yield f"{match}{verdict}"

    def _verdict(self, rule: Rule, direction: Direction) -> str:
        if rule.action == "Allow":
            return self.style.allow(direction)
        if rule.action == "Deny":
            return self.style.deny(self.scope.family)
        if rule.action == "Pass":
            return f"-g {names.PASS}"
        return self.style.log if self.style.logs else ""

    def _logged(self) -> bool:
        return self.style.logs and (self.spec.log_denied or self.style.settings.log_denied)

    def _denial(self, rule: Rule, direction: Direction) -> str:
        tier, number = self.spec.source.tier, f"[{rule.index}]"
        room = self.style.room(direction, tier) - len(number)
        return self.style.denial(direction, tier, f"{fitting(self.said, room)}{number}")
