"""A node with its agent, shared by a module's tests, and pods of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cni_node import CniNode
from netns import Netns


@pytest.fixture(scope="module")
def running() -> Iterator[CniNode]:
    with CniNode(blocks="10.99.0.0/24") as made:
        yield made


@pytest.fixture
def node(running: CniNode) -> CniNode:
    """With its agent running, and no pod."""
    running.clear()
    return running


@pytest.fixture
def pod() -> Iterator[Netns]:
    with Netns() as made:
        yield made


@pytest.fixture
def other() -> Iterator[Netns]:
    with Netns() as made:
        yield made
