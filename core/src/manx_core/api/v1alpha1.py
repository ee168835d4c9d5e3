"""The objects between operator and agents: group manx.dev, version v1alpha1, all cluster-scoped.

Owns: the wire shape of NodeState, NodeReport, PolicyClass, PolicyProgram, AddressGroup, MeshNode and IPAMBlock.
Must not: hold behaviour, defaults that a reader would have to know, or anything that grows with the cluster.

Why msgspec and not pydantic: both sides decode these in their hot paths, and an agent must stay small. The custom
resource definitions in crds/ are generated from these structs, so a field's docstring is what `kubectl explain` says.
Every spec carries the Lease's `epoch`; the API server refuses an update whose epoch is lower than the object's.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from manx_core.api.core_v1 import KubeStruct, ObjectMeta
from manx_core.api.lines import Lines

GROUP = "manx.dev"
VERSION = "v1alpha1"

OPEN_CLASS = "open"
"""The class of an endpoint that no policy selects. It has no object. An endpoint with no class at all is closed."""

ROUTE_PROTOCOL = 77
"""The rtnetlink protocol number of every route that Manx puts into a kernel (unassigned in rtnetlink.h)."""


class Condition(KubeStruct, frozen=True, gc=False):
    """meta/v1 Condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


# --- NodeState: what only this node needs; written by the operator -------------------------------------------------


class PoolSettings(KubeStruct, frozen=True, gc=False):
    """What a node's kernel must know of an IPPool."""

    name: str
    cidr: str
    nat_outgoing: bool = False
    encapsulation: Literal["None", "IPIPCrossSubnet", "VXLANCrossSubnet"] = "None"


class BgpSettings(KubeStruct, frozen=True, gc=False):
    """How this node speaks BGP."""

    as_number: int = 64512
    """This node's AS number, 1 to 4294967295 (RFC 6793)."""
    mesh_enabled: bool = True
    """Whether a session is kept with every other MeshNode."""
    router_id: str = ""
    """The BGP identifier, in the form of an IPv4 address (RFC 6286)."""
    listen_port: int = 179
    hold_time: int = 90
    """Seconds proposed in OPEN (RFC 4271, 4.2)."""
    restart_time: int = 120
    """Seconds that peers keep our routes as stale, and we theirs, after a session is lost (RFC 4724)."""


class BgpPeer(KubeStruct, frozen=True, gc=False):
    """An explicit peer of this node, from a BGPPeer."""

    name: str
    """The BGPPeer's name."""
    address: str
    as_number: int
    port: int = 179


class PolicySettings(KubeStruct, frozen=True, gc=False):
    """How this node enforces policy: FelixConfiguration's fields (named there in the camel case of the same words)."""

    default_endpoint_to_host_action: Literal["Accept", "Drop", "Return"] = "Accept"
    """What becomes of a pod's packet to its own node that the pod's policies allow."""
    chain_insert_mode: Literal["Insert", "Append"] = "Insert"
    """Whether our rules stand first or last in the kernel's built-in chains."""
    iptables_backend: Literal["Auto", "NFT", "Legacy"] = "Auto"
    deny_action: Literal["Drop", "Reject"] = "Drop"
    """iptablesFilterDenyAction: what becomes of a denied packet. What is undecided is always dropped."""
    allow_action: Literal["Accept", "Return"] = "Accept"
    """iptablesFilterAllowAction: whether an allowed packet leaves the table accepted or meets others' rules."""
    mark_mask: int = 0xFFFF0000
    """iptablesMarkMask: the bits of a packet's mark that are ours to use."""
    log_prefix: str = "calico-packet"
    """Of rules with action Log."""
    log_denied: bool = False
    """Whether every denied packet is logged, whatever its policies say."""
    established: Literal["Keep", "Recheck"] = "Keep"
    """What becomes of connections that were established when a policy began to deny them."""
    refresh_interval: float = 0.0
    """iptablesRefreshInterval and ipsetsRefreshInterval, the smaller one, in seconds: how often the kernel is compared
    with what it should be. 0: as often as the agent does by itself."""
    route_refresh_interval: float = 0.0
    """In seconds, as above, of routes."""
    nat_port_range: str = ""
    """natPortRange: "1024:65535"; empty: the kernel's choice."""


