"""The lab's own promises, on a bare cluster of one node: it comes up, it disturbs nothing, it leaves nothing,
whatever happens.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cgroups
from lab.cluster import Cluster, up_command, up_environment
from lab.down import down, network_of
from lab.machines import start_time
from lab.run import LabError
from lab.settings import STATE_ROOT, Settings

NAME = "manx-itself"
GLOBAL_SYSCTLS = ("vm/overcommit_memory", "kernel/panic", "net/netfilter/nf_conntrack_max", "net/ipv4/ip_forward")


def host_state() -> dict[str, object]:
    """What a lab must not change on its host. Network namespaces that others name, and their links, are theirs."""
    sysctls = {name: Path("/proc/sys", name) for name in GLOBAL_SYSCTLS}
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {
        "mounts": sorted(path for path in mounts if not re.match(r"/run/netns(/(?!cni-)|$)", path)),
        "links": sorted(
            name for name in os.listdir("/sys/class/net") if re.match(r"to-|br|eth|veth[0-9a-f]{8}|cni", name)
        ),
        "routes": Path("/proc/net/route").read_text(),
        "sysctls": {name: path.read_text() for name, path in sysctls.items() if path.exists()},
        "files": [path.exists() for path in map(Path, ("/etc/cni", "/opt/cni", "/var/lib/kubelet"))],
    }


@pytest.fixture(scope="module")
def before() -> dict[str, object]:
    """The host without the lab."""
    down(NAME)
    return host_state()


@pytest.fixture(scope="module")
def bare(before: dict[str, object]) -> Iterator[Cluster]:
    """A bare lab of one node."""
    yield Cluster.start(NAME, "--bare", "--nodes", "1")
    down(NAME)


def assert_nothing_left(before: dict[str, object], processes: dict[int, str]) -> None:
    """No process (so no namespace), mount, cgroup or file of the lab."""
    assert still_there(processes) == set()
    assert not cgroups.exists(Settings(name=NAME).cgroup)
    assert not (STATE_ROOT / NAME).exists()
    assert host_state() == before


def processes_of(name: str) -> dict[int, str]:
    """All processes of a lab with their start times: a pid alone, or a namespace's inode, is soon somebody else's."""
    return {pid: start_time(pid) for pid in cgroups.pids(Settings(name=name).cgroup)}


def still_there(processes: dict[int, str]) -> set[int]:
    """Those of the processes that have not ended."""
    return {pid for pid, started in processes.items() if started and start_time(pid) == started}


def test_a_pod_on_the_host_network_runs_and_answers(bare: Cluster) -> None:
    bare.run_pod("host", "netexec", "--http-port=8080", node="node1", host_network=True)
    assert bare.wait_pod("host") == bare.settings.member("node1").address
    assert bare.pod_exec("host", "hostname").strip() == "node1"
    answer = bare.node_exec("fabric", "/bin/busybox", "wget", "-qO-", "http://198.51.100.11:8080/hostname")
    assert answer.strip() == "node1"


def test_nodes_have_both_address_families_and_reach_the_outside(bare: Cluster) -> None:
    status = bare.kubectl.json("get", "node", "node1")["status"]
    addresses = [a["address"] for a in status["addresses"] if a["type"] == "InternalIP"]
    assert addresses == ["198.51.100.11", "2001:db8:51::b"]
    for target in ("203.0.113.10", "2001:db8:51::1", "2001:db8:51::2"):
        assert " 0% packet loss" in bare.node_exec("node1", "ping", "-c1", "-W2", target)


def test_a_bare_node_is_not_ready_for_want_of_a_network(bare: Cluster) -> None:
    conditions = bare.kubectl.json("get", "node", "node1")["status"]["conditions"]
    (ready,) = [c for c in conditions if c["type"] == "Ready"]
    assert ready["status"] == "False"
    assert "cni" in ready["message"].lower()


def test_a_running_lab_changes_nothing_on_its_host(bare: Cluster, before: dict[str, object]) -> None:
    assert bare.nodes == ["node1"]
    assert host_state() == before


def test_a_killed_api_server_starts_again_with_its_objects(bare: Cluster) -> None:
    bare.kubectl("create", "configmap", "survivor")
    bare.machines.signal("control-plane", "kube-apiserver", signal.SIGKILL)
    bare.machines.restart("control-plane", "kube-apiserver")
    bare.wait_for("the API server", lambda: _answers(bare))
    assert bare.kubectl("get", "configmap", "survivor", "-o", "name").strip() == "configmap/survivor"


def _answers(cluster: Cluster) -> bool:
    return cluster.kubectl("get", "--raw", "/readyz") == "ok"


def test_an_added_host_is_on_the_fabric_until_it_is_removed(bare: Cluster) -> None:
    router = bare.add_host("router1")
    assert " 0% packet loss" in bare.node_exec("node1", "ping", "-c1", "-W2", router.address)
    bare.remove_host(router)
    with pytest.raises(LabError, match="down"):
        bare.node_exec("router1", "true")


def test_down_leaves_nothing_not_even_a_shell_somebody_opened(bare: Cluster, before: dict[str, object]) -> None:
    processes = processes_of(NAME)
    assert len(processes) > 10
    node = bare.machines.holder("node1")
    shell = subprocess.Popen(["nsenter", "-t", str(node), "-n", "sleep", "600"])
    bare.wait_for("the shell to be there", lambda: network_of(shell.pid) == network_of(node))
    bare.down()
    assert shell.wait(timeout=5) == -signal.SIGKILL
    assert_nothing_left(before, processes)


@pytest.mark.parametrize("moment", ["fabric", "containerd", "kubelet"])
def test_up_killed_in_the_middle_is_cleaned_by_down_and_by_the_next_up(moment: str, before: dict[str, object]) -> None:
    command = subprocess.Popen(
        up_command(NAME, "--bare", "--nodes", "1"), env=up_environment(), stdout=subprocess.DEVNULL
    )
    pattern = {"fabric": "fabric.holder", "containerd": "node1.containerd.daemon", "kubelet": "node1.kubelet.daemon"}
    mark = STATE_ROOT / NAME / "run" / pattern[moment]
    while not mark.exists():
        assert command.poll() is None, "up ended before it was killed"
        time.sleep(0.01)
    command.kill()
    command.wait()
    processes = processes_of(NAME)
    assert processes
    if moment == "containerd":
        Cluster.start(NAME, "--bare", "--nodes", "1")
        assert still_there(processes) == set()
        processes = processes_of(NAME)
    assert down(NAME)
    assert_nothing_left(before, processes)
