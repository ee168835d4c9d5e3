"""Asking: the reference's word on a packet between any two addresses, and on the way what was asked.

Owns: `Question` and what the reference answers at each end. Must not: know compiled rules or kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from manx_core.policy.cluster import Cluster, Direction, PodKey
from manx_core.policy.evaluate import Flow
from manx_core.policy.verdict import Verdict, verdict
from policy_random import Packet, Pair, packets, pairs


class Question(NamedTuple):
    """A packet from one address to another; one of them at least is a pod's."""

    pair: Pair
    packet: Packet

    @property
    def flow(self) -> Flow:
        pair, packet = self.pair, self.packet
        return Flow(
            pair.source,
            pair.destination,
            packet.protocol,
            packet.port,
            packet.source_port,
            packet.icmp_type,
            packet.icmp_code,
        )

    def ends(self) -> Iterator[tuple[PodKey, Direction]]:
        """The pods whose policies have a say."""
        if self.pair.source_pod is not None:
            yield self.pair.source_pod, "Egress"
        if self.pair.destination_pod is not None:
            yield self.pair.destination_pod, "Ingress"

    def at(self, cluster: Cluster, subject: PodKey, direction: Direction) -> Verdict:
        """What the reference says at one end."""
        pair, packet = self.pair, self.packet
        return verdict(
            cluster,
            subject,
            pair.source if direction == "Ingress" else pair.destination,
            packet.port,
            packet.protocol,
            direction,
            address=pair.destination if direction == "Ingress" else pair.source,
            source_port=packet.source_port,
            icmp_type=None if packet.icmp_type < 0 else packet.icmp_type,
            icmp_code=None if packet.icmp_code < 0 else packet.icmp_code,
        )


def questions(cluster: Cluster, random: Random | None = None, most: int = 0) -> list[Question]:
    """Everything that can be asked, or so many drawn at random."""
    two = pairs(cluster)
    if random is None:
        return [Question(pair, packet) for pair in two for packet in packets(pair.version)]
    drawn = [random.choice(two) for _ in range(most if two else 0)]
    return [Question(pair, random.choice(packets(pair.version))) for pair in drawn]
