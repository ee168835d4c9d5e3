"""Calico's policies, tiers, network sets and FelixConfiguration as models: what is taken, what is refused and why."""

from __future__ import annotations

from typing import Any

import pytest

from calico_examples import EXAMPLES
from manx_core.api import calico_policy, felix_configuration, network_set, tier
from manx_core.api.calico_policy import GlobalNetworkPolicy, NetworkPolicy
from manx_core.api.felix_configuration import FelixConfiguration, settings_of
from manx_core.api.fields import InvalidObject
from manx_core.api.network_set import GlobalNetworkSet, NetworkSet
from manx_core.api.tier import Tier
from manx_core.api.v1alpha1 import PolicySettings


def problems_of(found: Any, check: Any, raw: dict[str, Any]) -> list[str]:
    try:
        return [str(problem) for problem in check(found.parse(raw))]
    except InvalidObject as error:
        return [str(problem) for problem in error.problems]


def named(name: str = "x", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "d"}, "spec": spec}


def ingress(**rule: Any) -> dict[str, Any]:
    return named(ingress=[{"action": "Allow", **rule}])


def egress(**rule: Any) -> dict[str, Any]:
    return named(egress=[{"action": "Allow", **rule}])


SERVICE = {"name": "s", "namespace": "n"}
GOOD: list[dict[str, Any]] = [
    named(),
    {"metadata": {"name": "x"}},
    named(tier="", order=None, selector=None),
    named(tier="security", order=10, selector="app == 'web'", types=["Ingress", "Egress"]),
    named(order=-1.5, serviceAccountSelector="has(role)", performanceHints=["AssumeNeededOnEveryNode"]),
    named(types=[], ingress=[], egress=[]),
    ingress(protocol="TCP", destination={"ports": [80, "443", "1000:2000", "http", "a-1"]}),
    ingress(protocol=6, source={"ports": [1, 65535]}, destination={"notPorts": ["1:65535"]}),
    ingress(protocol="17", destination={"ports": [53]}),
    ingress(protocol="SCTP", destination={"ports": ["7:7"]}),
    ingress(protocol=132, destination={"ports": [7]}),
    ingress(protocol="UDPLite"),
    ingress(protocol=255, notProtocol="ICMPv6"),
    ingress(protocol="ICMP", icmp={"type": 8, "code": 0}, ipVersion=4),
    ingress(protocol="ICMPv6", icmp={"type": 128}, ipVersion=6),
    ingress(protocol=1, icmp={"type": 8}),
    ingress(protocol=58, icmp={}),
    ingress(notICMP={"type": 8, "code": 255}),
    ingress(source={"nets": ["10.0.0.0/8", "0.0.0.0/0"], "notNets": ["10.1.0.0/16"]}, ipVersion=4),
    ingress(source={"nets": ["2001:db8::/32", "::/0"]}, ipVersion=6),
    ingress(source={"selector": "all()", "notSelector": "has(a)", "namespaceSelector": "team == 'a'"}),
    ingress(source={"namespaceSelector": "global()", "selector": "has(set)"}),
    ingress(source={"namespaceSelector": " global() "}),
    ingress(source={"serviceAccounts": {"names": ["a", "b"], "selector": "role == 'x'"}}),
    ingress(source={"services": SERVICE}, protocol="TCP", destination={"ports": [80]}),
    egress(destination={"services": SERVICE}),
    ingress(metadata={"annotations": {"from": "x"}}),
    named(ingress=[{"action": action} for action in ("Allow", "Deny", "Log", "Pass")]),
    ingress(unheardOf={"by": "us"}),
]


@pytest.mark.parametrize("raw", GOOD, ids=range(len(GOOD)))
def test_what_calico_takes_is_taken(raw: dict[str, Any]) -> None:
    assert problems_of(NetworkPolicy, calico_policy.check, raw) == []
    assert problems_of(GlobalNetworkPolicy, calico_policy.check, raw) == []


