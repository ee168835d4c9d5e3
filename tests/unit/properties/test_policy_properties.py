"""What must hold of policy on every cluster that chance draws, with a fixed budget; `make properties` for longer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_properties import compiled_rules_mean_the_same, every_change_comes_through, kernels_mean_the_same

PROBES = Counter[str]()
sources = st.randoms(use_true_random=False)


@pytest.fixture(scope="module", autouse=True)
def said() -> Iterator[None]:
    """Prints how much was asked."""
    yield
    print("".join(f"\n{name}: {count} probes" for name, count in PROBES.items()))


@settings(max_examples=150, deadline=None)
@given(sources)
def test_compiled_rules_mean_the_same(random: Random) -> None:
    PROBES["compiled rules"] += compiled_rules_mean_the_same(random)


@settings(max_examples=100, deadline=None)
@given(sources)
def test_kernels_mean_the_same(random: Random) -> None:
    PROBES["kernels"] += kernels_mean_the_same(random)


@settings(max_examples=40, deadline=None)
@given(sources)
def test_every_change_comes_through(random: Random) -> None:
    PROBES["changes"] += every_change_comes_through(random)