class NodeStateSpec(KubeStruct, frozen=True, gc=False):
    """Desired state of one node."""

    epoch: int
    node_uid: str = msgspec.field(default="", name="nodeUID")
    ipv4: str = ""
    """The node's underlay address, without a prefix length; empty while not known."""
    ipv6: str = ""
    """The same of IPv6; empty where the node takes no part in IPv6."""
    mtu: int = 0
    """Bytes for pods' interfaces; 0 takes the underlay interface's."""
    pools: tuple[PoolSettings, ...] = ()
    bgp: BgpSettings = BgpSettings()
    peers: tuple[BgpPeer, ...] = ()
    pods: Lines = ""
    """The pods scheduled to this node that have, or will have, an address of their own, each on a line of its own:
    namespace and name with a slash between, UID, PolicyClass ("open" where no policy selects it; "-" while that is not
    decided, so closed), and each named port as name=protocol:number."""
    policy: PolicySettings = PolicySettings()
    ipam_problem: str = ""
    """Why the operator cannot give this node more addresses; the CNI error of a pod that gets none says it."""


class NodeState(KubeStruct, frozen=True, gc=False):
    """What the operator wants on the node of the same name. Written by the operator, read by that node's agent."""

    metadata: ObjectMeta
    spec: NodeStateSpec


# --- PolicyClass, PolicyProgram, AddressGroup: shared between the nodes that need them -----------------------------


class ClassTier(KubeStruct, frozen=True, gc=False):
    """The policies of one tier that apply to a class of pods."""

    name: str
    policies: tuple[str, ...]
    """Names of PolicyPrograms, in the order of evaluation. Never empty."""
    default_action: Literal["Deny", "Pass"] = "Deny"
    """What becomes of a packet that no rule of these policies decides, in a direction in which one of them isolates."""


class PolicySource(KubeStruct, frozen=True, gc=False):
    """The user's object that a program was compiled from."""

    kind: str
    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    tier: str = "default"


class RuleEnd(KubeStruct, frozen=True, gc=False):
    """What one end of a packet must be like: all that is present must hold. Ports are that end's ports."""

    groups: tuple[str, ...] = ()
    """AddressGroups of type Addresses, each of which holds the end's address."""
    not_groups: tuple[str, ...] = ()
    """AddressGroups of type Addresses, none of which holds the end's address."""
    nets: tuple[str, ...] = ()
    """CIDRs, one of which holds the end's address. Empty: any. Only those of the packet's family count: where there are
    none of that family, nothing matches."""
    not_nets: tuple[str, ...] = ()
    """CIDRs, none of which holds the end's address."""
    ports: tuple[str, ...] = ()
    """The end's port, "80" or "8000-8080"; with `port_groups` and `named_ports`, any of all may match. None of these:
    any port."""
    port_groups: tuple[str, ...] = ()
    """AddressGroups of type AddressPorts: the end's (address, protocol, port) is in one of them."""
    named_ports: tuple[str, ...] = ()
    """Of a subject alone: its port is what one of these names is on itself, for the rule's protocol, as its node's
    NodeState lists it. A name that it does not have matches nothing."""
    not_ports: tuple[str, ...] = ()
    """None of these is the end's port."""
    not_port_groups: tuple[str, ...] = ()
    """The end's (address, protocol, port) is in none of these AddressGroups of type AddressPorts."""
    not_named_ports: tuple[str, ...] = ()
    """Of a subject alone: its port is what none of these names is on itself, for the rule's protocol."""


class IcmpMatch(KubeStruct, frozen=True, gc=False):
    """An ICMP or ICMPv6 type, and a code of it."""

    type: int
    """0 to 255."""
    code: int = -1
    """0 to 255; -1: any."""


class Rule(KubeStruct, frozen=True, gc=False):
    """One compiled rule: all that is present must match. The subject is the endpoint that the policy applies to: the
    packet's destination in ingress rules, its source in egress rules."""

    action: Literal["Allow", "Deny", "Log", "Pass"] = "Allow"
    """Log goes on with the next rule; Pass with the next tier."""
    index: int = 0
    """The position in the user's list of rules from which this one comes."""
    ip_version: Literal[0, 4, 6] = 0
    """0: both."""
    protocol: str = ""
    """TCP, UDP, SCTP, UDPLite, ICMP, ICMPv6, or a number from 1 to 255. Empty: any protocol."""
    not_protocol: str = ""
    icmp: IcmpMatch | None = None
    not_icmp: IcmpMatch | None = None
    peer: RuleEnd = RuleEnd()
    subject: RuleEnd = RuleEnd()


