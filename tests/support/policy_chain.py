"""The whole chain, without a cluster: users' objects → the operator's model → what each node's agent is told → its
rendering → a simulated kernel for each node, and packets that cross them.

Owns: `fed` (a model with a cluster's inputs), `view_of` (what an agent would come to know), `Chain` (kernels, packets).
Must not: decide what is right, or know any rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kernelsim import KernelSim
from kernelsim import Packet as KernelPacket
from manx_agent.model import LocalEndpoint, PolicyView
from manx_agent.render.image import Image
from manx_agent.render.plan import plan
from manx_agent.render.policy import Renderer
from manx_agent.render.settle import Settled, settle
from manx_core.api.inside import programs_in
from manx_core.api.lines import lines_of
from manx_core.api.network_set import GlobalNetworkSet, NetworkSet
from manx_core.api.v1alpha1 import (
    AddressGroupSpec,
    ClassTier,
    PolicyClassSpec,
    PolicyProgramSpec,
    PolicySettings,
    PoolSettings,
)
from manx_core.policy.cluster import Cluster, PodKey, is_endpoint
from manx_operator.model import DesiredObject, NetworkSetFacts, PolicyId, PolicyModel
from policy_asking import Question
from policy_objects import raw_policy
from policy_random import PODS

POOLS = (PoolSettings(name="four", cidr="10.0.0.0/16"), PoolSettings(name="six", cidr="fd00::/64"))
KERNEL_NAMES = {
    "TCP": "tcp",
    "UDP": "udp",
    "SCTP": "sctp",
    "ICMP": "icmp",
    "ICMPv6": "ipv6-icmp",
    "UDPLite": "udplite",
}


def fed(cluster: Cluster) -> PolicyModel:
    """A model that has heard of everything, once."""
    model = PolicyModel()
    for name, namespace in cluster.namespaces.items():
        model.set_namespace(name, namespace)
    for key, account in cluster.service_accounts.items():
        model.set_service_account(key, account)
    for name, tier in cluster.tiers.items():
        model.set_tier(name, tier)
    for key, policy in cluster.policies.items():
        model.set_policy(PolicyId("knp", *key), policy)
    for key, calico in cluster.calico_policies.items():
        model.set_policy(PolicyId("np" if key[0] else "gnp", *key), raw_policy(calico))
    for key, network_set in cluster.network_sets.items():
        model.set_network_set(key, set_facts(network_set))
    for key, found in cluster.endpoint_slices.items():
        model.set_endpoint_slice(key, found)
    for key, pod in cluster.pods.items():
        model.set_pod(key, pod)
        model.set_addresses(key, pod.metadata.uid, cluster.addresses.get(key, ()))
    model.drain()
    return model


def set_facts(found: NetworkSet | GlobalNetworkSet) -> NetworkSetFacts:
    """Each net once; one of one address as that address."""
    nets = {net.removesuffix("/128") if ":" in net else net.removesuffix("/32") for net in found.spec.nets}
    return NetworkSetFacts(found.metadata.labels, tuple(sorted(nets)))


def interface_of(key: PodKey) -> str:
    return f"mnx{PODS.index(key):011x}"


def objects_of(model: PolicyModel) -> list[DesiredObject]:
    found = [model.desired(*key) for key in model.all_keys()]
    return [one for one in found if one is not None]


def view_of(model: PolicyModel, node: str, cluster: Cluster) -> PolicyView:
    """What the node's agent knows once it has heard all that spans it, with the pods of the cluster attached."""
    classes: dict[str, tuple[ClassTier, ...]] = {}
    programs: dict[str, PolicyProgramSpec] = {}
    members: dict[str, set[str]] = {}
    types: dict[str, str] = {}
    for found in objects_of(model):
        if node not in found.nodes:
            continue
        if isinstance(found.spec, AddressGroupSpec):
            members.setdefault(found.spec.group, set()).update(lines_of(found.spec.members))
            types[found.spec.group] = found.spec.type
        elif isinstance(found.spec, PolicyClassSpec):
            classes[found.name] = found.spec.tiers
            programs |= {inside.name: inside.spec for inside in programs_in(found.spec.programs)}
        else:
            programs[found.name] = found.spec
    return PolicyView(
        endpoints=_endpoints(node, cluster),
        classes=classes,
        programs=programs,
        groups={group: frozenset(held) for group, held in members.items()},
        group_types=types,
        class_of={(e.namespace, e.name, e.uid): e.policy_class for e in model.endpoints(node) if e.policy_class},
        ports_of={(e.namespace, e.name, e.uid): e.ports for e in model.endpoints(node) if e.ports},
        pools=POOLS,
    )


