"""Both families between real speakers: an IPv6 session beside each IPv4 one, its routes in the kernel, and its end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from bgp_lab import Bird, Mesh, eventually, expected_routes, mesh_of
from manx_agent.bgp.speakerstate import SETTLED_SECONDS
from manx_core.api.v1alpha1 import BgpPeer, BgpSettings

SETTINGS = BgpSettings(as_number=64512, hold_time=9, restart_time=20)
PREFIX = "2001:db8:203::/48"
LATER = "fd00:10:244:98::40/122"
"""A block that a node announces later."""


@pytest.fixture
def mesh(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mesh]:
    with mesh_of(2, tmp_path, SETTINGS, dual=True, first_altered=getattr(request, "param", "")) as started:
        yield started


WHERE_RELAYS_ARE = pytest.mark.parametrize("mesh", ["frail", "foreign"], indirect=True)
"""Inside ExaBGP, and a process of its own."""


def test_every_node_learns_the_blocks_of_both_families_and_answers_for_its_own(mesh: Mesh) -> None:
    for node, other in (mesh.nodes, reversed(mesh.nodes)):
        assert node.routes() == expected_routes(mesh, node)
        assert node.routes()[other.block6] == other.address6
        assert node.routes()[node.block6] == "blackhole"
        eventually(lambda node=node: len(node.outcome.routes) == 2, "the outcome tells of both routes")  # type: ignore[misc]
        assert {peer.address for peer in node.outcome.peers} == {other.address, other.address6}
        assert [peer.prefixes_received for peer in node.outcome.peers] == [1, 1]
        assert not node.outcome.errors


def test_ipv6_comes_and_goes_and_no_ipv4_session_notices(mesh: Mesh) -> None:
    one, other = mesh.nodes
    before = one.since(other.name)
    both = {node.name: node.view for node in mesh.nodes}
    for node in mesh.nodes:
        node.view = replace(node.view, address6="", announced=frozenset({node.block}))
    mesh.apply()
    eventually(lambda: one.routes() == {one.block: "blackhole", other.block: other.address}, "IPv4 alone")
    assert len(one.outcome.peers) == 1
    for node in mesh.nodes:
        node.view = both[node.name]
    mesh.apply()
    mesh.await_established()
    mesh.await_routes()
    assert one.since(other.name) == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_speaker_loses_no_route_of_either_family(mesh: Mesh, how: signal.Signals) -> None:
    victim, other = mesh.nodes
    victim.kill_speaker(how)
    eventually(lambda: "Established" not in victim.states().values(), "the agent sees it")
    eventually(lambda: "Established" not in other.states().values(), "the peer sees it")
    assert mesh.complete()
    victim.start_speaker()
    mesh.await_sessions_without_gap()


@WHERE_RELAYS_ARE
def test_killed_agent_and_relay_are_replaced_and_know_both_families(mesh: Mesh) -> None:
    victim, other = mesh.nodes
    victim.kill_agent()
    former = victim.relay_pids()
    victim.fail_relay()
    victim.await_another_relay(former)
    victim.start_agent()
    victim.view = replace(victim.view, announced=frozenset({victim.block, "fd00:10:244:99::40/122"}))
    mesh.apply()
    eventually(lambda: all(node.routes() == expected_routes(mesh, node) for node in mesh.nodes), "changed blocks")
    assert victim.routes()[other.block6] == other.address6


def test_ipv6_path_cut_takes_ipv6_routes_alone(mesh: Mesh) -> None:
    one, other = mesh.nodes
    for flag in ("--sport", "--dport"):
        one.namespace.run("ip6tables", "-A", "INPUT", "-s", other.address6, "-p", "tcp", flag, "179", "-j", "DROP")
    eventually(lambda: other.block6 not in one.routes() and one.block6 not in other.routes(), "both IPv6 routes go")
    assert one.routes()[other.block] == other.address
    assert one.states()[other.name] == "Established"
    assert "hold timer expired" in one.message(other.address6) + other.message(one.address6)
    one.namespace.run("ip6tables", "-F", "INPUT")
    mesh.await_routes()


def test_a_prefix_beyond_the_peers_blocks_is_refused(mesh: Mesh) -> None:
    one, other = mesh.nodes
    view = mesh.view(one)
    member = msgspec.structs.replace(view.mesh[other.name], blocks=(other.block, "fd00:10:244:77::/122"))
    one.apply(replace(view, mesh={other.name: member}))
    eventually(lambda: other.block6 not in one.routes(), "not what its MeshNode lists")
    assert f"refused {other.block6}: not in a block" in one.message(other.address6)
    assert other.block in one.routes()


def test_routes_altered_by_hand_are_repaired_and_reported(mesh: Mesh) -> None:
    one, other = mesh.nodes
    one.namespace.ip("-6", "route", "del", other.block6, "proto", "77")
    one.namespace.ip("-6", "route", "del", "blackhole", one.block6, "proto", "77")
    eventually(mesh.complete, "repaired", 15)
    eventually(lambda: any(other.block6 in said for said in one.drift), "reported")


def test_ipv6_alone(mesh: Mesh) -> None:
    for number, node in enumerate(mesh.nodes, 1):
        node.view = replace(node.view, address="", announced=frozenset({node.block6}))
        view = mesh.view(node)
        node.apply(replace(view, settings=msgspec.structs.replace(view.settings, router_id=f"1.2.3.{number}")))
    for node in mesh.nodes:
        view = mesh.view(node)
        node.apply(replace(view, settings=msgspec.structs.replace(view.settings, router_id=f"1.2.3.{node.name[-1]}")))
    mesh.await_established()
    eventually(lambda: all(node.routes() == expected_routes(mesh, node) for node in mesh.nodes), "IPv6 routes only")


# --- BIRD -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bird(mesh: Mesh, tmp_path: Path) -> Iterator[Bird]:
    router = Bird(mesh.fabric, 9, tmp_path / "bird", 65009)
    try:
        yield router
    finally:
        router.close()


def bird_config(bird: Bird, node_address: str, bird_as: int, *, multihop: str = "") -> str:
    """One session of IPv6, as the configuration of a Calico user's router has it."""
    return f"""
protocol static {{ ipv6; route {PREFIX} blackhole; }}
protocol bgp manx6 {{
  local {bird.address6} as {bird_as};
  neighbor {node_address} as 64512;
  {multihop}
  hold time 9;
  connect retry time 2;
  error wait time 1, 2;
  graceful restart on;
  graceful restart time 20;
  ipv6 {{ import all; export all; next hop self; }};
}}"""


