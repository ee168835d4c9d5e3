"""Blocks are planned as pods need them, never two over one another, and go back in two steps."""

from __future__ import annotations

import re
from ipaddress import ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from manx_core.api.pools import overlap
from manx_operator.forgetting import Item
from planning import Planning, pool_rule


def planning() -> Planning:
    return Planning(pool_rule("main", "10.1.0.0/24"))


def test_a_node_has_a_block_before_it_has_a_pod_and_more_before_that_is_full() -> None:
    world = planning()
    world.add_node("a")
    world.step()
    (first,) = world.there("a")
    world.set_status(first, allocated=3)
    world.step()
    assert len(world.there("a")) == 1
    world.waiting["a"] = 1
    world.blocks.touch("a")
    world.step()
    assert len(world.there("a")) == 2
    assert len(world.blocks.cidrs("a")) == 2


def test_freed_addresses_count_until_they_are_forgotten() -> None:
    world = planning()
    world.add_node("a")
    world.step()
    (first,) = world.there("a")
    world.set_status(first, freed=(1, 2, 3, 4))
    world.step()
    assert len(world.there("a")) == 2


def test_a_full_pool_is_told_and_the_next_serves() -> None:
    world = Planning(pool_rule("a", "10.1.0.0/30"), pool_rule("b", "10.2.0.0/30"))
    for name in "xyz":
        world.add_node(name)
    world.step()
    assert sorted(block.spec.pool for block in world.there().values()) == ["a", "b"]
    (without,) = [name for name in "xyz" if not world.there(name)]
    assert world.blocks.problem(without) == (
        "IPPool a (10.1.0.0/30): all 1 blocks are in use; IPPool b (10.2.0.0/30): all 1 blocks are in use"
    )
    assert world.blocks.exhausted() == {"a", "b"}
    world.pools["c"] = pool_rule("c", "10.3.0.0/24")
    world.blocks.touch_all()
    world.step()
    assert world.there(without)
    assert world.blocks.problem(without) == ""
    assert world.blocks.exhausted() == frozenset()


def test_what_does_not_change_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    world = Planning(pool_rule("a", "10.1.0.0/32", selector="has(rack)"))
    world.add_node("x")
    for _ in range(3):
        world.blocks.touch_all()
        world.step()
    assert [record.message for record in caplog.records] == [
        "node x cannot have another block: no valid and enabled IPPool serves this node"
    ]


def test_only_a_pool_that_selects_the_node_serves_it() -> None:
    world = Planning(pool_rule("racks", "10.1.0.0/24", selector="has(rack)"))
    world.add_node("a", rack="1")
    world.add_node("b")
    world.step()
    assert world.there("a")
    assert not world.there("b")
    assert "no valid and enabled IPPool" in world.blocks.problem("b")
    world.add_node("a")  # its label is gone
    world.step()
    assert [block.spec.state for block in world.there("a").values()] == ["Releasing"]


def test_a_pool_that_became_unusable_gives_no_new_block_and_takes_none_back() -> None:
    world = planning()
    world.add_node("a")
    world.step()
    world.unusable.add("main")
    world.add_node("b")
    world.blocks.touch_all()
    world.step()
    world.invalid.add("main")
    world.blocks.touch_all()
    world.step()
    assert [block.spec.state for block in world.there("a").values()] == ["Active"]
    assert not world.there("b")
    del world.pools["main"]
    world.blocks.touch_all()
    world.step()
    assert [block.spec.state for block in world.there("a").values()] == ["Releasing"]


def test_a_surplus_block_goes_after_a_while_acknowledged_and_forgotten() -> None:
    world = planning()
    world.add_node("a")
    world.waiting["a"] = 8
    world.step()
    assert len(world.there("a")) == 3
    world.waiting["a"] = 0
    world.blocks.touch("a")
    world.step()
    assert {block.spec.state for block in world.there("a").values()} == {"Active"}
    world.now += 10
    world.step()
    (leaving,) = [name for name, block in world.there("a").items() if block.spec.state == "Releasing"]
    world.step()
    assert len(world.there("a")) == 3  # not acknowledged
    world.set_status(leaving, freed=(1,), released=True)
    world.step()
    assert len(world.there("a")) == 3  # not forgotten
    assert world.blocks.quarantine.waiting() == {
        Item(leaving, world.there()[leaving].metadata.uid, _first(world, leaving), 1)
    }
    world.blocks.quarantine.forget(world.blocks.quarantine.waiting())
    world.step()
    world.step()
    assert leaving not in world.there("a")


