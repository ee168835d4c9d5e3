"""Proof that the routes of a real cluster are BGP's: what only a peer knows arrives, what a cut session brought leaves;
and that reports and conditions tell both.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.cluster import Cluster
from lab.settings import Member
from lab_bgp import PATIENCE, LabMesh, cut

HOLD_TIME = 90
PREFIX, INSIDE = "192.0.2.128/25", "192.0.2.129"
PREFIX6, INSIDE6 = "2001:db8:b12d::/48", "2001:db8:b12d::1"
BIRD_AS = 65009
RACK = "bgp-test.manx.dev/rack"


@pytest.fixture(scope="module")
def mesh(cluster: Cluster) -> Iterator[LabMesh]:
    found = LabMesh(cluster)
    found.reset()
    yield found
    found.reset()


@pytest.fixture(scope="module")
def outage(mesh: LabMesh) -> Iterator[ExitStack]:
    """The first two nodes cannot speak BGP with each other until this is closed. For the whole module, so that the hold
    time passes while its other test runs; nothing there concerns that session."""
    with ExitStack() as stack:
        stack.enter_context(cut(mesh, mesh.nodes[0], mesh.nodes[1]))
        yield stack


@pytest.fixture
def bird(cluster: Cluster, mesh: LabMesh) -> Iterator[Member]:
    """A machine with BIRD, which would peer with any node and has a prefix that is in no object; it answers to an
    address in there."""
    member = cluster.add_host("bird1")
    cluster.node_exec(member.name, "ip", "addr", "add", f"{INSIDE}/32", "dev", "lo")
    cluster.node_exec(member.name, "ip", "addr", "add", f"{INSIDE6}/128", "dev", "lo")
    config = cluster.settings.state / "bird1.conf"
    sessions = [_session(node, mesh.address(node), member.address) for node in mesh.nodes]
    sessions += [_session(node, mesh.address(node, 6), member.address6) for node in mesh.nodes]
    static = [
        f"protocol static {{ ipv4; route {PREFIX} blackhole; }}",
        f"protocol static {{ ipv6; route {PREFIX6} blackhole; }}",
    ]
    config.write_text("\n".join([f"router id {member.address};", "protocol device {}", *static, *sessions]))
    cluster.machines.spawn(member.name, "bird", ["bird", "-f", "-c", config, "-s", config.with_suffix(".ctl")])
    yield member
    cluster.remove_host(member)


def _session(node: str, address: str, own: str) -> str:
    """One for each family, as Calico's users have them."""
    family = "ipv6" if ":" in address else "ipv4"
    return textwrap.dedent(f"""
        protocol bgp {node}_{family} {{
          local {own} as {BIRD_AS};
          neighbor {address} as 64512;
          connect retry time 2;
          error wait time 1, 2;
          {family} {{ import all; export all; next hop self; }};
        }}""")


@pytest.fixture
def racked(cluster: Cluster, mesh: LabMesh) -> Iterator[list[str]]:
    """The nodes with a label that a BGPPeer selects: all but the first."""
    nodes = mesh.nodes[1:]
    cluster.kubectl("label", "node", *nodes, f"{RACK}=a")
    yield nodes
    cluster.kubectl("label", "node", *nodes, f"{RACK}-")


def birds_prefixes(cluster: Cluster, bird: Member) -> set[str]:
    control = cluster.settings.state / "bird1.ctl"
    return set(re.findall(r"^(\S+/\d+)", cluster.node_exec(bird.name, "birdc", "-s", control, "show", "route"), re.M))