ENDS = "spec.ingress[0].source"
BAD: list[tuple[dict[str, Any], str, str]] = [
    (named(tier="A"), "spec.tier", "the name of a Tier"),
    (named(tier="a.b"), "spec.tier", "the name of a Tier"),
    (named(tier="a" * 64), "spec.tier", "at most 63"),
    (named(order="first"), "spec.order", "must be a number"),
    (named(order=True), "spec.order", "must be a number"),
    (named(order=float("inf")), "spec.order", "must be a number"),
    (named(selector="app = 'web'"), "spec.selector", "must be a selector"),
    (named(selector=5), "spec.selector", "string"),
    (named(selector="global()"), "spec.selector", "global()"),
    (named(serviceAccountSelector="a ==="), "spec.serviceAccountSelector", "must be a selector"),
    (named(types=["ingress"]), "spec.types[0]", "'Ingress' or 'Egress'"),
    (named(types=["Egress", "Egress"]), "spec.types", "at most once each"),
    (named(performanceHints=["Faster"]), "spec.performanceHints[0]", "AssumeNeededOnEveryNode"),
    (named(ingress=[{}]), "spec.ingress[0].action", "required"),
    (named(ingress=[{"action": "allow"}]), "spec.ingress[0].action", "'Allow', 'Deny', 'Log' or 'Pass'"),
    (named(egress="all"), "spec.egress", "tuple"),
    (ingress(ipVersion=5), "spec.ingress[0].ipVersion", "4 or 6"),
    (ingress(protocol="tcp"), "spec.ingress[0].protocol", "TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite"),
    (ingress(protocol=0), "spec.ingress[0].protocol", "1 to 255"),
    (ingress(protocol=256), "spec.ingress[0].protocol", "1 to 255"),
    (ingress(protocol="300"), "spec.ingress[0].protocol", "1 to 255"),
    (ingress(notProtocol="any"), "spec.ingress[0].notProtocol", "1 to 255"),
    (ingress(protocol="ICMP", icmp={"type": 255}), "spec.ingress[0].icmp.type", "254"),
    (ingress(protocol="ICMP", icmp={"type": 8, "code": 256}), "spec.ingress[0].icmp.code", "255"),
    (ingress(protocol="ICMP", icmp={"code": 0}), "spec.ingress[0].icmp.code", "needs a type"),
    (ingress(icmp={"type": 8}), "spec.ingress[0].icmp", "protocol ICMP or ICMPv6"),
    (ingress(protocol="TCP", icmp={"type": 8}), "spec.ingress[0].icmp", "protocol ICMP or ICMPv6"),
    (ingress(notICMP={"code": 0}), "spec.ingress[0].notICMP.code", "needs a type"),
    (ingress(protocol="ICMP", ipVersion=6), "spec.ingress[0].ipVersion", "must be 4"),
    (ingress(notProtocol="ICMPv6", ipVersion=4), "spec.ingress[0].ipVersion", "must be 6"),
    (ingress(source={"nets": ["10.0.0.1/8"]}), f"{ENDS}.nets[0]", "no bit set beyond the prefix"),
    (ingress(source={"nets": ["10.0.0.1"]}), f"{ENDS}.nets[0]", "10.0.0.1/32"),
    (ingress(source={"nets": ["10.0.0.0/33"]}), f"{ENDS}.nets[0]", "a CIDR"),
    (ingress(source={"notNets": ["all"]}), f"{ENDS}.notNets[0]", "a CIDR"),
    (ingress(source={"nets": ["10.0.0.0/8"]}, ipVersion=6), f"{ENDS}.nets", "IPv6"),
    (ingress(source={"nets": ["10.0.0.0/8", "fd00::/8"]}), f"{ENDS}.nets", "a rule for each"),
    (ingress(source={"nets": ["10.0.0.0/8"]}, destination={"notNets": ["fd00::/8"]}), "destination.notNets", "each"),
    (ingress(source={"selector": "a"}), f"{ENDS}.selector", "must be a selector"),
    (ingress(source={"selector": "global()"}), f"{ENDS}.selector", "namespaceSelector"),
    (ingress(source={"notSelector": "("}), f"{ENDS}.notSelector", "must be a selector"),
    (ingress(source={"namespaceSelector": "a"}), f"{ENDS}.namespaceSelector", "must be a selector"),
    (ingress(source={"namespaceSelector": "global() && has(a)"}), f"{ENDS}.namespaceSelector", "combined"),
    (ingress(source={"serviceAccounts": {"selector": "a"}}), f"{ENDS}.serviceAccounts.selector", "a selector"),
    (ingress(destination={"ports": [80]}), "spec.ingress[0].destination.ports", "TCP, UDP or SCTP"),
    (ingress(protocol="ICMP", source={"notPorts": [80]}), f"{ENDS}.notPorts", "TCP, UDP or SCTP"),
    (ingress(protocol="UDPLite", source={"ports": [80]}), f"{ENDS}.ports", "TCP, UDP or SCTP"),
    (ingress(protocol="TCP", source={"ports": [0]}), f"{ENDS}.ports[0]", "1 to 65535"),
    (ingress(protocol="TCP", source={"ports": [65536]}), f"{ENDS}.ports[0]", "1 to 65535"),
    (ingress(protocol="TCP", source={"ports": ["2:1"]}), f"{ENDS}.ports[0]", "1000:2000"),
    (ingress(protocol="TCP", source={"ports": ["1-2"]}), f"{ENDS}.ports[0]", "1000:2000"),
    (ingress(protocol="TCP", source={"ports": ["HTTP"]}), f"{ENDS}.ports[0]", "name of a port"),
    (ingress(protocol="TCP", source={"ports": ["a--b"]}), f"{ENDS}.ports[0]", "name of a port"),
    (ingress(protocol="TCP", source={"notPorts": ["a" * 16]}), f"{ENDS}.notPorts[0]", "at most 15"),
    (ingress(source={"services": {"namespace": "n"}}), f"{ENDS}.services.name", "the name of a Service"),
    (ingress(source={"services": SERVICE, "selector": "all()"}), f"{ENDS}.selector", "together with services"),
    (ingress(source={"services": SERVICE, "nets": ["10.0.0.0/8"]}), f"{ENDS}.nets", "together with services"),
    (ingress(source={"services": SERVICE, "serviceAccounts": {}}), f"{ENDS}.serviceAccounts", "together"),
    (ingress(source={"services": SERVICE, "namespaceSelector": "all()"}), f"{ENDS}.namespaceSelector", "together"),
    (ingress(destination={"services": SERVICE}), "spec.ingress[0].destination.services", "only in source"),
    (egress(source={"services": SERVICE}), "spec.egress[0].source.services", "only in destination"),
    (egress(protocol="TCP", destination={"services": SERVICE, "ports": [1]}), "destination.ports", "services"),
    (ingress(http={"methods": ["GET"]}), "spec.ingress[0].http", "not supported"),
]


