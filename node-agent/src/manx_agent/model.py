"""What the parts of the agent hand to each other: frozen values, and the protocols of the edges.

Owns: the types between `state` (what was heard), `render` and `drivers` (what the kernel gets), `cni` (pods coming and
going) and `report` (what is said back). Must not: hold behaviour or do I/O.

Data goes down once: state makes views, drivers apply them. Status comes back once: drivers return outcomes, from which
`report` makes the NodeReport. A view is the whole of what is wanted; `Dirty` says where it differs from the view
before, so that the cost of applying follows the change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from manx_core.api.v1alpha1 import (
    BgpPeer,
    BgpSettings,
    ClassTier,
    MeshNodeSpec,
    PeerStatus,
    PolicyProgramSpec,
    PolicySettings,
    PoolSettings,
)
from manx_core.policy.endpoint import NamedPort

Backend = Literal["nft", "legacy"]


class AgentError(Exception):
    """Base of the agent's own errors: what its edges raise instead of what their libraries do."""


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """A pod's interface on this node, as CNI ADD made it."""

    namespace: str
    name: str
    uid: str
    container_id: str
    interface: str
    """The interface's name in the node's namespace: "mnx" and 11 hexadecimal digits."""
    addresses: tuple[str, ...]
    """The pod's addresses: at most one IPv4 and one IPv6, IPv4 first, spelt as the kernel spells them."""


@dataclass(frozen=True, slots=True)
class PolicyView:
    """Everything that policy on this node consists of. What the mappings lack has not arrived or does not exist."""

    endpoints: Mapping[str, LocalEndpoint] = field(default_factory=dict)
    """By `container_id`: the pods' interfaces that exist here."""
    classes: Mapping[str, tuple[ClassTier, ...]] = field(default_factory=dict)
    """PolicyClass name → its tiers, in order."""
    programs: Mapping[str, PolicyProgramSpec] = field(default_factory=dict)
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Complete AddressGroups only: id → members as in `AddressGroupSpec.members`."""
    group_types: Mapping[str, str] = field(default_factory=dict)
    """Group id → "Addresses" or "AddressPorts"."""
    class_of: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    """(namespace, name, uid) → class; "open" for none; absent means closed."""
    ports_of: Mapping[tuple[str, str, str], tuple[NamedPort, ...]] = field(default_factory=dict)
    """(namespace, name, uid) → its named ports, for those that have any."""
    pools: tuple[PoolSettings, ...] = ()
    settings: PolicySettings = field(default_factory=PolicySettings)


@dataclass(frozen=True, slots=True)
class Dirty:
    """What changed since the view before; `everything` asks for a comparison with the kernel itself."""

    endpoints: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    programs: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    pools: bool = False
    settings: bool = False
    everything: bool = False


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """What an apply came to."""

    backend: Backend
    missing: frozenset[str] = frozenset()
    """Names of classes, programs and groups that something refers to and that are not there. While any is missing, what
    needs it keeps its old rules for up to 10 s, then denies."""
    closed: frozenset[str] = frozenset()
    """container_ids that have no class in force: all their traffic is dropped."""
    drift: tuple[str, ...] = ()
    """What was found altered behind our back and repaired, one sentence each."""
    errors: tuple[str, ...] = ()
    """Why the kernel is not as the view wants it. Tried again at the next apply or check."""
    problems: tuple[str, ...] = ()
    """What in the view means nothing here (a port that is none, a group of the wrong type), one sentence each, naming
    object and field. It is closed, and all else is in force; only another view can change that."""


class PolicyDataplane(Protocol):
    """iptables and ipset. One apply at a time; after an error the next one compares with the kernel."""

    async def apply(self, view: PolicyView, dirty: Dirty) -> PolicyOutcome: ...

    async def check_drift(self) -> tuple[str, ...]:
        """Compare the kernel with what was last applied, repair, and say what was found."""
        ...


@dataclass(frozen=True, slots=True)
class BgpView:
    """Everything that BGP on this node consists of."""

    node: str
    address: str = ""
    """Our underlay IPv4 address; while empty there is no session over IPv4."""
    address6: str = ""
    """The same of IPv6."""
    settings: BgpSettings = field(default_factory=BgpSettings)
    mesh: Mapping[str, MeshNodeSpec] = field(default_factory=dict)
    """By node name, this node excluded."""
    peers: tuple[BgpPeer, ...] = ()
    announced: frozenset[str] = frozenset()
    """CIDRs of this node's blocks, of both families."""
    refresh_interval: float = 0.0
    """Seconds between two comparisons of the kernel's routes with what they should be; 0: the driver's own choice."""


@dataclass(frozen=True, slots=True)
class BgpOutcome:
    """What the speaker and the kernel's routes are like now."""

    peers: tuple[PeerStatus, ...] = ()
    routes: Mapping[str, str] = field(default_factory=dict)
    """Learned prefixes in the kernel → next hop."""
    errors: tuple[str, ...] = ()


class EndpointAdmission(Protocol):
    """What CNI ADD and DEL need of policy."""

    async def admit(self, endpoint: LocalEndpoint) -> None:
        """Returns once the endpoint's policy is in the kernel. Raises AgentError where it cannot be, TimeoutError when
        cancelled by the caller's deadline."""
        ...

    async def withdraw(self, container_id: str) -> None:
        """Takes the endpoint out of the kernel; unknown ones are no error."""
        ...

    def is_expected(self, namespace: str, name: str, uid: str) -> bool:
        """Whether the operator's NodeState lists this pod, so that its class is known."""
        ...
