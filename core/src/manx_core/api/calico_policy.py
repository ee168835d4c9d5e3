"""projectcalico.org/v3 NetworkPolicy and GlobalNetworkPolicy: what users write.

Owns: the kinds' fields, and what may be wrong with one policy by itself. Must not: compile, or repair what is wrong.

Source: Calico v3.30, NetworkPolicySpec, GlobalNetworkPolicySpec, and their validation in libcalico-go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictStr, WithJsonSchema

from manx_core.api.fields import RULES, ApiModel, Bool, Metadata, NoEffect, Problem, Selector, rule
from manx_core.api.kind import AGE, Column, Kind
from manx_core.api.policy_fields import Order, no_global
from manx_core.api.policy_rule import EntityRule, IcmpFields, PolicyRule, ServiceAccountMatch, ServiceMatch
from manx_core.api.policy_rule_check import check_rules
from manx_core.api.policy_status import IN_FORCE, VALID, PolicyStatus

__all__ = [
    "DEFAULT_TIER", "LOG_DENIED", "EntityRule", "GlobalNetworkPolicy", "GlobalNetworkPolicySpec", "IcmpFields",
    "NetworkPolicy", "NetworkPolicySpec", "PolicyRule", "PolicySpec", "ServiceAccountMatch", "ServiceMatch", "check",
]  # fmt: skip

PolicyType = Literal["Ingress", "Egress"]
LOG_DENIED = "manx.dev/log-denied"
"""Annotation of a policy of any kind, or of a FelixConfiguration: "true" logs what is denied."""
DEFAULT_TIER = "default"


_TIER_NAME = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


def _tier(value: object) -> object:
    if value == "":
        return DEFAULT_TIER
    if isinstance(value, str) and (len(value) > 63 or not re.fullmatch(_TIER_NAME, value)):
        raise ValueError(f"{value!r} is not allowed; must be {_TIER_ALLOWED}")
    return value


_TIER_ALLOWED = "the name of a Tier: at most 63 of a-z, 0-9 and -"
_TIER_RULE = rule(f"self == '' || self.matches('^{_TIER_NAME}$')", f"must be {_TIER_ALLOWED}")
TierName = Annotated[
    StrictStr,
    BeforeValidator(_tier),
    WithJsonSchema({"type": "string", "maxLength": 63, "x-manx-default": DEFAULT_TIER, RULES: [_TIER_RULE]}),
]
Rules = Annotated[tuple[PolicyRule, ...], Field(max_length=20_000)]
"""No object is large enough for more; the API server bounds by this number what checking them may cost."""


class PolicySpec(ApiModel):
    """What both kinds have."""

    tier: TierName = DEFAULT_TIER
    """The Tier that the policy belongs to. Default: default."""
    order: Order | None = None
    """Within the tier, policies with lower order come first, then those without; equal ones by name."""
    selector: Selector = ""
    """The pods that the policy applies to, by their labels, as "app == 'web'". Empty, or all(): all of the namespace,
    or, for a GlobalNetworkPolicy, of the cluster."""
    service_account_selector: Selector = ""
    """The pods that the policy applies to, by the labels of their service account."""
    types: Annotated[tuple[PolicyType, ...], Field(max_length=2)] = ()
    """The directions that the policy applies to. Default: Ingress where there are ingress rules or no rules at all;
    Egress where there are egress rules."""
    ingress: Rules = ()
    """Rules for packets to the pods, in order."""
    egress: Rules = ()
    """Rules for packets from the pods, in order."""
    performance_hints: Annotated[tuple[Literal["AssumeNeededOnEveryNode"], ...], Field(max_length=1), NoEffect] = ()
    """Hints that never change what a policy means."""

    @property
    def effective_types(self) -> tuple[PolicyType, ...]:
        """`types`, or what Calico makes of their absence."""
        if self.types:
            return self.types
        if not self.egress:
            return ("Ingress",)
        return ("Ingress", "Egress") if self.ingress else ("Egress",)


class NetworkPolicySpec(PolicySpec):
    """Which pods of the namespace, and what is allowed, denied, logged or passed on for them."""

    @property
    def namespace_selector(self) -> str:
        return ""

    @property
    def apply_on_forward(self) -> bool:
        return False

    @property
    def do_not_track(self) -> bool:
        return False

    @property
    def pre_dnat(self) -> bool:
        return False


class GlobalNetworkPolicySpec(PolicySpec):
    """Which pods of the cluster, and what is allowed, denied, logged or passed on for them."""

    namespace_selector: Selector = ""
    """The pods that the policy applies to, by the labels of their namespace."""
    apply_on_forward: Bool = False
    """Concerns host endpoints only, which Manx does not have yet."""
    do_not_track: Bool = False
    """The policy concerns host endpoints only, which Manx does not have yet: it selects no pod. Needs
    applyOnForward."""
    pre_dnat: Annotated[Bool, Field(alias="preDNAT")] = False
    """The policy concerns host endpoints only, which Manx does not have yet: it selects no pod. Needs
    applyOnForward."""


class NetworkPolicy(ApiModel):
    """Calico's policy for pods of one namespace: ordered rules that allow, deny, log or pass on."""

    metadata: Metadata
    spec: NetworkPolicySpec = NetworkPolicySpec()
    status: PolicyStatus = PolicyStatus()


