"""Kubernetes NetworkPolicy on real packets: a table of policies, each tried on every connection between nine pods on
all nodes, the nodes and a host outside, over TCP, UDP and SCTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab_policy_cases import CASES, Case
from lab_policy_random import policies_of
from lab_policy_world import World


@pytest.fixture(autouse=True)
def no_policies_left(policy_world: World) -> Iterator[None]:
    yield
    policy_world.clear()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_packets_agree_with_the_api(policy_world: World, case: Case) -> None:
    if case.policies:
        policy_world.apply(case.policies)
    policy_world.settle(case.allows, case.denies)


@pytest.mark.parametrize("seed", range(6))
def test_packets_agree_with_the_api_on_policies_of_chance(policy_world: World, seed: int) -> None:
    """One set of policies after the other, without a clean slate between: what is left over would show."""
    for half in (2 * seed, 2 * seed + 1):
        policy_world.replace(policies_of(half))
        policy_world.settle()
