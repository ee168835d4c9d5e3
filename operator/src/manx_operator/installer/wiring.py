"""The installer and the reviewer of one leader's term, given what they need of the rest of the operator.

Owns: that connection. Must not: decide anything.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from manx_core.api.ip_pool import Network
from manx_core.api.pools import Surroundings
from manx_kube.client import KubeClient
from manx_kube.errors import KubeError
from manx_kube.events import EventRecorder
from manx_kube.lease import Term
from manx_kube.resources import MESH_NODES, TIERS, Resource
from manx_operator.inputs import Inputs
from manx_operator.installer.foreign import signs_of_calico
from manx_operator.installer.loop import InstallerLoop
from manx_operator.installer.reconcile import Installer, InstallerDeps
from manx_operator.review.reviewer import POLICY_KINDS, Reviewer, ReviewerDeps
from manx_operator.review.verdicts import Around

SERVICE_CIDRS = Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", False)
DEFAULT_IMAGE = "docker.io/manxnet/manx:v0.1.0"
KEPT = 10.0
"""Seconds for which an answer about a Calico, or the services' networks, is good."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a term has of this package."""

    installer: InstallerLoop
    reviewer: Reviewer


def parts(
    client: KubeClient,
    inputs: Inputs,
    recorder: EventRecorder,
    term: Term,
    on_active: Callable[[bool], None],
    last_valid: Callable[[Resource, Mapping[str, Any]], str],
    env: Mapping[str, str] | None = None,
) -> Parts:
    """`on_active`: told whether the model may write. `last_valid`: `UserKinds.last_valid`.

    Environment: MANX_IMAGE, the operator's own image; MANX_AGENTS "external" for agents that run otherwise than by the
    DaemonSet."""
    env = os.environ if env is None else env
    foreign = Kept(lambda: signs_of_calico(client))
    reviewer = Reviewer(
        ReviewerDeps(
            client=client,
            recorder=recorder,
            guard=term.require,
            around=_around(inputs, Kept(lambda: service_networks(client))),
            pools=lambda: _by_name(inputs.ip_pools.cache),
            bgp_configurations=lambda: _by_name(inputs.bgp_configurations.cache),
            bgp_peers=lambda: _by_name(inputs.bgp_peers.cache),
            policy_kinds=lambda: {kind: list(inputs.of(kind).cache.values()) for kind in POLICY_KINDS},
            foreign=foreign,
            last_valid=last_valid,
        )
    )
    installer = Installer(
        InstallerDeps(
            client=client,
            image=env.get("MANX_IMAGE") or DEFAULT_IMAGE,
            guard=term.require,
            foreign=foreign,
            reports=lambda: _by_name(inputs.reports.cache),
            pools_in_use=lambda: {block.spec.pool for block in inputs.blocks.cache.values()},
            review=reviewer.sweep,
            tiers=lambda: {name for _, name in inputs.calico[TIERS].cache},
            on_active=on_active,
            rolls_out=env.get("MANX_AGENTS") != "external",
        )
    )
    return Parts(InstallerLoop(installer), reviewer)


class Kept:
    """An answer that is asked for anew only after some seconds; the one call serves all who wait."""

    def __init__(self, ask: Callable[[], Awaitable[T]], seconds: float = KEPT) -> None:
        self._ask: Callable[[], Awaitable[Any]] = ask
        self._seconds = seconds
        self._until = 0.0
        self._answer: Any = None
        self._lock = asyncio.Lock()

    async def __call__(self) -> Any:
        async with self._lock:
            if time.monotonic() >= self._until:
                self._answer = await self._ask()
                self._until = time.monotonic() + self._seconds
            return self._answer


def _around(inputs: Inputs, services: Kept) -> Callable[[], Awaitable[Around]]:
    async def around() -> Around:
        return Around(
            surroundings=Surroundings(
                node_addresses={node.metadata.name: _addresses(node) for node in inputs.nodes.cache.values()},
                node_networks=_networks(inputs),
                service_networks=await services(),
            ),
            blocks={block.metadata.name: block.spec.pool for block in inputs.blocks.cache.values()},
            nodes={name for _, name in inputs.nodes.cache},
        )

    return around


def _addresses(node: Any) -> tuple[Any, ...]:
    found = (entry.address for entry in node.status.addresses if entry.type in ("InternalIP", "ExternalIP"))
    return tuple(ipaddress.ip_address(address) for address in found if _is_address(address))


def _is_interface(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return True


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _networks(inputs: Inputs) -> dict[str, list[Network]]:
    """As the mesh has them; of IPv6, of which there may be no mesh yet, as the nodes report them."""
    found: dict[str, list[Network]] = {}
    for mesh in inputs.ours[MESH_NODES].cache.values():
        if mesh.spec.ipv4_network:
            found[mesh.metadata.name] = [ipaddress.ip_network(mesh.spec.ipv4_network, strict=False)]
    for node in inputs.nodes.cache.values():
        name, own = node.metadata.name, _addresses(node)
        report = inputs.reports.cache.get(("", name))
        for interface in report.status.interfaces if report is not None else ():
            reported = (ipaddress.ip_interface(text) for text in interface.addresses if _is_interface(text))
            found.setdefault(name, []).extend(one.network for one in reported if one.version == 6 and one.ip in own)
    return found


def _by_name(cache: Mapping[tuple[str, str], T]) -> dict[str, T]:
    return {name: obj for (_, name), obj in cache.items()}


async def service_networks(client: KubeClient) -> tuple[Network, ...]:
    """From the ServiceCIDRs (networking.k8s.io/v1, Kubernetes 1.33); nothing where they cannot be read."""
    try:
        listing = await client.list_all(SERVICE_CIDRS, dict[str, Any])
    except KubeError:
        return ()
    return tuple(ipaddress.ip_network(cidr) for item in listing.items for cidr in item["spec"].get("cidrs", ()))
