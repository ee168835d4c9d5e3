"""What policy on the measured node consists of, as the agent has it: pods, and policies as the issue's load has them.

Owns: views. Must not: measure. A policy selects an app of a namespace and has two rules, for one app of its namespace
and for one of a team's namespaces, as in `bench.scale.load`; here all of them concern the one node.
"""

from __future__ import annotations

from dataclasses import dataclass

from manx_agent.model import LocalEndpoint, PolicyView
from manx_core.api.v1alpha1 import ClassTier, PolicyProgramSpec, PolicySource, PoolSettings, Rule, RuleEnd

PORT = 8080
TEAMS = 10


@dataclass(frozen=True)
class Node:
    """How much is on the node. Pods are of as many kinds (app and namespace) as there are pods, unless `kinds` is less;
    policies are spread evenly over the kinds. `egress`: policies also say where their pods may go."""

    pods: int = 250
    policies: int = 1000
    kinds: int = 250
    egress: bool = False

    @property
    def each(self) -> int:
        """Policies that a pod has."""
        return self.policies // self.kinds


FULL, QUICK = Node(), Node(pods=60, policies=240, kinds=60)


def address(number: int) -> str:
    return f"10.244.{number >> 8}.{number & 255}"


def interface(number: int) -> str:
    return f"mnx{number:011x}"


def endpoint(number: int) -> LocalEndpoint:
    return LocalEndpoint("ns", f"p{number}", f"u{number}", f"c{number}", interface(number), (address(number),))


def class_name(kind: int) -> str:
    return f"pc-{kind * 0x9E3779B97F4A7C15 % (1 << 64):020x}"


def group(kind: str, number: int) -> str:
    return f"ag-{kind}{number:019x}"


def program(node: Node, number: int) -> PolicyProgramSpec:
    """The last policy of each kind lets everybody in on PORT, so that what is allowed has met all others."""
    kind = number % node.kinds
    last = number >= node.policies - node.kinds
    near, far = RuleEnd(groups=(group("a", kind),)), RuleEnd(groups=(group("b", number % TEAMS),))
    if last:
        far = RuleEnd()
    subject = RuleEnd(ports=(str(PORT + (0 if last else 1)),))
    ingress = (
        Rule(protocol="TCP", peer=near, subject=RuleEnd(ports=(str(PORT),))),
        Rule(protocol="TCP", index=1, peer=far, subject=subject),
    )
    towards = (Rule(protocol="TCP", peer=RuleEnd(groups=near.groups, ports=(str(PORT),))),
               Rule(protocol="TCP", index=1, peer=RuleEnd(groups=far.groups, ports=subject.ports)))  # fmt: skip
    return PolicyProgramSpec(
        epoch=1,
        source=PolicySource(kind="NetworkPolicy", name=f"policy-{number}", namespace="ns"),
        types=("Ingress", "Egress") if node.egress else ("Ingress",),
        ingress=ingress,
        egress=towards if node.egress else (),
    )


def view(node: Node) -> PolicyView:
    """All of it."""
    names = [f"knp.ns.policy-{number}" for number in range(node.policies)]
    endpoints = [endpoint(number) for number in range(node.pods)]
    near = {group("a", kind): frozenset({f"10.1.{kind >> 8}.{kind & 255}"}) for kind in range(node.kinds)}
    far = {group("b", team): frozenset(f"10.2.{team}.{member}" for member in range(100)) for team in range(TEAMS)}
    return PolicyView(
        endpoints={one.container_id: one for one in endpoints},
        classes={
            class_name(k): (ClassTier(name="default", policies=tuple(names[k :: node.kinds])),)
            for k in range(node.kinds)
        },
        programs={name: program(node, number) for number, name in enumerate(names)},
        groups={**near, **far},
        group_types=dict.fromkeys((*near, *far), "Addresses"),
        class_of={(e.namespace, e.name, e.uid): class_name(n % node.kinds) for n, e in enumerate(endpoints)},
        pools=(PoolSettings(name="p", cidr="10.244.0.0/16", nat_outgoing=False),),
    )
