"""No object is larger than 400 KiB, whatever 10,000 policies of 250 pods are called."""

from __future__ import annotations

import pytest

from bench.scale import sizes

LIMIT = 400 * 1024
ADDED = 8 * 1024
"""Bytes, at the most, of what only the API server writes: managedFields, which repeat the labels."""


@pytest.mark.parametrize("lengths", [sizes.USUAL, sizes.LONGEST])
def test_no_object_is_too_large(lengths: sizes.Lengths) -> None:
    found = sizes.largest(10_000, lengths)
    assert found.keys() == {"PolicyClass", "PolicyProgram", "AddressGroup", "NodeState", "NodeReport", "IPAMBlock"}
    assert {kind: size for kind, size in found.items() if size > LIMIT - ADDED} == {}
    assert found["PolicyClass"] > 300_000, "the class names all policies"
