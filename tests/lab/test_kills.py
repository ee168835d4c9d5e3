"""Kills: agents, BGP speakers, the leader and the API server, under forbidden probes and allowed requests.

Owns: that nothing forbidden passes, nothing allowed breaks, what was asked for meanwhile comes true, and a leader that
was stopped undoes nothing. The witnesses are packets, kernels, and what the API server tells who watches.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.run import LabError
from lab_probes import UDP_PORT
from lab_probes_journal import Journal
from lab_probes_nodes import ALTERATIONS, Alteration, Kernel, Leaving, RouteMonitor, kernel_routes, whole_mesh
from lab_probes_world import (
    AGENT,
    FORBIDDEN,
    FRIENDS,
    NAMESPACE,
    OPERATOR,
    PATIENCE,
    SPEAKER,
    SYSTEM,
    WEB_PORTS,
    World,
    policy,
    processes,
)

MANY = 500
STOPPED_FOR = 60.0


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[World]:
    """Pods and policies for all of this module."""
    made = World(cluster)
    try:
        made.build()
        yield made
    finally:
        made.end()


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_the_detector_sees_every_probe_that_is_let_through(world: World) -> None:
    """The positive control of all others: the same probes, seen by the same detector, once policy allows them."""
    expected = {f"{name} {protocol}" for name in FORBIDDEN for protocol in ("TCP", "UDP")}
    try:
        with world.fire() as fire:
            for name in ("foe-near", "foe-far"):
                world.label(name, "role=friend")
            world.label("caged", "caged-")
            world.cluster.wait_for("probes to be seen", lambda: expected <= set(fire.detector.seen), timeout=PATIENCE)
    finally:
        for name in ("foe-near", "foe-far"):
            world.label(name, "role=foe")
        world.label("caged", "caged=yes")
    with world.fire() as fire:
        quiet_until_closed(world, fire)
    assert fire.sent > 1000


def quiet_until_closed(world: World, fire: Any) -> None:
    """Wait until two thousand probes in a row were not seen."""
    seen, sent = -1, 0

    def closed() -> bool:
        nonlocal seen, sent
        if sum(fire.detector.seen.values()) != seen:
            seen, sent = sum(fire.detector.seen.values()), fire.sent
        return bool(fire.sent - sent > 2000)

    world.cluster.wait_for("policy to forbid the probes again", closed, timeout=PATIENCE)


def test_agents_killed(world: World) -> None:
    with world.under_fire():
        agents = {node: world.process(pod, AGENT) for node, pod in world.agents().items()}
        kill(*agents.values())
        world.flip()
        world.cluster.wait_for("new agents", lambda: all_replaced(world, agents, AGENT), timeout=PATIENCE)
        world.flip()


def all_replaced(world: World, former: dict[str, int], word: str) -> bool:
    now = {node: world.process(pod, word) for node, pod in world.agents().items() if node in former}
    return now.keys() == former.keys() and all(now[node] != pid for node, pid in former.items())


# --- BGP speakers ----------------------------------------------------------------------------------------------------


def test_bgp_speakers_killed_keep_their_routes(world: World) -> None:
    web = world.nodes["web"]
    world.cluster.wait_for("a whole mesh", lambda: whole_mesh(world), timeout=PATIENCE)
    before = kernel_routes(world)
    with world.under_fire(), RouteMonitor(world) as monitor:
        for nodes in ({web}, set(world.cluster.nodes) - {web}):
            speakers = {node: world.process(pod, SPEAKER) for node, pod in world.agents().items() if node in nodes}
            kill(*speakers.values())
            assert kernel_routes(world) == before
            world.flip()
            world.cluster.wait_for(
                f"new speakers on {sorted(nodes)}",
                lambda former=speakers: all_replaced(world, former, SPEAKER),  # type: ignore[misc]
                timeout=PATIENCE,
            )
            world.cluster.wait_for("the mesh to be whole again", lambda: whole_mesh(world), timeout=PATIENCE)
    assert kernel_routes(world) == before
    assert monitor.withdrawn() == []


# --- the leader -------------------------------------------------------------------------------------------------------


def many(count: int, batch: str) -> list[dict[str, Any]]:
    """Policies of web that allow what never comes."""
    made = []
    for number in range(count):
        allowed = {"from": [{"ipBlock": {"cidr": f"192.0.2.{number % 256}/32"}}], "ports": [{"port": 1 + number}]}
        one = policy(f"{batch}-{number}", {"app": "web"}, policyTypes=["Ingress"], ingress=[allowed])
        one["metadata"]["labels"] = {"batch": batch}
        made.append(one)
    return made


@contextmanager
def being_created(world: World, policies: list[dict[str, Any]]) -> Iterator[threading.Thread]:
    """``kubectl create`` of all of them, in the background; done when the block ends."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": policies})
    errors: list[LabError] = []

    def create() -> None:
        try:
            world.cluster.kubectl("create", "-f", "-", stdin=text, timeout=240)
        except LabError as error:
            errors.append(error)

    thread = threading.Thread(target=create)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
    assert errors == []


