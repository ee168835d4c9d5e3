"""The mesh of a real cluster: AS numbers as captured OPEN messages carry them, the mesh off and on, annotated nodes,
and that a change touches only the sessions that it concerns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.cluster import Cluster
from lab.settings import CHECKOUT
from lab.stream import OpenCapture
from lab_bgp import PATIENCE, LabMesh

EXAMPLE = CHECKOUT / "hack/lab/examples/bgpconfiguration.yaml"
AS_NUMBER, IPV4_ADDRESS = "projectcalico.org/ASNumber", "projectcalico.org/IPv4Address"
MOVED_TO = "198.51.100.112"


@pytest.fixture
def mesh(cluster: Cluster) -> Iterator[LabMesh]:
    found = LabMesh(cluster)
    found.reset()
    yield found
    found.reset()


def test_every_session_speaks_the_as_number_applied_and_the_default_once_it_is_deleted(mesh: LabMesh) -> None:
    with OpenCapture(mesh.cluster.machines) as capture:
        mesh.cluster.apply(EXAMPLE.read_text())
        mesh.wait_whole(dict.fromkeys(mesh.nodes, 63400))
    assert capture.as_numbers() == mesh.as_numbers(default=63400)
    with OpenCapture(mesh.cluster.machines) as capture:
        mesh.cluster.delete("bgpconfigurations.projectcalico.org", "default")
        mesh.wait_whole()
    assert capture.as_numbers() == mesh.as_numbers(default=64512)


def test_the_mesh_is_taken_down_with_its_routes_and_comes_back(mesh: LabMesh) -> None:
    assert all(mesh.routes(node) for node in mesh.nodes)
    mesh.configure(nodeToNodeMeshEnabled=False)

    def gone() -> bool:
        kernels = not any(mesh.connections(node) or mesh.routes(node) for node in mesh.nodes)
        return kernels and set(mesh.summary().values()) == {"0/0"}

    mesh.cluster.wait_for("sessions and routes to be gone", gone, timeout=PATIENCE, every=0.5)
    assert all(mesh.condition(node)[0] == "True" for node in mesh.nodes)
    mesh.configure(nodeToNodeMeshEnabled=True)
    mesh.wait_whole()


def test_a_node_with_an_as_number_of_its_own_speaks_ebgp_and_no_other_session_notices(mesh: LabMesh) -> None:
    first, special, third = mesh.nodes
    before = mesh.sessions(first, third)
    its_own = mesh.addresses([special])
    concerned = {pair: n for pair, n in mesh.as_numbers({special: 65001}).items() if its_own & set(pair)}
    with ExitStack() as stack:
        with OpenCapture(mesh.cluster.machines) as capture:
            stack.enter_context(mesh.annotated(special, AS_NUMBER, "65001"))
            mesh.wait_whole({special: 65001})
        assert capture.as_numbers() == concerned
        assert mesh.sessions(first, third) == before
    mesh.wait_whole()
    assert mesh.sessions(first, third) == before


@pytest.fixture
def second_address(mesh: LabMesh) -> Iterator[str]:
    """Another address in the subnet, on the second node."""
    node = mesh.nodes[1]
    mesh.cluster.node_exec(node, "ip", "addr", "add", f"{MOVED_TO}/24", "dev", "eth0")
    yield node
    mesh.cluster.node_exec(node, "ip", "addr", "del", f"{MOVED_TO}/24", "dev", "eth0")


def test_a_nodes_sessions_and_routes_move_to_the_address_it_is_annotated_with(
    mesh: LabMesh, second_address: str
) -> None:
    first, _, third = mesh.nodes
    before = mesh.sessions(first, third)
    with mesh.annotated(second_address, IPV4_ADDRESS, f"{MOVED_TO}/24"):
        mesh.moved[second_address] = MOVED_TO
        mesh.wait_whole()
        assert mesh.sessions(first, third) == before
    mesh.moved.clear()
    mesh.wait_whole()
    assert mesh.sessions(first, third) == before