def test_a_node_that_is_gone_gives_its_blocks_back_when_no_pod_claims_to_be_there_and_all_is_forgotten() -> None:
    world = planning()
    world.add_node("a")
    world.step()
    (name,) = world.there("a")
    world.set_status(name, allocated=2, freed=(1,))
    world.pods["a"] = 1
    world.remove_node("a")
    world.step()
    world.now += 20
    world.step()
    assert [block.spec.state for block in world.there("a").values()] == ["Active"]
    world.pods["a"] = 0
    world.now += 20
    world.step()
    assert [block.spec.state for block in world.there("a").values()] == ["Releasing"]
    waiting = world.blocks.quarantine.waiting()
    assert {item.sequence for item in waiting} == {-1}
    world.blocks.quarantine.forget({item for item in waiting if item.address})
    world.step()
    assert world.there("a")
    world.blocks.quarantine.forget(waiting)
    world.step()
    assert not world.there("a")


def test_a_node_that_comes_back_keeps_its_blocks_under_its_new_uid() -> None:
    world = planning()
    world.add_node("a")
    world.step()
    world.remove_node("a")
    world.step()
    world.now += 9
    world.add_node("a")
    world.step()
    world.now += 9
    world.step()
    (block,) = world.there("a").values()
    assert (block.spec.state, block.spec.node_uid) == ("Active", "uid-a")


def test_only_what_all_before_it_allow_is_forgotten() -> None:
    world = planning()
    world.add_node("a")
    world.step()
    (name,) = world.there("a")
    world.set_status(name, freed=(1, 2, 3))
    items = {item.sequence: item for item in world.blocks.quarantine.waiting()}
    world.blocks.quarantine.forget({items[1], items[3]})
    world.step()
    assert world.there()[name].spec.forgotten == 1
    world.blocks.quarantine.forget({items[2], items[3]})
    world.step()
    assert world.there()[name].spec.forgotten == 3


def dual(length6: int = 126) -> Planning:
    return Planning(pool_rule("main", "10.1.0.0/24"), pool_rule("six", "fd00::/112", length6))


def cidrs(world: Planning, node: str, family: int) -> list[str]:
    return [cidr for cidr in world.blocks.cidrs(node) if (":" in cidr) == (family == 6)]


def test_a_node_has_a_block_of_each_family_there_are_pools_of() -> None:
    world = dual()
    world.add_node("a")
    world.step()
    assert (len(cidrs(world, "a", 4)), len(cidrs(world, "a", 6))) == (1, 1)
    world.waiting["a"] = 4
    world.blocks.touch("a")
    world.step()
    assert (len(cidrs(world, "a", 4)), len(cidrs(world, "a", 6))) == (2, 2)
    assert all(re.fullmatch("[0-9a-f-]+", name) for name in world.there())


def test_each_family_is_counted_by_itself() -> None:
    world = dual(length6=122)
    world.add_node("a")
    world.waiting["a"] = 20
    world.step()
    assert (len(cidrs(world, "a", 4)), len(cidrs(world, "a", 6))) == (6, 1)
    (six,) = [name for name, block in world.there("a").items() if ":" in block.spec.cidr]
    world.set_status(six, allocated=64)
    world.waiting["a"] = 0
    world.blocks.touch("a")
    world.step()
    assert len(cidrs(world, "a", 6)) == 2
    world.now += 30
    for _ in range(8):
        world.step()
    releasing = {block.spec.cidr for block in world.there("a").values() if block.spec.state == "Releasing"}
    assert releasing
    assert not any(":" in cidr for cidr in releasing)


def test_a_pool_of_ipv6_alone() -> None:
    world = Planning(pool_rule("six", "fd00::/112", 122))
    world.add_node("a")
    world.step()
    assert (cidrs(world, "a", 4), len(cidrs(world, "a", 6))) == ([], 1)
    assert world.blocks.problem("a") == ""


def test_what_is_full_is_told_for_its_family_and_the_other_goes_on() -> None:
    world = Planning(pool_rule("main", "10.1.0.0/24"), pool_rule("six", "fd00::/126", 126))
    for name in "ab":
        world.add_node(name)
    world.step()
    assert [len(cidrs(world, name, 4)) for name in "ab"] == [1, 1]
    (without,) = [name for name in "ab" if not cidrs(world, name, 6)]
    assert world.blocks.problem(without) == "IPPool six (fd00::/126): all 1 blocks are in use"
    assert world.blocks.exhausted() == {"six"}


