"""The pods that the operator lists for this node.

Owns: reading NodeState's lines, and what becomes of one that cannot be read. Must not: know which pods are here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from manx_core.api.lines import lines_of
from manx_core.api.v1alpha1 import NodeStateSpec
from manx_core.policy.endpoint import Endpoint, endpoint_of

log = logging.getLogger(__name__)


def listed(state: NodeStateSpec) -> Iterator[Endpoint]:
    """A line that cannot be read is as none, so that its pod stays closed, and the log says so."""
    for line in lines_of(state.pods):
        try:
            yield endpoint_of(line)
        except ValueError as error:
            log.error("NodeState spec.pods: %s", error)