def delete_policies(world: World, batch: str) -> None:
    """All of a batch, in one request."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies?labelSelector=batch%3D{batch}"
    world.cluster.kubectl("delete", "--raw", path)


def programs(batch: str) -> str:
    return f"knp.{NAMESPACE}.{batch}-"


def test_killing_the_leader_among_500_policies_deletes_nothing(world: World) -> None:
    with Journal(world.cluster.kubectl) as journal:
        try:
            with world.under_fire():
                kill_leader_among(world, journal)
            assert journal.deleted() == []
            assert journal.gone_back() == []
            assert len(journal.names("policyprograms", programs("many"))) == MANY
            assert web_class_size(journal) == MANY + 1
        finally:
            delete_policies(world, "many")
        world.cluster.wait_for(
            "the programs of deleted policies to go, as the journal tells",
            lambda: not journal.names("policyprograms", programs("many")),
            timeout=PATIENCE,
        )
        gone = [name for name in journal.deleted() if programs("many") in name]
        assert len(gone) == MANY  # so the journal does tell of deletions


def kill_leader_among(world: World, journal: Journal) -> None:
    former = world.leader()
    with being_created(world, many(MANY, "many")):
        world.cluster.wait_for(
            "some of the programs", lambda: len(journal.names("policyprograms", programs("many"))) > 100, timeout=120
        )
        kill(former.pid)
        halfway = len(journal.names("policyprograms", programs("many")))
    assert halfway < MANY, "the leader was killed too late to have left anything undone"
    world.new_leader(former)
    world.cluster.wait_for(
        "all programs", lambda: len(journal.names("policyprograms", programs("many"))) == MANY, timeout=PATIENCE
    )
    world.flip()
    world.cluster.wait_for(
        "web's class to name them all", lambda: web_class_size(journal) == MANY + 1, timeout=PATIENCE
    )
    world.cluster.wait_for("the journal to be complete", journal.caught_up, timeout=PATIENCE)
    print(f"leader {former.identity} killed with {halfway} of {MANY} programs written")


def web_class_size(journal: Journal) -> int:
    """How many policies the class that names web's policy has."""
    classes = [obj for (kind, _), obj in journal.objects.copy().items() if kind == "policyclasses"]
    sizes = [sum(len(tier["policies"]) for tier in obj["spec"].get("tiers", ())) for obj in classes]
    return max(sizes, default=0)


def test_a_leader_stopped_for_a_minute_undoes_nothing(world: World) -> None:
    with Journal(world.cluster.kubectl) as journal, world.under_fire():
        former = world.leader()
        try:
            with being_created(world, many(60, "stop")):
                world.cluster.wait_for("some programs", lambda: journal.names("policyprograms", programs("stop")))
                os.kill(former.pid, signal.SIGSTOP)
            stopped = time.monotonic()
            successor = world.new_leader(former)
            change_much(world, journal)
            while time.monotonic() < stopped + STOPPED_FOR:
                time.sleep(0.5)
            world.cluster.wait_for("the journal to be complete", journal.caught_up, timeout=PATIENCE)
            mark = len(journal.changes)
        finally:
            with suppress(ProcessLookupError):
                os.kill(former.pid, signal.SIGCONT)
            delete_policies(world, "stop")
        world.cluster.wait_for("the former leader to give up", lambda: gave_up(world, former.pod), timeout=PATIENCE)
        world.cluster.wait_for("the journal to be complete", journal.caught_up, timeout=PATIENCE)
        assert journal.altered(mark) == []
        assert journal.gone_back() == []
        assert world.leader() == successor
        world.flip()
        assert former.pid in processes(world.uid(former.pod, SYSTEM), OPERATOR), "it was killed, not just stopped"


def test_a_creation_of_an_earlier_term_is_refused(world: World) -> None:
    """What a leader that slept had on its way: here without the luck that the test above needs to meet it."""
    lease = world.cluster.kubectl.json("-n", SYSTEM, "get", "lease", "manx-operator")
    epoch = lease["spec"]["leaseTransitions"]
    kind = {"apiVersion": "manx.dev/v1alpha1", "kind": "PolicyClass", "metadata": {"name": "pc-manx-kills"}}
    try:
        with pytest.raises(LabError, match=f"spec.epoch {epoch} is over: Lease manx-operator is at {epoch + 1}"):
            world.cluster.apply({**kind, "spec": {"epoch": epoch}})
        world.cluster.apply({**kind, "spec": {"epoch": epoch + 1}})  # by the same hand, so it is the epoch that matters
    finally:
        world.cluster.delete("policyclasses.manx.dev", "pc-manx-kills")


def change_much(world: World, journal: Journal) -> None:
    """What a leader that slept would like to undo: half-written programs completed, then deleted; a label changed."""
    world.cluster.wait_for(
        "what the stopped leader left undone",
        lambda: len(journal.names("policyprograms", programs("stop"))) == 60,
        timeout=PATIENCE,
    )
    delete_policies(world, "stop")
    world.flip()
    world.cluster.wait_for(
        "the programs to go", lambda: not journal.names("policyprograms", programs("stop")), timeout=PATIENCE
    )


