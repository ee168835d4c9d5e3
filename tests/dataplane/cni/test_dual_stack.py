"""Pods with IPv6: beside IPv4, alone, and where the node begins or ceases to have it while pods are there."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from cni_node import NODE_ADDRESS, CniFailure, CniNode, address_of
from manx_agent.drivers.netlink_messages import interface_name
from netns import Netns

POOL4, POOL6 = "10.99.0.0/24", "fd00:99::/120"
NODE_ADDRESS6 = "2001:db8::7"


@pytest.fixture(scope="module")
def dual() -> Iterator[CniNode]:
    with CniNode(blocks=f"{POOL4},{POOL6}") as made:
        made.netns.ip("address", "add", f"{NODE_ADDRESS6}/128", "dev", "lo", "nodad")
        yield made


@pytest.fixture
def node(dual: CniNode) -> CniNode:
    """With its agent running, and no pod."""
    dual.clear()
    return dual


def addresses_of(result: dict[str, Any]) -> list[str]:
    return [found["address"].partition("/")[0] for found in result["ips"]]


def reaches(source: Netns, address: str) -> bool:
    command = source.argv("ping", "-c", "1", "-W", "2", address)
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def add(node: CniNode, name: str, pod: Netns) -> list[str]:
    return addresses_of(node.cni("ADD", name, pod.path))


def test_a_pod_gets_one_of_each_and_the_result_tells_both(node: CniNode, pod: Netns) -> None:
    result = node.cni("ADD", "one", pod.path)
    four, six = addresses_of(result)
    assert ip_address(four) in ip_network(POOL4)
    assert ip_address(six) in ip_network(POOL6)
    assert [found["address"].partition("/")[2] for found in result["ips"]] == ["32", "128"]
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}]
    assert node.events()[-1] == f"admitted one {four} {six}"


@pytest.mark.parametrize("version", ["0.3.1", "1.0.0"])
def test_older_forms_of_the_result_have_both_too(node: CniNode, pod: Netns, version: str) -> None:
    node.version = version
    try:
        assert len(add(node, "one", pod)) == 2
    finally:
        node.version = "1.1.0"


def test_pods_and_node_reach_each_other_by_both(node: CniNode, pod: Netns, other: Netns) -> None:
    one, two = add(node, "one", pod), add(node, "two", other)
    for mine, theirs in zip(one, two, strict=True):
        assert reaches(pod, theirs)
        assert reaches(other, mine)
        assert reaches(node.netns, mine)
    assert reaches(pod, NODE_ADDRESS)
    assert reaches(pod, NODE_ADDRESS6)


def test_no_neighbour_is_ever_asked_for(node: CniNode, pod: Netns, other: Netns) -> None:
    """Policy need not let discovery through: not a packet of it is sent, in either direction."""
    rule = ("ip6tables", "-t", "raw", "-A", "PREROUTING", "-i", "mnx+", "-p", "ipv6-icmp", "--icmpv6-type")
    for kind in ("135", "136", "133"):
        node.netns.run(*rule, kind, "-j", "DROP")
    try:
        _, one = add(node, "one", pod)
        _, two = add(node, "two", other)
        assert reaches(pod, two)
        assert reaches(node.netns, one)
        counted = node.netns.run("ip6tables", "-t", "raw", "-L", "PREROUTING", "-v", "-x", "-n").splitlines()[2:]
        assert [line.split()[0] for line in counted] == ["0", "0", "0"]
    finally:
        node.netns.run("ip6tables", "-t", "raw", "-F")


def test_the_wiring(node: CniNode, pod: Netns) -> None:
    _, address = add(node, "one", pod)
    interface = interface_name("one", "eth0")
    (inside,) = json.loads(pod.run("ip", "-j", "-6", "address", "show", "dev", "eth0"))
    (only,) = inside["addr_info"]
    assert (only["local"], only["prefixlen"]) == (address, 128)
    assert "tentative" not in only
    assert "default via fe80::1 dev eth0" in pod.ip("-6", "route")
    mac = json.loads(pod.run("ip", "-j", "link", "show", "dev", "eth0"))[0]["address"]
    assert f"{address} dev {interface} proto 77" in node.netns.ip("-6", "route")
    assert f"{address} lladdr {mac} PERMANENT" in node.netns.ip("-6", "neighbour", "show", "dev", interface)
    outside = json.loads(node.netns.run("ip", "-j", "-6", "address", "show", "dev", interface))
    assert [found for found in outside if found.get("addr_info")] == [], "the node's end has no address of its own"


def test_an_existing_pod_of_one_family_goes_on_as_it_is(pod: Netns, other: Netns) -> None:
    with CniNode(blocks=POOL4) as node:
        node.start()
        old = add(node, "old", pod)
        assert len(old) == 1
        disabled = f"/proc/sys/net/ipv6/conf/{interface_name('old', 'eth0')}/disable_ipv6"
        assert node.netns.run("cat", disabled) == "1\n", "no IPv6 where the pod has none"
        node.kill()
        node.blocks = f"{POOL4},{POOL6}"
        assert node.start() == ["old"]
        assert len(add(node, "new", other)) == 2
        assert reaches(other, old[0])
        assert node.cni("CHECK", "old", pod.path, prevResult={"ips": [{"address": old[0] + "/32"}]}) == {}
        node.cni("DEL", "old", pod.path)
        assert node.interfaces() == [interface_name("new", "eth0")]


def test_a_node_of_ipv6_alone(pod: Netns, other: Netns) -> None:
    with CniNode(blocks=POOL6) as node:
        node.start()
        (one,), (two,) = add(node, "one", pod), add(node, "two", other)
        assert ip_address(one) in ip_network(POOL6)
        assert reaches(pod, two)
        node.cni("DEL", "one", pod.path)
        assert f"{one} dev" not in node.netns.ip("-6", "route")


def test_both_or_none(pod: Netns, other: Netns) -> None:
    with CniNode(blocks=f"{POOL4},fd00:99::/128") as node:
        node.start()
        add(node, "one", pod)
        node.timeout = 1
        with pytest.raises(CniFailure, match="all 1 addresses of this node's 1 blocks"):
            node.add("two", other)
        assert node.allocated() == ["one"]
        assert "eth0" not in other.ip("link")


def test_del_leaves_nothing_of_either_and_forgets_connections(node: CniNode, pod: Netns) -> None:
    four, six = add(node, "one", pod)
    node.netns.run("ip6tables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT")
    assert reaches(node.netns, six)
    assert six in node.netns.run("conntrack", "-L", "-f", "ipv6")
    node.cni("DEL", "one", pod.path)
    assert six not in node.netns.run("conntrack", "-L", "-f", "ipv6")
    assert f"{six} dev" not in node.netns.ip("-6", "route")
    assert four not in node.netns.ip("route")


def test_addresses_and_links_survive_the_agent(node: CniNode, pod: Netns) -> None:
    four, six = add(node, "one", pod)
    node.kill()
    assert node.start() == ["one"]
    assert reaches(node.netns, six)
    assert (
        node.cni("CHECK", "one", pod.path, prevResult={"ips": [{"address": f"{four}/32"}, {"address": f"{six}/128"}]})
        == {}
    )


def test_check_and_repair_see_ipv6(node: CniNode, pod: Netns) -> None:
    result = node.cni("ADD", "one", pod.path)
    _, six = addresses_of(result)
    interface = interface_name("one", "eth0")
    node.netns.ip("-6", "route", "del", six)
    node.netns.ip("-6", "neighbour", "flush", "dev", interface, "nud", "permanent")
    node.netns.sysctl(f"ipv6/conf/{interface}/forwarding", "0")
    with pytest.raises(CniFailure, match=f"no route to {six} through {interface}"):
        node.cni("CHECK", "one", pod.path, prevResult=result)
    node.signal(signal.SIGHUP)
    said = node.say()
    assert f"the route to {six} through {interface} was gone" in said
    assert f"ipv6/conf/{interface}/forwarding was '0'" in said
    assert reaches(node.netns, six)
    node.signal(signal.SIGHUP)
    assert node.say() == "resync\n"
    pod.ip("-6", "route", "flush", "dev", "eth0")
    with pytest.raises(CniFailure, match="no IPv6 default route through eth0 in the pod"):
        node.cni("CHECK", "one", pod.path, prevResult=result)


def test_a_lost_journal_gives_no_running_pods_ipv6_address_away(node: CniNode, pod: Netns, other: Netns) -> None:
    both = add(node, "one", pod)
    node.kill()
    (node.directory / "addresses").unlink()
    node.start()
    assert set(add(node, "two", other)).isdisjoint(both)
    assert all(reaches(node.netns, address) for address in both)
    node.cni("DEL", "one", pod.path)


def test_router_advertisements_are_still_heard_where_they_were(pod: Netns) -> None:
    """A node that forwards hears none unless it is told to: it would lose its own way out."""
    with CniNode(blocks=f"{POOL4},{POOL6}") as node, Netns() as router:
        node.netns.ip("link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", str(router.pid))
        node.netns.sysctl("ipv6/conf/all/forwarding", "0")
        node.start()
        assert address_of(node.cni("ADD", "one", pod.path))
        assert node.netns.run("cat", "/proc/sys/net/ipv6/conf/all/forwarding") == "1\n"
        assert node.netns.run("cat", "/proc/sys/net/ipv6/conf/uplink/accept_ra") == "2\n"