@pytest.mark.parametrize(("raw", "field", "words"), BAD, ids=[f"{f}-{i}" for i, (_, f, _) in enumerate(BAD)])
def test_what_means_nothing_is_named(raw: dict[str, Any], field: str, words: str) -> None:
    for model in (NetworkPolicy, GlobalNetworkPolicy):
        found = problems_of(model, calico_policy.check, raw)
        assert len(found) == 1
        assert found[0].partition(": ")[0].endswith(field)
        assert words.lower() in found[0].lower()


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"namespaceSelector": "a"}, "spec.namespaceSelector", "must be a selector"),
        ({"namespaceSelector": "global()"}, "spec.namespaceSelector", "global()"),
        ({"doNotTrack": True}, "spec.applyOnForward", "must be true"),
        ({"preDNAT": True}, "spec.applyOnForward", "must be true"),
        ({"preDNAT": "yes"}, "spec.preDNAT", "boolean"),
        ({"preDNAT": True, "doNotTrack": True, "applyOnForward": True}, "spec.preDNAT", "spec.doNotTrack"),
        ({"preDNAT": True, "applyOnForward": True, "types": ["Egress"]}, "spec.types", "Egress"),
        ({"preDNAT": True, "applyOnForward": True, "egress": [{"action": "Deny"}]}, "spec.egress", "empty"),
        ({"ingress": [{"action": "Allow", "source": {"services": {"name": "s"}}}]},
         "spec.ingress[0].source.services.namespace", "must give it"),
    ],
)  # fmt: skip
def test_what_only_global_policies_have(spec: dict[str, Any], field: str, words: str) -> None:
    (found,) = problems_of(GlobalNetworkPolicy, calico_policy.check, named(**spec))
    assert found.startswith(f"{field}: ")
    assert words in found


