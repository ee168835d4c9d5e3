"""How often a node compares its kernel with what it should be is FelixConfiguration's to say: an alteration is found
within the interval that is set, and left alone until then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lab.cluster import Cluster
from lab_policy_world import World

OFTEN, SELDOM, ITSELF = "1s", "1h", "0s"
_LEFT_ALONE = 20.0
"""Seconds for which it is seen that nothing is mended: several times what Manx takes by itself."""


@dataclass(frozen=True)
class Alteration:
    """Something of Manx's, taken away on a node: by which field it is found again."""

    fields: tuple[str, ...]
    remove: Callable[[Cluster, str], None]
    is_there: Callable[[Cluster, str], bool]


def _flush(cluster: Cluster, node: str) -> None:
    cluster.node_exec(node, "iptables", "-F", "manx-from")


def _has_rules(cluster: Cluster, node: str) -> bool:
    return "-A manx-from " in cluster.node_exec(node, "iptables", "-S", "manx-from")


def _empty_set(cluster: Cluster, node: str) -> None:
    cluster.node_exec(node, "ipset", "flush", "manx-pools")


def _has_members(cluster: Cluster, node: str) -> bool:
    return "add manx-pools " in cluster.node_exec(node, "ipset", "save", "manx-pools")


def _routes(cluster: Cluster, node: str) -> list[str]:
    """To other nodes' pods."""
    found = cluster.node_exec(node, "ip", "-4", "route", "show", "proto", "77").splitlines()
    return [line for line in found if " via " in line]


def _remove_routes(cluster: Cluster, node: str) -> None:
    for line in _routes(cluster, node):
        cluster.node_exec(node, "ip", "-4", "route", "del", line.split()[0], "proto", "77")


ALTERATIONS = {
    "rules": Alteration(("iptablesRefreshInterval", "ipsetsRefreshInterval"), _flush, _has_rules),
    "sets": Alteration(("ipsetsRefreshInterval", "iptablesRefreshInterval"), _empty_set, _has_members),
    "routes": Alteration(("routeRefreshInterval",), _remove_routes, lambda *where: bool(_routes(*where))),
}


@pytest.fixture
def world(policy_world: World) -> Iterator[World]:
    yield policy_world
    policy_world.cluster.delete("felixconfigurations.projectcalico.org", "--all")
    policy_world.settle(share=0.1)


def _configure(world: World, fields: tuple[str, ...], interval: str) -> None:
    """Waits until it is known to the node."""
    kind = {"apiVersion": "projectcalico.org/v3", "kind": "FelixConfiguration", "metadata": {"name": "default"}}
    world.cluster.apply({**kind, "spec": dict.fromkeys(fields, interval)})
    key = "routeRefreshInterval" if "route" in fields[0] else "refreshInterval"
    wanted = {OFTEN: 1.0, SELDOM: 3600.0, ITSELF: 0.0}[interval]

    def known() -> bool:
        state = world.cluster.kubectl.json("get", "nodestates.manx.dev", world.cluster.nodes[0])
        return bool(state["spec"].get("policy", {}).get(key, 0.0) == wanted)

    world.cluster.wait_for(f"{fields[0]} {interval} to be told to the node", known)


@pytest.mark.parametrize("what", ALTERATIONS)
def test_what_is_altered_is_found_within_the_interval(world: World, what: str) -> None:
    cluster, node, one = world.cluster, world.cluster.nodes[0], ALTERATIONS[what]
    _configure(world, one.fields, SELDOM)  # so that an hour's wait has to end when it becomes a second
    for interval in (OFTEN, ITSELF):
        _configure(world, one.fields, interval)
        one.remove(cluster, node)
        cluster.wait_for(f"{what} to be mended, with {interval}", lambda: one.is_there(cluster, node))


@pytest.mark.parametrize("what", ["rules", "sets"])
def test_what_is_altered_is_left_alone_before(world: World, what: str) -> None:
    cluster, node, one = world.cluster, world.cluster.nodes[0], ALTERATIONS[what]
    _configure(world, one.fields, SELDOM)
    time.sleep(_LEFT_ALONE)  # For the look that was due before the node heard of it.
    one.remove(cluster, node)
    began = time.monotonic()
    while time.monotonic() < began + _LEFT_ALONE:
        assert not one.is_there(cluster, node), f"{what} were mended {time.monotonic() - began:.0f} s after"
        time.sleep(1)
    _configure(world, one.fields, OFTEN)
    cluster.wait_for(f"{what} to be mended at last", lambda: one.is_there(cluster, node))
