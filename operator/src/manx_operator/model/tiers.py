"""Tiers: in which order the policies of a class are evaluated.

Owns: what each tier's order and default action are. Must not: know which pods a policy applies to.

The built-in tiers are always there. A tier that policies name and that is not known comes after all others and denies:
what is missing must not open anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from manx_core.api.tier import BUILT_IN, DefaultAction
from manx_core.api.v1alpha1 import ClassTier
from manx_core.policy import CompiledPolicy

Place = tuple[bool, float, str]
"""How tiers compare: whether it is unknown, its order, its name."""


class TierTable:
    """Tiers by name."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, DefaultAction]] = dict(BUILT_IN)

    def set(self, name: str, order: float | None, default_action: DefaultAction) -> bool:
        """The tier is this now; whether that is new. `order` None: after every number."""
        return self._replace(name, (math.inf if order is None else order, default_action))

    def remove(self, name: str) -> bool:
        """No such object any more; whether that changes anything."""
        return self._replace(name, BUILT_IN.get(name))

    def place(self, name: str) -> Place:
        """What tiers are sorted by."""
        known = self._known.get(name)
        return (True, math.inf, name) if known is None else (False, known[0], name)

    def arrange(self, policies: Iterable[CompiledPolicy]) -> tuple[ClassTier, ...]:
        """Tiers in order, in each the policies in order."""
        found: dict[str, list[CompiledPolicy]] = {}
        for policy in policies:
            of_tier = found.get(policy.source.tier)
            if of_tier is None:
                found[policy.source.tier] = [policy]
            else:
                of_tier.append(policy)
        names = sorted(found, key=self.place) if len(found) > 1 else found
        return tuple([self._tier(name, found[name]) for name in names])

    def _tier(self, name: str, policies: list[CompiledPolicy]) -> ClassTier:
        policies.sort(key=_sort_key)
        names = tuple([policy.name for policy in policies])
        return ClassTier(name=name, policies=names, default_action=self._known.get(name, (0.0, "Deny"))[1])

    def _replace(self, name: str, new: tuple[float, DefaultAction] | None) -> bool:
        old = self._known.pop(name, None)
        if new is not None:
            self._known[name] = new
        return old != new


def _sort_key(policy: CompiledPolicy) -> tuple[float, str, str, str]:
    return policy.sort_key
