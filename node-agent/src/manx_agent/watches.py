"""The agent's watches: this node's share of the manx.dev objects, and nothing else.

Owns: which collections are watched by which selectors, and feeding `Share` from them. Must not: interpret objects.

Why nine watches and not one list of everything: the API server then sends this node its own share only, so an agent's
memory and CPU follow its node, not the cluster.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self

from manx_agent.state.share import Share
from manx_core.api.v1alpha1 import (
    AddressGroup,
    Applied,
    IPAMBlock,
    MeshNode,
    NodeState,
    PolicyClass,
    PolicyProgram,
)
from manx_core.span import EVERYWHERE, span_label
from manx_kube.client import BadItem, KubeClient
from manx_kube.informer import Batch, Informer
from manx_kube.resources import (
    ADDRESS_GROUPS,
    IPAM_BLOCKS,
    MESH_NODES,
    NODE_STATES,
    POLICY_CLASSES,
    POLICY_PROGRAMS,
    Resource,
)

log = logging.getLogger(__name__)

Put = Callable[[str, Any], None]


class Watches:
    """All of the agent's informers. `on_state` (the NodeState), `on_policy` (classes, programs, groups), `on_bgp` (the
    mesh) and `on_blocks` are called, on the loop, after the share took a batch that concerns them."""

    def __init__(
        self,
        client: KubeClient,
        share: Share,
        *,
        on_state: Callable[[], None],
        on_policy: Callable[[], None],
        on_bgp: Callable[[], None],
        on_blocks: Callable[[], None],
        on_bad: Callable[[BadItem], None] | None = None,
    ) -> None:
        self._client, self._on_bad = client, on_bad
        self._informers: dict[str, Informer[Any]] = {}
        self._stack = AsyncExitStack()
        mine, all_nodes = span_label(share.node), EVERYWHERE

        self._watch("nodestates", NODE_STATES, NodeState, lambda _, obj: share.set_node_state(obj), on_state,
                    field_selector=f"metadata.name={share.node}")  # fmt: skip
        self._watch("meshnodes", MESH_NODES, MeshNode, share.set_mesh_node, on_bgp)
        self._watch("ipamblocks", IPAM_BLOCKS, IPAMBlock, share.set_block, on_blocks, label_selector=mine)
        for side, label, suffix in ((0, mine, ""), (1, all_nodes, "_everywhere")):
            self._watch(f"policyclasses{suffix}", POLICY_CLASSES, PolicyClass, _sided(share.set_class, side),
                        on_policy, label_selector=label)  # fmt: skip
            self._watch(f"policyprograms{suffix}", POLICY_PROGRAMS, PolicyProgram, _sided(share.set_program, side),
                        on_policy, label_selector=label)  # fmt: skip
            self._watch(f"addressgroups{suffix}", ADDRESS_GROUPS, AddressGroup, _sided(share.set_group_chunk, side),
                        on_policy, label_selector=label)  # fmt: skip

    def _watch(
        self, name: str, resource: Resource, type_: type[Any], put: Put, then: Callable[[], None], **selectors: str
    ) -> None:
        informer = Informer(self._client, resource, type_, on_bad=self._on_bad, **selectors)  # type: ignore[arg-type]

        def handle(batch: Batch[Any]) -> None:
            for event in batch.events:
                put(event.key[1], event.new)
            then()

        informer.add_handler(handle)
        self._informers[name] = informer

    async def __aenter__(self) -> Self:
        for informer in self._informers.values():
            await self._stack.enter_async_context(informer)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def wait_synced(self) -> None:
        """Returns once every first list is complete; before that nothing in the kernel may be touched."""
        await asyncio.gather(*(informer.wait_synced() for informer in self._informers.values()))

    @property
    def synced(self) -> bool:
        """Whether every first list is complete."""
        return all(informer.synced for informer in self._informers.values())

    def bad(self) -> tuple[str, ...]:
        """Objects that could not be understood, a sentence each; their last good version is what counts."""
        return tuple(
            f"{informer.resource.kind} {item.name}: {item.error}"
            for informer in self._informers.values()
            for item in informer.bad.values()
        )

    def progress(self) -> Applied:
        """Up to where each watch has been heard."""
        heard = {name: informer.resource_version for name, informer in self._informers.items()}
        return Applied(**{name: heard[name] for name in Applied.__struct_fields__})


def _sided(put: Callable[[int, str, Any], None], side: int) -> Put:
    return lambda name, obj: put(side, name, obj)
