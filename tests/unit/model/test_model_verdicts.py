"""What a node is sent decides as the reference semantics says, for each of its pods, and is all that it needs."""

from __future__ import annotations

import itertools

from hypothesis import given, settings

from manx_core.api.inside import programs_in
from manx_core.api.lines import lines_of
from manx_core.api.v1alpha1 import AddressGroupSpec, ClassTier, PolicyClassSpec, PolicyProgramSpec
from manx_core.policy import Cluster, Flow, Groups
from manx_core.policy.endpoint import Endpoint
from manx_core.policy.evaluate import evaluate
from manx_core.policy.own_ports import own_ports
from manx_core.policy.verdict import verdict
from manx_operator.model import PolicyId, PolicyModel
from policy_cases import cluster_strategy


class Share:
    """The objects that span a node: all that its agent would hear."""

    def __init__(self, model: PolicyModel, node: str) -> None:
        self.classes: dict[str, PolicyClassSpec] = {}
        self.programs: dict[str, PolicyProgramSpec] = {}
        self.groups: dict[str, set[str]] = {}
        for kind, name in model.all_keys():
            found = model.desired(kind, name)
            assert found is not None
            if node not in found.nodes:
                continue
            if isinstance(found.spec, AddressGroupSpec):
                self.groups.setdefault(found.spec.group, set()).update(lines_of(found.spec.members))
            elif isinstance(found.spec, PolicyClassSpec):
                self.classes[name] = found.spec
                self.programs |= {inside.name: inside.spec for inside in programs_in(found.spec.programs)}
            else:
                self.programs[name] = found.spec

    def needed(self, endpoints: tuple[Endpoint, ...]) -> tuple[set[str], set[str], set[str]]:
        """The names that these endpoints lead to. Raises KeyError where the share lacks one."""
        classes = {e.policy_class for e in endpoints} - {"open"}
        programs = {p for name in classes for tier in self.classes[name].tiers for p in tier.policies}
        rules = [r for name in programs for r in (*self.programs[name].ingress, *self.programs[name].egress)]
        ends = [end for rule in rules for end in (rule.peer, rule.subject)]
        named = {g for e in ends for g in (*e.groups, *e.not_groups, *e.port_groups, *e.not_port_groups)}
        return classes, programs, named

    def of(self, endpoint: Endpoint) -> tuple[ClassTier, ...]:
        return () if endpoint.policy_class == "open" else self.classes[endpoint.policy_class].tiers


def fed(cluster: Cluster) -> PolicyModel:
    model = PolicyModel()
    for name, declared in cluster.namespaces.items():
        model.set_namespace(name, declared)
    for key, policy in cluster.policies.items():
        model.set_policy(PolicyId("knp", *key), policy)
    for key, pod in cluster.pods.items():
        model.set_pod(key, pod)
        model.set_addresses(key, pod.metadata.uid, cluster.addresses[key])
    model.drain()
    return model


PORTS = ((53, "UDP"), (80, "TCP"), (8080, "TCP"), (80, "SCTP"), (60, "TCP"), (0, "ICMP"))


@settings(max_examples=150, deadline=None)
@given(cluster_strategy())
def test_a_nodes_share_decides_as_the_reference(cluster: Cluster) -> None:
    model = fed(cluster)
    for node in model.nodes():
        endpoints, share = model.endpoints(node), Share(model, node)
        assert share.needed(endpoints) == (set(share.classes), set(share.programs), set(share.groups))
        for endpoint in endpoints:
            check(cluster, share, endpoint)


def check(cluster: Cluster, share: Share, endpoint: Endpoint) -> None:
    key, tiers = (endpoint.namespace, endpoint.name), share.of(endpoint)
    groups = Groups(share.groups, own_ports([(cluster.addresses[key], endpoint.ports)]))
    own = cluster.addresses[key][0]
    others = [a for other, held in cluster.addresses.items() for a in held if other != key]
    for peer, (port, protocol) in itertools.product([*others, "192.0.2.7", "2001:db8::1"], PORTS):
        incoming = evaluate(tiers, share.programs, groups, "Ingress", Flow(peer, own, protocol, port)).allowed
        assert incoming == verdict(cluster, key, peer, port, protocol, "Ingress").allowed
        outgoing = evaluate(tiers, share.programs, groups, "Egress", Flow(own, peer, protocol, port)).allowed
        assert outgoing == verdict(cluster, key, peer, port, protocol, "Egress").allowed
