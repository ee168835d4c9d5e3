"""Owns bringing a lab up: the stages in their order, and what is said to the person who waits.

It must not do a stage's work itself. The remains of an earlier lab of the same name go first, always, so that ``up``
needs to know only one starting point.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from lab import binaries, cgroups, control_plane, dev, fabric, image, images, install, limits, node, store
from lab.down import down
from lab.kubectl import Kubectl
from lab.machines import HERE, ROOT, Machines
from lab.run import LabError, wait_for
from lab.settings import API_PORT, CLUSTER_DNS, Settings
from lab.stages import Stages

MANIFESTS = HERE / "manifests"


def count_stages(settings: Settings) -> int:
    """How many stages ``bring_up`` announces."""
    return 4 if settings.bare else 5 if settings.dev else 6


def bring_up(wanted: Settings, stages: Stages) -> Machines:
    """Start a cluster, with Manx installed and working unless it is to be bare."""
    if wanted.bare:
        return bring_up_bare(wanted, stages)
    install.require_manifests()
    machines = bring_up_bare(wanted, stages)
    with stages.stage("Manx installed, nodes Ready, cluster DNS answers", "20 s"):
        if wanted.dev:
            dev.install(machines)
        else:
            install.install(machines)
        install.wait_until_working(machines)
    return machines


def bring_up_bare(wanted: Settings, stages: Stages) -> Machines:
    """Start a cluster without a pod network: its nodes are registered and NotReady when this returns."""
    node.require_host_programs()
    down(wanted.name)
    limits.require_inotify(wanted.nodes)
    settings = _claim(replace(wanted, api_port=_free_port(wanted.preferred_port)))
    machines = Machines(settings)
    with stages.stage("Kubernetes and the lab's images, from the cache", "12 min the first time, then 1 s"):
        binaries.build_all()
        archives = [*images.archives(), *_extra_archives(settings)]
    if not settings.bare and not settings.dev:
        with stages.stage("Manx's image from the Containerfile", "2 min the first time, then 8 s"):
            archives.append(image.build_archive(settings.image))
    with stages.stage("Fabric and control plane", "2 s, ready some seconds later"):
        start_control_plane(machines)
    with stages.stage(f"{settings.nodes} nodes: images, namespaces, containerd", "10 s, 3 s with unchanged images"):
        store.give_to_nodes(machines, archives)
        each_node(machines, lambda name: node.start_machine(machines, name))
    with stages.stage("API server ready, kubelets registered", "15 s"):
        control_plane.wait_ready(settings)
        control_plane.start_controllers(machines, binaries.KUBE.directory)
        each_node(machines, lambda name: node.start_kubernetes(machines, name))
        wait_registered(settings)
        Kubectl(settings)("apply", "-f", "-", stdin=cluster_dns(settings))
    return machines


def cluster_dns(settings: Settings) -> str:
    """What the kubelets tell pods to ask, at the addresses that services have in this lab."""
    addresses = [CLUSTER_DNS[family] for family in settings.node_families]
    text = (MANIFESTS / "coredns.yaml").read_text()
    return text.replace("ADDRESSES", json.dumps(addresses)).replace("ADDRESS", json.dumps(addresses[0]))


def _claim(settings: Settings) -> Settings:
    """Make the lab's directory and cgroup and join the latter, so that whatever is started from here on can be found
    and ended.
    """
    settings.state.mkdir(parents=True, mode=0o755)
    settings.save()
    cgroups.create(f"{settings.cgroup}/up")
    cgroups.join(f"{settings.cgroup}/up")
    return settings


def _free_port(preferred: int) -> int:
    """The preferred port of 127.0.0.1, or any free one if somebody has that."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LabError("no port of 127.0.0.1 is free")


def _extra_archives(settings: Settings) -> list[Path]:
    paths = [Path(name).absolute() for name in settings.extra_images]
    for path in paths:
        if not path.is_file():
            raise LabError(f"--images {path}: no such file")
    return paths


def start_control_plane(machines: Machines) -> None:
    """Make credentials, start the fabric, the control plane and the forwarder on 127.0.0.1."""
    settings = machines.settings
    authority = control_plane.write_credentials(settings)
    for name in settings.node_names:
        node.write_credentials(settings, authority, name)
    fabric.build(machines)
    control_plane.start(machines, binaries.KUBE.directory)
    start_forwarder(machines)


def start_forwarder(machines: Machines) -> None:
    """Start the process that brings connections to 127.0.0.1 into the control plane's namespace."""
    settings = machines.settings
    member = settings.member(control_plane.MACHINE)
    holder = machines.holder(control_plane.MACHINE)
    script = [sys.executable, "-P", str(HERE / "forwarder.py")]
    machines.spawn(ROOT, "forwarder", [*script, str(holder), str(settings.api_port), member.address, str(API_PORT)])


def each_node(machines: Machines, work: Callable[[str], None]) -> None:
    """Do something for all nodes at once; the first failure is raised."""
    names = machines.settings.node_names
    with ThreadPoolExecutor(max_workers=min(len(names), 6)) as pool:
        list(pool.map(work, names))


def wait_registered(settings: Settings) -> None:
    """Wait until every node is known to the API server, and pods can be created."""
    kubectl = Kubectl(settings)

    def probe() -> bool:
        kubectl("get", "serviceaccount", "default")
        return len(kubectl("get", "nodes", "-o", "name").split()) == settings.nodes

    wait_for(f"{settings.nodes} nodes to register", probe, timeout=90, every=0.5)
