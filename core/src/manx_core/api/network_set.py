"""projectcalico.org/v3 NetworkSet and GlobalNetworkSet: addresses with labels, selected as pods are.

Owns: the kinds' fields, and what may be wrong with one. Must not: match selectors.
Source: Calico v3.30, NetworkSetSpec, GlobalNetworkSetSpec.
"""

from __future__ import annotations

from manx_core.api.fields import ApiModel, KeptStatus, Metadata, Problem
from manx_core.api.kind import AGE, Column, Kind
from manx_core.api.policy_fields import SetNet
from manx_core.api.policy_status import VALID

RESERVED_LABEL = "projectcalico.org/namespace"
RESERVED = f"{RESERVED_LABEL} is not allowed: Manx sets it by itself"


class NetworkSetSpec(ApiModel):
    """The addresses."""

    nets: tuple[SetNet, ...] = ()
    """Addresses and CIDRs, of both IP versions: "198.51.100.7", "198.51.100.0/24", "2001:db8::/32"."""


class NetworkSet(ApiModel):
    """Addresses that rules of policies select by the set's labels, as pods of the set's namespace."""

    metadata: Metadata
    spec: NetworkSetSpec = NetworkSetSpec()
    status: KeptStatus = KeptStatus()


class GlobalNetworkSet(ApiModel):
    """Addresses that rules of policies select by the set's labels. They belong to no namespace: rules of a
    NetworkPolicy reach them by the namespaceSelector global()."""

    metadata: Metadata
    spec: NetworkSetSpec = NetworkSetSpec()
    status: KeptStatus = KeptStatus()


def _kind(name: str, plural: str, *short_names: str, namespaced: bool) -> Kind:
    return Kind(
        group="projectcalico.org",
        version="v3",
        kind=name,
        plural=plural,
        namespaced=namespaced,
        short_names=short_names,
        categories=("calico",),
        columns=(Column("Nets", ".spec.nets", description="The addresses.", priority=1), VALID, AGE),
    )


NETWORK_SET = _kind("NetworkSet", "networksets", "netsets", namespaced=True)
GLOBAL_NETWORK_SET = _kind("GlobalNetworkSet", "globalnetworksets", namespaced=False)


def check(found: NetworkSet | GlobalNetworkSet) -> tuple[Problem, ...]:
    """What the field types alone cannot say."""
    return (Problem("metadata.labels", RESERVED),) if RESERVED_LABEL in found.metadata.labels else ()
