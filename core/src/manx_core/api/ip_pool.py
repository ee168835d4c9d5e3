"""projectcalico.org/v3 IPPool: a range of addresses for pods.

Owns: the kind's fields, the pool they come to, and what may be wrong with one pool by itself.
Must not: compare pools with each other or with networks (`manx_core.api.pools` does).

Source: Calico v3.30, IPPoolSpec. Block sizes as Calico's: prefix lengths 20 to 32 (IPv4), 116 to 128 (IPv6).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, StrictInt

from manx_core.api.fields import (
    AnyObject,
    ApiModel,
    Bool,
    Cidr,
    ConditionsStatus,
    Metadata,
    NoEffect,
    Problem,
    Selector,
    rule,
)
from manx_core.api.kind import ACCEPTED, AGE, Column, Kind

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
TunnelMode = Literal["Never", "Always", "CrossSubnet"]
Encapsulation = Literal["None", "IPIPCrossSubnet", "VXLANCrossSubnet", "IPIP", "VXLAN"]
CROSS_SUBNET: tuple[Encapsulation, ...] = ("IPIPCrossSubnet", "VXLANCrossSubnet")
DEFAULT_BLOCK_SIZE = {4: 26, 6: 122}
BLOCK_SIZES = {4: (20, 32), 6: (116, 128)}


class IPPoolSpec(ApiModel):
    """A range of addresses, and how it is used."""

    cidr: Cidr
    """The range, as a CIDR such as 10.244.0.0/16 or fd00:10:244::/56. It cannot be changed; make another pool
    instead."""
    block_size: Annotated[StrictInt, Field(ge=20, le=128)] | None = None
    """Prefix length of the blocks that nodes get: 20 to 32 for IPv4, 116 to 128 for IPv6, and not smaller than the
    cidr's. It cannot be changed. Default: 26, or 122."""
    nat_outgoing: Bool | None = None
    """Masquerade what pods of this pool send to addresses outside all pools. Default: false."""
    disabled: Bool | None = None
    """Give out no more addresses of this pool; those in use stay. Default: false."""
    node_selector: Selector = ""
    """The nodes that get blocks of this pool, by their labels, as "rack == 'a'". Default: all()."""
    namespace_selector: Annotated[Selector, NoEffect] = ""
    """The namespaces whose pods get addresses of this pool."""
    ipip_mode: TunnelMode | None = None
    """IPIP: Never; CrossSubnet, for which all nodes must so far share a subnet; Always is not supported yet. Only Never
    for IPv6. Default: Never."""
    vxlan_mode: TunnelMode | None = None
    """VXLAN: Never; CrossSubnet, for which all nodes must so far share a subnet; Always is not supported yet. Default:
    Never."""
    allowed_uses: tuple[Literal["Workload", "Tunnel", "LoadBalancer"], ...] = ()
    """What addresses are for. Pods get addresses of pools with Workload. Default: Workload and Tunnel."""
    disable_bgp_export: Annotated[Bool | None, NoEffect, Field(alias="disableBGPExport")] = None
    """Do not announce this pool's blocks by BGP."""
    assignment_mode: Literal["Automatic", "Manual"] | None = None
    """Manual: only pods that name the pool get addresses of it, which is not supported yet. Default: Automatic."""
    aws_subnet_id: Annotated[str | None, NoEffect, Field(alias="awsSubnetID")] = None
    """The AWS subnet that backs this pool."""
    ipip: Annotated[AnyObject | None, NoEffect] = None
    """Of Calico's first API; use ipipMode."""


class IPPool(ApiModel):
    """A range of addresses for pods, given to nodes in blocks."""

    metadata: Metadata
    spec: IPPoolSpec
    status: ConditionsStatus = ConditionsStatus()


_V4 = "cidr(self.cidr).ip().family() == 4"
_OLD_SIZE = f"(has(oldSelf.blockSize) ? oldSelf.blockSize : ({_V4} ? 26 : 122))"
_SIZE = f"(has(self.blockSize) ? self.blockSize : ({_V4} ? 26 : 122))"
IPPoolSpec.RULES = (
    rule("self.cidr == oldSelf.cidr", "cannot be changed; make another pool, and disable this one", "cidr"),
    rule(f"!isCIDR(self.cidr) || {_SIZE} == {_OLD_SIZE}", "cannot be changed; make another pool", "blockSize"),
    rule(
        f"!isCIDR(self.cidr) || ({_V4} ? {_SIZE} >= 20 && {_SIZE} <= 32 : {_SIZE} >= 116 && {_SIZE} <= 128)",
        "must be 20 to 32 for IPv4, 116 to 128 for IPv6",
        "blockSize",
    ),
    rule(
        f"!isCIDR(self.cidr) || {_SIZE} >= cidr(self.cidr).prefixLength()",
        "(26, or 122 for IPv6, where it is not given) must not be smaller than the cidr's prefix length: the pool would"
        " not hold one block",
        "blockSize",
    ),
    rule(
        f"!isCIDR(self.cidr) || {_V4} || !has(self.ipipMode) || self.ipipMode == 'Never'",
        "must be Never for an IPv6 pool; there, vxlanMode may be used",
        "ipipMode",
    ),
    rule(
        "!has(self.ipipMode) || self.ipipMode == 'Never' || !has(self.vxlanMode) || self.vxlanMode == 'Never'",
        "must be Never where ipipMode is not",
        "vxlanMode",
    ),
)

