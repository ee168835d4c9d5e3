"""What a sandbox's addresses, and the request for it, say of its endpoint and its link: pure.

Owns: these forms of the same. Must not: do I/O.
"""

from __future__ import annotations

from manx_agent.cni.protocol import Pod, Request
from manx_agent.drivers.netlink_codec import is_ipv6
from manx_agent.drivers.netlink_messages import MIN_MTU6, NodeEnd, PodLink, interface_name, mac_address
from manx_agent.ipam.table import Held
from manx_agent.model import AgentError, LocalEndpoint
from manx_core.api.v1alpha1 import Allocation


def endpoint_of(held: Held) -> LocalEndpoint:
    """Of a sandbox that has these addresses, one at the least."""
    first = held[0]
    return LocalEndpoint(
        namespace=first.namespace,
        name=first.name,
        uid=first.uid,
        container_id=first.container_id,
        interface=interface_name(first.container_id, first.interface),
        addresses=tuple(allocation.address for allocation in held),
    )


def node_end_of(held: Held) -> NodeEnd:
    """The node's end of the same sandbox's link."""
    first = held[0]
    interface = interface_name(first.container_id, first.interface)
    addresses = tuple(allocation.address for allocation in held)
    return NodeEnd(interface, addresses, mac_address(first.container_id, first.interface))


def allocation_of(request: Request, pod: Pod) -> Allocation:
    """What is asked of `Ipam` for this request; the address is for it to choose."""
    return Allocation(
        address="",
        namespace=pod.namespace,
        name=pod.name,
        uid=pod.uid,
        container_id=request.container_id,
        interface=request.if_name,
    )


def link_of(held: Held, request: Request, mtu: int) -> PodLink:
    """All of the sandbox's wiring. Raises AgentError."""
    end = node_end_of(held)
    if mtu < MIN_MTU6 and any(map(is_ipv6, end.addresses)):
        raise AgentError(f"the MTU is {mtu}: IPv6 needs {MIN_MTU6} at the least (Installation: calicoNetwork.mtu)")
    return PodLink(end.interface, end.addresses, end.pod_mac, pod_interface=request.if_name, mtu=mtu)