def test_an_ipv6_pool_that_comes_and_goes_leaves_ipv4_as_it_was() -> None:
    world = planning()
    world.add_node("a")
    world.step()
    before = cidrs(world, "a", 4)
    world.pools["six"] = pool_rule("six", "fd00::/112", 122)
    world.blocks.touch_all()
    world.step()
    assert (cidrs(world, "a", 4), len(cidrs(world, "a", 6))) == (before, 1)
    del world.pools["six"]
    world.blocks.touch_all()
    world.step()
    states = {block.spec.cidr: block.spec.state for block in world.there("a").values()}
    assert states.pop(before[0]) == "Active"
    assert list(states.values()) == ["Releasing"]


def test_a_family_whose_pool_became_unusable_is_told_once_it_is_short() -> None:
    world = dual(length6=122)
    world.add_node("a")
    world.step()
    world.unusable.add("six")
    world.blocks.touch_all()
    world.step()
    assert world.blocks.problem("a") == ""
    world.waiting["a"] = 60
    world.blocks.touch("a")
    world.step()
    assert world.blocks.problem("a") == "no valid and enabled IPv6 IPPool serves this node"
    assert (len(cidrs(world, "a", 4)), len(cidrs(world, "a", 6))) == (16, 1)


def _first(world: Planning, name: str) -> str:
    return str(ip_network(world.there()[name].spec.cidr)[1])


class BlocksMachine(RuleBasedStateMachine):
    """Nodes, pods, time, failovers and losses in any order: no two blocks ever overlap, and no address of a block that
    went back was in use, or remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Planning(pool_rule("main", "10.1.0.0/26"), pool_rule("more", "10.2.0.0/28", 29),
                              pool_rule("six", "fd00::/122", 126))  # fmt: skip
        self.in_use: dict[str, set[str]] = {}

    nodes = st.sampled_from("abcd")

    @rule(node=nodes)
    def comes(self, node: str) -> None:
        self.world.add_node(node)

    @rule(node=nodes)
    def goes(self, node: str) -> None:
        self.world.remove_node(node)

    @rule(node=nodes, pods=st.integers(0, 30))
    def pods_wait(self, node: str, pods: int) -> None:
        self.world.waiting[node] = pods
        self.world.blocks.touch(node)

    @rule(seconds=st.sampled_from([1, 11]))
    def time_passes(self, seconds: int) -> None:
        self.world.now += seconds

    @rule()
    def written(self) -> None:
        self.world.step()

    @rule()
    def planned_but_lost(self) -> None:
        """Another created a block first: it is there, for nobody we know."""
        touched = self.world.blocks.plan()
        for key in sorted(self.world.blocks.blocks_of(touched)):
            wanted = self.world.blocks.wanted(key.name)
            if key.name not in self.world.there() and wanted is not None:
                self.world.blocks.lost(key.name)
                break

    @rule(data=st.data(), allocated=st.integers(0, 4), freed=st.sets(st.integers(1, 6), max_size=3))
    @precondition(lambda self: self.world.there())
    def agent_says(self, data: st.DataObject, allocated: int, freed: set[int]) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.there())))
        block = self.world.there()[name]
        releasing = block.spec.state == "Releasing"
        if releasing:
            allocated = min(allocated, len(block.status.allocations))
        self.world.set_status(name, allocated, tuple(sorted(freed)), releasing and not allocated)

    @rule(data=st.data())
    def some_are_clear(self, data: st.DataObject) -> None:
        items = sorted(self.world.blocks.quarantine.waiting())
        if items:
            self.world.blocks.quarantine.forget(set(data.draw(st.lists(st.sampled_from(items), max_size=6))))

    @invariant()
    def no_two_overlap(self) -> None:
        networks = [ip_network(block.spec.cidr) for block in self.world.there().values()]
        for index, one in enumerate(networks):
            assert not any(overlap(one, other) for other in networks[index + 1 :])

    @invariant()
    def what_went_back_was_not_in_use(self) -> None:
        for name, known in self.in_use.items():
            if name not in self.world.there() and known == {"live"}:
                raise AssertionError(f"{name} was deleted while its node was there and addresses of it were in use")
        self.in_use = {name: self._use(name) for name in self.world.there()}

    def _use(self, name: str) -> set[str]:
        block = self.world.there()[name]
        held = block.status.allocations or any(f.sequence > block.spec.forgotten for f in block.status.freed)
        there = ("", block.spec.node) in self.world.nodes
        return {"live"} if held and there else set()


BlocksMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBlocks = BlocksMachine.TestCase
