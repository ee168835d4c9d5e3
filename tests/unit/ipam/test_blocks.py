"""Blocks: names, places in a pool, and that no two overlap, however they came to be."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manx_core.ipam.blocks import Pool, Taken, address, block_name, choose_block, cidr_of, holds, network, size

POOL = Pool("main", IPv4Network("10.244.0.0/16"), 26)
HUGE = Pool("huge", IPv6Network("fd00::/48"), 122)
SMALL = Pool("small", IPv4Network("10.1.0.0/24"), 26)


@pytest.mark.parametrize(
    ("cidr", "name"),
    [
        ("10.244.0.64/26", "10-244-0-64-26"),
        ("192.0.2.1/32", "192-0-2-1-32"),
        ("10.0.0.0/20", "10-0-0-0-20"),
        ("fd00:10:244::40/122", "fd00-10-244--40-122"),
        ("fd00:10:244::/122", "fd00-10-244---122"),
        ("2001:db8::1:0:0/122", "2001-db8--1-0-0-122"),
        ("2001:db8:1:2:3:4:5:6/128", "2001-db8-1-2-3-4-5-6-128"),
    ],
)
def test_a_block_is_named_after_its_cidr(cidr: str, name: str) -> None:
    assert block_name(cidr) == block_name(ip_network(cidr)) == name
    assert cidr_of(name) == cidr


@given(st.integers(2**120, 2**128 - 1), st.integers(116, 128))
def test_names_of_ipv6_blocks_are_legal_their_own_and_lead_back(number: int, length: int) -> None:
    cidr = str(IPv6Network((number, length), strict=False))
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", block_name(cidr))
    assert cidr_of(block_name(cidr)) == cidr


@pytest.mark.parametrize("text", ["", "10.0.0.1/24", "10.0.0.0/33", "fd00::1/64", "fd00::/129", "x", "10.0.0.0/24/1"])
def test_what_is_no_block_is_none(text: str) -> None:
    assert network(text) is None
    assert size(text) == 0
    assert not holds(text, "10.0.0.1")


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.256", "fd00::x", "10.0.0.1/32"])
def test_what_is_no_address_is_in_no_block(text: str) -> None:
    assert address(text) is None
    assert not holds("0.0.0.0/0", text)


@pytest.mark.parametrize(
    ("text", "inside"), [("10.0.0.63", False), ("10.0.0.64", True), ("10.0.0.127", True), ("10.0.0.128", False)]
)
def test_every_address_of_a_block_is_in_it_and_no_other(text: str, inside: bool) -> None:
    assert holds("10.0.0.64/26", text) is inside


@settings(deadline=None)
@given(
    st.ip_addresses(v=4),
    st.integers(20, 32),
    st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str), st.integers(-70, 300).map(str), st.text()),
)
def test_a_block_holds_what_is_in_it_as_a_number(near: IPv4Address, length: int, text: str) -> None:
    block = IPv4Network((int(near), length), strict=False)
    shifted = str(block.network_address).rpartition(".")[0] + "." + text
    for written in (text, shifted, str(block.broadcast_address), "0" + str(block.network_address)):
        found = address(written)
        assert holds(str(block), written) is (found is not None and found in block)


@pytest.mark.parametrize(
    ("text", "inside"),
    [("fd00::3f", False), ("fd00::40", True), ("fd00::7f", True), ("fd00::80", False), ("0.0.0.64", False)],
)
def test_every_address_of_an_ipv6_block_is_in_it_and_no_other(text: str, inside: bool) -> None:
    assert holds("fd00::40/122", text) is inside
    assert size("fd00::40/122") == 64


def test_a_pool_of_one_block_has_one() -> None:
    pool = Pool("one", IPv4Network("10.0.0.0/26"), 26)
    assert choose_block([pool], "a", []) == (pool, IPv4Network("10.0.0.0/26"))
    assert choose_block([pool], "a", ["10.0.0.0/26"]) is None


def test_the_next_pool_serves_when_the_first_is_full() -> None:
    full = [str(SMALL.block(index)) for index in range(SMALL.blocks)]
    chosen = choose_block([SMALL, POOL], "a", full)
    assert chosen is not None
    assert chosen[0] is POOL


def test_a_nodes_blocks_lie_side_by_side_and_nodes_are_spread() -> None:
    firsts = {}
    for node in ("a", "b", "c", "d"):
        first = Taken(POOL, []).choose(node)
        assert first is not None
        second = Taken(POOL, [str(first)]).choose(node)
        assert second is not None
        assert abs(int(second.network_address) - int(first.network_address)) == 64
        firsts[node] = first
    assert len(set(firsts.values())) == 4


@pytest.mark.parametrize("other", ["10.1.0.64/28", "10.1.0.64/26", "10.1.0.72/32"])
def test_a_block_of_another_size_keeps_its_place(other: str) -> None:
    taken = Taken(SMALL, [other])
    free = set()
    while (block := taken.choose("n")) is not None:
        taken.add(str(block))
        free.add(str(block))
    assert free == {"10.1.0.0/26", "10.1.0.128/26", "10.1.0.192/26"}


def test_a_block_larger_than_the_pool_leaves_nothing() -> None:
    assert Taken(SMALL, ["10.0.0.0/8"]).choose("n") is None
    assert Taken(HUGE, ["fd00::/8"]).choose("n") is None


def test_a_pool_of_more_blocks_than_can_be_counted() -> None:
    """2**74 of them, half of which another's block takes."""
    taken = Taken(HUGE, ["fd00:0:0:8000::/49", "10.0.0.0/8"])
    for node in "abcdefgh":
        block = taken.choose(node)
        assert isinstance(block, IPv6Network)
        assert block.prefixlen == 122
        assert block.subnet_of(IPv6Network("fd00::/49"))
        taken.add(str(block))


def test_blocks_of_the_other_family_take_no_place() -> None:
    pool = Pool("one", IPv6Network("fd00::/122"), 122)
    assert choose_block([pool], "a", ["10.0.0.0/8", "0.0.0.0/0"]) == (pool, IPv6Network("fd00::/122"))
    assert choose_block([SMALL], "a", ["::/0"]) is not None


blocks_of_any_size = st.tuples(st.integers(0, 2**16 - 1), st.integers(20, 32)).map(
    lambda drawn: str(IPv4Network((0x0A010000 + drawn[0], drawn[1]), strict=False))
)


@given(
    length=st.integers(24, 30),
    strangers=st.lists(blocks_of_any_size, max_size=8),
    nodes=st.lists(st.sampled_from("abcdef"), max_size=80),
)
def test_no_two_blocks_ever_overlap_and_none_is_left_unused(
    length: int, strangers: list[str], nodes: list[str]
) -> None:
    pool = Pool("p", IPv4Network("10.1.0.0/24"), length)
    taken = Taken(pool, strangers)
    given_out: list[IPv4Network] = []
    for node in nodes:
        block = taken.choose(node)
        if block is None:
            used = [*given_out, *(IPv4Network(text) for text in strangers)]
            assert all(any(pool.block(i).overlaps(other) for other in used) for i in range(pool.blocks))
            break
        assert isinstance(block, IPv4Network)
        assert block.subnet_of(IPv4Network("10.1.0.0/24"))
        assert block.prefixlen == length
        others = [*given_out, *(IPv4Network(text) for text in strangers)]
        assert not any(block.overlaps(other) for other in others)
        given_out.append(block)
        taken.add(str(block))
