"""operator.tigera.io/v1 Installation: what to install, in the words that Calico's users know.

Owns: the kind's fields. What they come to is in `manx_core.api.installation_settings`.
Must not: render anything (the operator's installer does) or know other objects.

Source: tigera/operator v1.38, InstallationSpec. Defaults are Calico's, with one exception: an ipPool without
encapsulation gets None, since a pool that cannot be had would be no default.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, StrictStr, WithJsonSchema

from manx_core.api.fields import (
    RULES,
    AnyObject,
    ApiModel,
    Bool,
    Cidr,
    ConditionsStatus,
    Metadata,
    NoEffect,
    Selector,
    Text,
    rule,
)
from manx_core.api.ip_pool import Encapsulation
from manx_core.api.kind import AGE, Column, Kind

NAME = "default"
USE_DEFAULT = "UseDefault"
MAX_POOLS = 25
Switch = Literal["Enabled", "Disabled"]


def _check_regex(value: str) -> str:
    for part in value.split(","):
        try:
            re.compile(part)
        except re.error as error:
            raise ValueError(f"{value!r} is not allowed; must be a regular expression: {error}") from error
    return value


Regex = Annotated[StrictStr, Field(max_length=1024), AfterValidator(_check_regex)]
_FAMILY = "cidr(self.cidr).ip().family() == 4"
_SIZE = f"(has(self.blockSize) ? self.blockSize : ({_FAMILY} ? 26 : 122))"


class InstallationIPPool(ApiModel):
    """An IPPool to make and to keep as said here."""

    RULES: ClassVar = (
        rule(
            f"!isCIDR(self.cidr) || ({_FAMILY} ? {_SIZE} >= 20 && {_SIZE} <= 32 : {_SIZE} >= 116 && {_SIZE} <= 128)",
            "must be 20 to 32 for IPv4, 116 to 128 for IPv6",
            "blockSize",
        ),
        rule(
            f"!isCIDR(self.cidr) || {_SIZE} >= cidr(self.cidr).prefixLength()",
            "(26, or 122 for IPv6, where it is not given) must not be smaller than the cidr's prefix length: the pool"
            " would not hold one block",
            "blockSize",
        ),
        rule(
            f"!isCIDR(self.cidr) || {_FAMILY} || !has(self.encapsulation) || !self.encapsulation.startsWith('IPIP')",
            "must be None or VXLANCrossSubnet for an IPv6 pool",
            "encapsulation",
        ),
    )

    name: Annotated[StrictStr, Field(max_length=253)] = ""
    """The IPPool's name. Default: default-ipv4-ippool for the first IPv4 pool, default-ipv6-ippool for the first IPv6
    pool, else made from the cidr."""
    cidr: Cidr
    """The range, as a CIDR such as 10.244.0.0/16 or fd00:10:244::/56."""
    block_size: Annotated[StrictInt, Field(ge=20, le=128)] | None = None
    """Prefix length of the blocks that nodes get: 20 to 32 for IPv4, 116 to 128 for IPv6. Default: 26, or 122."""
    encapsulation: Encapsulation | None = None
    """None; IPIPCrossSubnet (IPv4 only) and VXLANCrossSubnet, for which all nodes must so far share a subnet; IPIP and
    VXLAN are not supported yet. Default: None."""
    nat_outgoing: Switch | None = None
    """Masquerade what pods of this pool send to addresses outside all pools. Default: Enabled for IPv4, Disabled for
    IPv6."""
    node_selector: Selector = ""
    """The nodes that get blocks of this pool, by their labels, as "rack == 'a'". Default: all()."""
    allowed_uses: tuple[Literal["Workload", "Tunnel", "LoadBalancer"], ...] = ()
    """What addresses are for. Default: Workload and Tunnel."""
    disable_bgp_export: Annotated[Bool | None, NoEffect, Field(alias="disableBGPExport")] = None
    """Do not announce this pool's blocks by BGP."""
    disable_new_allocations: Bool | None = None
    """Give out no more addresses of this pool."""
    assignment_mode: Literal["Automatic", "Manual"] | None = None
    """Manual is not supported yet. Default: Automatic."""


class NodeAddressAutodetection(ApiModel):
    """How to find a node's underlay address. At most one of these."""

    RULES: ClassVar = (
        rule(
            "[has(self.firstFound), has(self.kubernetes), has(self.interface), has(self.skipInterface),"
            " has(self.canReach), has(self.cidrs)].filter(x, x).size() <= 1",
            "at most one of firstFound, kubernetes, interface, skipInterface, canReach and cidrs must be set",
        ),
    )

    first_found: Bool | None = None
    """The node's InternalIP if an interface has it, else the first address of an interface whose name is not that of a
    bridge, tunnel or pod. The default."""
    kubernetes: Literal["NodeInternalIP"] | None = None
    """The first InternalIP in the Node's status."""
    interface: Regex | None = None
    """The first address of an interface whose whole name matches; several regular expressions by commas, in order."""
    skip_interface: Regex | None = None
    """As firstFound, without interfaces whose whole name matches; several regular expressions by commas."""
    can_reach: Annotated[Text | None, NoEffect] = None
    """The address used to reach another. Not supported yet: firstFound instead."""
    cidrs: Annotated[tuple[Cidr, ...], Field(max_length=64)] | None = None
    """The first address within one of these."""