def test_fields_are_read_in_one_form() -> None:
    raw = ingress(protocol="6", destination={"ports": ["80", "1:1", "01:2", "http"]}, source={"ports": [7]})
    rule = NetworkPolicy.parse(raw).spec.ingress[0]
    assert rule.protocol == 6
    assert rule.destination.ports == (80, 1, "1:2", "http")


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ("Ingress",)),
        ({"ingress": [{"action": "Deny"}]}, ("Ingress",)),
        ({"egress": [{"action": "Deny"}]}, ("Egress",)),
        ({"ingress": [{"action": "Deny"}], "egress": [{"action": "Deny"}]}, ("Ingress", "Egress")),
        ({"types": ["Egress"], "ingress": [{"action": "Deny"}]}, ("Egress",)),
    ],
)
def test_types_have_calicos_defaults(spec: dict[str, Any], types: tuple[str, ...]) -> None:
    assert NetworkPolicy.parse(named(**spec)).spec.effective_types == types


def test_what_is_ignored_is_told() -> None:
    raw = named(ingress=[{"action": "Allow", "foo": 1, "metadata": {"annotations": {}}}], namespaceSelector="all()")
    found = NetworkPolicy.parse(raw)
    assert sorted(found.without_effect()) == [
        "spec.ingress[0].foo (unknown)", "spec.namespaceSelector (unknown)",
    ]  # fmt: skip


# --- tiers and network sets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (named("security", order=100, defaultAction="Pass"), ""),
        (named("security"), ""),
        (named("default", order=1_000_000, defaultAction="Deny"), ""),
        (named("a.b"), "metadata.name: 'a.b' is not allowed"),
        (named("a" * 64), "metadata.name"),
        (named("t", order="1"), "spec.order: '1' is not allowed"),
        (named("t", defaultAction="Allow"), "spec.defaultAction: 'Allow' is not allowed"),
        (named("default", order=1), "spec.order: must be 1000000"),
        (named("default"), "spec.order: must be 1000000"),
        (named("adminnetworkpolicy", order=1), "spec.order: must be 1000"),
        (named("kube-baseline", order=1), "spec.order: must be 10000000"),
    ],
)
def test_tiers(raw: dict[str, Any], words: str) -> None:
    found = problems_of(Tier, tier.check, raw)
    assert bool(found) == bool(words)
    assert words in "".join(found)


def test_built_in_tiers_are_valid_and_have_calicos_defaults() -> None:
    for name in tier.BUILT_IN:
        assert tier.check(tier.built_in(name)) == ()
    assert tier.built_in("default").default_action == "Deny"
    assert Tier.parse(named("adminnetworkpolicy", order=1000)).default_action == "Pass"
    assert Tier.parse(named("mine")).default_action == "Deny"


