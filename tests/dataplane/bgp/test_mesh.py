"""Three nodes' real ExaBGP, real kernel routes: the mesh comes up, changes, and loses parts of itself."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from bgp_lab import Mesh, Node, OpenCapture, eventually, expected_routes, mesh_of
from manx_core.api.v1alpha1 import BgpSettings

SETTINGS = BgpSettings(as_number=64512, hold_time=9, restart_time=20)


@pytest.fixture
def mesh(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mesh]:
    with mesh_of(3, tmp_path, SETTINGS, first_altered=getattr(request, "param", "")) as started:
        yield started


WHERE_RELAYS_ARE = pytest.mark.parametrize("mesh", ["frail", "foreign"], indirect=True)
"""Inside ExaBGP, and a process of its own."""


def reports(node: Node, learned: dict[str, str]) -> bool:
    return node.outcome.routes == learned


def test_every_node_learns_every_block(mesh: Mesh) -> None:
    for node in mesh.nodes:
        assert node.routes() == expected_routes(mesh, node)
        learned = {prefix: via for prefix, via in node.routes().items() if via != "blackhole"}
        eventually(functools.partial(reports, node, learned), "the outcome says so")
        assert [peer.local_as_number for peer in node.outcome.peers] == [64512, 64512]
        assert not node.outcome.errors


def test_a_block_more_and_a_block_less(mesh: Mesh) -> None:
    first = mesh.nodes[0]
    first.view = replace(first.view, announced=frozenset({"10.244.9.0/26"}))
    mesh.apply()
    eventually(lambda: all(node.routes() == expected_routes(mesh, node) for node in mesh.nodes), "only the new block")


def test_as_number_changes_on_every_session_and_no_route_is_lost(mesh: Mesh) -> None:
    capture = OpenCapture(mesh.fabric, "port1")
    mesh.settings = msgspec.structs.replace(SETTINGS, as_number=63400)
    gaps = 0
    for node in mesh.nodes:
        node.apply(mesh.view(node))
        gaps += not mesh.complete()

    def changed() -> bool:
        nonlocal gaps
        gaps += not mesh.complete()
        numbers = [peer.local_as_number for node in mesh.nodes for peer in node.outcome.peers]
        return numbers == [63400] * 6 and all(set(node.states().values()) == {"Established"} for node in mesh.nodes)

    eventually(changed, "every session is established with the new AS number")
    last = {(message.source, message.as_number) for message in capture.opens()}
    assert {(node.address, 63400) for node in mesh.nodes} <= last
    eventually(lambda: mesh.complete(), "routes")
    assert gaps == 0


def test_one_nodes_own_as_number_touches_its_sessions_only(mesh: Mesh) -> None:
    """The mesh is then iBGP between some and eBGP with that one (the annotation projectcalico.org/ASNumber)."""
    one, other, third = mesh.nodes
    capture = OpenCapture(mesh.fabric, "port1")
    mesh.as_numbers = {third.name: 4200000003}
    mesh.apply()
    eventually(
        lambda: third.outcome.peers[0].local_as_number == 4200000003 and "OpenSent" not in third.states().values(),
        "the third node speaks its own AS number",
    )
    mesh.await_established()
    mesh.await_routes()
    seen = {(message.source, message.as_number) for message in capture.opens()}
    assert (third.address, 4200000003) in seen
    assert other.address not in {source for source, _ in seen}
    assert one.routes()[third.block] == third.address


def test_mesh_disabled_takes_every_route_down(mesh: Mesh) -> None:
    mesh.settings = msgspec.structs.replace(SETTINGS, mesh_enabled=False)
    mesh.apply()
    for node in mesh.nodes:
        assert node.routes() == {node.block: "blackhole"}
        assert node.outcome.peers == ()


def test_a_node_that_joins_resets_no_session(mesh: Mesh) -> None:
    *old, joining = mesh.nodes
    mesh.nodes = old
    mesh.apply()
    assert joining.block not in old[0].routes()
    eventually(lambda: "Established" not in joining.states().values(), "the third node is out")
    before = {node.name: node.since(other.name) for node, other in zip(old, reversed(old), strict=True)}
    capture = OpenCapture(mesh.fabric, "port1")
    mesh.nodes = [*old, joining]
    mesh.apply()
    mesh.await_established()
    mesh.await_routes()
    assert {node.name: node.since(other.name) for node, other in zip(old, reversed(old), strict=True)} == before
    assert old[1].address not in {message.source for message in capture.opens()}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_speaker_loses_no_route_anywhere(mesh: Mesh, how: signal.Signals) -> None:
    victim = mesh.nodes[0]
    victim.kill_speaker(how)
    eventually(lambda: "Established" not in victim.states().values(), "the agent sees it")
    eventually(lambda: mesh.nodes[1].states()[victim.name] != "Established", "a peer sees it")
    assert mesh.complete()
    victim.start_speaker()
    mesh.await_sessions_without_gap()


def test_speaker_that_stays_away_loses_its_routes_after_the_restart_time(mesh: Mesh) -> None:
    victim, other = mesh.nodes[0], mesh.nodes[1]
    victim.kill_speaker()
    taken = eventually(lambda: victim.block not in other.routes(), "the route is gone")
    assert taken > SETTINGS.restart_time - 2
    eventually(lambda: other.block not in victim.routes(), "and the victim's own learned routes")


@pytest.mark.parametrize("mesh", ["foreign"], indirect=True)
def test_an_exabgp_of_another_version_has_its_relay_as_a_process_and_loses_no_route_when_killed(mesh: Mesh) -> None:
    victim = mesh.nodes[0]
    assert len(victim.relay_pids()) == 1
    assert mesh.nodes[1].relay_pids() == []
    victim.kill_speaker()
    eventually(lambda: mesh.nodes[1].states()[victim.name] != "Established", "a peer sees it")
    assert mesh.complete()
    victim.start_speaker()
    mesh.await_sessions_without_gap()


@WHERE_RELAYS_ARE
def test_killed_relay_is_replaced_and_knows_everything(mesh: Mesh) -> None:
    victim = mesh.nodes[0]
    capture = OpenCapture(mesh.fabric, "port1")
    former = victim.relay_pids()
    victim.fail_relay()
    victim.await_another_relay(former)
    victim.view = replace(victim.view, announced=frozenset({"10.244.9.0/26"}))
    mesh.apply()
    eventually(lambda: all(node.routes() == expected_routes(mesh, node) for node in mesh.nodes), "changed blocks")
    mesh.await_established()
    assert capture.opens() == []


@WHERE_RELAYS_ARE
def test_relays_killed_until_exabgp_gives_up(mesh: Mesh) -> None:
    """ExaBGP starts a helper five times in about a minute, then ends, and its container starts it anew."""
    victim = mesh.nodes[0]

    def given_up() -> bool:
        victim.fail_relay()
        return not victim.speaker_alive

    eventually(given_up, "ExaBGP has ended")
    assert mesh.complete()
    victim.start_speaker()
    mesh.await_established()
    assert mesh.complete()


def test_killed_agent_changes_nothing_and_its_successor_takes_over(mesh: Mesh) -> None:
    victim = mesh.nodes[0]
    victim.kill_agent()
    victim.kill_speaker()
    victim.start_speaker()
    peer = mesh.nodes[1]
    eventually(lambda: peer.states()[victim.name] == "Established", "the speaker alone")
    assert mesh.complete()
    victim.start_agent()
    victim.apply(mesh.view(victim))
    mesh.await_established()
    assert mesh.complete()


def test_route_leaves_after_the_hold_time_where_tcp_179_is_blocked(mesh: Mesh) -> None:
    one, other, third = mesh.nodes
    for flag in ("--sport", "--dport"):
        one.namespace.run("iptables", "-A", "INPUT", "-s", other.address, "-p", "tcp", flag, "179", "-j", "DROP")
    taken = eventually(lambda: other.block not in one.routes() and one.block not in other.routes(), "both routes go")
    assert SETTINGS.hold_time - 4 < taken < SETTINGS.hold_time + SETTINGS.restart_time / 2
    assert "hold timer expired" in one.message("node2") + other.message("node1")
    assert third.block in one.routes()
    one.namespace.run("iptables", "-F", "INPUT")
    mesh.await_routes()


def test_route_altered_by_hand_is_repaired_and_reported(mesh: Mesh) -> None:
    node = mesh.nodes[0]
    node.namespace.ip("route", "del", mesh.nodes[1].block, "proto", "77")
    eventually(mesh.complete, "repaired", 10)
    eventually(lambda: any(mesh.nodes[1].block in said for said in node.drift), "reported")


def test_others_routes_are_left_alone(mesh: Mesh) -> None:
    node = mesh.nodes[0]
    foreign = ("10.77.0.0/24", "via", mesh.nodes[1].address, "proto", "static")
    node.namespace.ip("route", "add", *foreign)
    node.namespace.ip("route", "add", "10.244.1.5/32", "dev", "eth0", "scope", "link", "proto", "77")
    mesh.settings = msgspec.structs.replace(SETTINGS, mesh_enabled=False)
    mesh.apply()
    node.apply(replace(mesh.view(node), address="", announced=frozenset()))
    shown = node.namespace.ip("route", "show")
    assert "10.77.0.0/24" in shown
    assert "10.244.1.5 dev eth0" in shown
    assert node.routes() == {}
