"""What an Installation comes to, and what cannot be done of what it asks for.

Owns: its defaults, the names of its pools, and the problems that keep it from being carried out.
Must not: render objects or do I/O.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from manx_core.api.fields import Problem
from manx_core.api.installation import NAME, CalicoNetwork, Cni, Installation, InstallationIPPool
from manx_core.api.ip_pool import BLOCK_SIZES, DEFAULT_BLOCK_SIZE, unusable

DEFAULT_POOL_NAMES = {4: "default-ipv4-ippool", 6: "default-ipv6-ippool"}
NAT_OUTGOING = {4: True, 6: False}
"""Whether pools masquerade where the Installation does not say."""
DEFAULT_POOL_CIDR = "192.168.0.0/16"


def network_of(installation: Installation) -> CalicoNetwork:
    """The pods' network as asked for, or all defaults."""
    return installation.spec.calico_network or CalicoNetwork()


def bgp_enabled(installation: Installation) -> bool:
    """Whether nodes speak BGP."""
    return network_of(installation).bgp != "Disabled"


def host_ports_enabled(installation: Installation) -> bool:
    """Whether pods' hostPorts are served."""
    return network_of(installation).host_ports != "Disabled"


def mtu(installation: Installation) -> int:
    """MTU asked for, in bytes; 0: the underlay's."""
    return network_of(installation).mtu or 0


def pools_wanted(installation: Installation) -> tuple[tuple[str, InstallationIPPool], ...]:
    """IPPools to make, each with its name."""
    pools = network_of(installation).ip_pools
    if pools is None:
        pools = (InstallationIPPool(cidr=DEFAULT_POOL_CIDR),)
    taken = {pool.name for pool in pools}
    named = []
    for pool in pools:
        default = DEFAULT_POOL_NAMES[version_of(pool)]
        name = pool.name or (default if default not in taken else re.sub(r"[.:/]+", "-", pool.cidr))
        taken.add(name)
        named.append((name, pool))
    return tuple(named)


def version_of(pool: InstallationIPPool) -> int:
    """4 or 6."""
    return ipaddress.ip_network(pool.cidr).version


def nat_outgoing(pool: InstallationIPPool) -> bool:
    """Whether what leaves the pools is masqueraded."""
    return NAT_OUTGOING[version_of(pool)] if pool.nat_outgoing is None else pool.nat_outgoing == "Enabled"


def block_size(pool: InstallationIPPool) -> int:
    """Prefix length of its blocks."""
    return pool.block_size if pool.block_size is not None else DEFAULT_BLOCK_SIZE[version_of(pool)]


def check(installation: Installation) -> tuple[Problem, ...]:
    """What cannot be done of what is asked for. With any of these the installation stays as it was."""
    return tuple(_found(installation))


def _found(installation: Installation) -> Iterator[Problem]:
    spec, network = installation.spec, network_of(installation)
    if installation.metadata.name != NAME:
        yield Problem("metadata.name", f'{installation.metadata.name!r} is not allowed; must be "{NAME}"')
    if spec.variant not in (None, "Calico"):
        yield Problem("spec.variant", f"{spec.variant} is not supported; must be Calico")
    if spec.cni is not None:
        yield from _check_cni(spec.cni)
    if network.linux_dataplane not in (None, "Iptables"):
        found = f"{network.linux_dataplane} is not supported; must be Iptables"
        yield Problem("spec.calicoNetwork.linuxDataplane", found)
    if 0 < mtu(installation) < 68:
        yield Problem("spec.calicoNetwork.mtu", f"{network.mtu} is not allowed; must be 0, or 68 to 65535 (RFC 791)")
    names = [name for name, _ in pools_wanted(installation)]
    for index, (name, pool) in enumerate(pools_wanted(installation)):
        path = f"spec.calicoNetwork.ipPools[{index}]"
        if name in names[:index]:
            yield Problem(f"{path}.name", f"{name} is there twice")
        yield from _check_pool(path, pool)


def _check_cni(cni: Cni) -> Iterator[Problem]:
    if cni.type != "Calico":
        yield Problem("spec.cni.type", f"{cni.type} is not supported; must be Calico")
    if cni.ipam is not None and cni.ipam.type != "Calico":
        yield Problem("spec.cni.ipam.type", f"{cni.ipam.type} is not supported; must be Calico")


def _check_pool(path: str, pool: InstallationIPPool) -> Iterator[Problem]:
    cidr = ipaddress.ip_network(pool.cidr)
    low, high = BLOCK_SIZES[cidr.version]
    size = block_size(pool)
    if bad := unusable(cidr):
        yield Problem(f"{path}.cidr", bad)
    elif not max(low, cidr.prefixlen) <= size <= high:
        allowed = f"{max(low, cidr.prefixlen)} to {high}"
        yield Problem(f"{path}.blockSize", f"{size} is not allowed for {cidr}; must be {allowed}")
    if cidr.version == 6 and pool.encapsulation in ("IPIP", "IPIPCrossSubnet"):
        found = f"{pool.encapsulation} is not allowed for an IPv6 pool; must be None or VXLANCrossSubnet"
        yield Problem(f"{path}.encapsulation", found)
    elif pool.encapsulation in ("IPIP", "VXLAN"):
        allowed = "None, IPIPCrossSubnet or VXLANCrossSubnet"
        yield Problem(f"{path}.encapsulation", f"{pool.encapsulation} is not supported yet; must be {allowed}")
    if pool.assignment_mode == "Manual":
        yield Problem(f"{path}.assignmentMode", "Manual is not supported yet; must be Automatic")