def test_a_prefix_in_no_object_arrives_at_the_nodes_whose_peer_is_named_and_leaves_with_the_peer(
    cluster: Cluster, mesh: LabMesh, outage: ExitStack, bird: Member, racked: list[str]
) -> None:
    learned = (PREFIX, bird.address)
    others = [node for node in mesh.nodes if node not in racked]
    before = mesh.sessions(*racked)
    peer = {"peerIP": bird.address, "asNumber": BIRD_AS, "nodeSelector": f"{RACK} == 'a'"}
    kind = {"apiVersion": "projectcalico.org/v3", "kind": "BGPPeer", "metadata": {"name": "top-of-rack"}}
    assert not any(learned in mesh.routes(node) for node in mesh.nodes)

    cluster.apply({**kind, "spec": peer})

    def arrived() -> bool:
        return all(learned in mesh.routes(node) and told(node) for node in racked)

    def told(node: str) -> bool:
        wanted = {"name": "top-of-rack", "source": "BGPPeer", "asNumber": BIRD_AS, "state": "Established"}
        peers = mesh.reports()[node]["peers"]
        return any(wanted.items() <= {**each, "received": each.get("prefixesReceived")}.items() for each in peers)

    cluster.wait_for(f"{PREFIX} at {racked}", arrived, timeout=PATIENCE, every=0.5)
    for node in racked:
        assert " 0% packet loss" in cluster.node_exec(node, "ping", "-c1", "-W2", INSIDE)
    blocks = {prefix for node in racked for prefix, _ in mesh.routes_to(node) if ":" not in prefix}
    cluster.wait_for(f"BIRD to have {sorted(blocks)}", lambda: blocks <= birds_prefixes(cluster, bird))
    assert not any(learned in mesh.routes(node) for node in others)

    cluster.delete("bgppeers.projectcalico.org", "top-of-rack")
    cluster.wait_for(
        f"{PREFIX} to leave", lambda: not any(learned in mesh.routes(node) for node in racked), timeout=PATIENCE
    )
    assert mesh.sessions(*racked) == before


def test_a_prefix_arrives_by_a_peer_over_ipv6_which_gets_our_ipv6_blocks(
    cluster: Cluster, mesh: LabMesh, bird: Member, racked: list[str]
) -> None:
    learned = (PREFIX6, bird.address6)
    peer = {"peerIP": f"[{bird.address6}]:179", "asNumber": BIRD_AS, "nodeSelector": f"{RACK} == 'a'"}
    kind = {"apiVersion": "projectcalico.org/v3", "kind": "BGPPeer", "metadata": {"name": "top-of-rack-6"}}
    before = mesh.sessions(*racked[:2])
    cluster.apply({**kind, "spec": peer})
    try:
        cluster.wait_for(
            f"{PREFIX6} at {racked}",
            lambda: all(learned in mesh.routes(node) for node in racked),
            timeout=PATIENCE,
            every=0.5,
        )
        assert not any(learned in mesh.routes(node) for node in mesh.nodes if node not in racked)
        for node in racked:
            assert " 0% packet loss" in cluster.node_exec(node, "ping", "-6", "-c1", "-W2", INSIDE6)
        blocks = {prefix for node in racked for prefix, _ in mesh.routes_to(node) if ":" in prefix}
        cluster.wait_for(f"BIRD to have {sorted(blocks)}", lambda: blocks <= birds_prefixes(cluster, bird))
    finally:
        cluster.delete("bgppeers.projectcalico.org", "top-of-rack-6")
    cluster.wait_for(
        f"{PREFIX6} to leave", lambda: not any(learned in mesh.routes(node) for node in racked), timeout=PATIENCE
    )
    assert mesh.sessions(*racked[:2]) == before


def test_a_cut_session_takes_its_routes_along_and_is_reported_until_it_is_back(
    cluster: Cluster, mesh: LabMesh, outage: ExitStack
) -> None:
    first, second, third = mesh.nodes
    each, all_ = len(mesh.versions), 2 * len(mesh.versions)

    def lost() -> bool:
        return not mesh.routes_to(second) & mesh.routes(first) and not mesh.routes_to(first) & mesh.routes(second)

    cluster.wait_for("the routes to leave", lost, timeout=HOLD_TIME + PATIENCE, every=0.5)
    cluster.wait_for(
        "reports of that",
        lambda: mesh.summary() == {first: f"{each}/{all_}", second: f"{each}/{all_}", third: f"{all_}/{all_}"},
        timeout=PATIENCE,
    )
    assert mesh.condition(first)[0] == "False"
    assert second in mesh.condition(first)[1]
    assert mesh.condition(third) == ("True", f"all {all_} sessions are established")
    cluster.wait_for("the Installation to say so", lambda: mesh.installation()[0] == "False", timeout=PATIENCE)
    assert f"{first}: no session with {second}" in mesh.installation()[1]
    assert mesh.installation("Ready")[0] == "False"
    assert mesh.wanted_routes(third) == mesh.routes(third)

    outage.close()
    mesh.wait_whole()
    cluster.wait_for("the Installation to be well", lambda: mesh.installation()[0] == "True", timeout=PATIENCE)