@pytest.mark.parametrize("model", [NetworkSet, GlobalNetworkSet])
def test_network_sets(model: type[NetworkSet] | type[GlobalNetworkSet]) -> None:
    found = model.parse(named(nets=["192.0.2.7", "10.0.0.1/8", "fd00::1", "fd00::/8"]))
    assert found.spec.nets == ("192.0.2.7/32", "10.0.0.0/8", "fd00::1/128", "fd00::/8")
    for bad in ("10.0.0.0/33", "all", "", "fe80::1%eth0", 7):
        (problem,) = problems_of(model, network_set.check, named(nets=["10.0.0.0/8", bad]))
        assert problem.startswith("spec.nets[1]: ")
    reserved = {"metadata": {"name": "x", "labels": {"projectcalico.org/namespace": "a"}}}
    assert "metadata.labels" in problems_of(model, network_set.check, reserved)[0]


# --- FelixConfiguration -----------------------------------------------------------------------------------------------


def felix(name: str = "default", annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": annotations or {}}, "spec": spec}


FELIX: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"defaultEndpointToHostAction": "RETURN"}, {"default_endpoint_to_host_action": "Return"}),
    ({"defaultEndpointToHostAction": "Drop"}, {"default_endpoint_to_host_action": "Drop"}),
    ({"defaultEndpointToHostAction": ""}, {}),
    ({"chainInsertMode": "append"}, {"chain_insert_mode": "Append"}),
    ({"iptablesBackend": "nft"}, {"iptables_backend": "NFT"}),
    ({"iptablesFilterAllowAction": "Return"}, {"allow_action": "Return"}),
    ({"iptablesFilterDenyAction": "Reject"}, {"deny_action": "Reject"}),
    ({"iptablesMarkMask": 0xFF000000}, {"mark_mask": 0xFF000000}),
    ({"logPrefix": "dropped"}, {"log_prefix": "dropped"}),
    ({"logPrefix": "x" * 30}, {"log_prefix": "x" * 27}),
    ({"iptablesRefreshInterval": "90s"}, {"refresh_interval": 90.0}),
    ({"iptablesRefreshInterval": "90s", "ipsetsRefreshInterval": "1m30s"}, {"refresh_interval": 90.0}),
    ({"iptablesRefreshInterval": "0s", "ipsetsRefreshInterval": "20s"}, {"refresh_interval": 20.0}),
    ({"routeRefreshInterval": "500ms"}, {"route_refresh_interval": 0.5}),
    ({"natPortRange": "1024:2048"}, {"nat_port_range": "1024:2048"}),
    ({"natPortRange": 5000}, {"nat_port_range": "5000:5000"}),
]


@pytest.mark.parametrize(("spec", "settings"), FELIX, ids=range(len(FELIX)))
def test_what_is_honoured_of_felix_configuration(spec: dict[str, Any], settings: dict[str, Any]) -> None:
    found = FelixConfiguration.parse(felix(**spec))
    assert felix_configuration.check(found) == ()
    assert settings_of(found) == PolicySettings(**settings)


