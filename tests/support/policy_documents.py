"""Documents of Calico's policy kinds: what the API server takes, and what it refuses, by which field and allowing what.

Owns: those written by hand, about what is wrong in a subtle way or right in an odd one. (`policy_fields` has every
field once good and once bad.) Must not: ask anybody.
"""

from __future__ import annotations

from typing import Any

from calico_examples import EXAMPLES

CALICO = "projectcalico.org/v3"
NAMESPACED = ("NetworkPolicy", "NetworkSet")


def made(kind: str, name: str = "x", meta: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": "default"} if kind in NAMESPACED else {}), **(meta or {})}
    return {"apiVersion": CALICO, "kind": kind, "metadata": metadata, "spec": spec}


def np(**spec: Any) -> dict[str, Any]:
    return made("NetworkPolicy", **spec)


def gnp(**spec: Any) -> dict[str, Any]:
    return made("GlobalNetworkPolicy", **spec)


def ingress(**rule: Any) -> dict[str, Any]:
    """With a good rule before it: messages must name the right one."""
    return np(ingress=[{"action": "Log"}, {"action": "Allow", **rule}])


def egress(**rule: Any) -> dict[str, Any]:
    return gnp(egress=[{"action": "Log"}, {"action": "Allow", **rule}])


def tcp(**source: Any) -> dict[str, Any]:
    return ingress(protocol="TCP", source=source)


def felix(name: str = "default", **spec: Any) -> dict[str, Any]:
    return made("FelixConfiguration", name, **spec)


def annotated(**annotations: str) -> dict[str, Any]:
    given = {f"manx.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return made("FelixConfiguration", "default", {"annotations": given})


SERVICE = {"name": "s", "namespace": "n"}
SELECTOR = "must be a selector such as"
NETS = "with no bit set beyond the prefix"
PORTS = "a port from 1 to 65535"
FIRST, SECOND = "spec.ingress[1]", "spec.egress[1]"

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    # policies
    (np(tier="A"), "spec.tier", "the name of a Tier"),
    (np(tier="a.b"), "spec.tier", "the name of a Tier"),
    (np(tier=5), "spec.tier", "string"),
    (gnp(order="first"), "spec.order", "number"),
    (np(selector="app = 'web'"), "spec.selector", SELECTOR),
    (np(selector="app == 'web"), "spec.selector", SELECTOR),
    (np(selector="app == web"), "spec.selector", SELECTOR),
    (np(selector="has(app) and has(b)"), "spec.selector", SELECTOR),
    (np(selector="global()"), "spec.selector", SELECTOR),
    (gnp(selector="app in 'a'"), "spec.selector", SELECTOR),
    (gnp(namespaceSelector="team"), "spec.namespaceSelector", SELECTOR),
    (gnp(namespaceSelector="global()"), "spec.namespaceSelector", SELECTOR),
    (np(serviceAccountSelector="has()"), "spec.serviceAccountSelector", SELECTOR),
    (np(types=["ingress"]), "spec.types[0]", '"Ingress", "Egress"'),
    (np(types=["Egress", "Egress"]), "spec.types", "at most once each"),
    (np(performanceHints=["Faster"]), "spec.performanceHints[0]", '"AssumeNeededOnEveryNode"'),
    (np(ingress="all"), "spec.ingress", "array"),
    (gnp(doNotTrack=True), "spec.applyOnForward", "must be true"),
    (gnp(preDNAT=True), "spec.applyOnForward", "must be true"),
    (gnp(preDNAT="yes"), "spec.preDNAT", "boolean"),
    (gnp(applyOnForward=1), "spec.applyOnForward", "boolean"),
    (gnp(preDNAT=True, doNotTrack=True, applyOnForward=True), "spec.preDNAT", "together with doNotTrack"),
    (gnp(preDNAT=True, applyOnForward=True, types=["Egress"]), "spec.types", "must not hold Egress"),
    (gnp(preDNAT=True, applyOnForward=True, egress=[{"action": "Deny"}]), "spec.egress", "must be empty"),
    # rules
    (np(ingress=[{}]), "spec.ingress[0].action", "Required value"),
    (ingress(action="allow"), f"{FIRST}.action", '"Allow", "Deny", "Log", "Pass"'),
    (ingress(metadata={"annotations": {"...": "x"}}), f"{FIRST}.metadata.annotations", "must be names such as"),
    (egress(metadata={"annotations": {"a/b/c": "x"}}), f"{SECOND}.metadata.annotations", "must be names such as"),
    (ingress(ipVersion=5), f"{FIRST}.ipVersion", '"4", "6"'),
    (ingress(protocol="tcp"), f"{FIRST}.protocol", "TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite"),
    (ingress(protocol=0), f"{FIRST}.protocol", "1 to 255"),
    (egress(protocol=256), f"{SECOND}.protocol", "1 to 255"),
    (ingress(protocol="300"), f"{FIRST}.protocol", "1 to 255"),
    (ingress(notProtocol="any"), f"{FIRST}.notProtocol", "1 to 255"),
    (ingress(protocol="ICMP", icmp={"type": 255}), f"{FIRST}.icmp.type", "254"),
    (ingress(protocol="ICMP", icmp={"type": -1}), f"{FIRST}.icmp.type", "0"),
    (ingress(protocol="ICMP", icmp={"type": 8, "code": 256}), f"{FIRST}.icmp.code", "255"),
    (ingress(protocol="ICMP", icmp={"code": 0}), f"{FIRST}.icmp.code", "needs a type"),
    (ingress(icmp={"type": 8}), f"{FIRST}.icmp", "protocol ICMP or ICMPv6"),
    (egress(protocol="TCP", icmp={"type": 8}), f"{SECOND}.icmp", "protocol ICMP or ICMPv6"),
    (ingress(notICMP={"code": 0}), f"{FIRST}.notICMP.code", "needs a type"),
    (ingress(protocol="ICMP", ipVersion=6), f"{FIRST}.ipVersion", "must be 4"),
    (ingress(protocol=58, ipVersion=4), f"{FIRST}.ipVersion", "must be 6"),
    (ingress(notProtocol="ICMPv6", ipVersion=4), f"{FIRST}.ipVersion", "must be 6"),
    (ingress(http="GET"), f"{FIRST}.http", "object"),
    (ingress(metadata={"annotations": {"a": 1}}), f"{FIRST}.metadata.annotations.a", "string"),
    # their ends
    (ingress(source={"nets": ["10.0.0.1/8"]}), f"{FIRST}.source.nets", NETS),
    (ingress(source={"nets": ["10.0.0.1"]}), f"{FIRST}.source.nets[0]", "of type cidr"),
    (ingress(source={"nets": ["10.0.0.0/33"]}), f"{FIRST}.source.nets[0]", "of type cidr"),
    (egress(destination={"nets": ["fd00::1/8"]}), f"{SECOND}.destination.nets", NETS),
    (egress(destination={"notNets": ["all"]}), f"{SECOND}.destination.notNets[0]", "of type cidr"),
    (egress(destination={"notNets": ["10.0.0.1/8"]}), f"{SECOND}.destination.notNets", NETS),
    (ingress(source={"nets": ["10.0.0.0/8"]}, ipVersion=6), f"{FIRST}.source and destination nets", "ipVersion"),
    (ingress(source={"nets": ["fd00::/8"]}, ipVersion=4), f"{FIRST}.source and destination nets", "ipVersion"),
    (ingress(source={"nets": ["10.0.0.0/8", "fd00::/8"]}), "nets", "of one IP version"),
    (ingress(source={"nets": ["10.0.0.0/8"]}, destination={"notNets": ["fd00::/8"]}), "nets", "of one IP version"),
    (ingress(source={"selector": "a"}), f"{FIRST}.source.selector", SELECTOR),
    (ingress(source={"selector": "global()"}), f"{FIRST}.source.selector", SELECTOR),
    (egress(destination={"notSelector": "("}), f"{SECOND}.destination.notSelector", SELECTOR),
    (ingress(source={"namespaceSelector": "a"}), f"{FIRST}.source.namespaceSelector", SELECTOR),
    (ingress(source={"namespaceSelector": "global() && has(a)"}), "namespaceSelector", "'global()' alone"),
    (ingress(source={"serviceAccounts": {"selector": "a"}}), f"{FIRST}.source.serviceAccounts.selector", SELECTOR),
    (ingress(source={"serviceAccounts": {"names": "a"}}), f"{FIRST}.source.serviceAccounts.names", "array"),
    (ingress(destination={"ports": [80]}), f"{FIRST}.destination.ports", "TCP, UDP or SCTP"),
    (ingress(protocol="ICMP", source={"notPorts": [80]}), f"{FIRST}.source.notPorts", "TCP, UDP or SCTP"),
    (ingress(protocol="UDPLite", source={"ports": [80]}), f"{FIRST}.source.ports", "TCP, UDP or SCTP"),
    (tcp(ports=[0]), f"{FIRST}.source.ports[0]", "greater than or equal to 1"),
    (tcp(ports=[65536]), f"{FIRST}.source.ports[0]", "less than or equal to 65535"),
    (tcp(ports=["0"]), f"{FIRST}.source.ports", PORTS),
    (tcp(ports=["70000"]), f"{FIRST}.source.ports", PORTS),
    (tcp(ports=["2:1"]), f"{FIRST}.source.ports", PORTS),
    (tcp(ports=["1-2"]), f"{FIRST}.source.ports", PORTS),
    (tcp(ports=["HTTP"]), f"{FIRST}.source.ports", PORTS),
    (tcp(notPorts=["a" * 16]), f"{FIRST}.source.notPorts", PORTS),
    (tcp(ports=[1.5]), f"{FIRST}.source.ports[0]", "integer,string"),
    (ingress(source={"services": {"namespace": "n"}}), f"{FIRST}.source.services", "the name of a Service"),
    (ingress(source={"services": SERVICE, "selector": "all()"}), f"{FIRST}.source.selector", "with services"),
    (ingress(source={"services": SERVICE, "notSelector": "all()"}), f"{FIRST}.source.notSelector", "with services"),
    (ingress(source={"services": SERVICE, "nets": ["10.0.0.0/8"]}), f"{FIRST}.source.nets", "with services"),
    (ingress(source={"services": SERVICE, "notNets": ["10.0.0.0/8"]}), f"{FIRST}.source.notNets", "with services"),
    (ingress(source={"services": SERVICE, "serviceAccounts": {}}), "serviceAccounts", "with services"),
    (ingress(source={"services": SERVICE, "namespaceSelector": "all()"}), "namespaceSelector", "with services"),
    (ingress(destination={"services": SERVICE}), "spec.ingress", "only in source"),
    (egress(source={"services": SERVICE}), "spec.egress", "only in destination"),
    (egress(protocol="TCP", destination={"services": SERVICE, "ports": [1]}), "destination.services", "ports"),
    (egress(destination={"services": {"name": "s"}}), "destination.services.namespace", "must be given"),
    # tiers
    (made("Tier", "a.b"), "metadata.name", "without dots"),
    (made("Tier", "a" * 64), "metadata.name", "at most 63"),
    (made("Tier", "t", order="1"), "spec.order", "number"),
    (made("Tier", "t", defaultAction="Allow"), "spec.defaultAction", '"Deny", "Pass"'),
    (made("Tier", "default", order=1), "spec.order", "must be 1000000 in the built-in tier"),
    (made("Tier", "default"), "spec.order", "must be 1000000 in the built-in tier"),
    (made("Tier", "adminnetworkpolicy", order=1), "spec.order", "must be 1000 in the built-in tier"),
    (made("Tier", "baselineadminnetworkpolicy", order=1), "spec.order", "must be 10000000 in the built-in tier"),
    # network sets
    (made("NetworkSet", nets=["10.0.0.0/8", "10.0.0.0/33"]), "spec.nets[1]", "an address or a CIDR"),
    (made("GlobalNetworkSet", nets=["all"]), "spec.nets[0]", "an address or a CIDR"),
    (made("GlobalNetworkSet", nets="10.0.0.0/8"), "spec.nets", "array"),
    (made("NetworkSet", meta={"labels": {"projectcalico.org/namespace": "a"}}), "metadata.labels", "not allowed"),
    # FelixConfiguration
    (felix("other"), "metadata.name", 'must be "default"'),
    (felix("node."), "metadata.name", "the name of a node"),
    (felix(defaultEndpointToHostAction="Reject"), "spec.defaultEndpointToHostAction", "Accept, Drop, Return"),
    (felix(chainInsertMode="first"), "spec.chainInsertMode", "Insert, Append"),
    (felix(iptablesBackend="BPF"), "spec.iptablesBackend", "Auto, NFT, Legacy"),
    (felix(iptablesFilterAllowAction="Drop"), "spec.iptablesFilterAllowAction", "Accept, Return"),
    (felix(iptablesFilterDenyAction="Accept"), "spec.iptablesFilterDenyAction", "Drop, Reject"),
    (felix(iptablesMarkMask=0), "spec.iptablesMarkMask", "greater than or equal to 1"),
    (felix(iptablesMarkMask=2**32), "spec.iptablesMarkMask", "4294967295"),
    (felix(logPrefix='a"b'), "spec.logPrefix", "printable ASCII"),
    (felix(iptablesRefreshInterval="90"), "spec.iptablesRefreshInterval", 'a duration such as "90s"'),
    (felix(ipsetsRefreshInterval=90), "spec.ipsetsRefreshInterval", "string"),
    (felix(routeRefreshInterval="-1s"), "spec.routeRefreshInterval", 'a duration such as "90s"'),
    (felix(natPortRange="2:1"), "spec.natPortRange", 'a range of ports such as "1024:65535"'),
    (felix(natPortRange="http"), "spec.natPortRange", 'a range of ports such as "1024:65535"'),
    (felix(bpfEnabled="yes"), "spec.bpfEnabled", "boolean"),
    (felix(vxlanPort="x"), "spec.vxlanPort", "integer"),
    (annotated(log_denied="yes"), "metadata.annotations[manx.dev/log-denied]", "true or false"),
    (annotated(established_connections="Drop"), "metadata.annotations[manx.dev/established", "Keep or Recheck"),
]  # fmt: skip

TAKEN: list[dict[str, Any]] = [
    np(),
    ingress(metadata={"annotations": {"note": "x", "Example.com/a_b.c": "", "8": "y"}}),
    np(tier="", order=10, selector=""),
    np(tier="security", order=-1.5, selector="all()", types=["Ingress", "Egress"]),
    np(selector=" ! has(a) && (b in {'x', \"y\"} || c not in {'z'}) && d starts with 'e' ", performanceHints=[]),
    np(selector="projectcalico.org/namespace == 'a' && x contains 'y' && e ends with 'z' && !(all())"),
    np(serviceAccountSelector="role != 'x'", performanceHints=["AssumeNeededOnEveryNode"], types=[]),
    gnp(namespaceSelector="projectcalico.org/name == 'x'", applyOnForward=True),
    gnp(doNotTrack=True, applyOnForward=True, egress=[{"action": "Deny"}]),
    gnp(preDNAT=True, applyOnForward=True, types=["Ingress"]),
    np(ingress=[{"action": action} for action in ("Allow", "Deny", "Log", "Pass")]),
    tcp(ports=[1, 65535, "80", "1:65535", "7:7", "http", "a-1", "9p"], notPorts=["1000:2000"]),
    ingress(protocol=6, destination={"ports": [80]}),
    ingress(protocol="132", destination={"ports": [80]}),
    ingress(protocol="UDPLite", notProtocol=255),
    ingress(protocol="ICMP", icmp={"type": 254, "code": 255}, ipVersion=4),
    ingress(protocol=58, icmp={"type": 0}, notICMP={"type": 1, "code": 2}, ipVersion=6),
    ingress(source={"nets": ["0.0.0.0/0"], "notNets": ["10.0.0.0/8"]}, ipVersion=4),
    egress(destination={"nets": ["::/0"], "notNets": ["2001:db8::/32"]}, ipVersion=6),
    egress(source={"nets": ["10.0.0.0/8"]}, destination={"notNets": ["192.0.2.1/32"]}),
    ingress(source={"selector": "has(a)", "notSelector": "has(b)", "namespaceSelector": "global()"}),
    ingress(source={"namespaceSelector": " global() ", "serviceAccounts": {"names": ["a"], "selector": "has(b)"}}),
    ingress(source={"services": {"name": "s"}}, protocol="TCP", destination={"ports": [80]}),
    egress(destination={"services": SERVICE}),
    ingress(http={"methods": ["GET"], "paths": [{"exact": "/"}]}, metadata={"annotations": {"a": "b"}}),
    ingress(unheardOf={"of": ["Calico"]}),
    np(ingress=[{"action": "Allow", "source": {"nets": [f"10.{n}.0.0/16" for n in range(256)]}}] * 4),
    made("Tier", "t", order=10.5, defaultAction="Pass"),
    made("Tier", "t"),
    made("Tier", "default", order=1_000_000, defaultAction="Deny"),
    made("Tier", "adminnetworkpolicy", order=1000),
    made("NetworkSet", nets=["192.0.2.7", "10.0.0.1/8", "fd00::1", "fd00::/8"], meta={"labels": {"a": "b"}}),
    made("GlobalNetworkSet", nets=[]),
    felix("node.n1", logPrefix="denied: %t"),
    felix(defaultEndpointToHostAction="RETURN", chainInsertMode="append", iptablesBackend="nft"),
    felix(iptablesFilterAllowAction="Return", iptablesFilterDenyAction="reject", iptablesMarkMask=0xFFFF0000),
    felix(iptablesRefreshInterval="90s", ipsetsRefreshInterval="1m30s", routeRefreshInterval="0s", natPortRange=5),
    felix(natPortRange="1024:65535", bpfEnabled=False, failsafeInboundHostPorts=[{"port": 22, "protocol": "tcp"}],
          kubeNodePortRanges=[30000, "30001:32767"], unheardOf=1),
    annotated(log_denied="true", established_connections="Recheck"),
    *EXAMPLES,
]  # fmt: skip
