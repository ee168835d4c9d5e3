"""Owns the lab's underlay: one bridge in a network namespace of its own, and a cable from it to each machine.

It must not touch the root namespace's network: links are made inside the fabric and moved from there. The bridge is
also the router that every machine has as its default route; without one a service's address has no route, and
kube-proxy never sees it.
"""

from __future__ import annotations

from lab.machines import Machines
from lab.run import run
from lab.settings import MTU, OUTSIDE, Member

FABRIC, BRIDGE, UPLINK = "fabric", "br0", "eth0"


def build(machines: Machines) -> None:
    """Start the fabric's machine, with the bridge and the router's addresses."""
    machines.start(FABRIC)
    router = machines.settings.member(FABRIC)
    _batch(
        machines,
        FABRIC,
        f"link add {BRIDGE} mtu {MTU} type bridge stp_state 0 mcast_snooping 0",
        f"link set {BRIDGE} up",
        *([f"addr add {router.address}/24 dev {BRIDGE}"] if router.has_ipv4 else []),
        f"addr add {router.address6}/64 dev {BRIDGE} nodad",
        *([f"addr add {OUTSIDE[4]}/32 dev lo"] if router.has_ipv4 else []),
        f"addr add {OUTSIDE[6]}/128 dev lo",
    )


def connect(machines: Machines, member: Member) -> None:
    """Put a cable between the bridge and a running machine; give that its addresses and default routes."""
    router = machines.settings.member(FABRIC)
    four = [f"addr add {member.address}/24 dev {UPLINK}", f"route add default via {router.address}"]
    port = f"to-{member.name}"[:15]
    peer = f"peer name {UPLINK} mtu {MTU} netns {machines.holder(member.name)}"
    _batch(machines, FABRIC, f"link add {port} mtu {MTU} type veth {peer}", f"link set {port} master {BRIDGE} up")
    _batch(
        machines,
        member.name,
        f"link set {UPLINK} up",
        *(four if member.has_ipv4 else []),
        f"addr add {member.address6}/64 dev {UPLINK} nodad",
        f"route add default via {router.address6}",
    )


def _batch(machines: Machines, machine: str, *lines: str) -> None:
    """Run lines of ip(8) in a machine's network alone: a pid in them (``netns PID``) is one of the root's."""
    run(
        ["nsenter", "--target", str(machines.holder(machine)), "--net", "--", "ip", "-batch", "-"],
        stdin="\n".join(lines),
    )
