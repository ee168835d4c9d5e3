"""verdict(): what the declared policies of all kinds say of a connection, and why. The reference semantics.

Owns: the path of a question through tiers, policies and rules; `reference` has each kind's sentences.
Must not: be fast, or share code with what it is the reference for. All that is compiled, rendered or explained is held
against it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

from manx_core.policy.cluster import Cluster, Direction, PodKey, is_endpoint
from manx_core.policy.reference.connection import Connection, Item, end_at, protocol_number
from manx_core.policy.reference.tiers import Judge, TierView, tiers_of


@dataclass(frozen=True, slots=True)
class Deciding:
    """A rule of a policy in a tier."""

    tier: str
    kind: Literal["KubernetesNetworkPolicy", "NetworkPolicy", "GlobalNetworkPolicy"]
    namespace: str
    """Empty for a GlobalNetworkPolicy."""
    name: str
    direction: Direction
    rule: int
    """The rule's position in the user's list, or -1 for a policy that is not valid."""
    action: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the connection is allowed in that direction, and the sentence that decides it."""

    allowed: bool
    because: str
    tier: str = ""
    """The tier that decided; empty where none did."""
    rule: Deciding | None = None
    """The rule that decided; None where a tier's default action did, or no policy was asked."""
    passed: tuple[Deciding, ...] = ()
    """The rules that went before without deciding, in order: Log, and Pass to the next tier."""


def verdict(
    cluster: Cluster,
    subject: PodKey,
    peer: str,
    port: int,
    protocol: str | int,
    direction: Direction,
    *,
    address: str = "",
    source_port: int = 0,
    icmp_type: int | None = None,
    icmp_code: int | None = None,
) -> Verdict:
    """May `peer` (an IP address) connect to the pod `subject` (Ingress), or `subject` to `peer` (Egress)?

    `port` is the destination's, of `protocol`: a name or number of an IP protocol. `address` is the subject's; by
    default the first that it has of the peer's family. A connection between pods is allowed where both directions are,
    each asked with its own subject. Raises KeyError for an unknown subject, ValueError for an unknown protocol.
    """
    pod = cluster.pods[subject]
    if not is_endpoint(pod):
        return Verdict(True, "policy does not apply to a pod without an address of its own")
    if peer in cluster.addresses.get(subject, ()):
        # "A Pod cannot block access to itself." Manx: whatever the policy's kind.
        return Verdict(True, "a pod cannot block access to itself")
    if direction == "Ingress" and peer in cluster.node_addresses.get(pod.spec.node_name, ()):
        # "… OR if the traffic source is the pod's local node". Manx: whatever the policy's kind.
        return Verdict(True, "the source is the pod's own node")
    if subject[0] not in cluster.namespaces and any(
        j.asks_for_namespaces for t in tiers_of(cluster) for j in t.policies
    ):
        # Manx: nobody can tell which policies apply to it. What is missing denies.
        return Verdict(False, f"namespace {subject[0]} is not known, and a policy asks for its labels")
    own = address or _own_address(cluster, subject, peer)
    source, destination = (peer, own) if direction == "Ingress" else (own, peer)
    asked = Connection(
        cluster=cluster,
        direction=direction,
        source=end_at(cluster, source, source_port, subject if direction == "Egress" else None),
        destination=end_at(cluster, destination, port, subject if direction == "Ingress" else None),
        version=ipaddress.ip_address(peer).version,
        protocol=protocol_number(protocol),
        icmp_type=icmp_type,
        icmp_code=icmp_code,
    )
    return _by_tiers(asked, next(item for item in asked.subject.items if item.pod == subject))


def _asks_for_namespaces(cluster: Cluster) -> bool:
    return any(judge.asks_for_namespaces for tier in tiers_of(cluster) for judge in tier.policies)


def _own_address(cluster: Cluster, subject: PodKey, peer: str) -> str:
    version = ipaddress.ip_address(peer).version
    held = (text for text in cluster.addresses.get(subject, ()) if ipaddress.ip_address(text).version == version)
    return next(held, "")


def _by_tiers(asked: Connection, pod: Item) -> Verdict:
    passed: tuple[Deciding, ...] = ()
    concerned = False
    for tier in tiers_of(asked.cluster):
        # "Each tier that contains a policy that applies to the endpoint processes the packet."
        policies = [judge for judge in tier.policies if judge.applies(pod, asked.direction)]
        if not policies:
            continue
        concerned = True
        found = _in_tier(asked, tier, policies, passed)
        if isinstance(found, Verdict):
            return found
        passed = found
    if concerned:
        # What every tier passes is left to the pod's profile, and the profile that a namespace makes allows.
        return Verdict(True, "every tier passes it on", passed=passed)
    # "By default, a pod is non-isolated": traffic is allowed if no policy selects the pod for the direction.
    return Verdict(True, f"no policy selects the pod for {asked.direction}")


def _in_tier(
    asked: Connection, tier: TierView, policies: list[Judge], passed: tuple[Deciding, ...]
) -> Verdict | tuple[Deciding, ...]:
    """What the tier decides; or, where it passes the packet on, the rules that went before."""
    for judge in policies:
        if judge.closes:
            closed = _deciding(tier, judge, asked, -1, "Deny")
            return Verdict(False, f"{judge.name} is not valid, and denies", tier.name, closed, passed)
        for number, action in judge.matching_rules(asked):
            rule = _deciding(tier, judge, asked, number, action)
            where = f"{asked.direction.lower()}[{number}]"
            # "Allow and Deny are immediate and final and no further rules are processed."
            if action == "Allow":
                return Verdict(True, f"{judge.name} allows it: {where}", tier.name, rule, passed)
            if action == "Deny":
                return Verdict(False, f"{judge.name} denies it: {where}", tier.name, rule, passed)
            passed = (*passed, rule)
            # "The Pass action in a Rule jumps to the next Tier."
            if action == "Pass":
                return passed
            # "After a Log action, processing continues with the next rule."
    if tier.default_action == "Pass":
        return passed
    # "If the Tier applies to the endpoint, but takes no action on the packet the packet is dropped. This behaviour can
    # be changed by setting the defaultAction of a tier to Pass."
    names = ", ".join(judge.name for judge in policies)
    return Verdict(False, f"no rule decides it of {names}, and tier {tier.name} denies", tier.name, None, passed)


def _deciding(tier: TierView, judge: Judge, asked: Connection, number: int, action: str) -> Deciding:
    meta = judge.policy.metadata
    return Deciding(tier.name, judge.kind, meta.namespace, meta.name, asked.direction, number, action)