class CalicoNetwork(ApiModel):
    """The pods' network."""

    linux_dataplane: Literal["Iptables", "BPF", "VPP", "Nftables"] | None = None
    """Only Iptables is supported, on its nft or legacy back end, whichever the node uses."""
    bgp: Switch | None = None
    """Whether nodes speak BGP. Without it, nodes do not learn each other's blocks. Default: Enabled."""
    ip_pools: Annotated[tuple[InstallationIPPool, ...], Field(max_length=MAX_POOLS)] | None = None
    """IPPools to make, of IPv4, IPv6 or both: pods get an address of each. Absent: one of 192.168.0.0/16. An empty
    list: none."""
    mtu: Annotated[StrictInt, Field(ge=0, le=65535)] | None = None
    """MTU of pods' interfaces, in bytes. Default, and 0: that of the node's underlay interface."""
    node_address_autodetection_v4: NodeAddressAutodetection | None = None
    """How to find a node's IPv4 address."""
    node_address_autodetection_v6: NodeAddressAutodetection | None = None
    """How to find a node's IPv6 address. Nodes take part in IPv6 where there is an IPv6 pool."""
    host_ports: Switch | None = None
    """Whether pods' hostPorts are served. Default: Enabled."""
    multi_interface_mode: Annotated[Literal["None", "Multus"] | None, NoEffect] = None
    """How pods get further interfaces."""
    container_ip_forwarding: Annotated[Switch | None, NoEffect, Field(alias="containerIPForwarding")] = None
    """Whether pods may forward packets."""
    linux_policy_setup_timeout_seconds: Annotated[StrictInt | None, NoEffect] = None
    """Pods here start only once their policy is in force in any case."""
    sysctl: Annotated[tuple[AnyObject, ...], NoEffect] = ()
    """Kernel settings of pods."""
    windows_dataplane: Annotated[Literal["HNS", "Disabled"] | None, NoEffect] = None
    """Windows nodes are not supported."""
    kube_proxy_management: Annotated[Switch | None, NoEffect] = None
    """kube-proxy is left as it is."""
    bpf_network_bootstrap: Annotated[Switch | None, NoEffect] = None
    """Concerns the BPF data plane only."""


class Ipam(ApiModel):
    """Who manages pods' addresses."""

    type: Literal["Calico", "HostLocal", "AmazonVPC", "AzureVNET"]
    """Only Calico, which here means Manx's own, is supported."""


class Cni(ApiModel):
    """The CNI plugin."""

    type: Literal["Calico", "GKE", "AmazonVPC", "AzureVNET"]
    """Only Calico, which here means Manx's own, is supported."""
    ipam: Ipam | None = None
    """Who manages pods' addresses."""
    bin_dir: Annotated[StrictStr, Field(pattern="^/", max_length=1024)] | None = None
    """The directory of the nodes that CNI executables go to. Default: /opt/cni/bin."""
    conf_dir: Annotated[StrictStr, Field(pattern="^/", max_length=1024)] | None = None
    """The directory of the nodes that the CNI configuration goes to. Default: /etc/cni/net.d."""
    install_mode: Annotated[Text | None, NoEffect] = None
    """Executable and configuration are both installed."""


def _check_share(value: object) -> int | str:
    is_share = isinstance(value, str) and re.fullmatch(_SHARE, value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not is_share and not is_count:
        raise ValueError(f"{value!r} is not allowed; must be {_SHARE_ALLOWED}")
    return value  # type: ignore[return-value]


_SHARE = "[1-9][0-9]?%|100%"
_SHARE_ALLOWED = 'at least 1, or a share from "1%" to "100%"'
Share = Annotated[
    int | str,
    BeforeValidator(_check_share),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            RULES: [rule(f"type(self) == int ? self >= 1 : self.matches('^({_SHARE})$')", f"must be {_SHARE_ALLOWED}")],
        }
    ),
]


class RollingUpdate(ApiModel):
    """How many nodes' agents are replaced at a time."""

    max_unavailable: Share | None = None
    """Nodes whose agent may be away at a time, or a share of all nodes as "10%". Default: 1."""
    max_surge: Annotated[Any, WithJsonSchema({"x-kubernetes-int-or-string": True}), NoEffect] = None
    """Two agents cannot run on one node."""


class UpdateStrategy(ApiModel):
    """How agents are replaced (apps/v1 DaemonSetUpdateStrategy)."""

    type: Literal["RollingUpdate", "OnDelete"] | None = None
    """OnDelete replaces an agent only when its pod is deleted. Default: RollingUpdate."""
    rolling_update: RollingUpdate | None = None
    """How many at a time."""


