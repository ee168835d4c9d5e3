"""The probes of the property tests tell wrong rules from right ones: twenty mutants, the same in every run."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from policy_mutants import try_mutants

WANTED = 20


def test_rules_with_one_thing_wrong_are_caught(record_property: Callable[[str, object], None]) -> None:
    count = try_mutants(Random("mutants"), WANTED)
    assert count["caught"] == WANTED
    record_property("counted", f"mutants: {WANTED} caught; {count['equivalent']} more that mean the same passed over")