def test_annotations_and_a_nodes_own_object() -> None:
    asked = {"manx.dev/log-denied": "true", "manx.dev/established-connections": "Recheck"}
    default = FelixConfiguration.parse(felix(annotations=asked, chainInsertMode="Append", logPrefix="a"))
    own = FelixConfiguration.parse(felix("node.n1", {"manx.dev/log-denied": "false"}, logPrefix="b"))
    assert settings_of(None) == PolicySettings()
    both = settings_of(default, own)
    assert both == PolicySettings(chain_insert_mode="Append", log_prefix="b", established="Recheck")
    assert settings_of(default).log_denied


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (felix("other"), "metadata.name: 'other' means nothing"),
        (felix("node."), "metadata.name"),
        (felix(defaultEndpointToHostAction="Reject"), "spec.defaultEndpointToHostAction: 'Reject' is not allowed"),
        (felix(chainInsertMode="first"), "must be one of Insert, Append"),
        (felix(iptablesBackend="eBPF"), "must be one of Auto, NFT, Legacy"),
        (felix(iptablesFilterAllowAction="Drop"), "must be one of Accept, Return"),
        (felix(iptablesFilterDenyAction="Accept"), "must be one of Drop, Reject"),
        (felix(iptablesMarkMask=0), "spec.iptablesMarkMask"),
        (felix(iptablesMarkMask=2**32), "spec.iptablesMarkMask"),
        (felix(iptablesMarkMask=2**16), "spec.iptablesMarkMask: 0x10000 is not allowed; must have two bits"),
        (felix(logPrefix='a"b'), "spec.logPrefix"),
        (felix(logPrefix="a\nb"), "spec.logPrefix"),
        (felix(iptablesRefreshInterval="90"), "spec.iptablesRefreshInterval: '90' is not allowed; must be a duration"),
        (felix(ipsetsRefreshInterval=90), "spec.ipsetsRefreshInterval"),
        (felix(routeRefreshInterval="-1s"), "spec.routeRefreshInterval"),
        (felix(natPortRange="2:1"), "spec.natPortRange"),
        (felix(natPortRange="http"), "spec.natPortRange"),
        (felix(bpfEnabled="yes"), "bpfEnabled"),
        (felix(awsSrcDstCheck="enable"), "must be one of DoNothing, Enable, Disable"),
        (felix(logSeverityScreen="Critical"), "must be one of Debug, Info, Warning, Error, Fatal"),
        (felix(reportingInterval="90"), "must be a duration"),
        (felix(wireguardListeningPort=99999), "must be a port from 0 to 65535"),
        (felix(vxlanPort=True), "vxlanPort"),
        (felix(annotations={"manx.dev/log-denied": "yes"}), "must be true or false"),
        (felix(annotations={"manx.dev/established-connections": "Drop"}), "must be Keep or Recheck"),
    ],
)
def test_what_felix_configuration_refuses(raw: dict[str, Any], words: str) -> None:
    (found,) = problems_of(FelixConfiguration, felix_configuration.check, raw)
    assert words in found


def test_the_rest_of_calicos_fields_is_accepted_and_listed() -> None:
    raw = felix(
        bpfEnabled=False, healthPort=9099, failsafeInboundHostPorts=[{"port": 22, "protocol": "tcp"}], unheardOf=1,
        logPrefix="x" * 28, routeRefreshInterval="0s", bpfPSNATPorts="20000:29999",
    )  # fmt: skip
    found = FelixConfiguration.parse(raw)
    assert felix_configuration.check(found) == ()
    assert sorted(felix_configuration.without_effect(found)) == [
        "spec.bpfEnabled", "spec.bpfPSNATPorts", "spec.failsafeInboundHostPorts", "spec.healthPort",
        "spec.logPrefix beyond its first 27 characters", "spec.routeRefreshInterval 0 (cannot be switched off)",
        "spec.unheardOf (unknown)",
    ]  # fmt: skip


MODELS = {
    "NetworkPolicy": (NetworkPolicy, calico_policy.check),
    "GlobalNetworkPolicy": (GlobalNetworkPolicy, calico_policy.check),
    "Tier": (Tier, tier.check),
    "NetworkSet": (NetworkSet, network_set.check),
    "GlobalNetworkSet": (GlobalNetworkSet, network_set.check),
    "FelixConfiguration": (FelixConfiguration, felix_configuration.check),
}


@pytest.mark.parametrize("document", EXAMPLES, ids=[f"{d['kind']}-{d['metadata']['name']}" for d in EXAMPLES])
def test_shapes_of_calicos_documentation(document: dict[str, Any]) -> None:
    model, check = MODELS[document["kind"]]
    assert problems_of(model, check, document) == []
    assert not [path for path in model.parse(document).without_effect() if "unknown" in path]
