"""What is wrong with a NetworkPolicy.

Owns: the rules that the API server's validation (networking.k8s.io/v1) holds new objects to, as far as meaning depends
on them. Must not: compile, or repair what is wrong.

Why again here: an object may be older than a rule, or the server's validation switched off. Whoever wrote it then
hears which field is wrong and what is allowed, and the rest of the cluster notices nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from manx_core.api.core_v1 import IPBlock, LabelSelector, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort
from manx_core.selectors import check_label_selector

PROTOCOLS = ("TCP", "UDP", "SCTP")
TYPES = ("Ingress", "Egress")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9](?:[a-z0-9-]{0,13}[a-z0-9])?")
_LEADING_ZEROS = re.compile(r"(?<![0-9A-Fa-f:])0+(?=\d)")


class Problem(NamedTuple):
    """A field of a policy that means nothing, and what is allowed there."""

    field: str
    message: str


def check_network_policy(policy: NetworkPolicy) -> tuple[Problem, ...]:
    """All problems of a policy; empty where it is valid."""
    spec, problems = policy.spec, _check_selector("spec.podSelector", policy.spec.pod_selector)
    for number, kind in enumerate(spec.policy_types):
        if kind not in TYPES:
            problems.append(Problem(f"spec.policyTypes[{number}]", f"{kind!r} is none of {', '.join(TYPES)}"))
    for number, ingress in enumerate(spec.ingress):
        problems += _check_rule(f"spec.ingress[{number}]", "from", ingress.from_, ingress.ports)
    for number, egress in enumerate(spec.egress):
        problems += _check_rule(f"spec.egress[{number}]", "to", egress.to, egress.ports)
    return tuple(problems)


def parse_network(text: str) -> Network:
    """A CIDR as the API takes it: bits beyond the prefix count as 0, octets may have leading zeros and are decimal.

    Raises ValueError where it is not one, has no prefix length, or is an IPv4 network in IPv6 clothes.
    """
    address, slash, length = text.partition("/")
    if not slash or "%" in address or not (length.isascii() and length.isdigit()):
        raise ValueError(f"{text!r} is no CIDR such as 192.0.2.0/24 or 2001:db8::/32")
    network = ipaddress.ip_network(f"{_LEADING_ZEROS.sub('', address)}/{length}", strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text!r} is an IPv4-mapped network; write it as IPv4")
    return network


def _check_selector(field: str, selector: LabelSelector | None) -> list[Problem]:
    if selector is None:
        return []
    return [Problem(f"{field}.{part}", message) for part, message in check_label_selector(selector)]


def _check_rule(
    field: str, peers_field: str, peers: Iterable[NetworkPolicyPeer], ports: Iterable[NetworkPolicyPort]
) -> list[Problem]:
    problems: list[Problem] = []
    for number, peer in enumerate(peers):
        problems += _check_peer(f"{field}.{peers_field}[{number}]", peer)
    for number, port in enumerate(ports):
        problems += _check_port(f"{field}.ports[{number}]", port)
    return problems


def _check_peer(field: str, peer: NetworkPolicyPeer) -> list[Problem]:
    selectors = (peer.pod_selector, peer.namespace_selector)
    if peer.ip_block is None:
        if selectors == (None, None):
            return [Problem(field, "must have podSelector, namespaceSelector or ipBlock")]
        pods = _check_selector(f"{field}.podSelector", peer.pod_selector)
        return pods + _check_selector(f"{field}.namespaceSelector", peer.namespace_selector)
    if selectors != (None, None):
        return [Problem(field, "may not have ipBlock together with podSelector or namespaceSelector")]
    return _check_block(f"{field}.ipBlock", peer.ip_block)


def _check_block(field: str, block: IPBlock) -> list[Problem]:
    network, problems = _check_network(f"{field}.cidr", block.cidr)
    for number, text in enumerate(block.except_):
        excepted, wrong = _check_network(f"{field}.except[{number}]", text)
        problems += wrong
        if network and excepted and not _strictly_within(excepted, network):
            problems.append(Problem(f"{field}.except[{number}]", f"{text} must be a strict subset of {block.cidr}"))
    return problems


def _check_network(field: str, text: str) -> tuple[Network | None, list[Problem]]:
    try:
        return parse_network(text), []
    except ValueError as error:
        return None, [Problem(field, str(error))]


def _strictly_within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner != outer and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner != outer and inner.subnet_of(outer)


def _check_port(field: str, port: NetworkPolicyPort) -> list[Problem]:
    problems = []
    if port.protocol not in PROTOCOLS:
        problems.append(Problem(f"{field}.protocol", f"{port.protocol!r} is none of {', '.join(PROTOCOLS)}"))
    if isinstance(port.port, str) and _PORT_NAME.fullmatch(port.port) is None:
        problems.append(Problem(f"{field}.port", f"{port.port!r} is no port name (RFC 6335, 5.1)"))
    if isinstance(port.port, int) and not 1 <= port.port <= 65535:
        problems.append(Problem(f"{field}.port", f"{port.port} is not between 1 and 65535"))
    return problems + _check_end_port(f"{field}.endPort", port)


def _check_end_port(field: str, port: NetworkPolicyPort) -> list[Problem]:
    if port.end_port is None:
        return []
    if not isinstance(port.port, int):
        return [Problem(field, "needs a numeric port")]
    if not port.port <= port.end_port <= 65535:
        return [Problem(field, f"{port.end_port} is not between port and 65535")]
    return []
