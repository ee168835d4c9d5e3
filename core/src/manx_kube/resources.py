"""Which kinds there are at the API server, and the paths they live at.

Owns: group, version, plural, kind and scope of every resource Manx touches. Must not: discover them at run time (one
request less at start, and no surprise when discovery is slow). Source: Kubernetes API concepts, "Resource URIs".
"""

from __future__ import annotations

import msgspec


class Resource(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One resource; `group` is "" for the core group. `str()` gives the name RBAC and messages use ("pods",
    "leases.coordination.k8s.io"). (A struct, as it is part of keys that are looked up all the time.)"""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """What an object's `apiVersion` field says."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, or of one object, or of its subresource.

        `namespace` None (or "") on a namespaced resource means all namespaces, which only collections have. Raises
        ValueError where scope and arguments do not fit: that is the caller's mistake, not the server's.
        """
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if namespace and not self.namespaced:
            raise ValueError(f"{self} is cluster-scoped, but namespace {namespace!r} was given")
        if name and self.namespaced and not namespace:
            raise ValueError(f"{self} is namespaced, but {name!r} has no namespace")
        parts = [root, f"namespaces/{namespace}" if namespace else "", self.plural, name or "", subresource or ""]
        return "/".join(part for part in parts if part)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


PODS = Resource("", "v1", "pods", "Pod", True)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", False)
NODES = Resource("", "v1", "nodes", "Node", False)
SERVICES = Resource("", "v1", "services", "Service", True)
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount", True)
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap", True)
SECRETS = Resource("", "v1", "secrets", "Secret", True)
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", True)
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease", True)
EVENTS = Resource("events.k8s.io", "v1", "events", "Event", True)
DAEMON_SETS = Resource("apps", "v1", "daemonsets", "DaemonSet", True)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment", True)
CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False
)
API_SERVICES = Resource("apiregistration.k8s.io", "v1", "apiservices", "APIService", False)

_MANX = ("manx.dev", "v1alpha1")
NODE_STATES = Resource(*_MANX, "nodestates", "NodeState", False)
NODE_REPORTS = Resource(*_MANX, "nodereports", "NodeReport", False)
POLICY_CLASSES = Resource(*_MANX, "policyclasses", "PolicyClass", False)
POLICY_PROGRAMS = Resource(*_MANX, "policyprograms", "PolicyProgram", False)
ADDRESS_GROUPS = Resource(*_MANX, "addressgroups", "AddressGroup", False)
MESH_NODES = Resource(*_MANX, "meshnodes", "MeshNode", False)
IPAM_BLOCKS = Resource(*_MANX, "ipamblocks", "IPAMBlock", False)

_CALICO = ("projectcalico.org", "v3")
BGP_CONFIGURATIONS = Resource(*_CALICO, "bgpconfigurations", "BGPConfiguration", False)
BGP_PEERS = Resource(*_CALICO, "bgppeers", "BGPPeer", False)
IP_POOLS = Resource(*_CALICO, "ippools", "IPPool", False)
CALICO_NETWORK_POLICIES = Resource(*_CALICO, "networkpolicies", "NetworkPolicy", True)
GLOBAL_NETWORK_POLICIES = Resource(*_CALICO, "globalnetworkpolicies", "GlobalNetworkPolicy", False)
TIERS = Resource(*_CALICO, "tiers", "Tier", False)
NETWORK_SETS = Resource(*_CALICO, "networksets", "NetworkSet", True)
GLOBAL_NETWORK_SETS = Resource(*_CALICO, "globalnetworksets", "GlobalNetworkSet", False)
FELIX_CONFIGURATIONS = Resource(*_CALICO, "felixconfigurations", "FelixConfiguration", False)

INSTALLATIONS = Resource("operator.tigera.io", "v1", "installations", "Installation", False)
