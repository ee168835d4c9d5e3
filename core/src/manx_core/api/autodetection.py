"""Which of a node's addresses is its underlay address: Installation.spec.calicoNetwork.nodeAddressAutodetectionV4 and
V6.

Owns: the choice, from what the Node's status and the node's own report say.
Must not: look at any system; it is given the facts.

Source: Calico's autodetection methods. Unlike Calico's, firstFound prefers the Node's InternalIP where an interface has
it: that is what kubelet and everyone else know the node by.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from manx_core.api.installation import NodeAddressAutodetection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_NOT_UNDERLAY = re.compile(
    r"lo|docker.*|cbr.*|dummy.*|virbr.*|lxcbr.*|veth.*|cali.*|mnx.*|tunl.*|vxlan.*|flannel.*|kube-.*|cni.*|br-.*"
    r"|wg.*|nodelocaldns|podman.*|lxdbr.*"
)


@dataclass(frozen=True, slots=True)
class Found:
    """An address, and the subnet it is in; None where no interface is known to have it."""

    address: Address
    network: Network | None


def detect(
    version: int,
    method: NodeAddressAutodetection | None,
    internal_ips: Sequence[str],
    interfaces: Iterable[tuple[str, Sequence[str]]],
) -> Found | None:
    """The node's address of this IP version by `method` (None: firstFound), or None while it is not known.

    `internal_ips`: the Node's addresses of type InternalIP, in order. `interfaces`: name, and addresses in CIDR form,
    as the node's agent reported them, in order.
    """
    method = method or NodeAddressAutodetection()
    candidates = [(name, parsed) for name, cidrs in interfaces for parsed in _usable(cidrs, version)]
    internal = [found for found in map(_address, internal_ips) if found is not None and found.version == version]
    if method.kubernetes is not None:
        return _of_kubernetes(internal, candidates)
    if method.interface is not None:
        return _by_patterns(method.interface, candidates)
    if method.cidrs is not None:
        nets = [ipaddress.ip_network(cidr) for cidr in method.cidrs]
        return _first(candidates, lambda name, parsed: any(parsed.ip in net for net in nets))
    return _first_found(method.skip_interface, internal, candidates)


_Candidates = Sequence[tuple[str, Interface]]


def _of_kubernetes(internal: Sequence[Address], candidates: _Candidates) -> Found | None:
    if not internal:
        return None
    return _first(candidates, lambda name, parsed: parsed.ip == internal[0]) or Found(internal[0], None)


def _by_patterns(patterns: str, candidates: _Candidates) -> Found | None:
    for pattern in patterns.split(","):
        compiled = re.compile(pattern)
        if found := _first(candidates, lambda name, parsed, wanted=compiled: bool(wanted.fullmatch(name))):  # type: ignore[misc]
            return found
    return None


def _first_found(skip: str | None, internal: Sequence[Address], candidates: _Candidates) -> Found | None:
    skipped = [re.compile(pattern) for pattern in (skip or "").split(",") if pattern]
    left = [(name, parsed) for name, parsed in candidates if not any(p.fullmatch(name) for p in skipped)]
    return _first(left, lambda name, parsed: parsed.ip in internal) or _first(
        left, lambda name, parsed: not _NOT_UNDERLAY.fullmatch(name)
    )


def _first(candidates: _Candidates, accepts: Callable[[str, Interface], bool]) -> Found | None:
    for name, parsed in candidates:
        if accepts(name, parsed):
            return Found(parsed.ip, parsed.network)
    return None


def _usable(cidrs: Sequence[str], version: int) -> Iterable[Interface]:
    for cidr in cidrs:
        try:
            parsed = ipaddress.ip_interface(cidr)
        except ValueError:
            continue
        if parsed.version == version and not (parsed.ip.is_loopback or parsed.ip.is_link_local):
            yield parsed


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
