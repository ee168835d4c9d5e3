"""Policy on a node whose kubelet and kube-proxy use the legacy back end of iptables, in a cluster whose other nodes use
nf_tables. Manx is not told: it detects the change, moves, and moves back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab_policy_cases import SHORT, Case
from lab_policy_legacy import saved, switch
from lab_policy_world import World


@pytest.fixture(scope="module")
def legacy_node(policy_world: World) -> Iterator[str]:
    """The node of x/a, moved to the legacy back end."""
    node = policy_world.cluster.nodes[0]
    try:
        switch(policy_world.cluster, node, "legacy")
        yield node
    finally:
        policy_world.clear()
        switch(policy_world.cluster, node, "nft")
        policy_world.settle()
    assert ":manx-" not in saved(policy_world.cluster, node, "legacy")


@pytest.fixture(autouse=True)
def no_policies_left(policy_world: World) -> Iterator[None]:
    yield
    policy_world.clear()


@pytest.mark.parametrize("case", SHORT, ids=lambda case: case.name)
def test_packets_agree_with_the_api_on_the_legacy_back_end(policy_world: World, legacy_node: str, case: Case) -> None:
    policy_world.apply(case.policies)
    policy_world.settle(case.allows, case.denies, families=case.families)
    assert ":manx-" in saved(policy_world.cluster, legacy_node, "legacy")
    assert ":manx-" not in saved(policy_world.cluster, legacy_node, "nft")