class PolicyProgramSpec(KubeStruct, frozen=True, gc=False):
    """One policy, compiled."""

    epoch: int
    source: PolicySource
    types: tuple[Literal["Ingress", "Egress"], ...] = ()
    """The directions in which this policy isolates the pods that it selects."""
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    log_denied: bool = False
    """Whether packets that this policy denies, by a rule or by selecting a pod that nothing allows, are logged."""


class PolicyClassSpec(KubeStruct, frozen=True, gc=False):
    """The policies that apply to a set of pods alike. The policy types of the programs named say in which directions
    the pods are isolated. A packet that every tier passes is allowed."""

    epoch: int
    tiers: tuple[ClassTier, ...] = ()
    """In the order of evaluation."""
    programs: str = ""
    """Of the programs that `tiers` names, those that no other class does: they come to nodes in here. One on each line,
    as JSON: its name, and its PolicyProgram's spec with epoch 0."""


class PolicyClass(KubeStruct, frozen=True, gc=False):
    """A set of pods to which the same policies apply."""

    metadata: ObjectMeta
    spec: PolicyClassSpec


class PolicyNodes(KubeStruct, frozen=True, gc=False):
    """Nodes, counted."""

    concerned: int = 0
    """Nodes with a pod that the policy applies to."""
    in_force: int = 0
    """Those of them in whose kernel the program is as it stands here."""
    program_generation: int = 0
    """The PolicyProgram's metadata.generation that these counts are about."""
    program_version: str = ""
    """The resourceVersion by which agents were told of that generation."""


class PolicyProgramStatus(KubeStruct, frozen=True, gc=False):
    """Where a policy is in force."""

    observed_generation: int = 0
    """The generation of the user's object that `nodes` is about."""
    nodes: PolicyNodes = PolicyNodes()
    conditions: tuple[Condition, ...] = ()
    """InForce, which names nodes that lag behind; Remarks: what of the policy is legal and hardly meant."""


class PolicyProgram(KubeStruct, frozen=True, gc=False):
    """A policy's compiled rules, in order, with selectors replaced by AddressGroup ids."""

    metadata: ObjectMeta
    spec: PolicyProgramSpec
    status: PolicyProgramStatus = PolicyProgramStatus()


# What the operator writes and the API server stores; agents, who have no use for what is more here, decode the other.
class StoredProgram(PolicyProgram, frozen=True, gc=False):
    """A policy's compiled rules, in order, with selectors replaced by AddressGroup ids."""

    declared: str = ""
    """The user's object that the spec was compiled from, as JSON: with it a policy that has become invalid stays as it
    last was valid, whoever leads. Empty where there never was a valid one."""


class AddressGroupSpec(KubeStruct, frozen=True, gc=False):
    """One chunk, of at most 100 members, of a group of addresses."""

    epoch: int
    group: str
    """The group's id; the object's name is `<group>-<chunk>`."""
    chunk: int = 0
    chunks: int = 0
    """In chunk 0: one more than the highest chunk number in use. A group is complete when chunks 0 to chunks-1 are all
    there (an emptied chunk stays, empty, until it is the last)."""
    type: Literal["Addresses", "AddressPorts"] = "Addresses"
    members: Lines = ""
    """Each on a line of its own. Addresses: "10.244.0.5", "fd00::5" or a CIDR. AddressPorts: "10.244.0.5,tcp:8080" or
    "fd00::5,tcp:8080" (as ipset writes hash:ip,port members). Both families in one group."""
    selector: str = ""
    """In chunk 0: what the group selects, for people."""


class AddressGroup(KubeStruct, frozen=True, gc=False):
    """A chunk of the addresses that a selector selects in its scope."""

    metadata: ObjectMeta
    spec: AddressGroupSpec


# --- MeshNode: what other nodes need of one ------------------------------------------------------------------------


class MeshNodeSpec(KubeStruct, frozen=True, gc=False):
    """A member of the mesh, as its peers see it."""

    epoch: int
    node_uid: str = msgspec.field(default="", name="nodeUID")
    ipv4: str = ""
    """The underlay address that BGP sessions are opened to."""
    ipv4_network: str = ""
    """The underlay subnet that holds it, as a CIDR; empty while not known."""
    ipv6: str = ""
    """The same of IPv6; empty where the node takes no part in IPv6."""
    ipv6_network: str = ""
    as_number: int = 64512
    blocks: tuple[str, ...] = ()
    """The CIDRs that peers accept from this node, of both families."""


class MeshNode(KubeStruct, frozen=True, gc=False):
    """What other nodes need of the node of the same name."""

    metadata: ObjectMeta
    spec: MeshNodeSpec


