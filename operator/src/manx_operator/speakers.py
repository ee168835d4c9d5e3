"""The nodes as BGP speakers and members of the mesh.

Owns: what each Node, its report and the users' BGP kinds come to. Must not: know policy, pools or blocks.

Computed when asked for, and remembered until something that it came from changes; comparing with what is there (the
writer does) then keeps a change to those nodes that it really concerns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import msgspec

from manx_core.api.core_v1 import Node
from manx_core.api.v1alpha1 import NodeReport
from manx_core.bgp.nodes import Speaker, speaker
from manx_operator.user_kinds import UserKinds

Key = tuple[str, str]


class Speakers:
    """`nodes` and `reports` are the informers' caches."""

    def __init__(self, nodes: Mapping[Key, Node], reports: Mapping[Key, NodeReport], kinds: UserKinds) -> None:
        self._nodes = nodes
        self._reports = reports
        self._kinds = kinds
        self._known: dict[str, Speaker] = {}

    def changed(self, node: str | None = None) -> None:
        """The Node or its report changed; None: something that concerns all."""
        if node is None:
            self._known.clear()
        else:
            self._known.pop(node, None)

    def get(self, name: str) -> Speaker | None:
        """None if there is no such Node."""
        node = self._nodes.get(("", name))
        if node is None:
            return None
        if name not in self._known:
            self._known[name] = self._speaker(node)
        return self._known[name]

    def __iter__(self) -> Iterator[Speaker]:
        yield from (found for _, name in self._nodes if (found := self.get(name)) is not None)

    def _speaker(self, node: Node) -> Speaker:
        name = node.metadata.name
        report = self._reports.get(("", name))
        found = speaker(
            node,
            self._kinds.bgp_globals(name),
            self._kinds.peer_rules,
            self._kinds.autodetection,
            report.status.interfaces if report is not None else (),
            self._kinds.autodetection6,
        )
        if self._kinds.bgp_enabled:
            return found
        return replace(found, settings=msgspec.structs.replace(found.settings, mesh_enabled=False))
