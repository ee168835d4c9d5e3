"""Agents that follow a model by what it reports as changed, each with a simulated kernel that follows its agent.

Owns: `Agents`: the way of every change from `drain` to the kernels, incremental at each stage: the objects that
changed, the agents' shares, what is settled and rendered, and the plans that are run. Must not: know users' objects.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernelsim import KernelSim
from manx_agent.model import LocalEndpoint, PolicyView
from manx_agent.render.image import Image
from manx_agent.render.plan import plan
from manx_agent.render.policy import Renderer
from manx_agent.render.settle import Settled, settle
from manx_agent.state.share import Share
from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.lines import text_of
from manx_core.api.v1alpha1 import (
    AddressGroup,
    AddressGroupSpec,
    NodeState,
    NodeStateSpec,
    PolicyClass,
    PolicyClassSpec,
    PolicyProgram,
)
from manx_core.policy.endpoint import Endpoint, line_of
from manx_operator.model import Changes, DesiredObject, Key, PolicyModel
from policy_chain import POOLS


class Agent:
    """One node's agent and kernel."""

    def __init__(self, node: str) -> None:
        self.share = Share(node)
        self.kernel = KernelSim()
        self._renderer = Renderer()
        self._settled = Settled()
        self._known = Image()

    def hear(self, key: Key, found: DesiredObject | None, version: int) -> None:
        """One object as the node's watch has it; None: it does not span the node."""
        kind, name = key
        meta = ObjectMeta(name=name, resource_version=str(version))
        if kind == "PolicyClass":
            spec = found.spec if found else None
            self.share.set_class(0, name, _made(PolicyClass, meta, spec, PolicyClassSpec))
        elif kind == "PolicyProgram":
            self.share.set_program(0, name, PolicyProgram(metadata=meta, spec=found.spec) if found else None)  # type: ignore[arg-type]
        else:
            spec = found.spec if found else None
            self.share.set_group_chunk(0, name, _made(AddressGroup, meta, spec, AddressGroupSpec))

    def attach(self, endpoints: Iterable[LocalEndpoint]) -> None:
        """These pods, and no others, have an interface here."""
        wanted = {endpoint.container_id: endpoint for endpoint in endpoints}
        for gone in self.share.endpoints.keys() - wanted.keys():
            self.share.drop_endpoint(gone)
        for container, endpoint in wanted.items():
            if self.share.endpoints.get(container) != endpoint:
                self.share.put_endpoint(endpoint)

    def apply(self) -> None:
        """Brings the kernel to where it should be. Nothing is missing: all has been heard."""
        view = self.share.policy_view()
        self._settled = settle(view, self._settled, 0.0)
        assert not self._settled.since, self._settled.since
        rendered = self._renderer.render(self._settled, view.pools, view.settings)
        assert not rendered.problems, rendered.problems
        for step in plan(self._known, rendered.image):
            self.kernel.run(step)
        self._known = rendered.image
        assert self.kernel.image() == rendered.image

    @property
    def view(self) -> PolicyView:
        return self.share.policy_view()


class Agents:
    """An agent for each of some nodes."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self.by_node = {node: Agent(node) for node in nodes}
        self._holds: dict[Key, frozenset[str]] = {}
        self._version = 0
        for node in self.by_node:
            self._tell(node, ())

    def follow(self, model: PolicyModel, changes: Changes) -> None:
        """Writes what changed, as the operator would, and lets each node's watch hear its part."""
        for key in changes.objects:
            self._write(key, model.desired(*key))
        for node in changes.nodes & self.by_node.keys():
            self._tell(node, model.endpoints(node))

    def _write(self, key: Key, found: DesiredObject | None) -> None:
        self._version += 1
        wanted = found.nodes if found else frozenset()
        for node in self._holds.get(key, frozenset()) | wanted:
            self.by_node[node].hear(key, found if node in wanted else None, self._version)
        self._holds[key] = wanted

    def _tell(self, node: str, endpoints: Iterable[Endpoint]) -> None:
        spec = NodeStateSpec(epoch=1, pods=text_of(map(line_of, endpoints)), pools=POOLS)
        self.by_node[node].share.set_node_state(NodeState(metadata=ObjectMeta(name=node), spec=spec))


def _made(kind: type, meta: ObjectMeta, spec: object, of: type):  # type: ignore[no-untyped-def]
    if spec is None:
        return None
    assert isinstance(spec, of)
    return kind(metadata=meta, spec=spec)
