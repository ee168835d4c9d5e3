"""A node with three pods, once for each back end, and the policy dataplane at work in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from manx_agent.model import Backend
from policy_world import Applied, World


@pytest.fixture(params=["nft", "legacy"])
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = request.param
    return chosen


@pytest.fixture
def world() -> Iterator[World]:
    with World() as one:
        yield one


@pytest.fixture
def applied(world: World, backend: Backend) -> Applied:
    return Applied(world, backend)