KIND = Kind(
    group="projectcalico.org",
    version="v3",
    kind="IPPool",
    plural="ippools",
    categories=("calico",),
    columns=(
        Column("CIDR", ".spec.cidr"),
        Column("BlockSize", ".spec.blockSize", "integer", "Prefix length of nodes' blocks."),
        Column("NAT", ".spec.natOutgoing", "boolean", "Whether what leaves the pools is masqueraded."),
        Column("Disabled", ".spec.disabled", "boolean"),
        ACCEPTED,
        AGE,
    ),
)


@dataclass(frozen=True, slots=True)
class Pool:
    """What an IPPool comes to. `created` orders pools that dispute an address range."""

    name: str
    cidr: Network
    block_size: int
    nat_outgoing: bool = False
    disabled: bool = False
    encapsulation: Encapsulation = "None"
    for_pods: bool = True
    created: str = ""


def pool_of(pool: IPPool) -> Pool:
    """The pool of an object, whether or not `check` finds something."""
    spec = pool.spec
    cidr = ipaddress.ip_network(spec.cidr)
    return Pool(
        name=pool.metadata.name,
        cidr=cidr,
        block_size=spec.block_size if spec.block_size is not None else DEFAULT_BLOCK_SIZE[cidr.version],
        nat_outgoing=bool(spec.nat_outgoing),
        disabled=bool(spec.disabled),
        encapsulation=encapsulation_of(spec),
        for_pods=not spec.allowed_uses or "Workload" in spec.allowed_uses,
        created=pool.metadata.creation_timestamp,
    )


def encapsulation_of(spec: IPPoolSpec) -> Encapsulation:
    """The two modes as the Installation writes them in one."""
    by_mode: dict[tuple[str, str], Encapsulation] = {
        ("ipip", "Always"): "IPIP",
        ("ipip", "CrossSubnet"): "IPIPCrossSubnet",
        ("vxlan", "Always"): "VXLAN",
        ("vxlan", "CrossSubnet"): "VXLANCrossSubnet",
    }
    for kind, mode in (("ipip", spec.ipip_mode), ("vxlan", spec.vxlan_mode)):
        if mode not in (None, "Never"):
            return by_mode[kind, str(mode)]
    return "None"


def check(pool: IPPool) -> tuple[Problem, ...]:
    """Why a pool by itself is not in force; empty if nothing is wrong."""
    return (*_check_range(pool), *_check_support(pool))


def _check_range(pool: IPPool) -> list[Problem]:
    wanted = pool_of(pool)
    low, high = BLOCK_SIZES[wanted.cidr.version]
    if bad := unusable(wanted.cidr):
        return [Problem("spec.cidr", bad)]
    if not low <= wanted.block_size <= high:
        return [Problem("spec.blockSize", f"{wanted.block_size} is not allowed; must be {low} to {high}")]
    if wanted.block_size < wanted.cidr.prefixlen:
        allowed = f"{max(low, wanted.cidr.prefixlen)} to {high}"
        return [Problem("spec.blockSize", f"{wanted.block_size} does not fit into {wanted.cidr}; must be {allowed}")]
    return []


_NOT_FOR_PODS = ("::/8", "fe80::/10", "ff00::/8")
"""Reserved, link-local, multicast (RFC 4291, 2.4)."""


def unusable(cidr: Network) -> str:
    """Why pods cannot have addresses of this range; empty if they can."""
    for reserved in map(ipaddress.ip_network, _NOT_FOR_PODS):
        if reserved.version == cidr.version and reserved.overlaps(cidr):
            return f"{cidr} is not allowed; must be a range of global or unique local addresses, clear of {reserved}"
    return ""


def _check_support(pool: IPPool) -> list[Problem]:
    spec, found = pool.spec, []
    for field, mode in (("spec.ipipMode", spec.ipip_mode), ("spec.vxlanMode", spec.vxlan_mode)):
        if mode == "Always":
            found.append(Problem(field, "Always is not supported yet; must be Never or CrossSubnet"))
    if spec.ipip_mode not in (None, "Never") and pool_of(pool).cidr.version == 6:
        found = [Problem("spec.ipipMode", "must be Never for an IPv6 pool; there, vxlanMode may be used")]
    if {spec.ipip_mode, spec.vxlan_mode} <= {"Always", "CrossSubnet"}:
        found.append(Problem("spec.vxlanMode", "must be Never where spec.ipipMode is not"))
    if spec.assignment_mode == "Manual":
        found.append(Problem("spec.assignmentMode", "Manual is not supported yet; must be Automatic"))
    return found
