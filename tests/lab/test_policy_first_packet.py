"""A pod that a policy isolates before it exists is isolated from its first packet on, in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster import AGNHOST
from lab_policy_spray import Ear, Spray
from lab_policy_world import MARK, OUTSIDE, World

DENY_BOTH = "{podSelector: {}, policyTypes: [Ingress, Egress]}"
CLOSED, OPEN = "np-x", "np-y"


@pytest.fixture
def world(policy_world: World) -> Iterator[World]:
    yield policy_world
    for namespace in (CLOSED, OPEN):
        policy_world.cluster.delete("-n", namespace, "pods", "-l", "early", "--wait=false")
    policy_world.clear()


def _talker(world: World, namespace: str, node: str) -> dict[str, Any]:
    """A pod that pings the outside host from its first instant."""
    words = ["/bin/busybox", "ping", "-i", "0.1", "-s", str(_length(world, namespace, node))]
    container = {"name": "main", "image": AGNHOST, "command": [*words, world.members[OUTSIDE].address]}
    metadata = {"namespace": namespace, "name": f"early-{node}", "labels": {"early": "yes", MARK: "yes"}}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _length(world: World, namespace: str, node: str) -> int:
    """The length of a pod's pings, by which it is known."""
    return 200 + 2 * world.cluster.nodes.index(node) + (namespace == OPEN)


def test_a_new_pod_is_isolated_from_its_first_packet_on(world: World) -> None:
    """Next to every isolated pod an open one is made in the same way: it must be heard, or the detectors were deaf."""
    nodes = world.cluster.nodes
    world.apply({"x/p": DENY_BOTH})
    world.settle(denies="y/a>x/a:80 x/a>outside:80")
    blocks = [block["spec"]["cidr"] for block in world.cluster.kubectl.items("ipamblocks.manx.dev")]
    senders = [world.prober.sources[name] for name in ("z/a", "z/b")]
    with Spray(senders, blocks) as spray, Ear(world.prober.sources[OUTSIDE]) as ear:
        world.cluster.wait_for("the spray", lambda: spray.sweeps > 3)
        world.cluster.apply(*(_talker(world, ns, node) for node in nodes for ns in (CLOSED, OPEN)))
        addresses = {ns: {_started(world, ns, node) for node in nodes} for ns in (CLOSED, OPEN)}
        world.cluster.wait_for("replies of every open pod", lambda: addresses[OPEN] <= spray.heard.keys())
        said = {ns: {_length(world, ns, node) for node in nodes} for ns in (CLOSED, OPEN)}
        world.cluster.wait_for("pings of every open pod", lambda: said[OPEN] <= ear.heard.keys())
        world.cluster.wait_for("every closed pod to try", lambda: all(_pings(world, node) >= 50 for node in nodes))
    assert {address: spray.heard[address] for address in addresses[CLOSED]} == dict.fromkeys(addresses[CLOSED], 0)
    assert {length: ear.heard[length] for length in said[CLOSED]} == dict.fromkeys(said[CLOSED], 0)


def _started(world: World, namespace: str, node: str) -> str:
    return world.cluster.wait_pod(f"early-{node}", namespace=namespace, timeout=180)


def _pings(world: World, node: str) -> int:
    """How many echo requests the kernel says that a closed pod has sent."""
    text = world.cluster.pod_exec(f"early-{node}", "cat", "/proc/net/snmp", namespace=CLOSED)
    names, values = (line.split() for line in text.splitlines() if line.startswith("Icmp:"))
    return int(values[names.index("OutEchos")])
