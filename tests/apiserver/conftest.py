"""Tests on a real kube-apiserver of their own, without nodes: what they run is compiled before any of them begins."""

from __future__ import annotations

import pytest

from lab import binaries


def pytest_configure(config: pytest.Config) -> None:
    """Once, also where the tests are shared out to several processes."""
    if not hasattr(config, "workerinput"):
        binaries.build(binaries.KUBE)
