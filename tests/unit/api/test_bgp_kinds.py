"""BGPConfiguration and BGPPeer: what they come to, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from manx_core.api import bgp_configuration as bgp
from manx_core.api import bgp_peer
from manx_core.api.bgp_configuration import BGPConfiguration, BgpGlobals, globals_of, node_as_number
from manx_core.api.bgp_peer import BGPPeer, Peer, peer_of
from manx_core.api.fields import InvalidObject


def config(name: str = "default", **spec: Any) -> BGPConfiguration:
    return BGPConfiguration.parse({"metadata": {"name": name}, "spec": spec})


def test_nothing_said_means_calicos_defaults() -> None:
    defaults = BgpGlobals(as_number=64512, mesh_enabled=True, listen_port=179, restart_time=120, log_severity="Info")
    assert globals_of(None) == globals_of(config()) == defaults


def test_the_file_that_calicos_users_apply() -> None:
    found = config(logSeverityScreen="Info", nodeToNodeMeshEnabled=True, asNumber=63400)
    assert bgp.check(found) == ()
    assert globals_of(found) == BgpGlobals(as_number=63400)


@pytest.mark.parametrize(
    ("spec", "field", "value"),
    [
        ({"asNumber": "1.10"}, "as_number", 65546),
        ({"nodeToNodeMeshEnabled": False}, "mesh_enabled", False),
        ({"listenPort": 1179}, "listen_port", 1179),
        ({"nodeMeshMaxRestartTime": "2m"}, "restart_time", 120),
        ({"nodeMeshMaxRestartTime": "4095s"}, "restart_time", 4095),
        ({"logSeverityScreen": "Debug"}, "log_severity", "Debug"),
    ],
)
def test_each_field(spec: dict[str, Any], field: str, value: object) -> None:
    found = config(**spec)
    assert bgp.check(found) == ()
    assert getattr(globals_of(found), field) == value


def test_one_node_may_have_another_port_and_log_level_and_nothing_else() -> None:
    everywhere = config(asNumber=63400, listenPort=1179)
    special = config("node.a", listenPort=2179, logSeverityScreen="Debug")
    assert globals_of(everywhere, special) == BgpGlobals(63400, True, 2179, 120, "Debug")


@pytest.mark.parametrize(
    ("name", "spec", "field"),
    [
        ("defautl", {}, "metadata.name"),
        ("node.", {}, "metadata.name"),
        ("Default", {}, "metadata.name"),
        ("node.a", {"asNumber": 1}, "spec.asNumber"),
        ("node.a", {"nodeToNodeMeshEnabled": False}, "spec.nodeToNodeMeshEnabled"),
        ("default", {"nodeMeshMaxRestartTime": "4096s"}, "spec.nodeMeshMaxRestartTime"),
    ],
)
def test_what_means_nothing(name: str, spec: dict[str, Any], field: str) -> None:
    assert [problem.field for problem in bgp.check(config(name, **spec))] == [field]


@pytest.mark.parametrize(("annotation", "number"), [("", 64512), ("65001", 65001), ("1.10", 65546)])
def test_a_nodes_own_as_number(annotation: str, number: int) -> None:
    assert node_as_number({bgp.AS_NUMBER_ANNOTATION: annotation}, 64512) == (number, None)


@pytest.mark.parametrize("annotation", ["0", "4294967296", "abc"])
def test_a_bad_annotation_is_told_and_counts_as_absent(annotation: str) -> None:
    number, problem = node_as_number({bgp.AS_NUMBER_ANNOTATION: annotation}, 63400)
    assert number == 63400
    assert problem is not None
    assert "projectcalico.org/ASNumber" in problem.field
    assert "1 to 4294967295" in problem.message


def peer(**spec: Any) -> BGPPeer:
    return BGPPeer.parse({"metadata": {"name": "rack"}, "spec": spec})


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"peerIP": "192.0.2.1", "asNumber": 65010}, Peer("rack", "192.0.2.1", None, 65010)),
        ({"peerIP": "192.0.2.1:1179", "asNumber": "1.10"}, Peer("rack", "192.0.2.1", 1179, 65546)),
        ({"peerIP": "192.0.2.1", "asNumber": 1, "node": "a"}, Peer("rack", "192.0.2.1", None, 1, "a")),
        ({"peerIP": "192.0.2.1", "asNumber": 1, "nodeSelector": "rack == 'a'"}, Peer("rack", "192.0.2.1", None, 1)),
    ],
)
def test_peers(spec: dict[str, Any], expected: Peer) -> None:
    assert bgp_peer.check(peer(**spec)) == ()
    assert peer_of(peer(**spec)) == expected


def test_whom_a_peer_concerns() -> None:
    assert Peer("p", "192.0.2.1", None, 1).concerns("a")
    assert Peer("p", "192.0.2.1", None, 1, "a").concerns("a")
    assert not Peer("p", "192.0.2.1", None, 1, "a").concerns("b")


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({}, ["spec.peerIP", "spec.asNumber"]),
        ({"peerIP": "192.0.2.1"}, ["spec.asNumber"]),
        ({"asNumber": 1}, ["spec.peerIP"]),
        ({"peerIP": "fe80::1", "asNumber": 1}, ["spec.peerIP"]),
        ({"peerIP": "[fe80::1]:1179", "asNumber": 1}, ["spec.peerIP"]),
        ({"peerSelector": "all()"}, ["spec.peerSelector"]),
        ({"peerIP": "192.0.2.1", "asNumber": 1, "node": "a", "nodeSelector": "all()"}, ["spec.nodeSelector"]),
        ({"peerIP": "192.0.2.1", "asNumber": 1, "password": {"secretKeyRef": {"name": "x"}}}, ["spec.password"]),
    ],
)
def test_peers_that_are_not_in_force(spec: dict[str, Any], fields: list[str]) -> None:
    assert [problem.field for problem in bgp_peer.check(peer(**spec))] == fields
    with pytest.raises(InvalidObject):
        peer_of(peer(**spec))


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"peerIP": "nowhere"}, "spec.peerIP"),
        ({"asNumber": 0}, "spec.asNumber"),
        ({"nodeSelector": "rack =="}, "spec.nodeSelector"),
        ({"node": 5}, "spec.node"),
        ({"maxRestartTime": "soon"}, "spec.maxRestartTime"),
        ({"sourceAddress": "Anywhere"}, "spec.sourceAddress"),
    ],
)
def test_peers_that_are_refused(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        peer(**spec)
    assert [problem.field for problem in caught.value.problems] == [field]
