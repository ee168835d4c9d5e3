"""projectcalico.org/v3 BGPConfiguration: how nodes speak BGP, for all (`default`) or one (`node.<node's name>`).

Owns: the kind's fields, and what they come to for a node.
Must not: know of BGPPeers, nor of a node's own annotations beyond their values.

Source: Calico v3.30, BGPConfigurationSpec; asNumber and nodeToNodeMeshEnabled belong to `default` alone, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, StrictStr

from manx_core.api.fields import (
    AnyObject,
    ApiModel,
    AsNumber,
    Bool,
    ConditionsStatus,
    Duration,
    Metadata,
    NoEffect,
    Port,
    Problem,
    Text,
    parse_as_number,
    parse_duration,
    rule,
)
from manx_core.api.kind import ACCEPTED, AGE, Column, Kind

DEFAULT_NAME = "default"
NODE_PREFIX = "node."
AS_NUMBER_ANNOTATION = "projectcalico.org/ASNumber"
MAX_RESTART_SECONDS = 4095
"""The restart time is a 12-bit field (RFC 4724, 3)."""


class CidrBlock(ApiModel):
    """A range of addresses."""

    cidr: Text = ""
    """The range, as a CIDR."""


class Community(ApiModel):
    """A BGP community and the name given to it."""

    name: Text = ""
    """The name, for use in prefixAdvertisements."""
    value: Annotated[StrictStr, Field(max_length=40, pattern=r"^[0-9]+:[0-9]+(:[0-9]+)?$")]
    """A standard community "aa:nn" (RFC 1997) or a large one "aa:nn:mm" (RFC 8092)."""


class PrefixAdvertisement(ApiModel):
    """Communities for what is announced from a range."""

    cidr: Text = ""
    """The range, as a CIDR."""
    communities: tuple[Text, ...] = ()
    """Names or values of communities."""


class BGPConfigurationSpec(ApiModel):
    """How nodes speak BGP."""

    log_severity_screen: Literal["Debug", "Info", "Warning", "Error", "Fatal"] | None = None
    """What the BGP speaker logs to its standard output at least. Default: Info."""
    node_to_node_mesh_enabled: Bool | None = None
    """Whether every node keeps a BGP session with every other. Only in the object named default. Default: true."""
    as_number: AsNumber | None = None
    """The AS number of every node without one of its own (annotation projectcalico.org/ASNumber): 1 to 4294967295, or
    a string in dotted form such as "1.10". Only in the object named default. Default: 64512."""
    listen_port: Port | None = None
    """The TCP port that nodes listen on for BGP, and connect to each other on. Default: 179."""
    node_mesh_max_restart_time: Duration | None = None
    """How long routes are kept as stale after a session of the mesh is lost (RFC 4724), as "120s"; at most 4095 s. Only
    in the object named default. Default: 120s."""
    service_cluster_ips: Annotated[tuple[CidrBlock, ...], NoEffect, Field(alias="serviceClusterIPs")] = ()
    """Ranges of services' cluster IPs to announce."""
    service_external_ips: Annotated[tuple[CidrBlock, ...], NoEffect, Field(alias="serviceExternalIPs")] = ()
    """Ranges of services' external IPs to announce."""
    service_load_balancer_ips: Annotated[tuple[CidrBlock, ...], NoEffect, Field(alias="serviceLoadBalancerIPs")] = ()
    """Ranges of services' load balancer IPs to announce."""
    service_load_balancer_aggregation: Annotated[Literal["Enabled", "Disabled"] | None, NoEffect] = None
    """Whether load balancer IPs are announced as ranges or one by one."""
    communities: Annotated[tuple[Community, ...], NoEffect] = ()
    """Names for BGP communities."""
    prefix_advertisements: Annotated[tuple[PrefixAdvertisement, ...], NoEffect] = ()
    """Communities for what is announced."""
    node_mesh_password: Annotated[AnyObject | None, NoEffect] = None
    """TCP MD5 password of the mesh's sessions, by reference to a Secret."""
    bind_mode: Annotated[Literal["None", "NodeIP"] | None, NoEffect] = None
    """Which addresses to listen on."""
    ignored_interfaces: Annotated[tuple[Text, ...], NoEffect] = ()
    """Interfaces whose routes are not read."""
    local_workload_peering_ipv4: Annotated[Text | None, NoEffect, Field(alias="localWorkloadPeeringIPV4")] = None
    """The address that pods of the node peer with."""
    local_workload_peering_ipv6: Annotated[Text | None, NoEffect, Field(alias="localWorkloadPeeringIPV6")] = None
    """The address that pods of the node peer with, IPv6."""


