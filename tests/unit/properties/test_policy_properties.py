"""What must hold of policy on every cluster that chance draws, with a fixed budget; `make properties` for longer."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_properties import Property, compiled_rules_mean_the_same, every_change_comes_through, kernels_mean_the_same


@pytest.mark.parametrize(
    ("holds", "cases"),
    [(compiled_rules_mean_the_same, 150), (kernels_mean_the_same, 100), (every_change_comes_through, 40)],
)
def test_what_must_hold(holds: Property, cases: int, record_property: Callable[[str, object], None]) -> None:
    tried: list[int] = []

    @settings(max_examples=cases)
    @given(st.randoms(use_true_random=False))
    def on_any_cluster(random: Random) -> None:
        tried.append(holds(random))

    on_any_cluster()
    record_property("counted", f"{holds.__name__}: {len(tried)} cases, {sum(tried)} probes")
