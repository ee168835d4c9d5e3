"""Kubernetes' own kinds, as far as Manx reads or writes them.

Owns: one msgspec struct for each built-in kind, holding only the fields that some part of Manx uses.
Must not: convert, default or judge anything; whoever reads a field knows what its absence means.

Why this way: msgspec decodes only the fields that a struct names, straight from the API server's bytes, which is what
makes an informer over ten thousand pods cheap. Unknown fields are skipped. Sequences are tuples and every struct is
frozen, so X
A field that the API calls optional has the same default here, whether it is absent or empty, save where the API
distinguishes the two (`NetworkPolicyPeer`'s selectors): there None means absent. A JSON null counts as absent; the API
server hardly ever sends one, so that is handled where decoding failed (`manx_kube.codec`), not in every type here.

Source: Kubernetes API reference v1.34.
"""

from __future__ import annotations

import msgspec


class KubeStruct(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, rename="camel"):
    """Settings common to every struct exchanged with the API server. Derived classes repeat `frozen` (mypy wants
    it) and `gc` (so that it is seen where it matters)."""


class OwnerReference(KubeStruct, frozen=True, gc=False):
    """meta/v1 OwnerReference."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(KubeStruct, frozen=True, gc=False):
    """meta/v1 ObjectMeta. Times are RFC 3339 strings as the server sent them; `resource_version` is opaque except that,
    within one resource, greater is later (KEP-5504). An object not read from a server has "" where the server
    decides."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


class LabelSelectorRequirement(KubeStruct, frozen=True, gc=False):
    """meta/v1. `operator` is one of In, NotIn, Exists, DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(KubeStruct, frozen=True, gc=False):
    """meta/v1. All requirements must hold; an empty selector selects everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


class ObjectReference(KubeStruct, frozen=True, gc=False):
    """core/v1 ObjectReference: what an Event is about."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    field_path: str = ""


class Condition(KubeStruct, frozen=True, gc=False):
    """A node's or deployment's condition: `status` is "True", "False" or "Unknown"."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


# --- pods -------------------------------------------------------------------------------------------------------------


class ContainerPort(KubeStruct, frozen=True, gc=False):
    """A port that a container declares; `name` is what a policy's named port refers to."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0


class Container(KubeStruct, frozen=True, gc=False):
    """`restart_policy` "Always" makes an init container a sidecar (KEP-753): its ports live as long as the pod."""

    name: str
    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""


class PodSpec(KubeStruct, frozen=True, gc=False):
    node_name: str = ""
    host_network: bool = False
    service_account_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


class PodIP(KubeStruct, frozen=True, gc=False):
    ip: str = ""


class PodStatus(KubeStruct, frozen=True, gc=False):
    """`phase`: Pending, Running, Succeeded, Failed or Unknown. `pod_ips` includes `pod_ip`, which comes first."""

    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")
    host_ip: str = msgspec.field(default="", name="hostIP")


class Pod(KubeStruct, frozen=True, gc=False):
    metadata: ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


# --- namespaces, service accounts, nodes ------------------------------------------------------------------------------


class NamespaceStatus(KubeStruct, frozen=True, gc=False):
    """`phase`: Active or Terminating."""

    phase: str = ""


class Namespace(KubeStruct, frozen=True, gc=False):
    metadata: ObjectMeta
    status: NamespaceStatus = NamespaceStatus()


class ServiceAccount(KubeStruct, frozen=True, gc=False):
    metadata: ObjectMeta


class Taint(KubeStruct, frozen=True, gc=False):
    key: str
    effect: str
    value: str = ""


class NodeSpec(KubeStruct, frozen=True, gc=False):
    pod_cidr: str = msgspec.field(default="", name="podCIDR")
    pod_cidrs: tuple[str, ...] = msgspec.field(default=(), name="podCIDRs")
    provider_id: str = msgspec.field(default="", name="providerID")
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeAddress(KubeStruct, frozen=True, gc=False):
    """`type`: Hostname, InternalIP, ExternalIP, InternalDNS or ExternalDNS."""

    type: str
    address: str


class NodeStatus(KubeStruct, frozen=True, gc=False):
    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Node(KubeStruct, frozen=True, gc=False):
    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


# --- services ---------------------------------------------------------------------------------------------------------


class ServicePort(KubeStruct, frozen=True, gc=False):
    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str = 0
    node_port: int = 0


class ServiceSpec(KubeStruct, frozen=True, gc=False):
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    external_traffic_policy: str = ""
    selector: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()


class Service(KubeStruct, frozen=True, gc=False):
    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()


class Endpoint(KubeStruct, frozen=True, gc=False):
    """Conditions are left out: policy counts every address, ready or not, and a big cluster has many of these."""

    addresses: tuple[str, ...]


class EndpointPort(KubeStruct, frozen=True, gc=False):
    """`port` None means any port (discovery.k8s.io/v1)."""

    protocol: str = "TCP"
    port: int | None = None


class EndpointSlice(KubeStruct, frozen=True, gc=False):
    metadata: ObjectMeta
    address_type: str
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


# --- network policies (networking.k8s.io/v1) --------------------------------------------------------------------------


class IPBlock(KubeStruct, frozen=True, gc=False):
    cidr: str
    except_: tuple[str, ...] = msgspec.field(default=(), name="except")


class NetworkPolicyPeer(KubeStruct, frozen=True, gc=False):
    """None and an empty selector differ: an absent namespaceSelector means the policy's own namespace, an empty one all
    namespaces."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: IPBlock | None = None