class BGPConfiguration(ApiModel):
    """How nodes speak BGP. The object named default holds for every node; one named node.<node's name> overrides the
    log level and the listening port for that node."""

    metadata: Metadata
    spec: BGPConfigurationSpec = BGPConfigurationSpec()
    status: ConditionsStatus = ConditionsStatus()


KIND = Kind(
    group="projectcalico.org",
    version="v3",
    kind="BGPConfiguration",
    plural="bgpconfigurations",
    short_names=("bgpconfig", "bgpconfigs"),
    categories=("calico",),
    columns=(
        Column("AS", ".spec.asNumber", description="AS number of the nodes."),
        Column("Mesh", ".spec.nodeToNodeMeshEnabled", "boolean", "Whether all nodes peer with each other."),
        ACCEPTED,
        AGE,
    ),
    rules=(
        rule(
            "self.metadata.name == 'default' || self.metadata.name.startsWith('node.') && size(self.metadata.name) > 5",
            'metadata.name must be "default" (for all nodes), or "node." and the name of a node (for that one)',
        ),
        rule(
            "!self.metadata.name.startsWith('node.') || !has(self.spec) || !has(self.spec.asNumber)",
            'spec.asNumber is allowed only in the BGPConfiguration named "default"; for one node, annotate the Node'
            " with projectcalico.org/ASNumber",
        ),
        rule(
            "!self.metadata.name.startsWith('node.') || !has(self.spec) || !has(self.spec.nodeToNodeMeshEnabled)",
            'spec.nodeToNodeMeshEnabled is allowed only in the BGPConfiguration named "default"',
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class BgpGlobals:
    """What BGPConfigurations come to, for one node."""

    as_number: int = 64512
    mesh_enabled: bool = True
    listen_port: int = 179
    restart_time: int = 120
    """Seconds."""
    log_severity: str = "Info"


def check(config: BGPConfiguration) -> tuple[Problem, ...]:
    """What the field types alone cannot say."""
    found = [*_check_name(config)]
    restart = config.spec.node_mesh_max_restart_time
    if restart is not None and parse_duration(restart) > MAX_RESTART_SECONDS:
        found.append(Problem("spec.nodeMeshMaxRestartTime", f"{restart} is too long; at most {MAX_RESTART_SECONDS}s"))
    return tuple(found)


def _check_name(config: BGPConfiguration) -> list[Problem]:
    name, spec = config.metadata.name, config.spec
    if name == DEFAULT_NAME:
        return []
    if not name.startswith(NODE_PREFIX) or name == NODE_PREFIX:
        return [Problem("metadata.name", f'{name!r} means nothing; must be "default", or "node." and a node\'s name')]
    fields = {"spec.asNumber": spec.as_number, "spec.nodeToNodeMeshEnabled": spec.node_to_node_mesh_enabled}
    return [
        Problem(field, 'is allowed only in the BGPConfiguration named "default"')
        for field, value in fields.items()
        if value is not None
    ]


def globals_of(default: BGPConfiguration | None, for_node: BGPConfiguration | None = None) -> BgpGlobals:
    """Settings of all nodes, or of the one that `for_node` (named node.<its name>) is about. Absent fields, and absent
    objects, take Calico's defaults."""
    settings = BgpGlobals()
    if default is not None:
        settings = _overridden(settings, default.spec)
    if for_node is not None:
        spec = for_node.spec
        settings = _overridden(settings, BGPConfigurationSpec(
            log_severity_screen=spec.log_severity_screen, listen_port=spec.listen_port
        ))  # fmt: skip
    return settings


def _overridden(settings: BgpGlobals, spec: BGPConfigurationSpec) -> BgpGlobals:
    restart = spec.node_mesh_max_restart_time
    given: dict[str, Any] = {
        "as_number": spec.as_number,
        "mesh_enabled": spec.node_to_node_mesh_enabled,
        "listen_port": spec.listen_port,
        "restart_time": None if restart is None else min(round(parse_duration(restart)), MAX_RESTART_SECONDS),
        "log_severity": spec.log_severity_screen,
    }
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def node_as_number(annotations: Mapping[str, str], default: int) -> tuple[int, Problem | None]:
    """A node's AS number: its annotation's, else `default`. A bad annotation is told and counts as absent."""
    value = annotations.get(AS_NUMBER_ANNOTATION, "")
    if not value:
        return default, None
    try:
        return parse_as_number(value), None
    except ValueError as error:
        return default, Problem(f"metadata.annotations[{AS_NUMBER_ANNOTATION}]", str(error))
