"""Pods attached by the real executable and the agent's real CNI part, in real namespaces."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cni_node import NODE_ADDRESS, CniFailure, CniNode, address_of, finished
from manx_agent.drivers.netlink_messages import interface_name
from netns import Netns

DEFAULT = "default via 169.254.1.1 dev eth0"


def reaches(source: Netns, address: str) -> bool:
    command = source.argv("ping", "-c", "1", "-W", "2", address)
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_two_pods_and_the_node_reach_each_other(node: CniNode, pod: Netns, other: Netns) -> None:
    one, two = node.add("one", pod), node.add("two", other)
    assert one != two
    assert reaches(pod, two)
    assert reaches(other, one)
    assert reaches(node.netns, one)
    assert reaches(pod, NODE_ADDRESS)


def test_the_wiring(node: CniNode, pod: Netns) -> None:
    result = node.cni("ADD", "one", pod.path)
    address, interface = address_of(result), interface_name("one", "eth0")
    assert [found["name"] for found in result["interfaces"]] == [interface, "eth0"]
    assert result["interfaces"][1]["sandbox"] == pod.path
    (inside,) = json.loads(pod.run("ip", "-j", "address", "show", "dev", "eth0"))
    assert inside["mtu"] == 1400
    assert inside["address"] == result["interfaces"][1]["mac"]
    found = [(a["local"], a["prefixlen"]) for a in inside["addr_info"] if a["family"] == "inet"]
    assert found == [(address, 32)]
    routes = [line.strip() for line in pod.ip("route").splitlines()]
    assert [line for line in routes if line.startswith(DEFAULT)]
    assert [line for line in routes if line.startswith("169.254.1.1 dev eth0") and "scope link" in line]
    (outside,) = json.loads(node.netns.ip("-j", "address", "show", "dev", interface))
    assert outside["address"] == "ee:ee:ee:ee:ee:ee"
    assert outside["mtu"] == 1400
    assert outside["addr_info"] == [], "IPv6 is off on the node's end"
    assert re.search(rf"^{address} dev {interface} proto 77 scope link", node.netns.ip("route"), re.M)


def test_del_leaves_nothing_and_is_idempotent(node: CniNode, pod: Netns) -> None:
    address = node.add("one", pod)
    for _ in range(2):
        assert node.cni("DEL", "one", pod.path) == {}
        assert node.interfaces() == []
        assert address not in node.netns.ip("route")
        assert "eth0" not in pod.ip("link")
    assert node.events()[-1] == "withdrew one"


def test_del_of_what_never_was(node: CniNode) -> None:
    assert node.cni("DEL", "never", "") == {}


def test_del_after_the_sandbox_is_gone(node: CniNode, pod: Netns) -> None:
    node.add("one", pod)
    path = pod.path
    pod.close()
    assert node.cni("DEL", "one", path) == {}
    assert node.interfaces() == []


def test_a_late_del_touches_nothing_of_the_successor(node: CniNode, pod: Netns, other: Netns) -> None:
    node.add("old", pod)
    successor = node.add("new", other)
    node.cni("DEL", "old", pod.path)
    node.cni("DEL", "old", pod.path)
    assert reaches(node.netns, successor)
    assert node.cni("CHECK", "new", other.path, prevResult={"ips": [{"address": successor + "/32"}]}) == {}


def test_add_twice_gives_the_same_address(node: CniNode, pod: Netns) -> None:
    assert node.add("one", pod) == node.add("one", pod)
    assert len(node.interfaces()) == 1
    assert reaches(node.netns, node.add("one", pod))


def test_another_pods_uid_for_the_same_container_is_refused(node: CniNode, pod: Netns) -> None:
    address = node.add("one", pod)
    with pytest.raises(CniFailure, match="belongs to pod default/one") as failure:
        node.add("one", pod, uid="another")
    assert failure.value.code == 4
    assert reaches(node.netns, address)


def test_a_freed_address_is_not_given_again(node: CniNode, pod: Netns, other: Netns) -> None:
    first = node.add("one", pod)
    node.cni("DEL", "one", pod.path)
    assert node.add("two", other) != first


def test_no_packet_passes_before_the_policy_is_there(node: CniNode, pod: Netns) -> None:
    node.steer("hold")
    adding = node.popen("ADD", "one", pod.path)
    while not node.interfaces():
        assert adding.poll() is None
    state = json.loads(node.netns.ip("-j", "link", "show", "dev", interface_name("one", "eth0")))[0]
    assert "UP" not in state["flags"]
    assert "UP" not in json.loads(pod.run("ip", "-j", "link", "show", "dev", "eth0"))[0]["flags"]
    node.steer("hold", on=False)
    assert reaches(node.netns, address_of(finished(adding)))


@pytest.mark.parametrize(
    ("steering", "message"),
    [
        ("unexpected", "the operator has not yet told this node of pod default/one (uid uid-one)"),
        ("hold", "its policy is not in the kernel yet"),
        ("refuse", "ipset restore failed"),
    ],
)
def test_a_failed_add_says_why_and_leaves_nothing(node: CniNode, pod: Netns, steering: str, message: str) -> None:
    node.steer(steering)
    node.timeout = 1
    with pytest.raises(CniFailure, match=re.escape(message)) as failure:
        node.add("one", pod)
    assert failure.value.code == 11
    assert node.interfaces() == []
    assert "eth0" not in pod.ip("link")
    node.steer(steering, on=False)
    assert reaches(node.netns, node.add("one", pod))


def test_a_full_pool_says_so(pod: Netns) -> None:
    with CniNode(blocks="10.99.0.0/32") as node, Netns() as other:
        node.timeout = 1
        node.start()
        node.add("one", pod)
        with pytest.raises(
            CniFailure, match=r"all 1 addresses of this node's 1 blocks \(pool p\) are taken"
        ) as failure:
            node.add("two", other)
        assert failure.value.code == 11


def test_an_add_whose_client_was_killed_is_undone(node: CniNode, pod: Netns) -> None:
    node.steer("hold")
    adding = node.popen("ADD", "one", pod.path)
    while not node.interfaces():
        assert adding.poll() is None
    adding.kill()
    adding.communicate()
    while node.interfaces():
        pass
    node.steer("hold", on=False)
    assert reaches(node.netns, node.add("one", pod))


def test_del_cuts_short_an_add_under_way(node: CniNode, pod: Netns) -> None:
    node.steer("hold")
    adding = node.popen("ADD", "one", pod.path)
    while not node.interfaces():
        assert adding.poll() is None
    assert node.cni("DEL", "one", pod.path) == {}
    with pytest.raises(CniFailure, match="another request for the same attachment") as failure:
        finished(adding)
    assert failure.value.code == 11
    assert node.interfaces() == []


def test_a_sandbox_that_is_none(node: CniNode, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong = {
        str(tmp_path / "file"): "CNI_NETNS is no namespace",
        str(tmp_path / "missing"): "is the sandbox gone",
        "/proc/self/ns/uts": "CNI_NETNS is no network namespace",
        node.netns.path: "CNI_NETNS is the node's own network namespace",
    }
    for path, message in wrong.items():
        with pytest.raises(CniFailure, match=message) as failure:
            node.cni("ADD", "one", path)
        assert failure.value.code == 8
    assert "eth0" not in node.netns.ip("link")
    assert node.interfaces() == []


def test_check_finds_what_is_wrong(node: CniNode, pod: Netns) -> None:
    address = node.add("one", pod)
    interface = interface_name("one", "eth0")
    result = {"cniVersion": "1.1.0", "ips": [{"address": address + "/32"}]}

    def problem() -> str:
        with pytest.raises(CniFailure) as failure:
            node.cni("CHECK", "one", pod.path, prevResult=result)
        return str(failure.value)

    assert node.cni("CHECK", "one", pod.path, prevResult=result) == {}
    node.netns.ip("route", "del", address)
    assert f"no route to {address} through {interface}" in problem()
    node.netns.ip("link", "set", interface, "down")
    assert f"{interface} is down" in problem()
    pod.ip("address", "flush", "dev", "eth0")
    assert f"eth0 does not have {address} in the pod" in problem()
    node.netns.ip("link", "del", interface)
    assert f"there is no interface {interface}" in problem()
    node.cni("DEL", "one", pod.path)
    assert "has no interface eth0 here" in problem()


def test_check_compares_with_the_previous_result(node: CniNode, pod: Netns) -> None:
    node.add("one", pod)
    with pytest.raises(CniFailure, match=r"prevResult.ips: 192.0.2.1; this container has 10\.99\.0\."):
        node.cni("CHECK", "one", pod.path, prevResult={"ips": [{"address": "192.0.2.1/32"}]})


def test_gc_removes_what_the_runtime_does_not_list(node: CniNode, pod: Netns, other: Netns) -> None:
    kept = node.add("kept", pod)
    node.add("stale", other)
    node.netns.ip("link", "add", "mnx00000000000", "type", "veth", "peer", "name", "x")
    valid: dict[str, Any] = {"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]}
    node.cni("GC", "", **valid)
    young = {interface_name(name, "eth0") for name in ("kept", "stale")}
    assert set(node.interfaces()) == young, "what was just added is younger than the list may be"
    node.kill()
    node.start()
    node.cni("GC", "", **valid)
    assert node.interfaces() == [interface_name("kept", "eth0")]
    assert reaches(node.netns, kept)


def test_status(node: CniNode) -> None:
    assert node.cni("STATUS", "") == {}
    node.kill()
    with pytest.raises(CniFailure) as failure:
        node.cni("STATUS", "")
    assert failure.value.code == 50


def test_many_at_once(node: CniNode) -> None:
    pods = [Netns() for _ in range(20)]
    try:
        with ThreadPoolExecutor(20) as pool:
            given = list(pool.map(lambda item: node.add(f"pod-{item[0]}", item[1]), enumerate(pods)))
            assert len(set(given)) == 20
            assert all(pool.map(lambda address: reaches(node.netns, address), given))
            list(pool.map(lambda item: node.cni("DEL", f"pod-{item[0]}", item[1].path), enumerate(pods)))
        assert node.interfaces() == []
    finally:
        for pod in pods:
            pod.close()


def test_drift_is_repaired_and_said(node: CniNode, pod: Netns) -> None:
    address = node.add("one", pod)
    interface = interface_name("one", "eth0")
    node.netns.ip("route", "del", address)
    node.netns.sysctl(f"ipv4/conf/{interface}/proxy_arp", "0")
    node.signal(signal.SIGHUP)
    said = node.say()
    assert f"the route to {address} through {interface} was gone" in said
    assert f"ipv4/conf/{interface}/proxy_arp was '0'" in said
    assert reaches(node.netns, address)
    node.signal(signal.SIGHUP)
    assert node.say() == "resync\n"
