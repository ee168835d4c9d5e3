"""Kubernetes NetworkPolicy on real packets: a table of policies, each tried on every connection between nine pods on
all nodes, the nodes and a host outside, over TCP, UDP and SCTP."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab_policy_cases import CASES, DENY_BOTH, Case
from lab_policy_random import policies_of
from lab_policy_world import World

SHARE = float(os.environ.get("MANX_POLICY_SHARE", "0.5"))
"""Of all connections, tried after each change."""


@pytest.fixture(autouse=True)
def no_policies_left(policy_world: World) -> Iterator[None]:
    yield
    policy_world.clear()


def test_the_probes_tell_what_is_not_so(policy_world: World) -> None:
    """The detectors themselves: each kind of wrong answer is noticed, and a closed port is no silence."""
    table = policy_world.table()
    probe = next(iter(table))
    with pytest.raises(AssertionError, match=f"{probe}\n.*1 wrongly answered"):
        policy_world.agree({**table, probe: False}, timeout=0)
    ported = [one for one in table if one.protocol in ("TCP", "UDP") and one.target in ("x/a", "y/b")]
    closed = {one._replace(port=82): True for one in ported}
    assert set(policy_world.prober.round(list(closed), list(closed)).values()) == {"refused"}
    policy_world.apply({"x/p": DENY_BOTH, "y/p": DENY_BOTH, "z/p": DENY_BOTH})
    policy_world.settle()
    with pytest.raises(AssertionError, match="wrongly silent"):
        policy_world.agree(table, timeout=0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_packets_agree_with_the_api(policy_world: World, case: Case) -> None:
    if case.policies:
        policy_world.apply(case.policies)
    policy_world.settle(case.allows, case.denies, families=case.families, share=SHARE)


@pytest.mark.parametrize("seed", range(6))
def test_packets_agree_with_the_api_on_policies_of_chance(policy_world: World, seed: int) -> None:
    """One set of policies after the other, without a clean slate between: what is left over would show."""
    for half in (2 * seed, 2 * seed + 1):
        policy_world.replace(policies_of(half))
        policy_world.settle()
