"""A real BIRD 2 as explicit peer: its prefixes arrive once a BGPPeer names it, ours survive our speaker's death."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bgp_lab import Bird, Mesh, eventually, mesh_of
from manx_core.api.v1alpha1 import BgpPeer, BgpSettings

SETTINGS = BgpSettings(as_number=64512, hold_time=9, restart_time=20)
PREFIX = "203.0.113.0/24"


def bird_config(bird_as: int, static: str = f"route {PREFIX} blackhole;") -> str:
    return f"""
protocol static {{ ipv4; {static} }}
protocol bgp manx {{
  local 198.51.100.9 as {bird_as};
  neighbor 198.51.100.1 as 64512;
  hold time 9;
  connect retry time 2;
  error wait time 1, 2;
  graceful restart on;
  graceful restart time 20;
  ipv4 {{ import all; export all; next hop self; }};
}}"""


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with mesh_of(2, tmp_path, SETTINGS) as started:
        yield started


@pytest.fixture
def bird(mesh: Mesh, tmp_path: Path) -> Iterator[Bird]:
    router = Bird(mesh.fabric, 9, tmp_path / "bird", 65009)
    try:
        yield router
    finally:
        router.close()


def peer_of(bird: Bird, as_number: int) -> BgpPeer:
    return BgpPeer(name="top-of-rack", address=bird.address, as_number=as_number)


@pytest.mark.parametrize("bird_as", [65009, 64512], ids=["ebgp", "ibgp"])
def test_prefix_in_no_object_arrives_once_a_peer_is_named(mesh: Mesh, bird: Bird, bird_as: int) -> None:
    node = mesh.nodes[0]
    bird.start(bird_config(bird_as))
    assert PREFIX not in node.routes()
    node.apply(mesh.view(node, (peer_of(bird, bird_as),)))
    eventually(lambda: node.routes().get(PREFIX) == bird.address, "the prefix is in the kernel")
    eventually(lambda: node.block in bird.ask("show", "route"), "BIRD has our block")
    bird.ask("configure", f'"{reconfigured(bird, bird_as)}"')
    eventually(lambda: PREFIX not in node.routes(), "withdrawn")
    eventually(lambda: node.routes().get("203.0.113.128/25") == bird.address, "another prefix")


def reconfigured(bird: Bird, bird_as: int) -> Path:
    path = Path(bird.directory, "second.conf")
    protocols = bird_config(bird_as, "route 203.0.113.128/25 blackhole;")
    path.write_text(f"router id {bird.address};\nprotocol device {{}}\n{protocols}\n")
    return path


def test_our_routes_stay_with_bird_over_a_killed_speaker_and_leave_with_the_peer(mesh: Mesh, bird: Bird) -> None:
    node = mesh.nodes[0]
    bird.start(bird_config(65009))
    node.apply(mesh.view(node, (peer_of(bird, 65009),)))
    eventually(lambda: node.block in bird.ask("show", "route"), "BIRD has our block")
    eventually(lambda: PREFIX in node.routes(), "we have BIRD's prefix")
    node.kill_speaker()
    gaps = 0
    eventually(lambda: "Established" not in bird.ask("show", "protocols"), "BIRD sees the session end")
    node.start_speaker()

    def back() -> bool:
        nonlocal gaps
        gaps += node.block not in bird.ask("show", "route") or PREFIX not in node.routes()
        return "Established" in bird.ask("show", "protocols") and node.states()["top-of-rack"] == "Established"

    eventually(back, "the session is back")
    assert gaps == 0
    node.apply(mesh.view(node))
    assert PREFIX not in node.routes()
    eventually(lambda: node.block not in bird.ask("show", "route"), "withdrawn from BIRD, not kept as stale", 10)


def test_what_an_explicit_peer_may_not_announce(mesh: Mesh, bird: Bird) -> None:
    node = mesh.nodes[0]
    bird.start(bird_config(65009, f"route {node.block} blackhole; route 192.0.2.0/24 blackhole;"))
    node.apply(mesh.view(node, (peer_of(bird, 65009),)))
    eventually(lambda: "192.0.2.0/24" in node.routes(), "what may be announced")
    assert node.routes()[node.block] == "blackhole"
    eventually(lambda: f"refused {node.block}" in node.message("top-of-rack"), "the status says so")


def test_next_hop_beyond_a_router_is_resolved(mesh: Mesh, bird: Bird) -> None:
    node = mesh.nodes[0]
    router = mesh.nodes[1].address
    node.namespace.ip("route", "add", "192.0.2.0/24", "via", router)
    config = bird_config(65009).replace("next hop self;", "export filter { bgp_next_hop = 192.0.2.7; accept; };")
    bird.start(config.replace("neighbor 198.51.100.1", "multihop; neighbor 198.51.100.1").replace("export all;", ""))
    node.apply(mesh.view(node, (peer_of(bird, 65009),)))
    eventually(lambda: node.routes().get(PREFIX) == router, "through the router that leads to the next hop")
    node.namespace.ip("route", "del", "192.0.2.0/24")
    eventually(lambda: PREFIX not in node.routes(), "no route to the next hop, no route")
    eventually(lambda: any(PREFIX in said or "192.0.2.7" in said for said in node.outcome.errors), "an error says so")


def test_wrong_as_number_is_told(mesh: Mesh, bird: Bird) -> None:
    node = mesh.nodes[0]
    bird.start(bird_config(65009))
    node.apply(mesh.view(node, (peer_of(bird, 65010),)))
    eventually(lambda: "bad peer AS" in node.message("top-of-rack"), "the status names the NOTIFICATION")
    node.apply(mesh.view(node, (peer_of(bird, 65009),)))
    eventually(lambda: node.routes().get(PREFIX) == bird.address, "corrected")
