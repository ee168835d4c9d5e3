"""The operator's small parts: labels' dates, who is believed, tuning, log lines, health files."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from informing import eventually
from manx_core.api.core_v1 import ObjectMeta, Pod, PodSpec
from manx_core.api.v1alpha1 import (
    Allocation,
    IPAMBlock,
    IPAMBlockSpec,
    IPAMBlockStatus,
)
from manx_core.span import EVERYWHERE, span_label
from manx_kube.errors import ConfigError
from manx_kube.resources import POLICY_CLASSES
from manx_operator.addresses import Addresses
from manx_operator.health import Health
from manx_operator.limiter import Leisure, TokenBucket
from manx_operator.logs import KeyValueFormatter, set_up
from manx_operator.observed import Key
from manx_operator.settings import Settings, from_env
from manx_operator.span_labels import SpanLabels
from operating import Clock

KEY = Key(POLICY_CLASSES, "c")


class Labels:
    """SpanLabels with a clock, and what it asked for."""

    def __init__(self) -> None:
        self.clock = Clock(100.0)
        self.asked: list[float] = []
        self.used: set[str] = set()
        self.have: dict[str, str] = {"mine": "kept"}
        self.spans = SpanLabels(30.0, self.clock, lambda key, seconds: self.asked.append(seconds))

    def apply(self, *nodes: str) -> set[str]:
        self.have = self.spans.labels(KEY, nodes, self.have, lambda label: label in self.used)
        assert self.have.get("mine") == "kept"
        return set(self.have) - {"mine"}


def test_a_label_comes_at_once_and_goes_when_its_date_has_come() -> None:
    labels = Labels()
    assert labels.apply("a", "b") == {span_label("a"), span_label("b")}
    assert labels.apply("b") == {span_label("a"), span_label("b")}
    assert labels.asked
    labels.clock.now += 29
    assert labels.apply("b") == {span_label("a"), span_label("b")}
    labels.clock.now += 6
    assert labels.apply("b") == {span_label("b")}


def test_a_node_that_comes_back_in_time_keeps_its_label_and_starts_anew() -> None:
    labels = Labels()
    labels.apply("a")
    labels.apply()
    labels.clock.now += 20
    labels.apply("a")
    labels.apply()
    labels.clock.now += 20
    assert labels.apply() == {span_label("a")}
    labels.clock.now += 20
    assert labels.apply() == set()


def test_a_label_that_its_node_still_uses_stays_past_its_date() -> None:
    labels = Labels()
    labels.apply("a")
    labels.apply()
    labels.used.add(span_label("a"))
    labels.clock.now += 100
    assert labels.apply() == {span_label("a")}
    labels.used.clear()
    assert labels.apply() == set()


def test_the_label_for_every_node_overlaps_with_the_single_ones_in_both_directions() -> None:
    labels = Labels()
    many = [f"n{number}" for number in range(51)]
    singles = {span_label(node) for node in many[:50]}
    assert labels.apply(*many[:50]) == singles
    assert labels.apply(*many) == singles | {EVERYWHERE}
    labels.clock.now += 60
    assert labels.apply(*many) == {EVERYWHERE}
    assert labels.apply(*many[:36]) == {EVERYWHERE}
    few = {span_label(node) for node in many[:34]}
    assert labels.apply(*many[:34]) == few | {EVERYWHERE}
    labels.clock.now += 60
    assert labels.apply(*many[:34]) == few


# --- addresses --------------------------------------------------------------------------------------------------------


class Believing:
    def __init__(self) -> None:
        self.pods: dict[tuple[str, str], Pod] = {}
        self.told: dict[tuple[str, str], tuple[str, ...]] = {}  # (name, uid) → addresses
        self.addresses = Addresses(self.pods, self._tell)

    def _tell(self, key: tuple[str, str], uid: str, addresses: tuple[str, ...]) -> None:
        self.told[(key[1], uid)] = addresses

    def pod(self, name: str, uid: str, node: str) -> None:
        meta = ObjectMeta(name=name, namespace="d", uid=uid)
        self.pods[("d", name)] = Pod(metadata=meta, spec=PodSpec(node_name=node))
        self.addresses.pod_changed(("d", name))

    def block(self, *given: tuple[str, str, str], node: str = "n", cidr: str = "10.1.0.0/30", name: str = "b") -> None:
        allocations = tuple(
            Allocation(address=address, namespace="d", name=pod, uid=uid, container_id="c")
            for address, pod, uid in given
        )
        spec = IPAMBlockSpec(epoch=1, cidr=cidr, pool="p", node=node)
        status = IPAMBlockStatus(allocations=allocations)
        self.addresses.block_changed(name, IPAMBlock(metadata=ObjectMeta(name=name), spec=spec, status=status))

    def now(self) -> dict[tuple[str, str], tuple[str, ...]]:
        return {key: addresses for key, addresses in self.told.items() if addresses}


@pytest.mark.parametrize(
    ("given", "node", "believed"),
    [
        (("10.1.0.1", "web", "u1"), "n", True),
        (("10.1.0.1", "web", "u0"), "n", False),
        (("10.1.0.1", "other", "u1"), "n", False),
        (("10.1.0.4", "web", "u1"), "n", False),
        (("nonsense", "web", "u1"), "n", False),
        (("10.1.0.1", "web", "u1"), "elsewhere", False),
    ],
)
@pytest.mark.parametrize("pod_first", [True, False])
def test_who_is_believed(given: tuple[str, str, str], node: str, believed: bool, pod_first: bool) -> None:
    world = Believing()
    if pod_first:
        world.pod("web", "u1", "n")
    world.block(given, node=node)
    if not pod_first:
        world.pod("web", "u1", "n")
    assert world.now() == ({("web", "u1"): ("10.1.0.1",)} if believed else {})


def test_a_pod_made_anew_does_not_inherit_an_address() -> None:
    world = Believing()
    world.pod("web", "u1", "n")
    world.block(("10.1.0.1", "web", "u1"))
    world.pod("web", "u2", "n")
    assert world.now() == {}
    world.block(("10.1.0.1", "web", "u1"), ("10.1.0.2", "web", "u2"))
    assert world.now() == {("web", "u2"): ("10.1.0.2",)}


def test_an_address_goes_with_its_allocation_its_block_and_its_pod() -> None:
    world = Believing()
    world.pod("web", "u1", "n")
    world.block(("10.1.0.1", "web", "u1"))
    world.block(("10.2.0.1", "web", "u1"), cidr="10.2.0.0/30", name="c")
    assert world.now() == {("web", "u1"): ("10.1.0.1", "10.2.0.1")}
    world.block()
    assert world.now() == {("web", "u1"): ("10.2.0.1",)}
    world.addresses.block_changed("c", None)
    assert world.now() == {}
    world.block(("10.1.0.1", "web", "u1"))
    del world.pods[("d", "web")]
    world.addresses.pod_changed(("d", "web"))
    assert world.now() == {}


# --- tuning, logs, health, rates --------------------------------------------------------------------------------------


def test_settings_come_from_the_environment() -> None:
    env = {
        "MANX_COALESCE_MS": "20",
        "MANX_WRITE_PARALLEL": "4",
        "MANX_ALIVE_FILE": "/x",
        "MANX_KOPF": "off",
        "MANX_WRITE_RATE": "",
    }
    found = from_env(env)
    assert (found.coalesce_ms, found.write_parallel, found.alive_file, found.kopf) == (20.0, 4, Path("/x"), False)
    assert found.write_rate == Settings().write_rate


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COALESCE_MS", "x"),
        ("WRITE_RATE", "0"),
        ("STATUS_RATE", "0"),
        ("WRITE_PARALLEL", "1.5"),
        ("LABEL_LINGER", "-1"),
        ("KOPF", "maybe"),
        ("WRITE_BURST", "nan"),
    ],
)
def test_a_bad_setting_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"MANX_{name}"):
        from_env({f"MANX_{name}": value})


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("plain", "msg=plain"),
        ("two words", 'msg="two words"'),
        ('a "b"', 'msg="a \\"b\\""'),
        ("a\nb", 'msg="a\\nb"'),
        ("", 'msg=""'),
    ],
)
def test_a_log_line_can_be_taken_apart(message: str, line: str) -> None:
    record = logging.LogRecord("manx", logging.INFO, "f", 1, message, None, None)
    text = KeyValueFormatter().format(record)
    assert text.endswith(f"level=info logger=manx {line}")
    assert "\n" not in text


def test_an_unknown_log_level_is_refused() -> None:
    with pytest.raises(ConfigError, match="MANX_LOG_LEVEL"):
        set_up("loud")


async def test_health_files_are_there_while_it_beats(tmp_path: Path) -> None:
    settings = Settings(alive_file=tmp_path / "alive", ready_file=tmp_path / "ready")
    settings.ready_file.touch()  # of a process before
    health = Health(settings)
    beating = asyncio.create_task(health.beat())
    await eventually(settings.alive_file.exists)
    assert not settings.ready_file.exists()
    health.ready()
    assert settings.ready_file.exists()
    beating.cancel()
    await asyncio.wait({beating})
    assert not settings.alive_file.exists()
    assert not settings.ready_file.exists()


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, 3.0, clock)
    for _ in range(3):
        assert bucket.delay() == 0
        bucket.take()
    assert bucket.delay() == pytest.approx(0.1)
    clock.now = 0.1
    assert bucket.delay() == pytest.approx(0.0)
    bucket.take()
    clock.now = 100.0
    assert bucket.delay() == 0


def test_no_more_than_a_burst_is_owed() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, 5.0, clock)
    bucket.take(1000)
    assert bucket.delay() == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("others", "waiting", "turns"),
    [(0, 0, 100), (60, 0, 40), (99, 0, 6), (100, 0, 5), (1000, 0, 5), (0, 1, 5), (60, 1, 5)],
)
def test_what_can_wait_has_what_others_leave_of_its_rate_and_a_little_in_any_case(
    others: int, waiting: int, turns: int
) -> None:
    """Turns in a second of which others make so many, evenly, once that has lasted a while."""
    clock, done, taken = Clock(), 0.0, 0
    leisure = Leisure(100.0, 5.0, lambda: int(done), lambda: waiting, clock)
    for step in range(5000):
        clock.now, done = step / 1000, done + others / 1000
        while not leisure.delay():
            leisure.take()
            taken += step >= 4000
    assert taken == pytest.approx(turns, abs=2)
