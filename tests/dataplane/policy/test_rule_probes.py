"""Every shape of rule that the renderer can write is met by a real packet, and missed by another; and the kernel counts
for each rule of each view exactly the packets that the simulated kernel says meet it.

`MANX_POLICY_SHARE=1` (make policies) tries more seeds; one is in CI.
"""

from __future__ import annotations

import ast
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import manx_agent.render
from kernelsim import Packet
from manx_agent.model import Backend, Dirty
from policy_world import EVERYTHING, Applied, World
from rule_aim import Key
from rule_draw import PODS
from rule_rounds import Round, demanded_rules, kernel_of, rounds
from rule_wire import Wire

SEEDS = range(1, 6) if os.environ.get("MANX_POLICY_SHARE") == "1" else (1,)
_PATIENCE = 10.0
"""Seconds within which the kernel has handled what was sent."""
_WRITTEN = re.compile(r"(?:^|\s)(?:-[mjgpsdio]|--[a-z])|-j |-g ")


@pytest.fixture(scope="module")
def wired() -> Iterator[tuple[World, Wire]]:
    with World(PODS) as world, Wire(world) as wire:
        yield world, wire


@pytest.mark.parametrize("seed", SEEDS)
def test_every_shape_is_met_and_missed_by_some_packet(seed: int) -> None:
    """In the simulated kernel; the next test says that the real one does the same, and that of counters too a second
    apply changes nothing."""
    found, missing = rounds(seed)
    assert sorted(missing) == []
    assert sum(len(packets) for one in found for _, packets in one.batches) > 1000


@pytest.mark.parametrize("seed", SEEDS)
def test_the_kernel_agrees_on_the_packets_that_meet_each_rule(
    wired: tuple[World, Wire], backend: Backend, seed: int
) -> None:
    world, wire = wired
    applied = Applied(world, backend)
    for one in rounds(seed)[0]:
        world.view = one.view
        applied.apply(Dirty())
        probed = _Probed(applied, wire, one)
        for (forget, packets), expected in zip(one.batches, one.expected, strict=True):
            probed.batch(forget, packets, expected)
        probed.undo()


class _Probed:
    """One round in the real kernel."""

    def __init__(self, applied: Applied, wire: Wire, one: Round) -> None:
        self._applied, self._wire, self._round = applied, wire, one
        self._kernel = kernel_of(one)
        for program, *words in one.alterations:
            self._run(program, *words)

    def _run(self, program: str, *words: str) -> None:
        self._applied.world.node.run(f"{program}-{self._applied.backend}" if "tables" in program else program, *words)

    def undo(self) -> None:
        """What was done by hand is mended, or is others' and goes. Then applying it all again changes nothing."""
        for program, *words in self._round.alterations:
            if "-A" in words:
                self._run(program, *("-D" if word == "-A" else word for word in words))
        self._applied.check()
        counted = self._counted()
        assert sum(counted.values()) > 0
        assert self._applied.apply(EVERYTHING).drift == ()
        self._applied.policy = self._applied.fresh()
        assert self._applied.apply(EVERYTHING).drift == ()
        assert self._counted() == counted

    def batch(self, forget: bool, packets: list[Packet], expected: Counter[Key]) -> None:
        if forget:
            self._applied.world.node.run("conntrack", "-F")
        before = self._counted()
        for packet in packets:
            self._wire.send(packet)
        found = self._since(before)
        deadline = time.monotonic() + _PATIENCE
        while found != expected and time.monotonic() < deadline:
            time.sleep(0.02)
            found = self._since(before)
        assert found == expected, self._said(found, expected)

    def _since(self, before: Counter[Key]) -> Counter[Key]:
        return self._counted() - before

    def _counted(self) -> Counter[Key]:
        """Packets by rule, of both families."""
        return Counter(dict(pair for family in ("ip", "ip6") for pair in self._of(family)))

    def _of(self, family: str) -> Iterator[tuple[Key, int]]:
        table, seen = "", Counter[str]()
        for line in self._applied.saved("-c", family=family):
            if line.startswith("*"):
                table, seen = line[1:] + ("6" if family == "ip6" else ""), Counter()
            elif line.startswith("[") and "manx" in line:
                counters, _, chain = line.split(" ", 3)[:3]
                yield (table, chain, seen[chain]), int(counters[1:].partition(":")[0])
                seen[chain] += 1

    def _said(self, found: Counter[Key], expected: Counter[Key]) -> str:
        wrong = [key for key in sorted({*found, *expected}) if found[key] != expected[key]]
        rules = [self._kernel.tables[table][chain][position] for table, chain, position in wrong]
        counts = [f"{found[key]} instead of {expected[key]}" for key in wrong]
        return "\n".join(f"{key}: {count}: {rule}" for key, count, rule in zip(wrong, counts, rules, strict=True))


# --- that nothing is written that is not among those rules -----------------------------------------------------------


_READERS = ("image.py", "plan.py", "saved.py", "decoded.py", "compare.py")
"""Of the renderer's modules those that handle rules as text, whatever they say."""


def _written() -> Iterator[tuple[str, str]]:
    """Where in the renderer's source some text of a rule stands, and a pattern of it."""
    for path in sorted(Path(manx_agent.render.__file__ or "").parent.glob("*.py")):
        if path.name in _READERS:
            continue
        tree = ast.parse(path.read_text())
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            pattern = _pattern(node)
            if pattern and _WRITTEN.search(pattern.replace("\\", "")) and id(node) not in inner | docs:
                yield f"{path.name}:{getattr(node, 'lineno', 0)}", pattern


def _pattern(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value).replace(r"\{\}", "(! )?")  # a place for a negation
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part) if isinstance(part, ast.Constant) else ".*" for part in node.values)
    return ""


@pytest.mark.parametrize(("place", "pattern"), list(_written()))
def test_each_text_of_the_renderer_is_in_some_rule_that_is_demanded(place: str, pattern: str) -> None:
    assert any(re.search(pattern, rule) for rule in demanded_rules()), f"{place}: {pattern}"