class GlobalNetworkPolicy(ApiModel):
    """Calico's policy for pods of the whole cluster: ordered rules that allow, deny, log or pass on."""

    metadata: Metadata
    spec: GlobalNetworkPolicySpec = GlobalNetworkPolicySpec()
    status: PolicyStatus = PolicyStatus()


def _services_place(direction: str, wrong: str, right: str) -> dict[str, Any]:
    expression = f"!has(self.{direction}) || self.{direction}.all(r, !has(r.{wrong}) || !has(r.{wrong}.services))"
    return rule(expression, f"services is allowed only in {right} where rules are for {direction}", direction)


_TYPES_ONCE = "must hold Ingress and Egress at most once each"
_NO_REPEATS = rule("!has(self.types) || size(self.types) < 2 || self.types[0] != self.types[1]", _TYPES_ONCE, "types")
PolicySpec.RULES = (
    _NO_REPEATS,
    _services_place("ingress", "destination", "source"),
    _services_place("egress", "source", "destination"),
)


def _namespaced(direction: str, end: str) -> dict[str, Any]:
    expression = (
        f"!has(self.{direction}) || self.{direction}.all(r, !has(r.{end}) || !has(r.{end}.services)"
        f" || has(r.{end}.services.namespace) && r.{end}.services.namespace != '')"
    )
    return rule(expression, f"{end}.services.namespace must be given in a GlobalNetworkPolicy", direction)


def _true(field: str) -> str:
    return f"(has(self.{field}) && self.{field})"


GlobalNetworkPolicySpec.RULES = (
    *PolicySpec.RULES,
    _namespaced("ingress", "source"),
    _namespaced("egress", "destination"),
    rule(f"!{_true('preDNAT')} || !{_true('doNotTrack')}", "must not be true together with doNotTrack", "preDNAT"),
    rule(
        f"{_true('applyOnForward')} || !{_true('preDNAT')} && !{_true('doNotTrack')}",
        "must be true where preDNAT or doNotTrack is",
        "applyOnForward",
    ),
    rule(
        f"!{_true('preDNAT')} || !has(self.egress) || size(self.egress) == 0",
        "must be empty where preDNAT is true",
        "egress",
    ),
    rule(
        f"!{_true('preDNAT')} || !has(self.types) || !('Egress' in self.types)",
        "must not hold Egress where preDNAT is true",
        "types",
    ),
)

_COLUMNS = (
    Column("Tier", ".spec.tier"),
    Column("Order", ".spec.order", "number", "Lower comes first in the tier."),
    VALID,
    *IN_FORCE,
    AGE,
)
NETWORK_POLICY = Kind(
    group="projectcalico.org",
    version="v3",
    kind="NetworkPolicy",
    plural="networkpolicies",
    namespaced=True,
    short_names=("cnp", "caliconetworkpolicy"),
    categories=("calico",),
    columns=_COLUMNS,
)
GLOBAL_NETWORK_POLICY = Kind(
    group="projectcalico.org",
    version="v3",
    kind="GlobalNetworkPolicy",
    plural="globalnetworkpolicies",
    short_names=("gnp", "cgnp"),
    categories=("calico",),
    columns=_COLUMNS,
)


def check(policy: NetworkPolicy | GlobalNetworkPolicy) -> tuple[Problem, ...]:
    """Why a policy means nothing; empty if it does."""
    spec = policy.spec
    return (
        *_selectors(spec),
        *_types(spec),
        *check_rules("ingress", spec.ingress),
        *check_rules("egress", spec.egress),
        *(_global(spec) if isinstance(spec, GlobalNetworkPolicySpec) else ()),
    )


def _selectors(spec: NetworkPolicySpec | GlobalNetworkPolicySpec) -> Iterator[Problem]:
    yield from no_global("spec.selector", spec.selector)
    yield from no_global("spec.serviceAccountSelector", spec.service_account_selector)
    yield from no_global("spec.namespaceSelector", spec.namespace_selector)


def _types(spec: NetworkPolicySpec | GlobalNetworkPolicySpec) -> Iterator[Problem]:
    if len(set(spec.types)) < len(spec.types):
        yield Problem("spec.types", _TYPES_ONCE)


def _global(spec: GlobalNetworkPolicySpec) -> Iterator[Problem]:
    if spec.do_not_track and spec.pre_dnat:
        yield Problem("spec.preDNAT", "must not be true together with spec.doNotTrack")
    if (spec.do_not_track or spec.pre_dnat) and not spec.apply_on_forward:
        yield Problem("spec.applyOnForward", "must be true where spec.doNotTrack or spec.preDNAT is")
    if spec.pre_dnat and spec.egress:
        yield Problem("spec.egress", "must be empty where spec.preDNAT is true")
    if spec.pre_dnat and "Egress" in spec.types:
        yield Problem("spec.types", "must not hold Egress where spec.preDNAT is true")
    for path, services in _services(spec):
        if services is not None and not services.namespace:
            yield Problem(f"{path}.services.namespace", "is missing; a GlobalNetworkPolicy must give it")


def _services(spec: GlobalNetworkPolicySpec) -> Iterator[tuple[str, ServiceMatch | None]]:
    yield from ((f"spec.ingress[{at}].source", rule.source.services) for at, rule in enumerate(spec.ingress))
    yield from ((f"spec.egress[{at}].destination", rule.destination.services) for at, rule in enumerate(spec.egress))
