"""Random clusters and random policies of all kinds, over so few names, labels, ports and nets that rules often match.

Owns: `Drawer`: an object of any kind from a source of randomness; `cluster`: a whole one; `packets`: what to ask of it.
Must not: decide what is right. Every choice goes through `random.Random`, so that hypothesis can shrink what it found,
and a seed can repeat it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NamedTuple, TypeVar

from manx_core.api.calico_policy import GlobalNetworkPolicy, NetworkPolicy
from manx_core.api.core_v1 import (
    ContainerPort,
    EndpointSlice,
    IPBlock,
    LabelSelector,
    LabelSelectorRequirement,
    Namespace,
    NetworkPolicyEgressRule,
    NetworkPolicyIngressRule,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    NetworkPolicySpec,
    ObjectMeta,
    Pod,
    ServiceAccount,
)
from manx_core.api.core_v1 import NetworkPolicy as KubernetesPolicy
from manx_core.api.network_set import GlobalNetworkSet, NetworkSet
from manx_core.api.tier import Tier
from manx_core.api.v1alpha1 import PolicySettings
from manx_core.policy.cluster import Cluster, PodKey, is_endpoint
from policy_objects import endpoint_slice, gnp, network_set, np, pod, service_account, tier

ItemT = TypeVar("ItemT")

NAMESPACES = ("east", "west")
NODES = ("n1", "n2", "n3")
PODS: tuple[PodKey, ...] = tuple((ns, name) for ns in NAMESPACES for name in ("a", "b", "c"))
ACCOUNTS = ("site", "store")
TIERS = ("first", "second", "third")
SERVICES = tuple((ns, name) for ns in NAMESPACES for name in ("s", "t"))
KEYS, VALUES = ("app", "part"), ("x", "y", "xy")
ADDED = ("projectcalico.org/namespace", "projectcalico.org/serviceaccount", "projectcalico.org/orchestrator")
PORT_NAMES = ("http", "dns")
NUMBERS = (53, 80, 81, 8080)
WITH_PORTS = ("TCP", "UDP", "SCTP")
NETS4 = ("10.0.0.0/8", "10.0.0.0/30", "10.0.0.4/30", "10.0.0.3/32", "192.0.2.0/24", "192.0.2.7/32", "0.0.0.0/0")
NETS6 = ("fd00::/64", "fd00::4/126", "fd00::3/128", "2001:db8::/32", "::/0")
STRANGERS = {
    4: ("192.0.2.7", "192.0.2.8", "203.0.113.9", "100.64.0.9", "10.1.0.9"),
    6: ("2001:db8::1", "fd00:0:0:1::9"),
}
"""Addresses of no pod: for each of the nets one that is in it and in none that it holds."""


def addresses_of(key: PodKey) -> tuple[str, str]:
    """The addresses that a pod usually has: 10.0.0.1 to 10.0.0.6, and fd00::1 to fd00::6."""
    number = 1 + PODS.index(key)
    return f"10.0.0.{number}", f"fd00::{number}"


class Drawer:
    """Draws objects. `rarely` and `often` are one time in six, and five."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def one(self, choices: Sequence[ItemT]) -> ItemT:
        return self.random.choice(choices)

    def some(self, choices: Sequence[ItemT], least: int, most: int) -> list[ItemT]:
        return [self.one(choices) for _ in range(self.random.randint(least, most))]

    def sometimes(self) -> bool:
        return self.random.randrange(3) == 0

    def rarely(self) -> bool:
        return self.random.randrange(6) == 0

    # --- what is selected -------------------------------------------------------------------------------------------

    def labels(self) -> dict[str, str]:
        return {self.one(KEYS): self.one(VALUES) for _ in range(self.random.randint(0, 2))}

    def namespace(self, name: str) -> Namespace:
        return Namespace(metadata=ObjectMeta(name=name, labels=self.labels()))

    def service_account(self, namespace: str, name: str) -> ServiceAccount:
        return service_account(namespace, name, **self.labels())

    def ports(self) -> tuple[ContainerPort, ...]:
        return tuple(
            ContainerPort(container_port=self.one(NUMBERS), name=self.one(PORT_NAMES), protocol=self.one(WITH_PORTS))
            for _ in range(self.random.randint(0, 3))
        )

    def pod(self, key: PodKey) -> Pod:
        return pod(
            *key,
            self.labels(),
            account=self.one(ACCOUNTS),
            node="" if self.random.randrange(12) == 0 else self.one(NODES),
            uid=self.one(("u1", "u1", "u2")),
            ports=self.ports(),
            phase=self.one(("Running",) * 6 + ("Pending", "Succeeded")),
            host_network=self.random.randrange(12) == 0,
        )

    def network_set(self, namespace: str, name: str) -> NetworkSet | GlobalNetworkSet:
        return network_set(namespace, name, *self.some(NETS4 + NETS6, 0, 3), **self.labels())

    def endpoint_slice(self, service: tuple[str, str], name: str) -> EndpointSlice:
        family = self.random.randrange(2)
        addresses = [*(addresses_of(key)[family] for key in PODS), STRANGERS[4 + 2 * family][0]]
        ports = [(self.one((*NUMBERS, None)), self.one(WITH_PORTS)) for _ in range(self.random.randint(0, 2))]
        return endpoint_slice(*service, tuple(sorted(set(self.some(addresses, 0, 3)))), *ports, name=name)

    def tier(self, name: str) -> Tier:
        return tier(name, self.one((None, 1, 2, 2.5, 2_000_000)), self.one((None, "Deny", "Pass")))

    # --- Kubernetes' policies -----------------------------------------------------------------------------------------

    def label_selector(self) -> LabelSelector:
        labels = {self.one(KEYS): self.one(VALUES)} if self.sometimes() else {}
        return LabelSelector(match_labels=labels, match_expressions=(self._requirement(),) if self.sometimes() else ())

    def _requirement(self) -> LabelSelectorRequirement:
        operator = self.one(("In", "NotIn", "Exists", "DoesNotExist"))
        values = tuple(self.some(VALUES, 1, 2)) if operator.endswith("In") else ()
        return LabelSelectorRequirement(key=self.one(KEYS), operator=operator, values=values)

    def _peer(self) -> NetworkPolicyPeer:
        if self.sometimes():
            block = self.one(
                (
                    *(IPBlock(cidr=net) for net in NETS4 + NETS6),
                    IPBlock(cidr="0.0.0.0/0", except_=("10.0.0.0/30", "192.0.2.0/25")),
                    IPBlock(cidr="10.0.0.0/8", except_=("10.0.0.4/30",)),
                    IPBlock(cidr="::/0", except_=("fd00::/126",)),
                )
            )
            return NetworkPolicyPeer(ip_block=block)
        pods = self.label_selector() if self.random.randrange(3) else None
        return NetworkPolicyPeer(
            pod_selector=pods, namespace_selector=self.label_selector() if pods is None or self.sometimes() else None
        )

    def _port(self) -> NetworkPolicyPort:
        number = self.one((None, *NUMBERS, *PORT_NAMES, 60))
        end = self.one((60, 80, 90)) if number == 60 else None
        return NetworkPolicyPort(protocol=self.one(WITH_PORTS), port=number, end_port=end)

    def kubernetes_policy(self, namespace: str, name: str) -> KubernetesPolicy:
        def ends() -> dict[str, Any]:
            ports = tuple(self._port() for _ in range(self.random.randint(0, 2)))
            return {"ports": ports}

        def peers() -> tuple[NetworkPolicyPeer, ...]:
            return tuple(self._peer() for _ in range(self.random.randint(0, 2)))

        rules = range(self.random.randint(0, 2))
        spec = NetworkPolicySpec(
            pod_selector=self._broken_selector() if self.random.randrange(20) == 0 else self.label_selector(),
            policy_types=self.one(((), ("Ingress",), ("Egress",), ("Ingress", "Egress"))),
            ingress=tuple(NetworkPolicyIngressRule(from_=peers(), **ends()) for _ in rules),
            egress=tuple(NetworkPolicyEgressRule(to=peers(), **ends()) for _ in rules),
        )
        meta = ObjectMeta(namespace=namespace, name=name, uid=self.one(("u1", "u1", "u2")))
        return KubernetesPolicy(metadata=meta, spec=spec)

    def _broken_selector(self) -> LabelSelector:
        return LabelSelector(match_expressions=(LabelSelectorRequirement(key="app", operator="Near"),))

    # --- Calico's policies --------------------------------------------------------------------------------------------

    def selector(self, depth: int = 0) -> str:
        """Calico's grammar, two operators deep at most."""
        key, value = self.one((*KEYS, *KEYS, *ADDED)), self.one((*VALUES, *NAMESPACES, *ACCOUNTS, "k8s"))
        kind = self.random.randrange(14 if depth < 2 else 9)
        if kind == 9:
            return f"!({self.selector(depth + 1)})"
        if kind > 9:
            return self.one((" && ", " || ")).join(f"({self.selector(depth + 1)})" for _ in range(2))
        return (
            f"{key} == '{value}'",
            f'{key} == "{value}"',
            f"{key} != '{value}'",
            f"{key} in {{'{value}', '{self.one(VALUES)}'}}",
            f"{key} not in {{ '{value}' }}",
            f"has({key})",
            f"!has({key})",
            f"{key} {self.one(('contains', 'starts with', 'ends with'))} '{value[:1]}'",
            "all()",
        )[kind]

    def _namespaces(self) -> str:
        return self.one(("all()", "global()", "projectcalico.org/name == 'east'", "!(all())", self.selector(1)))

    def _accounts(self) -> dict[str, Any]:
        found: dict[str, Any] = {"names": self.some(ACCOUNTS, 1, 2)} if self.sometimes() else {}
        if not found or self.sometimes():
            found["selector"] = self.one(("projectcalico.org/name == 'site'", self.selector(1)))
        return found

    def _end(self, nets: Sequence[str], ports: bool, services: bool, source: bool) -> dict[str, Any]:
        """What a rule asks of one end: most often nothing, or little."""
        found: dict[str, Any] = {}
        if self.random.randrange(2):
            return found
        if services and self.rarely():
            service = self.one(SERVICES)
            found["services"] = {"namespace": service[0], "name": service[1]}
            if source and ports and self.sometimes():
                found["ports"] = self._ports()
            return found
        if self.sometimes():
            found["selector"] = self.selector()
        if self.rarely():
            found["notSelector"] = self.selector()
        if self.rarely():
            found["namespaceSelector"] = self._namespaces()
        if self.random.randrange(8) == 0:
            found["serviceAccounts"] = self._accounts()
        if self.rarely():
            found["nets"] = self.some(nets, 1, 3)
        if self.rarely():
            found["notNets"] = self.some(nets, 1, 2)
        if ports and self.sometimes():
            found["ports"] = self._ports()
        if ports and self.rarely():
            found["notPorts"] = self._ports()
        return found

    def _ports(self) -> list[int | str]:
        choices: tuple[int | str, ...] = (*NUMBERS, "60:90", "40000:50000", *PORT_NAMES)
        found = self.some(choices, 1, 3)
        # More than one multiport match has room for.
        return [*found, *range(100, 100 + self.random.randint(12, 40), 2)] if self.random.randrange(8) == 0 else found

    def rule(self, direction: str) -> dict[str, Any]:
        found: dict[str, Any] = {"action": self.one(("Allow", "Allow", "Allow", "Deny", "Deny", "Pass", "Log"))}
        version = self.one((None, None, None, 4, 6))
        if version is not None:
            found["ipVersion"] = version
        protocol = self._protocol(found, version)
        nets = {4: NETS4, 6: NETS6}[version or self.one((4, 6))]
        ports = protocol in ("TCP", "UDP", "SCTP", 6, 17, 132)
        found["source"] = self._end(nets, ports, direction == "ingress", source=True)
        found["destination"] = self._end(nets, ports, direction == "egress", source=False)
        return found

    def _protocol(self, found: dict[str, Any], version: int | None) -> str | int | None:
        families = {"ICMP": 4, 1: 4, "ICMPv6": 6, 58: 6}
        choices: tuple[str | int, ...] = (
            "TCP",
            "TCP",
            "TCP",
            "UDP",
            "SCTP",
            "UDPLite",
            6,
            17,
            132,
            89,
            "ICMP",
            "ICMPv6",
            1,
        )
        allowed = [one for one in choices if version is None or families.get(one, version) == version]
        protocol = self.one(allowed) if self.sometimes() else None
        if protocol is not None:
            found["protocol"] = protocol
        elif self.rarely():
            found["notProtocol"] = self.one(allowed)
        for name in ("icmp", "notICMP"):
            if (protocol in families or (name == "notICMP" and self.rarely())) and self.sometimes():
                found[name] = self.one(({"type": 8}, {"type": 8, "code": 1}, {"type": 128}, {"type": 3, "code": 4}))
        return protocol

    def _calico_spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = {}
        for name, value in (
            ("tier", self.one((*TIERS, "default"))),
            ("order", self.one((-1, 0, 10, 10.5, 999, 1000, 1001))),
            ("selector", self.selector()),
            ("types", self.one((["Ingress"], ["Egress"], ["Ingress", "Egress"]))),
        ):
            if self.random.randrange(2):
                spec[name] = value
        if self.rarely():
            spec["serviceAccountSelector"] = self.selector(1)
        for direction in ("ingress", "egress"):
            spec[direction] = [self.rule(direction) for _ in range(self.random.randint(1, 4))]
            if self.rarely():
                del spec[direction][:]
        if self.random.randrange(25) == 0:
            spec["ingress"].append({"action": "Allow", "http": {"methods": ["GET"]}})
        return spec

    def calico_policy(self, namespace: str, name: str) -> NetworkPolicy | GlobalNetworkPolicy:
        """A GlobalNetworkPolicy where the namespace is empty."""
        spec, uid = self._calico_spec(), self.one(("u1", "u1", "u2"))
        if namespace:
            return np(namespace, name, uid=uid, **spec)
        if self.sometimes():
            choices = ("all()", "projectcalico.org/name == 'east'", "app != 'x'", "has(app)")
            spec["namespaceSelector"] = self.one(choices)
        if self.random.randrange(15) == 0:
            spec |= {"doNotTrack": True, "applyOnForward": True}
        return gnp(name, uid=uid, **spec)

    # --- settings -----------------------------------------------------------------------------------------------------

    def settings(self) -> PolicySettings:
        """What leaves the meaning of policies alone."""
        return PolicySettings(
            chain_insert_mode=self.one(("Insert", "Append")),
            deny_action=self.one(("Drop", "Reject")),
            allow_action=self.one(("Accept", "Return")),
            default_endpoint_to_host_action=self.one(("Accept", "Return")),
            mark_mask=self.one((0xFFFF0000, 0x00C0)),
            log_denied=self.sometimes(),
        )

    # --- all together -------------------------------------------------------------------------------------------------

    def cluster(self) -> Cluster:
        """Up to six pods, of both families mostly, and up to five policies."""
        pods = {key: self.pod(key) for key in PODS if self.random.randrange(5)}
        kubernetes = {(ns, f"p{n}"): self.kubernetes_policy(ns, f"p{n}") for n, ns in self._places(NAMESPACES, 1)}
        calico = {(ns, f"p{n}"): self.calico_policy(ns, f"p{n}") for n, ns in self._places(("", *NAMESPACES), 5)}
        sets = {(ns, f"s{n}"): self.network_set(ns, f"s{n}") for n, ns in self._places(("", *NAMESPACES), 3)}
        slices = {(s[0], f"{s[1]}-{n}"): self.endpoint_slice(s, f"{s[1]}-{n}") for n, s in self._places(SERVICES, 3)}
        return Cluster(
            namespaces={name: self.namespace(name) for name in NAMESPACES if self.random.randrange(6)},
            pods=pods,
            policies=kubernetes,
            addresses={key: self.addresses(key) for key in pods},
            service_accounts={
                (ns, name): self.service_account(ns, name)
                for ns in NAMESPACES
                for name in ACCOUNTS
                if self.random.randrange(6)
            },
            endpoint_slices=slices,
            calico_policies=calico,
            tiers={name: self.tier(name) for name in TIERS if self.random.randrange(4)},
            network_sets=sets,
        )

    def addresses(self, key: PodKey) -> tuple[str, ...]:
        both = addresses_of(key)
        return self.one((both, both, both, both[:1]))

    def _places(self, places: Sequence[ItemT], most: int) -> Iterator[tuple[int, ItemT]]:
        for number in range(self.random.randint(0, most)):
            yield number, self.one(places)


