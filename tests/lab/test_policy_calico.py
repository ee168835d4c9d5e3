"""Calico's policies on real packets: every field of a rule in both directions, what policies apply to, orders and
tiers, and clusters of chance, over both families and TCP, UDP, SCTP, UDPLite, ICMP and a protocol without a name.

A share of all connections is tried after each change, and those that the tables name; `MANX_POLICY_SHARE=1` tries all,
`MANX_POLICY_SEEDS=100:200` other clusters of chance (`make policies`).
"""

from __future__ import annotations

import os

import pytest

from lab_policy_batches import Batch, batches
from lab_policy_cases import Case
from lab_policy_order_cases import ORDER_CASES
from lab_policy_random_all import objects_of
from lab_policy_rows import ROWS
from lab_policy_world import World

SHARE = float(os.environ.get("MANX_POLICY_SHARE", "0.25"))
FIRST, _, LAST = os.environ.get("MANX_POLICY_SEEDS", "0:8").partition(":")


@pytest.mark.parametrize("batch", batches(ROWS), ids=str)
def test_packets_agree_on_every_field_of_a_rule(wide_world: World, batch: Batch) -> None:
    """Nine rows at a time, one batch after the other without a clean slate between."""
    claims = batch.claims()
    wide_world.replace(batch.policies())
    table = wide_world.table(SHARE, claims)
    wide_world.hold(table, claims)
    wide_world.agree(table)


@pytest.mark.parametrize("case", ORDER_CASES, ids=lambda case: case.name)
def test_packets_agree_on_whom_and_in_which_order(wide_world: World, case: Case) -> None:
    wide_world.replace(case.policies)
    wide_world.settle(case.allows, case.denies, families=case.families, share=SHARE)


@pytest.mark.parametrize("seed", range(int(FIRST), int(LAST)))
def test_packets_agree_on_clusters_of_chance(wide_world: World, seed: int) -> None:
    wide_world.replace(objects_of(seed))
    wide_world.settle(share=SHARE)
