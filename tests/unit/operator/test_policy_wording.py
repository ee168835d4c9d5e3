"""Which change of a policy's status somebody waits for."""

from __future__ import annotations

from typing import Any

import pytest

from manx_operator.policy_wording import _pressing

IN_FORCE = ("InForce", "True", "InForce")
WAITING = ("InForce", "False", "Waiting")
VALID = ("Valid", "True", "Valid")
INVALID = ("Valid", "False", "Invalid")
NOT_WRITTEN = ("InForce", "False", "NotWritten")


def status(*said: tuple[str, str, str], generation: int = 1, message: str = "", nodes: int = 0) -> dict[str, Any]:
    conditions = [{"type": type_, "status": found, "reason": why, "message": message} for type_, found, why in said]
    return {"observedGeneration": generation, "nodes": {"concerned": nodes}, "conditions": conditions}


@pytest.mark.parametrize(
    ("before", "after", "pressing"),
    [
        ({}, status(VALID, WAITING), True),
        (status(VALID, IN_FORCE), status(VALID, IN_FORCE, nodes=5, message="on all 5 nodes"), False),
        (status(VALID, IN_FORCE), status(VALID, WAITING), False),
        (status(VALID, WAITING, message="n1"), status(VALID, WAITING, message="n2"), False),
        (status(VALID, NOT_WRITTEN), status(VALID, WAITING), True),
        (status(VALID, WAITING), status(VALID, IN_FORCE), True),
        (status(VALID, WAITING), status(VALID, ("InForce", "True", "NothingSelected")), True),
        (status(VALID, IN_FORCE), status(INVALID, IN_FORCE), True),
        (status(INVALID, WAITING), status(INVALID, ("InForce", "False", "Invalid")), True),
        (status(VALID, IN_FORCE), status(VALID, IN_FORCE, generation=2), True),
        (status(VALID, WAITING), status(VALID, WAITING, generation=2), True),
        (status(WAITING), status(WAITING, ("Remarks", "True", "Remarks")), True),
    ],
)
def test_pressing(before: dict[str, Any], after: dict[str, Any], pressing: bool) -> None:
    assert _pressing(before, after) is pressing
