"""What every policy kind is compiled to.

Owns: `CompiledPolicy`, `InvalidPolicy`, the names of programs, and what in an object's metadata is for the compiler.
Must not: know any one kind's fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from manx_core.api.v1alpha1 import PolicyProgramSpec, PolicySource, Rule
from manx_core.policy.cluster import Direction
from manx_core.policy.scope import GroupDef, hash20
from manx_core.policy.validate import Problem
from manx_core.selectors import Selects

TYPES: tuple[Direction, ...] = ("Ingress", "Egress")
DEFAULT_TIER = "default"
KUBERNETES_ORDER = 1000.0
"""The order of every Kubernetes NetworkPolicy in the default tier, as Calico has it."""
LOG_DENIED = "manx.dev/log-denied"
LONGEST_NAME = 36
"""Characters of a program's name, so that a class of ten thousand policies is an object of less than 400 KiB."""
_CUT = re.compile(r"-[0-9a-f]{20}")


class CompiledPolicy(msgspec.Struct, frozen=True, gc=False):
    """A policy as rules: which pods it applies to, and what it says of them. (A struct takes a tenth of the time that a
    frozen dataclass takes to be made.)"""

    name: str
    """The PolicyProgram's."""
    source: PolicySource
    applies_to: Selects
    """Over pods' flat labels (`scope.pod_item`)."""
    types: tuple[Direction, ...]
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    groups: tuple[GroupDef, ...] = ()
    """Every group that a rule refers to, once."""
    order: float | None = None
    """None: after every number."""
    log_denied: bool = False
    asks_for_namespaces: bool = False
    """Whether the user's object says by labels in which namespaces it applies: of a namespace that is not known, nobody
    can tell. (Also where the rest of the object makes that answer no matter, so that it can be read off the object.)"""
    left_out: tuple[str, ...] = ()
    """The fields of rules that can match no packet, as "spec.ingress[2]"."""

    def own_port(self, rule: Rule, name: str) -> GroupDef:
        """Who has the port that a rule of it asks of the pods themselves. No rule refers to this group, and no node
        needs it; it is for who has to tell whether anybody has such a port."""
        return GroupDef(self.applies_to, name, rule.protocol)

    def own_ports(self) -> tuple[GroupDef, ...]:
        """Of all rules, each once, except for what is among `groups`."""
        asked = [(rule, name) for rule in (*self.ingress, *self.egress) for name in rule.subject.named_ports]
        if not asked:
            return ()
        found = dict.fromkeys(self.own_port(rule, name) for rule, name in asked)
        return tuple(group for group in found if group not in self.groups)

    @property
    def tier(self) -> str:
        return self.source.tier

    @property
    def namespace(self) -> str:
        """Empty: of the whole cluster."""
        return self.source.namespace

    @property
    def sort_key(self) -> tuple[float, str, str, str]:
        """The order of evaluation in the tier: by order, then by name; what is then equal, by namespace and kind."""
        order, source = math.inf if self.order is None else self.order, self.source
        return order, source.name, source.namespace, self.name  # (which begins with the kind)

    def program(self) -> PolicyProgramSpec:
        """The object's spec, with the epoch left 0."""
        return PolicyProgramSpec(
            epoch=0,
            source=self.source,
            types=self.types,
            ingress=self.ingress,
            egress=self.egress,
            log_denied=self.log_denied,
        )


@dataclass(frozen=True, slots=True)
class InvalidPolicy:
    """A policy that cannot be compiled."""

    problems: tuple[Problem, ...]
    closed: CompiledPolicy
    """What is in force where no valid version was known before: the pods that it selects (all that it may have meant,
    where that is not valid) are isolated in its types' directions (in both, where these are not valid)."""


def program_name(*parts: str) -> str:
    """A PolicyProgram's name: what kind of policy ("knp", "np", "gnp"), its namespace if it has one, its name; cut, and
    with a hash at its end, where that would be longer than LONGEST_NAME, or looks as if it had been cut. Namespaces
    have no dots, so no two policies share a name."""
    full = ".".join(parts)
    if len(full) <= LONGEST_NAME and not _CUT.fullmatch(full[-21:]):
        return full
    return f"{full[: LONGEST_NAME - 21].rstrip('.-')}-{hash20(parts)}"


def logs_denied(annotations: Mapping[str, str]) -> bool:
    """Whether the policy asks for a log of what it denies."""
    return LOG_DENIED in annotations and annotations[LOG_DENIED].strip().lower() == "true"