# --- what is asked ----------------------------------------------------------------------------------------------------


class Packet(NamedTuple):
    """What a connection's first packet is like beside its addresses."""

    protocol: str
    port: int = 0
    source_port: int = 0
    icmp_type: int = -1
    icmp_code: int = -1


PACKETS = (
    *(Packet(protocol, port, 45000) for protocol in ("TCP", "UDP") for port in (*NUMBERS, 60, 90, 91, 120, 443)),
    *(Packet("TCP", port, source) for port in (80, 443) for source in (80, 53, 39999, 65)),
    *(Packet("SCTP", port, 45000) for port in (80, 8080, 443)),
    Packet("UDPLite"),
    Packet("89"),
)
TYPES4, TYPES6 = ((8, 0), (8, 1), (3, 4), (0, 0)), ((128, 0), (8, 1), (8, 0), (3, 4), (129, 0))
ICMP4 = (*(Packet("ICMP", icmp_type=kind, icmp_code=code) for kind, code in TYPES4), Packet("ICMPv6"))
ICMP6 = (*(Packet("ICMPv6", icmp_type=kind, icmp_code=code) for kind, code in TYPES6), Packet("ICMP"))


def packets(version: int) -> tuple[Packet, ...]:
    return PACKETS + (ICMP4 if version == 4 else ICMP6)


class Pair(NamedTuple):
    """Two addresses of one family; `source_pod` and `destination_pod` where they are endpoints."""

    source: str
    destination: str
    source_pod: PodKey | None
    destination_pod: PodKey | None
    version: int


def pairs(cluster: Cluster) -> list[Pair]:
    """Every two addresses of which one is a pod's; the other may be one that a pod had, or may have."""
    pods = [(key, text) for key, held in cluster.addresses.items() if is_endpoint(cluster.pods[key]) for text in held]
    held = {text for _, text in pods}
    free = [text for key in PODS for text in addresses_of(key) if text not in held]
    found = []
    for key, own in pods:
        version = 6 if ":" in own else 4
        others = [(other, text) for other, text in pods if (":" in text) == (version == 6)]
        found += [Pair(own, text, key, other, version) for other, text in others if other != key]
        for text in (*STRANGERS[version], *(text for text in free if (":" in text) == (version == 6))):
            found += [Pair(own, text, key, None, version), Pair(text, own, None, key, version)]
    return found
