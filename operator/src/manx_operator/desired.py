"""What each of our objects shall be: the model, blocks, pools and speakers, asked as one.

Owns: which part answers for which kind, and NodeState, which is made of several. Must not: compute what these do, or
know what is at the API server.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from manx_core.api.lines import text_of
from manx_core.api.v1alpha1 import NodeStateSpec
from manx_core.bgp.nodes import Speaker
from manx_kube import resources as r
from manx_operator.blocks import Blocks
from manx_operator.decide import KEEP, Keep, Wanted
from manx_operator.model import DesiredObject, PolicyModel
from manx_operator.model.types import Kind
from manx_operator.observed import Key
from manx_operator.pools import Pools
from manx_operator.speakers import Speakers
from manx_operator.user_kinds import UserKinds

POLICY_KINDS: dict[r.Resource, Kind] = {
    r.POLICY_CLASSES: "PolicyClass",
    r.POLICY_PROGRAMS: "PolicyProgram",
    r.ADDRESS_GROUPS: "AddressGroup",
}
PER_NODE = (r.NODE_STATES, r.MESH_NODES, r.NODE_REPORTS)


@dataclass(frozen=True)
class DesiredState:
    """See `decide.Wants`."""

    model: PolicyModel
    blocks: Blocks
    pools: Pools
    speakers: Speakers
    kinds: UserKinds
    gone: set[str] = field(default_factory=set)
    """Nodes known to be deleted. One never heard of may be about to be: an agent's report of a new node can arrive
    before the Node does."""

    def wanted(self, key: Key) -> Wanted | Keep | None:
        """What the object shall be, None if it shall not."""
        if key.resource in POLICY_KINDS:
            found = self.model.desired(POLICY_KINDS[key.resource], key.name)
            return _of_model(found) if found is not None else None
        if key.resource == r.IPAM_BLOCKS:
            return self.blocks.wanted(key.name)
        speaker = self.speakers.get(key.name)
        if speaker is None:
            return None if key.name in self.gone else KEEP
        if key.resource == r.NODE_REPORTS:
            return KEEP
        if key.resource == r.MESH_NODES:
            return Wanted(speaker.mesh_node(self.blocks.cidrs(key.name), ipv6=self.pools.ipv6))
        return Wanted(self._node_state(key.name, speaker))

    def _node_state(self, name: str, speaker: Speaker) -> NodeStateSpec:
        return NodeStateSpec(
            epoch=0,
            node_uid=speaker.uid,
            ipv4=speaker.ipv4,
            ipv6=speaker.ipv6 if self.pools.ipv6 or speaker.has_ipv6_peer else "",
            mtu=self.kinds.mtu,
            pools=self.pools.settings,
            bgp=speaker.settings,
            peers=speaker.peers,
            pods=text_of(self.model.lines(name)),
            policy=self.kinds.policy_settings(name),
            ipam_problem=self.blocks.problem(name),
        )


def _of_model(found: DesiredObject) -> Wanted:
    more = {"declared": found.declared} if found.kind == "PolicyProgram" else {}
    return Wanted(found.spec, found.nodes, more)
