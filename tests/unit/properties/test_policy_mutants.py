"""The probes of the property tests tell wrong rules from right ones: twenty mutants, the same in every run."""

from __future__ import annotations

from random import Random

from policy_mutants import try_mutants

WANTED = 20


def test_rules_with_one_thing_wrong_are_caught() -> None:
    count = try_mutants(Random("mutants"), WANTED)
    print(
        f"\nmutants: {count['caught']} caught; {count['equivalent']} more mean the same; {count['clusters']} clusters"
    )
    assert count["caught"] == WANTED