def age(since: str) -> float:
    """Seconds since a time as the status has it."""
    return (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds() if since else 0.0


@pytest.mark.parametrize("bird_as", [65009, 64512], ids=["ebgp", "ibgp"])
def test_a_bird_peers_over_ipv6(mesh: Mesh, bird: Bird, bird_as: int) -> None:
    node = mesh.nodes[0]
    bird.start(bird_config(bird, node.address6, bird_as))
    node.apply(mesh.view(node, (BgpPeer(name="tor6", address=bird.address6, as_number=bird_as),)))
    eventually(lambda: node.routes().get(PREFIX) == bird.address6, "its prefix is in the kernel")
    eventually(lambda: node.block6 in bird.ask("show", "route"), "it has our IPv6 block")
    assert node.block not in bird.ask("show", "route")
    assert node.address6 in bird.ask("show", "route", "for", node.block6.replace("/122", "5"))


@WHERE_RELAYS_ARE
def test_a_killed_speaker_or_relay_loses_nothing_between_us_and_a_bird(mesh: Mesh, bird: Bird) -> None:
    """BIRD sends two next hops, of which ExaBGP remembers the link-local one: that must not be what remains."""
    node = mesh.nodes[0]
    bird.start(bird_config(bird, node.address6, 65009))
    view = mesh.view(node, (BgpPeer(name="tor6", address=bird.address6, as_number=65009),))
    node.apply(view)
    eventually(lambda: node.block6 in bird.ask("show", "route") and PREFIX in node.routes(), "both ways")
    eventually(lambda: age(node.since(bird.address6)) > SETTLED_SECONDS + 1, "old enough to have sent everything")
    former = node.relay_pids()
    node.fail_relay()
    node.await_another_relay(former)
    node.apply(replace(view, announced=view.announced | {LATER}))
    eventually(lambda: LATER in bird.ask("show", "route"), "another relay")
    eventually(lambda: node.states()[bird.address6] == "Established", "another relay's snapshot")
    assert node.outcome.routes[PREFIX] == bird.address6
    assert node.message(bird.address6) == ""
    assert node.routes()[PREFIX] == bird.address6
    node.kill_speaker()
    gaps = 0
    eventually(lambda: "Established" not in bird.ask("show", "protocols"), "BIRD sees the session end")
    node.start_speaker()

    def back() -> bool:
        nonlocal gaps
        gaps += node.block6 not in bird.ask("show", "route") or node.routes().get(PREFIX) != bird.address6
        return "Established" in bird.ask("show", "protocols") and node.states()[bird.address6] == "Established"

    eventually(back, "the session is back")
    assert gaps == 0
    node.apply(mesh.view(node))
    assert PREFIX not in node.routes()
    eventually(lambda: node.block6 not in bird.ask("show", "route"), "gone with the peer")


def test_an_ipv6_address_that_is_not_on_the_node_takes_no_ipv4_session_along(mesh: Mesh) -> None:
    """As an annotation may say. Also not when the speaker starts with it."""
    one, other = mesh.nodes
    one.view = replace(one.view, address6="2001:db8:51::77")
    mesh.apply()
    one.kill_speaker()
    one.start_speaker()
    eventually(lambda: one.states()[other.name] != "Established", "its sessions are gone")
    eventually(lambda: one.states()[other.name] == "Established", "the IPv4 session is back")
    eventually(lambda: one.routes().get(other.block) == other.address, "with its route")
    assert one.states()[other.address6] != "Established"
    one.view = replace(one.view, address6=one.address6)
    mesh.apply()
    mesh.await_established()
    mesh.await_routes()
