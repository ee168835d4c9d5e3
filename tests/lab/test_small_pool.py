"""Addresses, where there are few: blocks come before they are needed, a full pool is told wherever people look, and
what was freed is given again, but not before every node has forgotten whose it was.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.settings import OUTSIDE
from lab_ends import HTTP, SERVER, End, Unanswered, ends_of
from lab_small_pool import ADDRESSES, CIDR, NAME, NAMESPACE, PATIENCE, PODS, SmallPool, small_pool
from manx_core.api.lines import lines_of

WATCHED = 4.0
"""Seconds for which an address must not be given again: many times what that takes where nothing stands against it."""
PORT = 45456


@pytest.fixture(scope="module")
def pool(cluster: Cluster) -> Iterator[SmallPool]:
    with small_pool(cluster) as made:
        yield made


@pytest.fixture
def full(pool: SmallPool) -> SmallPool:
    """Every address of the pool is in use."""
    pool.delete(*(pool.pods().keys() - set(PODS)))
    pool.run(*PODS)
    pool.wait(*PODS)
    return pool


def test_the_next_block_is_there_before_the_last_is_full(pool: SmallPool) -> None:
    """Four pods fill a block; the fifth finds another."""
    pool.delete(*pool.pods())
    pool.run(*PODS[:4])
    pool.wait(*PODS[:4])

    def another() -> bool:
        return len(pool.blocks()) == 2 and len(pool.allocations()) == 4 and not pool.quarantined()

    pool.cluster.wait_for("a block that nobody uses yet", another, timeout=PATIENCE)


def test_blocks_list_who_has_which_address(full: SmallPool) -> None:
    def listed() -> set[tuple[str, str, str, str]]:
        return {(one["address"], one["namespace"], one["name"], one["uid"]) for one in full.allocations()}

    pods = {(pod["status"]["podIP"], NAMESPACE, name, pod["metadata"]["uid"]) for name, pod in full.pods().items()}
    full.cluster.wait_for("all allocations to be listed", lambda: listed() == pods)
    assert sorted(address for address, *_ in pods) == ADDRESSES, "all of a block can be used, its first and last too"

    def attached() -> bool:
        return all(one.get("interface") == "eth0" and one.get("containerID") for one in full.allocations())

    full.cluster.wait_for("what was reserved for pods to be their sandboxes'", attached)


def test_pods_of_different_pools_reach_each_other_by_their_own_addresses(full: SmallPool) -> None:
    """Those at the ends of the pool's range, which a subnet would not allow. What leaves the pools is left as it is,
    too, for natOutgoing is off for this one."""
    first, last = (next(n for n, pod in full.pods().items() if pod["status"]["podIP"] == ADDRESSES[i]) for i in (0, -1))
    with guard(full), ends_of(full.cluster, NAMESPACE, (first, last, "guard")) as ends:
        for name in (first, last):
            here, there = ends[name], ends["guard"]
            assert there.seen_as((here.address, HTTP)) == (there.address, there.address)
            assert here.seen_as((there.address, HTTP)) == (here.address, here.address)
            assert ends[first].get((ends[last].address, HTTP)) == last
            assert seen_outside(ends, name) == here.address


def seen_outside(ends: dict[str, End], name: str) -> str:
    """From which address the outside host gets a pod's datagrams. It could not answer: it has no route there."""
    with ends["outside"].receive(PORT) as receiver:
        for _ in range(3):
            with ends[name].talking((OUTSIDE[4], PORT), socket.SOCK_DGRAM) as opened:
                opened.send(b"hello")
        return str(receiver.recvfrom(100)[1][0])


@contextmanager
def guard(pool: SmallPool) -> Iterator[None]:
    """A pod on the other node, of the default pool."""
    pool.cluster.run_pod("guard", *SERVER, node=pool.other, namespace=NAMESPACE)
    pool.cluster.wait_pod("guard", namespace=NAMESPACE, timeout=PATIENCE)
    try:
        yield
    finally:
        pool.delete("guard")


# --- full -------------------------------------------------------------------------------------------------------------


