"""Services' endpoints, as EndpointSlices tell them.

Owns: what each slice adds to the groups of its service. Must not: know groups, or judge endpoints' readiness: Calico's
`services` takes every address of a slice, ready or not, and so do we.

Source: discovery.k8s.io/v1 EndpointSlice; Calico API reference, "ServiceMatch".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from manx_core.api.core_v1 import EndpointSlice
from manx_operator.model.types import ObjectKey

SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class SliceFacts:
    """All of a slice that the model depends on."""

    service: ObjectKey
    addresses: tuple[str, ...]
    """Sorted, in canonical form."""
    ports: tuple[str, ...]
    """Sorted, as "tcp:80". A port without a number ("any") is none: there is nothing that it could name."""

    def members(self, with_ports: bool) -> tuple[str, ...]:
        """In the form of `AddressGroupSpec.members`."""
        if not with_ports:
            return self.addresses
        return tuple(f"{address},{port}" for address in self.addresses for port in self.ports)


def slice_facts(found: EndpointSlice | None) -> SliceFacts | None:
    """None where there is no slice, or it is of no service or of names."""
    service = found.metadata.labels.get(SERVICE_LABEL) if found is not None else None
    if found is None or not service or found.address_type not in ("IPv4", "IPv6"):
        return None
    addresses = {text for endpoint in found.endpoints for text in map(_canonical, endpoint.addresses) if text}
    ports = {f"{port.protocol.lower()}:{port.port}" for port in found.ports if port.port}
    return SliceFacts((found.metadata.namespace, service), tuple(sorted(addresses)), tuple(sorted(ports)))


class ServiceTable:
    """All slices, by service."""

    def __init__(self) -> None:
        self._slices: dict[ObjectKey, SliceFacts] = {}
        self._of_service: dict[ObjectKey, dict[ObjectKey, None]] = {}

    def get(self, key: ObjectKey) -> SliceFacts | None:
        return self._slices.get(key)

    def put(self, key: ObjectKey, facts: SliceFacts | None) -> None:
        """None: gone."""
        old = self._slices.pop(key, None)
        if old is not None:
            del self._of_service[old.service][key]
            if not self._of_service[old.service]:
                del self._of_service[old.service]
        if facts is not None:
            self._slices[key] = facts
            self._of_service.setdefault(facts.service, {})[key] = None

    def slices(self, service: ObjectKey) -> Iterator[SliceFacts]:
        """Those of one service."""
        return (self._slices[key] for key in self._of_service.get(service, ()))


def _canonical(text: str) -> str:
    """Empty for what is no address."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
