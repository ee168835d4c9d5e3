"""What this node was told: its share of the manx.dev objects, as views for those who put it into the kernel.

Owns: joining both watches, putting groups together from their chunks, and knowing what changed since the last view.
Must not: do I/O, wait, decide what to do about something missing (the dataplane does), or know anything of other nodes.

Why this way: every method is synchronous and takes values, so any order of events leads to the same views. Of what has
not changed, the next view has the same mappings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from manx_agent.listed import listed
from manx_agent.model import BgpView, Dirty, LocalEndpoint, PolicyView
from manx_agent.state.groups import Groups
from manx_agent.state.programs import Programs
from manx_agent.state.table import Table
from manx_agent.state.union import Union
from manx_core.api.v1alpha1 import (
    AddressGroup,
    ClassTier,
    IPAMBlock,
    MeshNode,
    MeshNodeSpec,
    NodeState,
    NodeStateSpec,
    PolicyClass,
    PolicyProgram,
    PolicyProgramSpec,
    PolicySettings,
)
from manx_core.policy.endpoint import Endpoint, NamedPort

PodKey = tuple[str, str, str]
"""(namespace, name, uid)"""


class DirtySet:
    """Collects what changed, until it is taken."""

    def __init__(self) -> None:
        self.endpoints: set[str] = set()
        self.classes: set[str] = set()
        self.programs: set[str] = set()
        self.groups: set[str] = set()
        self.pools = False
        self.settings = False
        self.everything = True

    def take(self) -> Dirty:
        """What was collected; collecting begins anew."""
        taken = Dirty(
            frozenset(self.endpoints),
            frozenset(self.classes),
            frozenset(self.programs),
            frozenset(self.groups),
            self.pools,
            self.settings,
            self.everything,
        )
        for collected in (self.endpoints, self.classes, self.programs, self.groups):
            collected.clear()
        self.pools = self.settings = self.everything = False
        return taken

    @property
    def beyond_groups(self) -> bool:
        """Whether something else than members of groups changed."""
        objects = self.endpoints or self.classes or self.programs
        return bool(objects or self.pools or self.settings or self.everything)

    def __bool__(self) -> bool:
        return self.beyond_groups or bool(self.groups)


class Share:
    """The node's share. The first view after a start is dirty in everything."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.dirty = DirtySet()
        self.settings: NodeStateSpec | None = None
        """The last NodeState heard. It stays when the object goes, so that the kernel does too (fail static)."""
        self.present = False
        """Whether the NodeState exists now: new pods are refused while it does not."""
        self._endpoints: Table[LocalEndpoint] = Table()
        self.blocks: dict[str, IPAMBlock] = {}
        self._class_of: dict[PodKey, str] = {}
        self._ports_of: dict[PodKey, tuple[NamedPort, ...]] = {}
        self._classes: Table[tuple[ClassTier, ...]] = Table()
        self._programs: Table[PolicyProgramSpec] = Table()
        self._class_union: Union[PolicyClass] = Union()
        self._programs_heard = Programs()
        self._listed: Counter[str] = Counter()
        """Policy → how many classes list it."""
        self._groups = Groups()
        self._mesh: dict[str, MeshNodeSpec] = {}

    @property
    def endpoints(self) -> Mapping[str, LocalEndpoint]:
        """The pods' interfaces that are here now, by `container_id`."""
        return self._endpoints.now

    # --- from the API server -------------------------------------------------------------------------------------

    def set_node_state(self, state: NodeState | None) -> None:
        """The operator's word for this node changed, or went."""
        self.present = state is not None
        if state is None:
            return
        before, self.settings = self.settings, state.spec
        self.dirty.pools |= before is None or before.pools != state.spec.pools
        self.dirty.settings |= before is None or before.policy != state.spec.policy
        self._set_pods({(pod.namespace, pod.name, pod.uid): pod for pod in listed(state.spec)})

    def _set_pods(self, pods: Mapping[PodKey, Endpoint]) -> None:
        classes, ports = self._class_of, self._ports_of
        self._class_of = {key: pod.policy_class for key, pod in pods.items() if pod.policy_class}
        ports_now = {key: pod.ports for key, pod in pods.items() if pod.ports}
        if ports_now != ports:  # most often they are not: the old value stays, for those that compare by identity
            self._ports_of = ports_now
        for container_id, endpoint in self.endpoints.items():
            key = (endpoint.namespace, endpoint.name, endpoint.uid)
            if classes.get(key) != self._class_of.get(key) or ports.get(key) != self._ports_of.get(key):
                self.dirty.endpoints.add(container_id)

    def set_class(self, side: int, name: str, obj: PolicyClass | None) -> None:
        """A PolicyClass as watch `side` (0: this node's, 1: every node's) has it."""
        self._class_union.put(side, name, obj)
        newest = self._class_union.get(name)
        programs = self._programs_heard.put_class(name, newest)
        self._set_tiers(name, newest.spec.tiers if newest is not None else None)
        for program in programs:
            self._set_program(program)

    def _set_tiers(self, name: str, now: tuple[ClassTier, ...] | None) -> None:
        before = self._classes.now.get(name)
        if before == now:  # the old value stays: those that compare by identity need not look
            return
        self._listed.subtract(_policies(before))
        self._listed.update(_policies(now))
        if now is None:
            self._classes.drop(name)
        else:
            self._classes.put(name, now)
        self.dirty.classes.add(name)

    def set_program(self, side: int, name: str, obj: PolicyProgram | None) -> None:
        """A PolicyProgram as watch `side` has it. One that no class lists changes nothing; where the operator writes a
        policy and the class that it joins, the class makes it count."""
        self._programs_heard.put(side, name, obj)
        self._set_program(name)

    def _set_program(self, name: str) -> None:
        now = self._programs_heard.get(name)
        if now is None:
            changed = self._programs.drop(name)
        else:
            changed = not _alike(self._programs.now.get(name), now)
            if changed:
                self._programs.put(name, now)
        if changed and self._listed[name] > 0:
            self.dirty.programs.add(name)

    def set_group_chunk(self, side: int, name: str, obj: AddressGroup | None) -> None:
        """A chunk of an AddressGroup as watch `side` has it."""
        self.dirty.groups |= self._groups.put(side, name, obj)

    def set_mesh_node(self, name: str, obj: MeshNode | None) -> None:
        """Another member of the mesh; our own entry is of no use here."""
        if obj is None:
            self._mesh.pop(name, None)
        elif name != self.node:
            self._mesh[name] = obj.spec

    def set_block(self, name: str, obj: IPAMBlock | None) -> None:
        """A block with affinity to this node."""
        if obj is None:
            self.blocks.pop(name, None)
        else:
            self.blocks[name] = obj

    # --- from CNI ------------------------------------------------------------------------------------------------

    def put_endpoint(self, endpoint: LocalEndpoint) -> None:
        """A pod's interface is there."""
        self._endpoints.put(endpoint.container_id, endpoint)
        self.dirty.endpoints.add(endpoint.container_id)

    def drop_endpoint(self, container_id: str) -> None:
        """A pod's interface is going."""
        if self._endpoints.drop(container_id):
            self.dirty.endpoints.add(container_id)

    def is_expected(self, key: PodKey) -> bool:
        """Whether the operator has listed this pod for this node and decided its class."""
        return self.present and key in self._class_of

    # --- to the drivers ------------------------------------------------------------------------------------------

    def policy_view(self) -> PolicyView:
        """All that policy on this node consists of, now."""
        members, types = self._groups.complete()
        return PolicyView(
            endpoints=self._endpoints.copy(),
            classes=self._classes.copy(),
            programs=self._programs.copy(),
            groups=members,
            group_types=types,
            class_of=self._class_of,
            ports_of=self._ports_of,
            pools=self.settings.pools if self.settings else (),
            settings=self.settings.policy if self.settings else PolicySettings(),
        )

    def bgp_view(self) -> BgpView | None:
        """All that BGP on this node consists of, now; None before the operator has said anything."""
        if self.settings is None:
            return None
        return BgpView(
            node=self.node,
            address=self.settings.ipv4,
            address6=self.settings.ipv6,
            settings=self.settings.bgp,
            mesh=dict(self._mesh),
            peers=self.settings.peers,
            announced=frozenset(self._own_cidrs()),
            refresh_interval=self.settings.policy.route_refresh_interval,
        )

    def _own_cidrs(self) -> Iterable[str]:
        return (block.spec.cidr for block in self.blocks.values() if not block.status.released)


def _alike(before: PolicyProgramSpec | None, now: PolicyProgramSpec) -> bool:
    """Whether both say the same, whoever wrote them: inside a class the epoch is 0."""
    if before is None or before.epoch == now.epoch:
        return before == now
    return before == msgspec.structs.replace(now, epoch=before.epoch)


def _policies(tiers: tuple[ClassTier, ...] | None) -> Iterable[str]:
    return (name for tier in tiers or () for name in tier.policies)