def test_a_full_pool_is_told_to_the_pod_and_on_the_pool_until_there_is_room(full: SmallPool) -> None:
    cluster = full.cluster
    full.run("late")

    def told_to_the_pod() -> list[str]:
        messages = full.events("Pod", "late", "FailedCreatePodSandBox")
        return [m for m in messages if "no address" in m and f"IPPool {NAME} ({CIDR}): all 2 blocks are in use" in m]

    cluster.wait_for("the pool's condition", lambda: full.condition() == ("False", "PoolExhausted"), timeout=PATIENCE)
    cluster.wait_for("an Event on the pool", lambda: full.events("IPPool", NAME, "PoolExhausted"), timeout=PATIENCE)
    cluster.wait_for("the node's report", lambda: reported(full) == ("False", "NoAddresses"), timeout=PATIENCE)
    cluster.wait_for("the CNI error in the pod's Events", told_to_the_pod, timeout=PATIENCE)
    assert full.address("late") == ""
    full.delete("p0", "p1", "p2")
    full.wait("late")
    cluster.wait_for("the condition to change", lambda: full.condition()[0] == "True", timeout=PATIENCE)
    cluster.wait_for("the node's report", lambda: reported(full)[0] == "True", timeout=PATIENCE)


def reported(pool: SmallPool) -> tuple[str, str]:
    """(status, reason) of the node's report's condition IPAM."""
    report = pool.cluster.kubectl.json("get", "nodereports.manx.dev", pool.node)
    (found,) = (c for c in report["status"]["conditions"] if c["type"] == "IPAM")
    return found["status"], found["reason"]


# --- freed ------------------------------------------------------------------------------------------------------------

POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "guard", "namespace": NAMESPACE},
    "spec": {
        "podSelector": {"matchLabels": {"app": "guard"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "small"}}}]}],
    },
}


def test_a_freed_address_waits_until_every_node_has_forgotten_it(full: SmallPool) -> None:
    """A policy on another node lets the pods of the pool in. While that node's agent is stopped, its kernel would let
    in whoever had the freed address; the pod that waits for one does not get it. Once the agent goes on, it does."""
    cluster = full.cluster
    cluster.apply(POLICY)
    freed = full.address("p0")
    with guard(full), ends_of(cluster, NAMESPACE, ("guard", "p1")) as ends:
        door = (ends["guard"].address, HTTP)
        cluster.wait_for("the policy to let p1 in", lambda: ends["p1"].get(door) == "guard", timeout=PATIENCE)
        cluster.wait_for(f"{full.other} to know {freed}", lambda: in_kernel(full, freed), timeout=PATIENCE)
        full.run("late", app="other")
        with stopped(full.agent(full.other)):
            full.delete("p0")
            cluster.wait_for("the operator to forget it", lambda: only_the_kernel_knows(full, freed), timeout=PATIENCE)
            assert_not_given(full, freed)
        full.wait("late")
        assert full.address("late") == freed
        assert not in_kernel(full, freed)
        with ends_of(cluster, NAMESPACE, ["late"]) as new:
            with pytest.raises(Unanswered):
                new["late"].get(door)
            assert new["late"].get((ends["p1"].address, HTTP)) == "p1"
            assert ends["p1"].get(door) == "guard"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def in_kernel(pool: SmallPool, address: str) -> bool:
    """Whether any of Manx's sets on the other node has the address as a member by itself."""
    lines = pool.cluster.node_exec(pool.other, "ipset", "save").splitlines()
    return any(line.startswith("add manx-") and line.split()[2] == address for line in lines)


def only_the_kernel_knows(pool: SmallPool, address: str) -> bool:
    """The agent has told that it is free, and no group has it."""
    groups: list[dict[str, Any]] = pool.cluster.kubectl.items("addressgroups.manx.dev")
    held = any(address in lines_of(group["spec"].get("members", "")) for group in groups)
    return not held and address in pool.quarantined()


def assert_not_given(pool: SmallPool, address: str) -> None:
    end = time.monotonic() + WATCHED
    while time.monotonic() < end:
        assert address in pool.quarantined()
        assert address not in {one["address"] for one in pool.allocations()}
        assert pool.address("late") == ""
    assert in_kernel(pool, address), "the other node has forgotten it: nothing stood against giving it"


def test_a_freed_address_that_no_policy_knows_is_given_again_at_once(full: SmallPool) -> None:
    full.run("late")
    freed = full.address("p3")
    full.delete("p3")
    full.wait("late")
    assert full.address("late") == freed
