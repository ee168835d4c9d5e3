"""Owns the lab's nodes: each a machine with containerd, kubelet and kube-proxy, at the paths where a real node has
them.

It must not give a node any pod network: that is Manx's work, and until then nodes are rightly NotReady. Paths inside
are the usual ones (/run/containerd, /opt/cni/bin, /etc/cni/net.d, /var/lib/kubelet) because a machine's mounts make
them its own.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from lab import binaries, control_plane, fabric, pki
from lab.machines import Machines
from lab.run import LabError, wait_for
from lab.settings import CLUSTER_DNS, CLUSTER_DOMAIN, POD_CIDR, Settings

PAUSE_IMAGE = "localhost/pause:lab"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CONTAINERD_CONFIG = f"""
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""
CNI_PLUGINS = Path("/usr/lib/cni")


def write_credentials(settings: Settings, authority: pki.Authority, node: str) -> None:
    """Issue a node's key pair, which is both its identity and its server certificate."""
    member = settings.member(node)
    authority.issue(node, f"system:node:{node}", "system:nodes", names=[node, member.address, member.address6])
    target = settings.state / f"{node}.kubeconfig"
    pki.write_kubeconfig(target, control_plane.server_url(settings), settings.state / "pki", node)


def start_machine(machines: Machines, node: str) -> None:
    """Start a node's machine and containerd; its store of images is in place."""
    settings = machines.settings
    machines.start(node, containerd=containerd_directory(settings, node))
    fabric.connect(machines, settings.member(node))
    _copy_loopback_plugin(machines, node)
    start_containerd(machines, node)


def containerd_directory(settings: Settings, node: str) -> Path:
    """What a node sees as /var/lib/containerd."""
    return settings.state / "containerd" / node


def start_containerd(machines: Machines, node: str) -> None:
    """Start containerd on a machine and wait until it answers."""
    config = machines.settings.state / "containerd.toml"
    config.write_text(CONTAINERD_CONFIG)
    machines.spawn(node, "containerd", ["containerd", "--config", config, "--log-level", "warn"])
    wait_for(f"containerd on {node}", lambda: ctr(machines, node, "version"), timeout=30)


def _copy_loopback_plugin(machines: Machines, node: str) -> None:
    """containerd cannot start a pod without the loopback plugin; everything else is brought by the network's own
    installer.
    """
    if not (CNI_PLUGINS / "loopback").exists():
        raise LabError(f"{CNI_PLUGINS / 'loopback'} is missing: apt-get install containernetworking-plugins")
    machines.exec(node, ["mkdir", "-p", "/opt/cni/bin", "/etc/cni/net.d"])
    machines.exec(node, ["cp", CNI_PLUGINS / "loopback", "/opt/cni/bin/"])


def ctr(machines: Machines, node: str, *words: str | Path, timeout: float = 120) -> str:
    """Run containerd's ctr in the namespace that the kubelet uses."""
    return machines.exec(
        node, ["ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", *words], timeout=timeout
    )


def import_image(machines: Machines, node: str, archive: Path) -> None:
    """Load an image archive into a node's containerd and unpack it."""
    ctr(machines, node, "images", "import", archive)


def start_kubernetes(machines: Machines, node: str) -> None:
    """Start a node's kubelet and kube-proxy; containerd must run."""
    settings = machines.settings
    state = settings.state
    kubelet_config, proxy_config = state / f"{node}.kubelet.yaml", state / "kube-proxy.yaml"
    (state / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    kubelet_config.write_text(yaml.safe_dump(_kubelet_config(settings, node)))
    proxy_config.write_text(yaml.safe_dump(_proxy_config(settings)))
    member = settings.member(node)
    machines.spawn(
        node,
        "kubelet",
        [
            binaries.path_of("kubelet"),
            f"--config={kubelet_config}",
            f"--kubeconfig={state / f'{node}.kubeconfig'}",
            f"--hostname-override={node}",
            f"--node-ip={','.join(dict.fromkeys((member.address, member.address6)))}",
        ],
    )
    proxy = [str(binaries.path_of("kube-proxy")), f"--config={proxy_config}", f"--hostname-override={node}"]
    machines.spawn(node, "kube-proxy", proxy)


def _kubelet_config(settings: Settings, node: str) -> dict[str, Any]:
    keys = settings.state / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "::",  # of both families
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(keys / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(keys / f"{node}.crt"),
        "tlsPrivateKeyFile": str(keys / f"{node}.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{settings.cgroup}/{node}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        "serializeImagePulls": False,
        "clusterDNS": [CLUSTER_DNS[settings.node_families[0]]],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(settings.state / "resolv.conf"),
    }


def _proxy_config(settings: Settings) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": ",".join(POD_CIDR[family] for family in settings.node_families),
        "clientConnection": {"kubeconfig": str(settings.state / "kube-proxy.kubeconfig")},
        # The limits of connection tracking belong to the whole machine: leave them as they are.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "0.1s"},
    }


def require_host_programs() -> None:
    """LabError that names what is not installed of what nodes need."""
    needed = ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "iptables", "ipset", "conntrack", "nsenter", "ip")
    missing = [name for name in needed if not shutil.which(name)]
    if missing:
        raise LabError(f"not installed: {', '.join(missing)} (./hack/up installs them on Debian 12)")