class NetworkPolicyPort(KubeStruct, frozen=True, gc=False):
    """`port` None means all ports of the protocol; a string names a container port. `end_port` only with a number."""

    protocol: str = "TCP"
    port: int | str | None = None
    end_port: int | None = None


class NetworkPolicyIngressRule(KubeStruct, frozen=True, gc=False):
    """Empty `from_` means every source; empty `ports` every port."""

    from_: tuple[NetworkPolicyPeer, ...] = msgspec.field(default=(), name="from")
    ports: tuple[NetworkPolicyPort, ...] = ()


class NetworkPolicyEgressRule(KubeStruct, frozen=True, gc=False):
    """Empty `to` means every destination; empty `ports` every port."""

    to: tuple[NetworkPolicyPeer, ...] = ()
    ports: tuple[NetworkPolicyPort, ...] = ()


class NetworkPolicySpec(KubeStruct, frozen=True, gc=False):
    """`policy_types` is filled by the API server's defaulting: Ingress always, Egress where there are egress rules."""

    pod_selector: LabelSelector = LabelSelector()
    policy_types: tuple[str, ...] = ()
    ingress: tuple[NetworkPolicyIngressRule, ...] = ()
    egress: tuple[NetworkPolicyEgressRule, ...] = ()


class NetworkPolicy(KubeStruct, frozen=True, gc=False):
    metadata: ObjectMeta
    spec: NetworkPolicySpec = NetworkPolicySpec()


# --- workloads, leases, events ----------------------------------------------------------------------------------------


class DaemonSetStatus(KubeStruct, frozen=True, gc=False):
    observed_generation: int = 0
    desired_number_scheduled: int = 0
    current_number_scheduled: int = 0
    updated_number_scheduled: int = 0
    number_ready: int = 0
    number_available: int = 0
    number_unavailable: int = 0


class DaemonSet(KubeStruct, frozen=True, gc=False):
    metadata: ObjectMeta
    status: DaemonSetStatus = DaemonSetStatus()


class LeaseSpec(KubeStruct, frozen=True, gc=False):
    """coordination.k8s.io/v1. Times are RFC 3339 with microseconds."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(KubeStruct, frozen=True, gc=False):
    metadata: ObjectMeta
    spec: LeaseSpec = LeaseSpec()


class EventSeries(KubeStruct, frozen=True, gc=False):
    count: int
    last_observed_time: str


class Event(KubeStruct, frozen=True, gc=False):
    """events.k8s.io/v1. `type` is Normal or Warning; `event_time`, `action`, `reason` and the reporting fields are
    required by the server."""

    metadata: ObjectMeta
    event_time: str | None = None
    series: EventSeries | None = None
    reporting_controller: str = ""
    reporting_instance: str = ""
    action: str = ""
    reason: str = ""
    regarding: ObjectReference = ObjectReference()
    related: ObjectReference | None = None
    note: str = ""
    type: str = ""