# --- IPAMBlock: the truth about addresses; spec is the operator's, status the agent's ------------------------------


class IPAMBlockSpec(KubeStruct, frozen=True, gc=False):
    """Who may allocate from a block."""

    epoch: int
    cidr: str
    pool: str
    node: str
    node_uid: str = msgspec.field(default="", name="nodeUID")
    state: Literal["Active", "Releasing"] = "Active"
    """Releasing: the agent allocates no more, and sets status.released once nothing is allocated."""
    forgotten: int = 0
    """Every freed address whose sequence is at most this may be given again: no node's groups hold it any more."""


class Allocation(KubeStruct, frozen=True, gc=False):
    """An address in use."""

    address: str
    namespace: str
    name: str
    uid: str
    container_id: str = msgspec.field(default="", name="containerID")
    interface: str = ""
    """The interface's name in the pod."""


class FreedAddress(KubeStruct, frozen=True, gc=False):
    """An address not in use any more, and not to be given again before `spec.forgotten` reaches its sequence."""

    address: str
    sequence: int


class IPAMBlockStatus(KubeStruct, frozen=True, gc=False):
    """What the node's agent did with the block."""

    allocations: tuple[Allocation, ...] = ()
    freed: tuple[FreedAddress, ...] = ()
    sequence: int = 0
    """The highest sequence ever given to a freed address of this block."""
    released: bool = False


class IPAMBlock(KubeStruct, frozen=True, gc=False):
    """A block of addresses with affinity to a node, named after its CIDR ("10-244-0-64-26"): creating it locks it."""

    metadata: ObjectMeta
    spec: IPAMBlockSpec
    status: IPAMBlockStatus = IPAMBlockStatus()


# --- NodeReport: what is in the kernel; written by the node's agent ------------------------------------------------


class PeerStatus(KubeStruct, frozen=True, gc=False):
    """A BGP session, as the speaker sees it."""

    name: str
    """The MeshNode's or BGPPeer's name."""
    address: str
    as_number: int
    local_as_number: int
    state: str
    """Of RFC 4271's finite state machine: Idle, Connect, Active, OpenSent, OpenConfirm or Established."""
    source: Literal["Mesh", "BGPPeer"] = "Mesh"
    since: str = ""
    prefixes_received: int = 0
    message: str = ""
    """Why the session was last lost, or what was refused from it."""


class Interface(KubeStruct, frozen=True, gc=False):
    """An interface of the node with its global addresses in CIDR form, for address autodetection."""

    name: str
    addresses: tuple[str, ...] = ()


class Applied(KubeStruct, frozen=True, gc=False):
    """Up to which resourceVersion each watch's events are in the kernel. Objects that concern every node
    (manx.dev/everywhere) come by a watch of their own, whose progress says nothing of the other's."""

    nodestates: str = ""
    policyclasses: str = ""
    policyclasses_everywhere: str = ""
    policyprograms: str = ""
    policyprograms_everywhere: str = ""
    addressgroups: str = ""
    """Of the AddressGroups labelled for this node."""
    addressgroups_everywhere: str = ""
    """Of the AddressGroups labelled manx.dev/everywhere."""


class Drift(KubeStruct, frozen=True, gc=False):
    """What was found altered behind Manx's back, and repaired."""

    count: int = 0
    last: str = ""
    last_time: str = ""


class NodeReportStatus(KubeStruct, frozen=True, gc=False):
    """What is in the kernel, and in the BGP sessions, of one node."""

    node_uid: str = msgspec.field(default="", name="nodeUID")
    agent_version: str = ""
    started: str = ""
    backend: str = ""
    """The iptables back end in use: nft or legacy."""
    applied: Applied = Applied()
    policies: int = 0
    endpoints: int = 0
    groups: int = 0
    peers_summary: str = ""
    """Established sessions / all sessions."""
    peers: tuple[PeerStatus, ...] = ()
    routes: int = 0
    blocks: tuple[str, ...] = ()
    lag_milliseconds: int = 0
    """From an event's arrival to its being in the kernel, of the last change applied."""
    interfaces: tuple[Interface, ...] = ()
    drift: Drift = Drift()
    last_error: str = ""
    conditions: tuple[Condition, ...] = ()
    """Types: Ready, Policy, Routes, BGP, IPAM."""


class NodeReport(KubeStruct, frozen=True, gc=False):
    """What one node's agent says is in force there."""

    metadata: ObjectMeta
    status: NodeReportStatus = NodeReportStatus()