def gave_up(world: World, pod: str) -> bool:
    return "no longer leading" in world.cluster.kubectl("-n", SYSTEM, "logs", pod, "--since=60s")


# --- the API server ---------------------------------------------------------------------------------------------------

GRACE = 6


@pytest.mark.parametrize("agent", ["as it was", "killed, too"])
def test_a_pod_is_deleted_while_api_server_and_operator_are_away(world: World, agent: str) -> None:
    """The kubelet has been told to delete a pod and is waiting for its process when everything else goes away: its DEL
    must work all the same, so must another, by hand; then all is told, and the address goes back. An agent that is
    started meanwhile touches no policy, but lets pods go."""
    node = world.nodes["web"]
    leaving, agents = Leaving(world, node, GRACE), {node: world.process(world.agents()[node], AGENT)}
    with world.under_fire():
        world.cluster.kubectl("-n", NAMESPACE, "delete", "pod", "leaving", "--wait=false", f"--grace-period={GRACE}")
        world.cluster.wait_for("the kubelet to have asked the pod to end", leaving.was_asked, timeout=PATIENCE)
        with everything_away(world):
            assert leaving.is_there()
            if agent == "killed, too":
                kill(*agents.values())
            world.cluster.wait_for("the pod's interface to go", lambda: not leaving.is_there(), timeout=PATIENCE)
            assert leaving.delete_by_hand() == ""
            with pytest.raises(LabError):
                world.leader()
        world.cluster.wait_for("the pod's address to leave the sets", lambda: not leaving.in_sets(), timeout=PATIENCE)
        world.flip()
        world.cluster.wait_for("the pod's object to go", leaving.is_gone, timeout=PATIENCE)
        world.cluster.wait_for("the address to be free", lambda: not leaving.is_allocated(), timeout=PATIENCE)
        world.flip()


@contextmanager
def everything_away(world: World) -> Iterator[None]:
    """Both operators stopped, the API server killed."""
    pods = world.cluster.kubectl.items("pods", "-n", SYSTEM, "-l", "k8s-app=manx-operator")
    operators = [pid for pod in pods for pid in processes(pod["metadata"]["uid"], OPERATOR)]
    assert operators
    for pid in operators:
        os.kill(pid, signal.SIGSTOP)
    try:
        world.cluster.machines.signal("control-plane", "kube-apiserver", signal.SIGKILL)
        yield
    finally:
        world.cluster.machines.restart("control-plane", "kube-apiserver")
        for pid in operators:
            with suppress(ProcessLookupError):  # the kubelet ends what is stopped for too long
                os.kill(pid, signal.SIGCONT)


# --- policy changes ---------------------------------------------------------------------------------------------------


def test_a_hundred_policy_changes_open_no_window(world: World) -> None:
    with Journal(world.cluster.kubectl) as journal, world.under_fire():
        for turn in range(25):
            change_policy(world, turn)
        world.flip()
    assert len(journal.changes) >= 100
    world.cluster.delete("networkpolicy", "-n", NAMESPACE, "extra")


def change_policy(world: World, turn: int) -> None:
    """Four changes that concern web: who is let in, to which ports, by how many policies, and that caged may not."""
    ports = [*WEB_PORTS, {"protocol": "UDP", "port": UDP_PORT + 1 + turn}]
    nets = [{"ipBlock": {"cidr": "192.0.2.0/24", "except": [f"192.0.2.{turn}/32"]}}]
    world.ask_flip()
    world.cluster.apply(
        policy("web", {"app": "web"}, policyTypes=["Ingress"], ingress=[{"from": FRIENDS, "ports": ports}])
    )
    if turn % 2:
        world.cluster.delete("networkpolicy", "-n", NAMESPACE, "extra")
    else:
        world.cluster.apply(policy("extra", {"app": "web"}, policyTypes=["Ingress"], ingress=[{"from": nets}]))
    caged = [{"to": nets}]
    world.cluster.apply(policy("caged", {"caged": "yes"}, policyTypes=["Egress"], egress=caged))


# --- alterations by hand ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alteration", ALTERATIONS, ids=lambda alteration: alteration.what)
def test_what_is_altered_by_hand_is_back_within_ten_seconds_and_reported(world: World, alteration: Alteration) -> None:
    kernel = Kernel(world)
    names, before, (count, _) = kernel.names(), kernel.state(), kernel.drift()
    kernel.run(alteration.text(names))
    world.cluster.wait_for(f"{alteration.what} to be undone", lambda: kernel.state() == before, timeout=10)

    def reported() -> bool:
        now, last = kernel.drift()
        return now > count and alteration.word(names) in last

    world.cluster.wait_for(f"{alteration.what} to be reported", reported, timeout=PATIENCE)
