"""Owns the lab's control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler on one machine of
the lab.

It must not know of nodes, nor relax what a real cluster enforces: Node and RBAC authorization, NodeRestriction, bound
service-account tokens and admission policies are on, so that what Manx is allowed here is what it is allowed elsewhere.
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from pathlib import Path

from lab import fabric, pki
from lab.machines import Machines
from lab.run import LabError, wait_for
from lab.settings import API_PORT, API_SERVICE, CLUSTER_DOMAIN, SERVICE_CIDR, Settings

MACHINE = "control-plane"


def server_url(settings: Settings) -> str:
    """The API server as machines of the lab reach it."""
    address = settings.member(MACHINE).address
    return f"https://{f'[{address}]' if ':' in address else address}:{API_PORT}"


def write_credentials(settings: Settings) -> pki.Authority:
    """Make the authority, the control plane's key pairs and kubeconfigs, and the administrator's kubeconfig."""
    directory = settings.state / "pki"
    authority = pki.Authority(directory)
    member = settings.member(MACHINE)
    names = ["127.0.0.1", "localhost", member.address, member.address6, *API_SERVICE.values()]
    names += ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{CLUSTER_DOMAIN}"]
    authority.issue("apiserver", "kube-apiserver", names=names)
    authority.issue("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters")
    authority.issue("admin", "lab-admin", "system:masters")
    pki.write_service_account_key(directory)
    for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
        authority.issue(name, f"system:{name}")
        pki.write_kubeconfig(settings.state / f"{name}.kubeconfig", server_url(settings), directory, name)
    pki.write_kubeconfig(settings.kubeconfig, f"https://127.0.0.1:{settings.api_port}", directory, "admin")
    pki.write_kubeconfig(settings.state / "inside.kubeconfig", server_url(settings), directory, "admin")
    return authority


def start(machines: Machines, binaries: Path) -> None:
    """Start the control plane's machine, etcd and the API server; it is not ready yet when this returns."""
    settings = machines.settings
    machines.start(MACHINE)
    fabric.connect(machines, settings.member(MACHINE))
    machines.spawn(MACHINE, "etcd", [binaries / "etcd", f"--data-dir={settings.state / 'etcd'}"])
    machines.spawn(MACHINE, "kube-apiserver", [binaries / "kube-apiserver", *_apiserver_flags(settings)])


def start_controllers(machines: Machines, binaries: Path) -> None:
    """Start the controller manager and the scheduler; before the API server's roles are there they would give up."""
    settings = machines.settings
    machines.spawn(
        MACHINE, "kube-controller-manager", [binaries / "kube-controller-manager", *_manager_flags(settings)]
    )
    machines.spawn(MACHINE, "kube-scheduler", [binaries / "kube-scheduler", *_scheduler_flags(settings)])


def _apiserver_flags(settings: Settings) -> list[str]:
    keys, member = settings.state / "pki", settings.member(MACHINE)
    return [
        f"--advertise-address={member.address}",
        "--bind-address=::",  # of both families
        f"--secure-port={API_PORT}",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--service-cluster-ip-range={','.join(SERVICE_CIDR[family] for family in settings.node_families)}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={keys / 'ca.crt'}",
        f"--tls-cert-file={keys / 'apiserver.crt'}",
        f"--tls-private-key-file={keys / 'apiserver.key'}",
        f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        f"--service-account-key-file={keys / 'sa.pub'}",
        f"--service-account-signing-key-file={keys / 'sa.key'}",
        f"--kubelet-certificate-authority={keys / 'ca.crt'}",
        f"--kubelet-client-certificate={keys / 'apiserver-kubelet.crt'}",
        f"--kubelet-client-key={keys / 'apiserver-kubelet.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        *settings.apiserver_args,
    ]


def _manager_flags(settings: Settings) -> list[str]:
    keys = settings.state / "pki"
    return [
        *_client_flags(settings, "kube-controller-manager"),
        "--allocate-node-cidrs=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={keys / 'sa.key'}",
        f"--root-ca-file={keys / 'ca.crt'}",
        f"--cluster-signing-cert-file={keys / 'ca.crt'}",
        f"--cluster-signing-key-file={keys / 'ca.key'}",
    ]


def _scheduler_flags(settings: Settings) -> list[str]:
    return _client_flags(settings, "kube-scheduler")


def _client_flags(settings: Settings, name: str) -> list[str]:
    """Flags of a component that is the only one of its kind: electing a leader would only cost time."""
    config = settings.state / f"{name}.kubeconfig"
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]


def wait_ready(settings: Settings, *, timeout: float = 90) -> None:
    """Wait until the API server answers /readyz with ok, through the forwarder on 127.0.0.1."""
    keys = settings.state / "pki"
    context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    context.load_cert_chain(keys / "admin.crt", keys / "admin.key")
    url = f"https://127.0.0.1:{settings.api_port}/readyz"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))

    def probe() -> bool:
        try:
            with opener.open(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError) as error:
            raise LabError(str(error)) from None

    wait_for("the API server", probe, timeout=timeout)
