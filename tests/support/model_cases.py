"""Random policies of Calico's kinds and what they select, for tests of the operator's model.

The alphabets are those of `policy_cases`: small, so that things meet. Objects of Calico's kinds are as the API server
sends them, and now and then one that it would have refused.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from manx_core.api.core_v1 import Endpoint, EndpointPort, EndpointSlice, ObjectMeta, Pod, ServiceAccount
from manx_core.api.tier import Tier
from manx_operator.model import NetworkSetFacts
from policy_cases import BLOCKS, NAMESPACES, PORT_NAMES, address_of, labels_strategy, pod_strategy

Raw = dict[str, Any]
ACCOUNTS = ("default", "robot")
SETS = [(namespace, name) for namespace in (*NAMESPACES, "") for name in ("s", "t")]
SERVICES = ("db", "web")
SLICES = [(namespace, f"slice-{number}") for namespace in NAMESPACES for number in range(2)]
TIERS = ("default", "early", "late", "kube-admin")
TIERS_DECLARED = ("early", "late", "unused")

SELECTORS = (
    "", "all()", "app == 'x'", "app == \"x\"", "has(tier)", "!has(tier)", "app in {'x', 'y'} && tier != 'z'",
    "app == 'x' || tier == 'y'", "app starts with 'x'", "projectcalico.org/namespace == 'east'",
    "projectcalico.org/serviceaccount == 'robot'",
)  # fmt: skip
NAMESPACE_SELECTORS = ("", "", "all()", "app == 'x'", "!has(app)", "projectcalico.org/name == 'west'", "tier != 'y'")
WRONG: tuple[Raw, ...] = ({"selector": "app =="}, {"types": ["Sideways"]}, {"ingress": [{}]}, {"tier": 5})

_selector = st.sampled_from(SELECTORS)
_account_selector = st.sampled_from(("", "", "", "app == 'x'", "has(app)", "projectcalico.org/name == 'robot'"))
_services = st.fixed_dictionaries({"name": st.sampled_from(SERVICES), "namespace": st.sampled_from(NAMESPACES)})


def _entity(*, with_services: bool, ports: bool) -> st.SearchStrategy[Raw]:
    parts: dict[str, st.SearchStrategy[Any]] = {
        "selector": _selector,
        "notSelector": _selector,
        "namespaceSelector": st.sampled_from((*NAMESPACE_SELECTORS, "global()")),
        "nets": st.lists(st.sampled_from([net for net in BLOCKS if ":" not in net]), max_size=2),
        "notNets": st.just(["10.0.0.0/30"]),
        "serviceAccounts": st.fixed_dictionaries({"names": st.just(["robot"]), "selector": _account_selector}),
    }
    if ports:
        parts["ports"] = st.lists(st.sampled_from((80, "1000:2000", *PORT_NAMES)), max_size=2)
        parts["notPorts"] = st.lists(st.sampled_from((81, *PORT_NAMES)), max_size=1)
    plain = st.fixed_dictionaries({}, optional=parts).map(lambda found: dict(list(found.items())[:2]))
    return st.one_of(plain, st.fixed_dictionaries({"services": _services})) if with_services else plain


def _rule(direction: str) -> st.SearchStrategy[Raw]:
    def rule(action: str, protocol: str, source: Raw, destination: Raw) -> Raw:
        if "services" in destination:
            return {"action": action, "source": source, "destination": destination}
        return {"action": action, "protocol": protocol, "source": source, "destination": destination}

    return st.builds(
        rule,
        st.sampled_from(("Allow", "Deny", "Log", "Pass")),
        st.sampled_from(("TCP", "UDP")),
        _entity(with_services=direction == "ingress", ports=False),
        _entity(with_services=direction == "egress", ports=True),
    )


@st.composite
def calico_spec(draw: st.DrawFn, *, cluster_wide: bool) -> Raw:
    """The spec of a NetworkPolicy, or of a GlobalNetworkPolicy; one in six means nothing."""
    spec: Raw = {
        "tier": draw(st.sampled_from(("default", "default", *TIERS))),
        "order": draw(st.sampled_from((None, 1, 1, 2.5))),
        "selector": draw(_selector),
        "serviceAccountSelector": draw(_account_selector),
        "types": draw(st.sampled_from(([], ["Ingress"], ["Egress"], ["Ingress", "Egress"]))),
        "ingress": draw(st.lists(_rule("ingress"), max_size=2)),
        "egress": draw(st.lists(_rule("egress"), max_size=2)),
    }
    if cluster_wide:
        spec["namespaceSelector"] = draw(st.sampled_from(NAMESPACE_SELECTORS))
    wrong = draw(st.sampled_from(({}, {}, {}, {}, {}, *WRONG)))
    return {key: value for key, value in {**spec, **wrong}.items() if value is not None}


def account(key: tuple[str, str], labels: dict[str, str]) -> ServiceAccount:
    return ServiceAccount(metadata=ObjectMeta(namespace=key[0], name=key[1], labels=labels))


@st.composite
def accounted_pod(draw: st.DrawFn, namespace: str, name: str) -> Pod:
    """A pod of `pod_strategy`, under some service account."""
    found = draw(pod_strategy(namespace, name))
    spec = msgspec.structs.replace(found.spec, service_account_name=draw(st.sampled_from(ACCOUNTS)))
    return msgspec.structs.replace(found, spec=spec)


_nets = st.lists(
    st.sampled_from(("10.0.0.1", "10.0.0.4", "10.0.0.0/29", "0.0.0.0/0", "192.0.2.0/24", "2001:db8::/64")),
    max_size=3,
    unique=True,
)
network_sets = st.builds(lambda labels, nets: NetworkSetFacts(labels, tuple(sorted(nets))), labels_strategy, _nets)


def slice_of(key: tuple[str, str], service: str, addresses: list[str], ports: list[EndpointPort]) -> EndpointSlice:
    labels = {"kubernetes.io/service-name": service} if service else {}
    return EndpointSlice(
        metadata=ObjectMeta(namespace=key[0], name=key[1], labels=labels),
        address_type="IPv4",
        endpoints=tuple(Endpoint(addresses=(address,)) for address in addresses),
        ports=tuple(ports),
    )


_ADDRESSES = [address_of((namespace, name)) for namespace in NAMESPACES for name in "abc"]
_ports = st.sampled_from([*(EndpointPort(protocol=p, port=n) for p, n in (("TCP", 80), ("SCTP", 53))), EndpointPort()])


@st.composite
def slices(draw: st.DrawFn, key: tuple[str, str]) -> EndpointSlice:
    addresses = draw(st.lists(st.sampled_from(_ADDRESSES), max_size=3))
    return slice_of(key, draw(st.sampled_from((*SERVICES, ""))), addresses, draw(st.lists(_ports, max_size=2)))


tier_specs: st.SearchStrategy[Raw] = st.fixed_dictionaries(
    {},
    optional={
        "order": st.sampled_from((1, 500, 1_000_000, 2_000_000)),
        "defaultAction": st.sampled_from(("Deny", "Pass")),
    },
)


def tier(name: str, **spec: Any) -> Tier:
    return Tier.parse({"metadata": {"name": name}, "spec": spec})
