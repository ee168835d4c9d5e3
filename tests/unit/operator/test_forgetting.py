"""A freed address is clear only when every node that could have it in a group has said that it has not."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from informing import eventually
from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.lines import text_of
from manx_core.api.v1alpha1 import AddressGroup, AddressGroupSpec, Applied, NodeReport, NodeReportStatus
from manx_core.span import EVERYWHERE, span_label
from manx_kube.informer import Batch, Event, EventKind
from manx_kube.resources import GLOBAL_NETWORK_POLICIES, GLOBAL_NETWORK_SETS, IPAM_BLOCKS, PODS
from manx_operator.forgetting import Forgetter, HeldAddresses, Item, SpanVersions
from operating import Cluster, Leader, cluster, leading, settled

ADDRESS = "10.1.0.5"
ITEM = Item("b", "u", ADDRESS, 1)


def chunk(version: int, *members: str, spans: tuple[str, ...] = (), name: str = "g-0") -> AddressGroup:
    labels = {EVERYWHERE if node == "*" else span_label(node): "" for node in spans}
    meta = ObjectMeta(name=name, resource_version=str(version), labels=labels)
    return AddressGroup(metadata=meta, spec=AddressGroupSpec(epoch=1, group="g", members=text_of(members)))


@dataclass
class World:
    """Chunks, nodes and reports; `now` is the time."""

    now: float = 0.0
    version: int = 10
    chunks: dict[str, AddressGroup] = field(default_factory=dict)
    nodes: dict[tuple[str, str], object] = field(default_factory=dict)
    reports: dict[tuple[str, str], NodeReport] = field(default_factory=dict)
    versions: SpanVersions = field(default_factory=SpanVersions)
    held: HeldAddresses = field(default_factory=lambda: HeldAddresses(()))
    sent: dict[str, tuple[int, int]] = field(default_factory=dict)

    def forgetter(self, ready: float = 0.0, grace: float = 60.0) -> Forgetter:
        return Forgetter(
            self.versions, lambda address: address in self.held, self.nodes, self.reports,
            clock=lambda: self.now, ready=ready, grace=grace,
        )  # fmt: skip

    def node(self, name: str) -> None:
        self.nodes[("", name)] = object()
        self.applied(name, 0, 0)

    def applied(self, name: str, own: int, everywhere: int) -> None:
        status = NodeReportStatus(applied=Applied(addressgroups=str(own), addressgroups_everywhere=str(everywhere)))
        self.reports[("", name)] = NodeReport(metadata=ObjectMeta(name=name), status=status)

    def put(self, *members: str, spans: tuple[str, ...] = (), name: str = "g-0") -> int:
        self.version += 1
        old, new = self.chunks.get(name), chunk(self.version, *members, spans=spans, name=name)
        self.chunks[name] = new
        self._tell(Event(EventKind.MODIFIED if old else EventKind.ADDED, ("", name), old, new))
        return self.version

    def delete(self, name: str = "g-0") -> int:
        self.version += 1
        self._tell(Event(EventKind.DELETED, ("", name), self.chunks.pop(name), None, str(self.version)))
        return self.version

    def _tell(self, event: Event[AddressGroup]) -> None:
        # the batch goes on: later versions in it concern others
        batch = Batch([event], str(self.version + 5))
        self.versions.heard(batch)
        self.held.heard(batch)


def test_an_address_that_no_node_ever_had_is_clear_at_once() -> None:
    world = World()
    world.node("a")
    forgetter = world.forgetter()
    assert forgetter.look({ITEM}) == set()  # the barrier is taken
    assert forgetter.look({ITEM}) == {ITEM}


def test_it_is_not_clear_while_a_chunk_has_it() -> None:
    world = World()
    world.node("a")
    world.put(ADDRESS, spans=("a",))
    world.applied("a", 99, 99)
    forgetter = world.forgetter()
    assert [forgetter.look({ITEM}) for _ in range(3)] == [set()] * 3
    world.put(spans=("a",))
    world.applied("a", 99, 99)
    assert [forgetter.look({ITEM}) for _ in range(2)] == [set(), {ITEM}]


def test_a_port_member_holds_its_address() -> None:
    world = World()
    world.put(f"{ADDRESS},tcp:80")
    assert ADDRESS in world.held
    world.put()
    assert ADDRESS not in world.held


@pytest.mark.parametrize("spans", [("a",), ("*",)])
@pytest.mark.parametrize("how", ["member", "chunk", "label"])
def test_it_waits_for_the_node_to_have_applied_the_removal(spans: tuple[str, ...], how: str) -> None:
    world = World()
    world.node("a")
    world.put(ADDRESS, spans=spans)
    if how == "member":
        barrier = world.put(spans=spans)
    elif how == "chunk":
        barrier = world.delete()
    else:
        barrier = world.put(ADDRESS)
        world.put()
    forgetter = world.forgetter()
    forgetter.look({ITEM})
    short = (barrier - 1, 0) if spans == ("a",) else (0, barrier - 1)
    world.applied("a", *short)
    assert forgetter.look({ITEM}) == set()
    world.applied("a", *((barrier, 0) if spans == ("a",) else (0, barrier)))
    assert forgetter.look({ITEM}) == {ITEM}


def test_the_progress_of_one_watch_says_nothing_of_the_other() -> None:
    world = World()
    world.node("a")
    world.put(ADDRESS, spans=("a", "*"))
    barrier = world.put(spans=("a", "*"))
    forgetter = world.forgetter()
    forgetter.look({ITEM})
    world.applied("a", barrier, barrier - 1)
    assert forgetter.look({ITEM}) == set()
    world.applied("a", barrier - 1, barrier)
    assert forgetter.look({ITEM}) == set()
    world.applied("a", barrier, barrier)
    assert forgetter.look({ITEM}) == {ITEM}


def test_a_node_that_is_gone_is_not_waited_for() -> None:
    world = World()
    world.node("a")
    world.put(ADDRESS, spans=("a",))
    world.put(spans=("a",))
    forgetter = world.forgetter()
    forgetter.look({ITEM})
    assert forgetter.look({ITEM}) == set()
    del world.nodes[("", "a")]
    assert forgetter.look({ITEM}) == {ITEM}


def test_a_node_without_a_report_is_waited_for_as_long_as_its_agent_may_take_to_start() -> None:
    world = World()
    world.nodes[("", "a")] = object()
    world.put(ADDRESS, spans=("a",))
    world.put(spans=("a",))
    forgetter = world.forgetter(grace=60.0)
    forgetter.look({ITEM})
    world.now = 59.0
    assert forgetter.look({ITEM}) == set()
    world.now = 60.0
    assert forgetter.look({ITEM}) == {ITEM}


def test_a_process_that_has_just_started_waits() -> None:
    world = World()
    forgetter = world.forgetter(ready=100.0)
    assert [forgetter.look({ITEM}) for _ in range(3)] == [set()] * 3
    world.now = 100.0
    assert [forgetter.look({ITEM}) for _ in range(2)] == [set(), {ITEM}]


def test_what_is_freed_behind_a_barrier_waits_for_the_next() -> None:
    world = World()
    world.node("a")
    world.put(ADDRESS, "10.1.0.6", spans=("a",))
    first = world.put("10.1.0.6", spans=("a",))
    forgetter = world.forgetter()
    forgetter.look({ITEM})
    second = world.put(spans=("a",))
    later = Item("b", "u", "10.1.0.6", 2)
    world.applied("a", first, 0)
    assert forgetter.look({ITEM, later}) == {ITEM}
    assert forgetter.look({ITEM, later}) == {ITEM}
    world.applied("a", second, 0)
    assert forgetter.look({ITEM, later}) == {ITEM, later}


def test_an_item_that_is_no_more_is_not_remembered() -> None:
    world = World()
    forgetter = world.forgetter()
    forgetter.look({ITEM})
    assert forgetter.look({ITEM}) == {ITEM}
    assert forgetter.look(set()) == set()
    again = ITEM._replace(block_uid="another")
    assert forgetter.look({again}) == set()


@settings(deadline=None)
@given(st.data())
def test_nothing_is_clear_that_some_nodes_kernel_may_hold(data: st.DataObject) -> None:
    """Against a model in which each node applies what it was sent, in order, whenever it pleases. Once freed, an
    address enters no group any more (its allocation is gone), but may stay in some for a while."""
    world = World()
    names = ["a", "b", "c"]
    for name in names:
        world.node(name)
    forgetter = world.forgetter()
    history: list[tuple[int, frozenset[str], frozenset[str]]] = []  # version, members, nodes spanned
    kernel: dict[str, int] = dict.fromkeys(names, 0)
    address = ["10.1.0.1", "10.1.0.2"]
    items = {Item("b", "u", text, number) for number, text in enumerate(address)}
    clear: set[Item] = set()
    freed = False
    for _ in range(data.draw(st.integers(1, 12))):
        step = data.draw(st.sampled_from(["change", "apply", "look"]))
        if step == "change":
            may = sorted(history[-1][1] if history else ()) if freed else address
            members = data.draw(st.frozensets(st.sampled_from(may))) if may else frozenset()
            spans = data.draw(st.frozensets(st.sampled_from(names)))
            version = world.put(*sorted(members), spans=tuple(sorted(spans)))
            history.append((version, members, spans))
        elif step == "apply":
            name = data.draw(st.sampled_from(names))
            before = [frozenset(), *(spans for _, _, spans in history)]
            concerned = [h[0] for h, was in zip(history, before, strict=False) if name in h[2] | was]
            if concerned:
                kernel[name] = data.draw(st.sampled_from(concerned))
                world.applied(name, max(kernel[name], int(world.reports[("", name)].status.applied.addressgroups)), 0)
                kernel[name] = int(world.reports[("", name)].status.applied.addressgroups)
        else:
            freed = True
            clear = forgetter.look(items)
        for item in clear:
            for name in names:
                seen = [h for h in history if h[0] <= kernel[name]]
                holds = bool(seen) and name in seen[-1][2] and item.address in seen[-1][1]
                assert not holds, f"{name} still has {item.address}"


async def test_from_a_deleted_pod_to_an_address_that_may_be_given_again() -> None:
    async with cluster() as world:
        world.node("n1", 1)
        world.node("n2", 2)
        world.pool()
        world.namespace("d")
        world.pod("web", "n1", labels={"app": "web"})
        world.pod("client", "n2", labels={"app": "client"})
        world.policy("p", {"app": "web"}, {"app": "client"})
        async with leading(world) as leader:
            await settled(world, leader)
            address = world.allocate("client")
            await settled(world, leader, lambda: world.members(address))
            world.report("n1")
            world.report("n2")
            world.delete(PODS, "client", "d")
            assert world.free("client", 1) == address
            await settled(world, leader, lambda: not world.members(address))
            await settled(world, leader)
            world.report("n1", version=1)
            for _ in range(3):
                await settled(world, leader)
                leader.control.forget()
            assert not world.block_of("n2")["spec"].get("forgotten")
            world.report("n1")
            await settled(world, leader, lambda: world.block_of("n2")["spec"].get("forgotten") == 1)
            world.forget_requests()
            await settled(world, leader)
            assert not [r for r in world.writes() if r.resource == str(IPAM_BLOCKS)]


async def test_an_address_that_a_network_set_lists_may_be_given_again() -> None:
    """It stays in the group that selects the set, and must leave the one that selects its pod."""
    async with cluster() as world:
        world.node("n1", 1)
        world.pool()
        world.namespace("d")
        world.pod("web", "n1", labels={"app": "web"})
        world.pod("client", "n1", labels={"app": "client"})
        world.policy("p", {"app": "web"}, {"app": "client"})
        rule = {"action": "Allow", "source": {"selector": "app == 'client' || has(listed)"}}
        world.put(GLOBAL_NETWORK_POLICIES, {"metadata": {"name": "g"}, "spec": {"ingress": [rule]}})
        async with leading(world) as leader:
            await settled(world, leader)
            address = world.allocate("client")
            labelled = {"name": "s", "labels": {"listed": ""}}
            world.put(GLOBAL_NETWORK_SETS, {"metadata": labelled, "spec": {"nets": [address]}})
            await settled(world, leader, lambda: len(world.members(address)) == 2)
            world.delete(PODS, "client", "d")
            world.free("client", 1)
            await settled(world, leader, lambda: len(world.members(address)) == 1)
            assert leader.control.model.lists(address)
            await eventually(lambda: _forgotten(world, leader))
            assert world.members(address)


def _forgotten(world: Cluster, leader: Leader) -> bool:
    world.report("n1")
    leader.control.forget()
    return bool(world.block_of("n1")["spec"].get("forgotten") == 1)
