"""Whether a real Calico runs this cluster's network.

Owns: the signs of one. Must not: change anything: two owners of one node's rules and routes would break both.

The signs: Calico's aggregated API server (an APIService for projectcalico.org/v3 that is not the API server's own, as
the one for our custom resources is), its operator, its node DaemonSet as either way of installing it names it.
"""

from __future__ import annotations

from typing import Any, Protocol

from manx_kube.errors import NotFound
from manx_kube.resources import API_SERVICES, DAEMON_SETS, DEPLOYMENTS, Resource

Raw = dict[str, Any]
OPERATOR_OF_CALICO = "Deployment tigera-operator/tigera-operator"
"""The sign that the Installation itself is another's."""


class Reader(Protocol):
    """The one method of KubeClient that this needs."""

    async def get(self, resource: Resource, type_: type[Raw], name: str, *, namespace: str | None = None) -> Raw: ...


async def signs_of_calico(client: Reader) -> tuple[str, ...]:
    """What there is of a real Calico, in words; empty if nothing."""
    found = []
    service = await _get(client, API_SERVICES, "v3.projectcalico.org", None)
    if service is not None and (service.get("spec") or {}).get("service"):
        where = service["spec"]["service"]
        found.append(f"APIService v3.projectcalico.org is served by {where.get('namespace')}/{where.get('name')}")
    if await _get(client, DEPLOYMENTS, "tigera-operator", "tigera-operator") is not None:
        found.append(OPERATOR_OF_CALICO)
    for namespace in ("calico-system", "kube-system"):
        if await _get(client, DAEMON_SETS, "calico-node", namespace) is not None:
            found.append(f"DaemonSet {namespace}/calico-node")
    return tuple(found)


async def _get(client: Reader, resource: Resource, name: str, namespace: str | None) -> Raw | None:
    try:
        return await client.get(resource, dict[str, Any], name, namespace=namespace)
    except NotFound:
        return None
