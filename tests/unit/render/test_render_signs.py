"""The dispatch of many classes: by signs, which find a class in few rules and decide nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelsim import KernelSim, Packet, Passage, Verdict
from manx_agent.model import LocalEndpoint, PolicyView
from manx_agent.render import names, signs
from manx_agent.render.image import Image
from manx_agent.render.plan import plan
from manx_agent.render.policy import Renderer
from manx_agent.render.settle import HOLD, Settled, settle
from manx_core.api.v1alpha1 import ClassTier, PolicyProgramSpec, PolicySettings, PolicySource, Rule, RuleEnd
from policy_reference import judge
from policy_views import Change, changes, packets, views

SOURCE = PolicySource(kind="NetworkPolicy", name="x")


class Counting(KernelSim):
    """Counts the rules that packets are held against."""

    evaluated = 0

    def _matches(self, words: list[str], passage: Passage) -> bool:
        self.evaluated += 1
        return super()._matches(words, passage)


def _program(port: int) -> PolicyProgramSpec:
    rule = Rule(protocol="TCP", subject=RuleEnd(ports=(str(port),)))
    towards = Rule(protocol="TCP", peer=RuleEnd(ports=("80", str(port))))
    types = ("Ingress", "Egress") if port % 3 else ("Ingress",)
    return PolicyProgramSpec(epoch=1, source=SOURCE, types=types, ingress=(rule,), egress=(towards,))  # type: ignore[arg-type]


def _node(classes: int, moved: int = 0, settings: PolicySettings = PolicySettings()) -> PolicyView:  # noqa: B008
    """As many pods, each in a class of its own that lets one port in, or in that of a pod that many numbers on."""
    pods = [
        LocalEndpoint("d", f"p{n}", "u", f"c{n}", f"mnx{n:011x}", (f"10.0.{n >> 8}.{n & 255}",)) for n in range(classes)
    ]
    return PolicyView(
        endpoints={pod.container_id: pod for pod in pods},
        classes={_class(n): (ClassTier(name="default", policies=(f"knp.d.{n}",)),) for n in range(classes)},
        programs={f"knp.d.{n}": _program(1000 + n) for n in range(classes)},
        class_of={("d", f"p{n}", "u"): _class((n + moved) % classes) for n in range(classes)},
        settings=settings,
    )


def _class(number: int) -> str:
    return f"pc-{names.digest(str(number))}"


def _image(view: PolicyView) -> Image:
    return Renderer().render(settle(view, Settled(), 0.0), view.pools, view.settings).image


def _brought(kernel: KernelSim, image: Image) -> None:
    for step in plan(kernel.image(), image):
        kernel.run(step)


def _to(number: int, port: int) -> Packet:
    return Packet("192.0.2.7", f"10.0.{number >> 8}.{number & 255}", "eth0", f"mnx{number:011x}", "tcp", port)


def _from(number: int, port: int) -> Packet:
    return Packet(f"10.0.{number >> 8}.{number & 255}", "192.0.2.7", f"mnx{number:011x}", "eth0", "tcp", port)


@pytest.mark.parametrize("classes", [17, 64, 250])
def test_each_pod_is_judged_by_its_own_class_after_few_rules(classes: int) -> None:
    kernel = Counting()
    _brought(kernel, _image(_node(classes)))
    most = 0
    for number in range(classes):
        kernel.evaluated = 0
        assert kernel.verdict(_to(number, 1000 + number)) == "ACCEPT"
        most = max(most, kernel.evaluated)
        if number % 5 == 0:
            assert kernel.verdict(_to(number, 1001 + number)) == "DROP"
            assert kernel.verdict(_from(number, 999 + number)) == ("DROP" if (1000 + number) % 3 else "ACCEPT")
            assert kernel.verdict(_from(number, 1000 + number)) == "ACCEPT"
    assert most == {17: 18, 64: 24, 250: 27}[classes]


def test_who_moves_is_judged_by_the_old_class_or_the_new_whatever_signs_are_there() -> None:
    before, after = _image(_node(40)), _image(_node(40, moved=7))
    kernel = KernelSim()
    _brought(kernel, before)

    def either() -> None:
        for number in range(0, 40, 3):
            verdicts = [kernel.verdict(_to(number, 1000 + port)) for port in (number, (number + 7) % 40)]
            assert "ACCEPT" in verdicts, number
            assert kernel.verdict(_to(number, 1000 + (number + 9) % 40)) == "DROP"

    for step in plan(before, after):
        kernel.run(step, either)


@pytest.mark.parametrize("full", [False, True])
def test_signs_alone_open_and_close_nothing(full: bool) -> None:
    """Whoever is in the sets of all signs, or in none, is judged as ever; who is in no class, not at all."""
    kernel = KernelSim()
    view = _node(30)
    _brought(kernel, _image(view))
    members = {f"10.0.0.{n},mnx{n:011x}" for n in range(30)}
    for name, one in kernel.sets.items():
        if "-sign-" in name:
            one.members = set(members) if full else set()
        if name == names.class_set(_class(5)):
            one.members.clear()
    for number in range(30):
        expected = "DROP" if number == 5 else "ACCEPT"
        assert kernel.verdict(_to(number, 1000 + number)) == expected
        assert kernel.verdict(_to(number, 999 + number)) == "DROP"
        assert kernel.verdict(_from(number, 1000 + number)) == ("ACCEPT" if number % 3 == 2 else expected)


@pytest.mark.parametrize("returning", [{"allow_action": "Return"}, {"default_endpoint_to_host_action": "Return"}])
def test_what_returns_meets_a_class_once(returning: dict[str, str]) -> None:
    kernel = KernelSim()
    _brought(kernel, _image(_node(40, settings=PolicySettings(**returning))))  # type: ignore[arg-type]
    for number in range(40):
        for packet in (_to(number, 1000 + number), _from(number, 1000 + number)):
            passage = kernel.passage(packet)
            assert passage.verdict == "ACCEPT"
            assert len(passage.rules) == len(set(passage.rules))


def test_a_class_more_changes_no_other_s_signs() -> None:
    for count in (18, 33, 100, 300):
        same = signs.signs_for(count) == signs.signs_for(count + 1)
        assert same == (count & (count - 1) != 0)
    assert signs.signs_for(16) == 0
    assert all(first < second for first, second in (signs.signs_of(_class(n), 12) for n in range(500)))


# --- the properties of rendering, with signs for the smallest of worlds ---------------------------------------------


@contextmanager
def _signs_always() -> Iterator[None]:
    few, signs.FEW = signs.FEW, 0
    signs.signs_for.cache_clear()
    try:
        yield
    finally:
        signs.FEW = few
        signs.signs_for.cache_clear()


@given(views())
@settings(max_examples=40, deadline=None)
def test_packets_are_judged_as_the_view_says(view: PolicyView) -> None:
    with _signs_always():
        kernel = KernelSim()
        settled = settle(view, settle(view, Settled(), 0.0), HOLD)
        for step in plan(Image(), Renderer().render(settled, view.pools, view.settings).image):
            kernel.run(step)
        for packet in packets(("tcp", 80), ("udp", 53)):
            assert kernel.verdict(packet) == judge(view, packet), packet


@given(views(complete=True), st.lists(changes(), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_each_packet_sees_the_old_policy_or_the_new(view: PolicyView, sequence: list[Change]) -> None:
    with _signs_always():
        kernel, probes = KernelSim(), packets(("tcp", 80))[::2]
        _brought(kernel, _image(view))
        for change in sequence:
            old = [kernel.verdict(packet) for packet in probes]
            wanted, fresh = _image(change(view)), KernelSim()
            _brought(fresh, wanted)
            new = [fresh.verdict(packet) for packet in probes]

            def either(old: list[Verdict] = old, new: list[Verdict] = new) -> None:
                for packet, before, after in zip(probes, old, new, strict=True):
                    assert kernel.verdict(packet) in (before, after), packet

            for step in plan(kernel.image(view.settings.chain_insert_mode == "Append"), wanted):
                kernel.run(step, either)
            view = change(view)
