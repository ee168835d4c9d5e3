"""Policy on a node whose kubelet and kube-proxy use the legacy back end of iptables, in a cluster whose other nodes use
nf_tables. Manx is not told: it detects the change, moves, and moves back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab_policy_batches import Batch, batches
from lab_policy_cases import SHORT, Case
from lab_policy_legacy import saved, switch
from lab_policy_order_cases import TIERS
from lab_policy_rows import ROWS
from lab_policy_world import World

SHARE = float(os.environ.get("MANX_POLICY_SHARE", "0.2"))
CALICO = batches(ROWS) if SHARE == 1 else batches(ROWS)[::6]
"""Each pair of field, back end and family is tried by `make policies`; what is left here has some of every kind."""


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


@pytest.mark.parametrize("batch", CALICO, ids=str)
def test_packets_agree_with_calicos_fields_on_the_legacy_back_end(
    wide_world: World, legacy_node: str, batch: Batch
) -> None:
    claims = batch.claims()
    wide_world.replace(batch.policies())
    table = wide_world.table(SHARE, claims)
    wide_world.hold(table, claims)
    wide_world.agree(table)
    assert ":manx-" in saved(wide_world.cluster, legacy_node, "legacy")


@pytest.mark.parametrize("case", TIERS, ids=lambda case: case.name)
def test_packets_agree_with_calicos_tiers_on_the_legacy_back_end(
    wide_world: World, legacy_node: str, case: Case
) -> None:
    wide_world.replace(case.policies)
    wide_world.settle(case.allows, case.denies, families=case.families, share=SHARE)
    assert ":manx-" not in saved(wide_world.cluster, legacy_node, "nft")
