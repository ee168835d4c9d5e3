"""The Installation: Calico's own files, each field good and bad, and what it comes to."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from manx_core.api.fields import InvalidObject
from manx_core.api.installation import Installation
from manx_core.api.installation_settings import bgp_enabled, check, host_ports_enabled, mtu, pools_wanted

POOL = "spec.calicoNetwork.ipPools[0]"
CALICOS_OWN = """
apiVersion: operator.tigera.io/v1
kind: Installation
metadata:
  name: default
spec:
  variant: Calico
  kubernetesProvider: ""
  registry: quay.io/
  imagePath: mirror
  imagePrefix: UseDefault
  imagePullSecrets: [{name: pull}]
  cni: {type: Calico, ipam: {type: Calico}, binDir: /usr/libexec/cni, confDir: /etc/cni/net.d}
  calicoNetwork:
    bgp: Enabled
    linuxDataplane: Iptables
    hostPorts: Enabled
    multiInterfaceMode: None
    containerIPForwarding: Disabled
    mtu: 1440
    nodeAddressAutodetectionV4: {firstFound: true}
    windowsDataplane: Disabled
    ipPools:
      - name: default-ipv4-ippool
        blockSize: 26
        cidr: 192.168.0.0/16
        encapsulation: VXLANCrossSubnet
        natOutgoing: Enabled
        nodeSelector: all()
        allowedUses: [Workload, Tunnel]
        assignmentMode: Automatic
        disableBGPExport: false
  controlPlaneReplicas: 2
  flexVolumePath: None
  kubeletVolumePluginPath: /var/lib/kubelet
  nodeUpdateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 10%}}
  nonPrivileged: Disabled
  calicoNodeDaemonSet: {spec: {template: {spec: {}}}}
  someNewField: {of: the next version}
