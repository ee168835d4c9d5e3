"""Policies, and what they need beside their rules: groups, and the named ports of endpoints that are here.

Owns: `Policy`, and finding who has those ports. Must not: decide what is in force (`settle` does).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from manx_agent.model import PolicyView
from manx_core.api.v1alpha1 import PolicyProgramSpec
from manx_core.policy.own_ports import OwnPort, asked_of, own_ports


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy in force."""

    spec: PolicyProgramSpec
    groups: frozenset[str]
    """Ids of the groups that its rules refer to."""
    own_ports: frozenset[OwnPort] = frozenset()
    """What its rules ask of the endpoints' own named ports."""
    lacking: frozenset[str] = frozenset()
    """The groups that it must do without."""

    def without(self, lacking: frozenset[str]) -> Policy:
        """The same, doing without these groups, and no others."""
        return self if self.lacking == lacking else replace(self, lacking=lacking)


def policy_of(spec: PolicyProgramSpec) -> Policy:
    return Policy(spec, references(spec), asked_of((*spec.ingress, *spec.egress)))


def references(spec: PolicyProgramSpec) -> frozenset[str]:
    """The ids of all groups that a policy's rules refer to."""
    ends = [end for rule in (*spec.ingress, *spec.egress) for end in (rule.peer, rule.subject)]
    return frozenset(
        group for end in ends for group in (*end.groups, *end.not_groups, *end.port_groups, *end.not_port_groups)
    )


def held(view: PolicyView, asked: Collection[OwnPort]) -> dict[OwnPort, frozenset[str]]:
    """Each named port that is asked for → what it is on each endpoint that has it. None of that can be missing: an
    endpoint's ports come with its class."""
    if not asked:
        return {}
    pods = ((one, (one.namespace, one.name, one.uid)) for one in view.endpoints.values())
    found = own_ports((one.addresses, view.ports_of.get(key, ())) for one, key in pods)
    return {port: found.get(port, frozenset()) for port in sorted(asked)}
