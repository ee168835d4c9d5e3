"""Bad input, as users meet it: refused by `kubectl` with the field and what is allowed, else told in a condition and an
Event; and what worked before goes on working.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.run import LabError

CALICO, OPERATOR = "projectcalico.org/v3", "operator.tigera.io/v1"
ADDONS = ("APIServer", "Goldmane", "Whisker")
POOL = "default-ipv4-ippool"


def made(version: str, kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def manx(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return made("manx.dev/v1alpha1", kind, name, epoch=0, **spec)


def bgp(name: str = "default", **spec: Any) -> dict[str, Any]:
    return made(CALICO, "BGPConfiguration", name, **spec)


def pool(**spec: Any) -> dict[str, Any]:
    return made(CALICO, "IPPool", "bad", **spec)


def installation(name: str = "default", **spec: Any) -> dict[str, Any]:
    return made(OPERATOR, "Installation", name, **spec)


def network(**fields: Any) -> dict[str, Any]:
    return installation("default", calicoNetwork=fields)


def rule(**fields: Any) -> dict[str, Any]:
    return manx("PolicyProgram", "bad", source={"kind": "NetworkPolicy", "name": "x"}, ingress=[fields])


AS_NUMBERS = "1 to 4294967295"
IPV6_REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (pool(cidr="fd00:9::/64", ipipMode="CrossSubnet"), "spec.ipipMode", "must be Never for an IPv6 pool"),
    (pool(cidr="fd00:9::/64", blockSize=26), "spec.blockSize", "116 to 128 for IPv6"),
    (pool(cidr="fd00:9::/124"), "spec.blockSize", "122 for IPv6"),
    (pool(cidr="fd10:244::/56"), "spec.cidr", "overlaps IPPool default-ipv6-ippool"),
    (pool(cidr="fd10:96::/64"), "spec.cidr", "overlaps the services' network"),
    (pool(cidr="2001:db8:51::/48"), "spec.cidr", "holds an address of node"),
    (network(ipPools=[{"cidr": "fd00:9::/64", "encapsulation": "IPIP"}]), "encapsulation", "for an IPv6 pool"),
    (network(ipPools=[{"cidr": "fd00:9::/64", "blockSize": 129}]), "blockSize", "128"),
    (network(nodeAddressAutodetectionV6={"firstFound": True, "interface": "eth0"}), "nodeAddressAutodetectionV6",
     "at most one of"),
]  # fmt: skip
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    *IPV6_REFUSED,
    (bgp(asNumber=0), "spec.asNumber", AS_NUMBERS),
    (bgp(asNumber=4294967296), "spec.asNumber", AS_NUMBERS),
    (bgp(asNumber="abc"), "spec.asNumber", AS_NUMBERS),
    (bgp(asNumber="65536.1"), "spec.asNumber", AS_NUMBERS),
    (bgp(asNumber=1.5), "spec.asNumber", "integer,string"),
    (bgp("defautl", asNumber=1), "metadata.name", 'must be "default"'),
    (bgp("node.", listenPort=1), "metadata.name", "the name of a node"),
    (bgp("node.node1", asNumber=1), "spec.asNumber", 'only in the BGPConfiguration named "default"'),
    (bgp("node.node1", nodeToNodeMeshEnabled=False), "spec.nodeToNodeMeshEnabled", 'named "default"'),
    (bgp(listenPort=0), "spec.listenPort", "greater than or equal to 1"),
    (bgp(logSeverityScreen="Loud"), "spec.logSeverityScreen", '"Debug", "Info", "Warning", "Error", "Fatal"'),
    (bgp(nodeToNodeMeshEnabled="yes"), "spec.nodeToNodeMeshEnabled", "boolean"),
    (bgp(nodeMeshMaxRestartTime="120"), "spec.nodeMeshMaxRestartTime", 'a duration such as "120s"'),
    (made(CALICO, "BGPPeer", "bad", peerIP="nowhere", asNumber=1), "spec.peerIP", "an IP address"),
    (made(CALICO, "BGPPeer", "bad", peerIP="192.0.2.1:0", asNumber=1), "spec.peerIP", "an IP address"),
    (made(CALICO, "BGPPeer", "bad", peerIP="192.0.2.1", asNumber=0), "spec.asNumber", AS_NUMBERS),
    (made(CALICO, "BGPPeer", "bad", node="a", nodeSelector="all()"), "spec.nodeSelector", "must not both be set"),
    (pool(), "spec.cidr", "Required value"),
    (pool(cidr="here"), "spec.cidr", "a CIDR such as"),
    (pool(cidr="10.9.0.1/16"), "spec.cidr", "no bit set beyond the prefix"),
    (pool(cidr="10.9.0.0/16", blockSize=19), "spec.blockSize", "20"),
    (pool(cidr="10.9.0.0/16", blockSize=33), "spec.blockSize", "20 to 32 for IPv4"),
    (pool(cidr="10.9.0.0/24", blockSize=22), "spec.blockSize", "not be smaller than the cidr's prefix length"),
    (pool(cidr="10.9.0.0/28"), "spec.blockSize", "not be smaller than the cidr's prefix length"),
    (pool(cidr="10.9.0.0/16", ipipMode="Sometimes"), "spec.ipipMode", '"Never", "Always", "CrossSubnet"'),
    (pool(cidr="10.9.0.0/16", ipipMode="Always", vxlanMode="Always"), "spec.vxlanMode", "must be Never"),
    (pool(cidr="10.244.128.0/17"), "spec.cidr", f"overlaps IPPool {POOL}"),
    (pool(cidr="10.96.128.0/17"), "spec.cidr", "overlaps the services' network"),
    (pool(cidr="198.51.100.0/24"), "spec.cidr", "holds an address of node"),
    (installation("other"), "metadata.name", 'must be "default"'),
    (network(bgp="On"), "spec.calicoNetwork.bgp", '"Enabled", "Disabled"'),
    (network(mtu=70000), "spec.calicoNetwork.mtu", "65535"),
    (network(ipPools=[{"cidr": "10.9.0.0/16", "encapsulation": "GRE"}]), "encapsulation", '"VXLANCrossSubnet"'),
    (network(ipPools=[{"cidr": "10.9.0.0/28"}]), "ipPools[0].blockSize", "prefix length"),
    (network(nodeAddressAutodetectionV4={"firstFound": True, "interface": "e"}), "AutodetectionV4", "at most one"),
    (installation(nodeUpdateStrategy={"rollingUpdate": {"maxUnavailable": 0}}), "maxUnavailable", "at least 1"),
    (installation(variant="Other"), "spec.variant", '"Calico"'),
    (rule(peer={"ports": ["http"]}), "spec.ingress[0].peer.ports[0]", "should match"),
    (rule(subject={"notPorts": ["65536"]}), "spec.ingress[0].subject.notPorts[0]", "should match"),
    (rule(peer={"nets": ["10.0.0.0/33"]}), "spec.ingress[0].peer.nets[0]", "should match"),
    (rule(action="Reject"), "spec.ingress[0].action", '"Allow", "Deny", "Log", "Pass"'),
    (rule(protocol="GRE"), "spec.ingress[0].protocol", "should match"),
    (rule(icmp={"type": 256}), "spec.ingress[0].icmp.type", "255"),
    (manx("PolicyClass", "bad", tiers=[{"name": "t", "policies": []}]), "spec.tiers[0].policies", "at least 1"),
    (manx("NodeState", "bad", ipv6="192.0.2.1"), "spec.ipv6", "should match"),
    (manx("NodeState", "bad", policy={"markMask": -1}), "spec.policy.markMask", "0"),
    (manx("AddressGroup", "g-0", group="g", members="10.0.0.1\nall"), "spec.members", "should match"),
    (manx("AddressGroup", "g-0", group="g", members="10.0.0.1,tcp:80\n" * 400), "spec.members", "may not be more than"),
    (manx("AddressGroup", "g-1", group="g"), "metadata.name", "<spec.group>-<spec.chunk>"),
    (manx("NodeState", "bad", mtu=-1), "spec.mtu", "0"),
    (manx("NodeState", "bad", bgp={"asNumber": 0}), "spec.bgp.asNumber", "1"),
    (manx("NodeState", "bad", pods="x"), "spec.pods", "should match"),
    (manx("IPAMBlock", "bad", cidr="10.9.0.0/26", pool="p", node="n"), "metadata.name", "spec.cidr with dashes"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "field", "allowed"), REFUSED, ids=[f"{d['kind']}-{f}-{i}" for i, (d, f, _) in enumerate(REFUSED)]
)
def test_kubectl_refuses_it_and_says_why(cluster: Cluster, document: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(LabError) as caught:
        cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(document))
    assert field.removeprefix("metadata.") in str(caught.value)
    assert allowed in str(caught.value)


TAKEN: list[dict[str, Any]] = [
    bgp(asNumber="1.10"),
    bgp(asNumber="63400", listenPort=1179, serviceClusterIPs=[{"cidr": "10.96.0.0/16"}], unheardOf={"of": ["Calico"]}),
    bgp("node.node1", listenPort=1179),
    made(CALICO, "BGPPeer", "rack", peerIP="192.0.2.1:1179", asNumber="1.10", nodeSelector="rack == 'a'"),
    made(CALICO, "BGPPeer", "v6", peerIP="[2001:db8::1]:1179", asNumber=1, filters=["f"], ttlSecurity=1),
    pool(cidr="10.9.0.0/16", blockSize=27, natOutgoing=True, ipipMode="Never", allowedUses=["Workload", "Tunnel"]),
    pool(cidr="fd00:9::/64", blockSize=122),
    pool(cidr="fd00:9::/64", vxlanMode="CrossSubnet", natOutgoing=True),
    *({"apiVersion": OPERATOR, "kind": kind, "metadata": {"name": "default"}} for kind in ADDONS),
    made(OPERATOR, "APIServer", "default"),
]  # fmt: skip


@pytest.mark.parametrize("document", TAKEN, ids=[f"{d['kind']}-{i}" for i, d in enumerate(TAKEN)])
def test_calicos_own_yaml_is_taken(cluster: Cluster, document: dict[str, Any]) -> None:
    assert "created" in cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(document))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cidr": "10.244.0.0/17"}, "cannot be changed"),
        ({"cidr": "10.9.0.0/16"}, "cannot be changed"),
        ({"blockSize": 27}, "cannot be changed"),
    ],
)
def test_a_pool_does_not_shrink(cluster: Cluster, change: dict[str, Any], words: str) -> None:
    with pytest.raises(LabError, match=words):
        cluster.kubectl("patch", "ippool", POOL, "--type=merge", "-p", json.dumps({"spec": change}))


def test_a_pool_in_use_is_not_deleted(cluster: Cluster) -> None:
    with pytest.raises(LabError, match=f"IPPool {POOL} is in use: block .* of node") as caught:
        cluster.kubectl("delete", "ippool", POOL)
    assert "spec.disabled" in str(caught.value)


@pytest.fixture
def thing(cluster: Cluster) -> Iterator[Any]:
    """Creates an object and waits until a condition of it is as expected; deletes it afterwards."""
    created: list[str] = []

    def create(document: dict[str, Any], status: str) -> dict[str, Any]:
        name = cluster.kubectl("create", "-f", "-", "-o", "name", stdin=json.dumps(document)).strip()
        created.append(name)
        return accepted(cluster, name, status)

    yield create
    for name in created:
        cluster.kubectl("delete", name)


def accepted(cluster: Cluster, name: str, status: str) -> dict[str, Any]:
    """The object's condition Accepted, once it has this status for this generation."""

    def probe() -> dict[str, Any] | None:
        raw = cluster.kubectl.json("get", name)
        for condition in raw.get("status", {}).get("conditions", []):
            current = condition.get("observedGeneration") == raw["metadata"]["generation"]
            if condition["type"] == "Accepted" and condition["status"] == status and current:
                return dict(condition)
        return None

    return cluster.wait_for(f"{name} to be Accepted={status}", probe, timeout=60)


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        (bgp("node.nosuch", listenPort=1179), "metadata.name", "there is no node nosuch"),
        (bgp(nodeMeshMaxRestartTime="2h"), "spec.nodeMeshMaxRestartTime", "4095s"),
        (made(CALICO, "BGPPeer", "p", peerIP="192.0.2.1"), "spec.asNumber", "is missing"),
        (made(CALICO, "BGPPeer", "p", nodeSelector="rack =="), "spec.nodeSelector", "must be a selector"),
        (made(CALICO, "BGPPeer", "p", peerSelector="all()"), "spec.peerSelector", "not supported yet"),
        (pool(cidr="10.9.0.0/16", ipipMode="Always"), "spec.ipipMode", "not supported yet"),
        (pool(cidr="fe80:9::/64"), "spec.cidr", "must be a range of global or unique local addresses"),
        (made(CALICO, "BGPPeer", "p", peerIP="fe80::9", asNumber=1), "spec.peerIP", "link-local peers"),
    ],
)  # fmt: skip
def test_what_kubectl_cannot_know_is_told_in_a_condition_and_an_event(
    cluster: Cluster, thing: Any, document: dict[str, Any], field: str, words: str
) -> None:
    condition = thing(document, "False")
    assert f"{field}: " in condition["message"]
    assert words in condition["message"]

    def event() -> bool:
        events = cluster.kubectl.items("events.events.k8s.io", "-n", "default")
        name = document["metadata"]["name"]
        return any(each["regarding"].get("name") == name and words in each.get("note", "") for each in events)

    cluster.wait_for(f"an Event on {document['kind']} {document['metadata']['name']}", event, timeout=30)