def _endpoints(node: str, cluster: Cluster) -> dict[str, LocalEndpoint]:
    here = {key: pod for key, pod in cluster.pods.items() if is_endpoint(pod) and pod.spec.node_name == node}
    return {
        f"c-{key[0]}-{key[1]}": LocalEndpoint(
            *key, pod.metadata.uid, f"c-{key[0]}-{key[1]}", interface_of(key), cluster.addresses.get(key, ())
        )
        for key, pod in here.items()
    }


def kernels_of(
    cluster: Cluster,
    model: PolicyModel,
    settings: PolicySettings = PolicySettings(),  # noqa: B008
) -> dict[str, KernelSim]:
    """A kernel for each node that has pods, brought there from nothing."""
    return {node: kernel_of(view_of(model, node, cluster), settings) for node in sorted(model.nodes())}


def as_told(model: PolicyModel) -> tuple[object, ...]:
    """All that the model would have written, groups made whole: which chunk a member is in depends on how it came
    there."""
    groups: dict[str, tuple[frozenset[str], frozenset[str], str]] = {}
    rest = {}
    for found in objects_of(model):
        if isinstance(found.spec, AddressGroupSpec):
            held = groups.get(found.spec.group, (frozenset(), found.nodes, found.spec.type))[0]
            groups[found.spec.group] = (held | set(lines_of(found.spec.members)), found.nodes, found.spec.type)
        else:
            rest[found.kind, found.name] = (found.spec, found.nodes)
    return rest, groups, {node: model.endpoints(node) for node in model.nodes()}


class Chain:
    """Kernels by node, and packets that cross them."""

    def __init__(self, cluster: Cluster, kernels: Mapping[str, KernelSim]) -> None:
        self.cluster = cluster
        self.kernels = kernels

    def passes(self, question: Question) -> bool:
        """Whether the packet reaches the other end: the sender's kernel and the receiver's let it through."""
        return all(self.kernels[node].verdict(packet) == "ACCEPT" for node, packet in self.hops(question))

    def hops(self, question: Question) -> Iterable[tuple[str, KernelPacket]]:
        """The packet as each node forwards it, in order."""
        pair = question.pair
        source = None if pair.source_pod is None else self._node(pair.source_pod)
        destination = None if pair.destination_pod is None else self._node(pair.destination_pod)
        into = interface_of(pair.source_pod) if pair.source_pod else "eth0"
        out = interface_of(pair.destination_pod) if pair.destination_pod else "eth0"
        if source is not None:
            yield source, kernel_packet(question, into, out if source == destination else "eth0")
        if destination is not None and source != destination:
            yield destination, kernel_packet(question, "eth0", out)

    def _node(self, key: PodKey) -> str:
        return self.cluster.pods[key].spec.node_name


def kernel_of(view: PolicyView, settings: PolicySettings) -> KernelSim:
    """A kernel that was brought from nothing to the view."""
    rendered = Renderer().render(settle(view, Settled(), 0.0), view.pools, settings)
    assert not rendered.problems, rendered.problems
    kernel = KernelSim()
    for step in plan(Image(), rendered.image):
        kernel.run(step)
    return kernel


def kernel_packet(question: Question, into: str, out: str) -> KernelPacket:
    """As one node sees it; `out` empty where the node takes it in."""
    pair, packet = question.pair, question.packet
    return KernelPacket(
        source=pair.source,
        destination=pair.destination,
        into=into,
        out=out,
        protocol=KERNEL_NAMES.get(packet.protocol, packet.protocol.lower()),
        port=packet.port,
        source_port=packet.source_port,
        icmp_type=packet.icmp_type,
        icmp_code=packet.icmp_code,
    )