"""


def parsed(**network: Any) -> Installation:
    return Installation.parse({"metadata": {"name": "default"}, "spec": {"calicoNetwork": network}})


def of_spec(**spec: Any) -> Installation:
    return Installation.parse({"metadata": {"name": "default"}, "spec": spec})


def test_calicos_own_file_is_taken_whole() -> None:
    found = Installation.parse(yaml.safe_load(CALICOS_OWN))
    assert check(found) == ()
    ignored = set(found.without_effect())
    assert "spec.someNewField (unknown)" in ignored
    assert "spec.flexVolumePath" in ignored
    assert "spec.calicoNetwork.windowsDataplane" in ignored
    assert not ignored & {"spec.registry", "spec.calicoNetwork.mtu", "spec.calicoNetwork.ipPools", "spec.cni.type"}


def test_defaults_are_calicos() -> None:
    found = Installation.parse({"metadata": {"name": "default"}})
    assert check(found) == ()
    assert (bgp_enabled(found), host_ports_enabled(found), mtu(found)) == (True, True, 0)
    ((name, pool),) = pools_wanted(found)
    assert (name, pool.cidr) == ("default-ipv4-ippool", "192.168.0.0/16")


def test_no_pools_may_be_asked_for() -> None:
    assert pools_wanted(parsed(ipPools=[])) == ()


def test_names_of_pools() -> None:
    found = parsed(ipPools=[{"cidr": "10.0.0.0/16"}, {"cidr": "10.1.0.0/16"}, {"cidr": "10.2.0.0/16", "name": "mine"}])
    assert [name for name, _ in pools_wanted(found)] == ["default-ipv4-ippool", "10-1-0-0-16", "mine"]
    taken = parsed(ipPools=[{"cidr": "10.0.0.0/16"}, {"cidr": "10.1.0.0/16", "name": "default-ipv4-ippool"}])
    assert [name for name, _ in pools_wanted(taken)] == ["10-0-0-0-16", "default-ipv4-ippool"]


@pytest.mark.parametrize(
    ("found", "field"),
    [
        (of_spec(variant="TigeraSecureEnterprise"), "spec.variant"),
        (of_spec(cni={"type": "AmazonVPC"}), "spec.cni.type"),
        (of_spec(cni={"type": "Calico", "ipam": {"type": "HostLocal"}}), "spec.cni.ipam.type"),
        (parsed(linuxDataplane="BPF"), "spec.calicoNetwork.linuxDataplane"),
        (parsed(linuxDataplane="Nftables"), "spec.calicoNetwork.linuxDataplane"),
        (parsed(mtu=67), "spec.calicoNetwork.mtu"),
        (parsed(ipPools=[{"cidr": "fe80::/64"}]), POOL + ".cidr"),
        (parsed(ipPools=[{"cidr": "fd00::/64", "blockSize": 26}]), POOL + ".blockSize"),
        (parsed(ipPools=[{"cidr": "fd00::/64", "encapsulation": "IPIP"}]), POOL + ".encapsulation"),
        (parsed(ipPools=[{"cidr": "fd00::/64", "encapsulation": "IPIPCrossSubnet"}]), POOL + ".encapsulation"),
        (parsed(ipPools=[{"cidr": "fd00::/64", "encapsulation": "VXLAN"}]), POOL + ".encapsulation"),
        (parsed(ipPools=[{"cidr": "10.0.0.0/16", "encapsulation": "IPIP"}]), POOL + ".encapsulation"),
        (parsed(ipPools=[{"cidr": "10.0.0.0/16", "encapsulation": "VXLAN"}]), POOL + ".encapsulation"),
        (parsed(ipPools=[{"cidr": "10.0.0.0/16", "blockSize": 64}]), POOL + ".blockSize"),
        (parsed(ipPools=[{"cidr": "10.0.0.0/28"}]), POOL + ".blockSize"),
        (parsed(ipPools=[{"cidr": "10.0.0.0/16", "assignmentMode": "Manual"}]), POOL + ".assignmentMode"),
        (parsed(ipPools=[{"cidr": "10.0.0.0/16", "name": "a"}, {"cidr": "10.1.0.0/16", "name": "a"}]),
         "spec.calicoNetwork.ipPools[1].name"),
        (Installation.parse({"metadata": {"name": "other"}}), "metadata.name"),
    ],
)  # fmt: skip
def test_what_is_not_carried_out(found: Installation, field: str) -> None:
    problems = check(found)
    assert [problem.field for problem in problems] == [field]
    assert "must be" in problems[0].message or "twice" in problems[0].message


def test_encapsulation_that_cannot_be_had_says_not_yet() -> None:
    (problem,) = check(parsed(ipPools=[{"cidr": "10.0.0.0/16", "encapsulation": "IPIP"}]))
    assert "not supported yet" in problem.message
    assert "IPIPCrossSubnet" in problem.message


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"variant": "Cilium"}, "spec.variant"),
        ({"imagePullSecrets": [{"name": ""}]}, "spec.imagePullSecrets[0].name"),
        ({"nodeUpdateStrategy": {"type": "Recreate"}}, "spec.nodeUpdateStrategy.type"),
        ({"nodeUpdateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}},
         "spec.nodeUpdateStrategy.rollingUpdate.maxUnavailable"),
        ({"nodeUpdateStrategy": {"rollingUpdate": {"maxUnavailable": "0%"}}},
         "spec.nodeUpdateStrategy.rollingUpdate.maxUnavailable"),
        ({"cni": {"binDir": "relative", "type": "Calico"}}, "spec.cni.binDir"),
        ({"cni": {}}, "spec.cni.type"),
        ({"calicoNetwork": {"bgp": True}}, "spec.calicoNetwork.bgp"),
        ({"calicoNetwork": {"mtu": -1}}, "spec.calicoNetwork.mtu"),
        ({"calicoNetwork": {"mtu": 65536}}, "spec.calicoNetwork.mtu"),
        ({"calicoNetwork": {"hostPorts": "On"}}, "spec.calicoNetwork.hostPorts"),
        ({"calicoNetwork": {"ipPools": [{}]}}, POOL + ".cidr"),
        ({"calicoNetwork": {"ipPools": [{"cidr": "10.0.0.0/8", "encapsulation": "GRE"}]}},
         POOL + ".encapsulation"),
        ({"calicoNetwork": {"ipPools": [{"cidr": "10.0.0.0/8", "natOutgoing": True}]}},
         POOL + ".natOutgoing"),
        ({"calicoNetwork": {"nodeAddressAutodetectionV4": {"interface": "eth["}}},
         "spec.calicoNetwork.nodeAddressAutodetectionV4.interface"),
        ({"calicoNetwork": {"nodeAddressAutodetectionV4": {"cidrs": ["10.0.0.1/8"]}}},
         "spec.calicoNetwork.nodeAddressAutodetectionV4.cidrs[0]"),
        ({"calicoNetwork": {"nodeAddressAutodetectionV4": {"kubernetes": "ExternalIP"}}},
         "spec.calicoNetwork.nodeAddressAutodetectionV4.kubernetes"),
    ],
)  # fmt: skip
def test_what_is_refused(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        of_spec(**spec)
    assert [problem.field for problem in caught.value.problems] == [field]