@pytest.mark.parametrize("document", [d for d in TAKEN if d["kind"] in ADDONS][:3])
def test_calicos_other_kinds_have_nothing_to_do(thing: Any, document: dict[str, Any]) -> None:
    assert thing(document, "True")["reason"] == "NothingToDo"


def test_fields_without_effect_are_told(thing: Any) -> None:
    condition = thing(bgp(asNumber=63400, asNumbr=1, serviceClusterIPs=[{"cidr": "10.96.0.0/16"}]), "True")
    assert condition["reason"] == "FieldsWithoutEffect"
    assert "spec.asNumbr (unknown)" in condition["message"]
    assert "spec.serviceClusterIPs" in condition["message"]


def patch_installation(cluster: Cluster, spec: dict[str, Any]) -> None:
    cluster.kubectl("patch", "installation", "default", "--type=merge", "-p", json.dumps({"spec": spec}))


@pytest.mark.parametrize(
    ("bad", "good", "words"),
    [
        ({"cni": {"type": "AmazonVPC"}}, {"cni": None}, "spec.cni.type: AmazonVPC is not supported; must be Calico"),
        ({"calicoNetwork": {"linuxDataplane": "BPF"}}, {"calicoNetwork": {"linuxDataplane": None}}, "must be Iptables"),
    ],
)
def test_an_installation_that_cannot_be_carried_out_leaves_what_is_there(
    cluster: Cluster, bad: dict[str, Any], good: dict[str, Any], words: str
) -> None:
    before = cluster.kubectl.json("-n", "manx-system", "get", "daemonset", "manx-node")["metadata"]["generation"]
    patch_installation(cluster, bad)
    try:
        assert words in accepted(cluster, "installation/default", "False")["message"]
        after = cluster.kubectl.json("-n", "manx-system", "get", "daemonset", "manx-node")["metadata"]["generation"]
        assert after == before
    finally:
        patch_installation(cluster, good)
    accepted(cluster, "installation/default", "True")


def test_encapsulation_that_cannot_be_had_says_not_yet(cluster: Cluster) -> None:
    pools = cluster.kubectl.json("get", "installation", "default")["spec"]["calicoNetwork"]["ipPools"]
    patch_installation(cluster, {"calicoNetwork": {"ipPools": [{**pools[0], "encapsulation": "IPIP"}]}})
    try:
        assert "IPIP is not supported yet" in accepted(cluster, "installation/default", "False")["message"]
    finally:
        patch_installation(cluster, {"calicoNetwork": {"ipPools": pools}})
    accepted(cluster, "installation/default", "True")
