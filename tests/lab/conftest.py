"""The cluster that lab tests run on: brought up once for a run, with Manx installed from its image by the two
commands.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from lab.cluster import Cluster
from lab_policy_objects import MARK, PREFIX
from lab_policy_world import World


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The lab named $MANX_LAB (default manx-ci). One that is up already is used as it is, and left up."""
    found, is_new = Cluster.start_or_reuse(os.environ.get("MANX_LAB", "manx-ci"))
    yield found
    if is_new:
        found.down()


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A Kubernetes namespace of the test's own, deleted afterwards."""
    name = f"t-{abs(hash(request.node.nodeid)) % 10**8}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def policy_world(cluster: Cluster) -> Iterator[World]:
    """Nine pods in three namespaces, open to each other: whoever applies policies or changes labels undoes that."""
    world = World(cluster)
    try:
        world.build()
        yield world
    finally:
        world.tear_down()
        print(f"\npolicy: {world.prober.sent} probes in {world.rounds} rounds")


@pytest.fixture(scope="module")
def wide_world(policy_world: World) -> Iterator[World]:
    """The world with what only Calico's rules tell apart, and a service for those that name one."""
    world = policy_world
    metadata = {"name": "lab-service", "namespace": f"{PREFIX}y", "labels": {MARK: "yes"}}
    spec = {
        "selector": {"pod": "b"},
        "ports": [{"port": 8000, "targetPort": "web"}],
        "ipFamilyPolicy": "PreferDualStack",
    }
    world.cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    world.wide = True
    yield world
    world.wide = False
    world.clear()
    world.cluster.kubectl("-n", f"{PREFIX}y", "delete", "service", "lab-service")
