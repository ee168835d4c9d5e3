"""projectcalico.org/v3 Tier: policies that are decided together.

Owns: the kind's fields, the tiers that are always there, and what may be wrong with one.
Must not: order policies. Source: Calico v3.30 TierSpec; the built-in tiers of its newest releases, under both names.
"""

from __future__ import annotations

import re
from typing import Literal

from manx_core.api.fields import ApiModel, KeptStatus, Metadata, Problem, rule
from manx_core.api.kind import AGE, Column, Kind
from manx_core.api.policy_fields import Order
from manx_core.api.policy_status import VALID

DefaultAction = Literal["Deny", "Pass"]
BUILT_IN: dict[str, tuple[float, DefaultAction]] = {
    "adminnetworkpolicy": (1_000.0, "Pass"),
    "kube-admin": (1_000.0, "Pass"),
    "default": (1_000_000.0, "Deny"),
    "baselineadminnetworkpolicy": (10_000_000.0, "Pass"),
    "kube-baseline": (10_000_000.0, "Pass"),
}
"""Name → order and default action."""
MADE = ("adminnetworkpolicy", "default", "baselineadminnetworkpolicy")
"""Those that there are as objects, whether or not somebody made them."""


class TierSpec(ApiModel):
    """When its policies are looked at, and what becomes of what they do not decide."""

    order: Order | None = None
    """Tiers with lower order come first, then those without; equal ones by name. The built-in tiers' orders cannot be
    changed: adminnetworkpolicy and kube-admin 1000, default 1000000, baselineadminnetworkpolicy and kube-baseline
    10000000."""
    default_action: DefaultAction | None = None
    """What becomes of a packet that no rule decides, of a pod to which a policy of this tier applies in that direction:
    Deny, or Pass to the next tier. Default: Deny; in the built-in tiers except default: Pass."""


class Tier(ApiModel):
    """Policies that are decided together: tiers in their order, in each its policies in theirs."""

    metadata: Metadata
    spec: TierSpec = TierSpec()
    status: KeptStatus = KeptStatus()

    @property
    def default_action(self) -> DefaultAction:
        """With Calico's defaults."""
        return self.spec.default_action or BUILT_IN.get(self.metadata.name, (0.0, "Deny"))[1]


_DNS_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
NAME_ALLOWED = "at most 63 of a-z, 0-9 and -, without dots, for it is part of other names"


def _order_rule(name: str, order: float) -> dict[str, object]:
    return rule(
        f"self.metadata.name != '{name}' || has(self.spec) && has(self.spec.order) && self.spec.order == {order:.1f}",
        f"must be {order:.0f} in the built-in tier {name}",
        "spec.order",
    )


KIND = Kind(
    group="projectcalico.org",
    version="v3",
    kind="Tier",
    plural="tiers",
    categories=("calico",),
    columns=(
        Column("Order", ".spec.order", "number", "Lower comes first."),
        Column("DefaultAction", ".spec.defaultAction", description="What becomes of what no rule decides."),
        VALID,
        AGE,
    ),
    rules=(
        rule(
            f"size(self.metadata.name) <= 63 && self.metadata.name.matches('^{_DNS_LABEL}$')",
            f"metadata.name must be {NAME_ALLOWED}",
        ),
        *(_order_rule(name, order) for name, (order, _) in BUILT_IN.items()),
    ),
)


def check(tier: Tier) -> tuple[Problem, ...]:
    """What the field types alone cannot say."""
    name, found = tier.metadata.name, []
    if len(name) > 63 or not re.fullmatch(_DNS_LABEL, name):
        found.append(Problem("metadata.name", f"{name!r} is not allowed; must be {NAME_ALLOWED}"))
    if name in BUILT_IN and tier.spec.order != BUILT_IN[name][0]:
        found.append(Problem("spec.order", f"must be {BUILT_IN[name][0]:.0f} in the built-in tier {name}"))
    return tuple(found)


def built_in(name: str) -> Tier:
    """A built-in tier as it is where nobody wrote it. Raises KeyError."""
    order, action = BUILT_IN[name]
    return Tier.parse({"metadata": {"name": name}, "spec": {"order": order, "defaultAction": action}})