class PullSecret(ApiModel):
    """A Secret in the namespace manx-system."""

    name: Annotated[StrictStr, Field(min_length=1, max_length=253)]
    """Its name."""


class InstallationSpec(ApiModel):
    """What to install."""

    variant: Literal["Calico", "TigeraSecureEnterprise", "CalicoEnterprise"] | None = None
    """Only Calico is supported, the default."""
    registry: Text = ""
    """Where to pull the image from: <registry><imagePath>/<imagePrefix>manx:<tag>. Empty or UseDefault: where the
    operator's own image is from."""
    image_path: Text = ""
    """The path between registry and image name. Empty or UseDefault: that of the operator's own image."""
    image_prefix: Text = ""
    """A prefix to the image's name. Empty or UseDefault: none."""
    image_pull_secrets: tuple[PullSecret, ...] = ()
    """Secrets, in the namespace manx-system, to pull the image with."""
    calico_network: CalicoNetwork | None = None
    """The pods' network."""
    cni: Cni | None = None
    """The CNI plugin."""
    node_update_strategy: UpdateStrategy | None = None
    """How agents are replaced. Default: one node at a time."""
    kubernetes_provider: Annotated[Text | None, NoEffect] = None
    """The provider of the cluster."""
    kubelet_volume_plugin_path: Annotated[Text | None, NoEffect] = None
    """Manx has no CSI driver."""
    flex_volume_path: Annotated[Text | None, NoEffect] = None
    """Manx has no FlexVolume driver."""
    control_plane_replicas: Annotated[StrictInt | None, NoEffect] = None
    """Manx's control plane is the operator's Deployment itself: scale that."""
    control_plane_node_selector: Annotated[AnyObject | None, NoEffect] = None
    """Where Calico's control plane runs."""
    control_plane_tolerations: Annotated[tuple[AnyObject, ...], NoEffect] = ()
    """Where Calico's control plane may run."""
    node_metrics_port: Annotated[StrictInt | None, NoEffect] = None
    """The port that agents serve metrics on."""
    typha_metrics_port: Annotated[StrictInt | None, NoEffect] = None
    """Manx has no Typha."""
    typha_deployment: Annotated[AnyObject | None, NoEffect] = None
    """Manx has no Typha."""
    typha_affinity: Annotated[AnyObject | None, NoEffect] = None
    """Manx has no Typha."""
    component_resources: Annotated[tuple[AnyObject, ...], NoEffect] = ()
    """Resources of Calico's components."""
    certificate_management: Annotated[AnyObject | None, NoEffect] = None
    """Manx's parts talk through the API server only."""
    non_privileged: Annotated[Switch | None, NoEffect] = None
    """Manx's containers are never privileged."""
    calico_node_daemon_set: Annotated[AnyObject | None, NoEffect] = None
    """Overrides of Calico's DaemonSet."""
    calico_kube_controllers_deployment: Annotated[AnyObject | None, NoEffect] = None
    """Overrides of Calico's Deployment."""
    csi_node_driver_daemon_set: Annotated[AnyObject | None, NoEffect] = None
    """Manx has no CSI driver."""
    calico_windows_upgrade_daemon_set: Annotated[AnyObject | None, NoEffect] = None
    """Windows nodes are not supported."""
    calico_node_windows_daemon_set: Annotated[AnyObject | None, NoEffect] = None
    """Windows nodes are not supported."""
    fips_mode: Annotated[Switch | None, NoEffect, Field(alias="fipsMode")] = None
    """Whether only FIPS 140-2 cryptography is used."""
    logging: Annotated[AnyObject | None, NoEffect] = None
    """Log settings of Calico's CNI plugin."""
    service_cidrs: Annotated[tuple[Text, ...], NoEffect, Field(alias="serviceCIDRs")] = ()
    """The services' networks; Manx reads the API server's ServiceCIDRs."""
    azure: Annotated[AnyObject | None, NoEffect] = None
    """Settings for Azure."""
    proxy: Annotated[AnyObject | None, NoEffect] = None
    """HTTP proxy settings."""


class Installation(ApiModel):
    """Installs Manx on every node, as Calico's users know it. It must be named default. Deleting it removes what was
    installed."""

    metadata: Metadata
    spec: InstallationSpec = InstallationSpec()
    status: ConditionsStatus = ConditionsStatus()


def _condition(kind: str) -> str:
    return f".status.conditions[?(@.type=='{kind}')].status"


KIND = Kind(
    group="operator.tigera.io",
    version="v1",
    kind="Installation",
    plural="installations",
    categories=("calico",),
    columns=(
        Column("Ready", _condition("Ready"), description="Whether everything is in force on every node."),
        Column("Progressing", _condition("Progressing"), description="Whether a roll-out is under way."),
        Column("Degraded", _condition("Degraded"), description="Whether something is wrong."),
        Column("Message", ".status.conditions[?(@.type=='Ready')].message", description="What is not ready, and why.",
               priority=1),
        AGE,
    ),
    rules=(rule("self.metadata.name == 'default'", 'metadata.name must be "default"; there is one Installation'),),
)  # fmt: skip
