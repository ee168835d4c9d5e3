"""Rendering and planning, against a simulated kernel and a plain reading of the view.

Owns: that what is rendered means what the view says; that plans get there from anywhere, without a window.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import reduce
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelsim import KernelSim, Packet, Verdict
from manx_agent.model import LocalEndpoint, PolicyView
from manx_agent.render.image import Image
from manx_agent.render.plan import plan
from manx_agent.render.policy import Renderer
from manx_agent.render.settle import HOLD, Settled, settle
from manx_core.api.v1alpha1 import ClassTier, PolicyProgramSpec, PolicySource, PoolSettings, Rule
from policy_reference import judge
from policy_shapes import SHAPES
from policy_views import Change, changes, packets, views

KINDS = (("tcp", 80), ("udp", 53), ("sctp", 8080), ("udplite", 80), ("icmp", 8), ("47", 0))


def _settled(view: PolicyView) -> Settled:
    """What is in force once nothing more is waited for."""
    return settle(view, settle(view, Settled(), 0.0), HOLD)


def _image(view: PolicyView) -> Image:
    return Renderer().render(_settled(view), view.pools, view.settings).image


def _kernel(image: Image) -> KernelSim:
    kernel = KernelSim()
    for step in plan(Image(), image):
        kernel.run(step)
    return kernel


def _from_end(view: PolicyView) -> bool:
    return view.settings.chain_insert_mode == "Append"


_PRINTED = re.compile(
    r"(-s \S+/\d+ )?(-d \S+/\d+ )?(-i \S+ )?(-o \S+ )?((! )?-p \S+ )?"
    r'(-m (?!comment)\w+ (! )?--[\w-]+( "[^"]*"|( (?!-)[^\s"]+)+) )*'
    r'-m comment --comment "manx:[0-9a-f]{16}( [^"]+)?" -[jg] \S+( --[\w-]+( "[^"]*"| (?!-)\S+)?)*'
)


@given(views())
@settings(max_examples=30, deadline=None)
def test_rules_are_written_as_iptables_save_prints_them(view: PolicyView) -> None:
    for chains in _image(view).chains.values():
        for rules in chains.values():
            assert [rule for rule in rules if not _PRINTED.fullmatch(rule)] == []
    assert not _PRINTED.fullmatch(
        '-m set --match-set manx-x src -p udp -m comment --comment "manx:0123456789abcdef" -j DROP'
    )


@given(views())
@settings(max_examples=50, deadline=None)
def test_packets_are_judged_as_the_view_says(view: PolicyView) -> None:
    kernel = _kernel(_image(view))
    for packet in packets(*KINDS):
        passage = kernel.passage(packet)
        assert passage.verdict == judge(view, packet), packet
        assert passage.mark == 0, packet


@given(st.lists(views(), min_size=2, max_size=5))
@settings(max_examples=40, deadline=None)
def test_plans_lead_from_any_view_to_any_other(sequence: list[PolicyView]) -> None:
    kernel, renderer, settled, known = KernelSim(), Renderer(), Settled(), Image()
    for second, view in enumerate(sequence):
        settled = settle(view, settled, second * HOLD / 2)
        wanted = renderer.render(settled, view.pools, view.settings).image
        assert wanted == Renderer().render(settled, view.pools, view.settings).image, (
            "a renderer's memory changes nothing"
        )
        for step in plan(known, wanted):
            kernel.run(step)
        assert kernel.image(_from_end(view)) == wanted
        known = wanted
        assert plan(known, wanted) == ()


@given(views(complete=True), st.lists(changes(), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_what_is_in_force_does_not_depend_on_what_was_before(view: PolicyView, sequence: list[Change]) -> None:
    settled = settle(view, Settled(), 0.0)
    for second, change in enumerate(sequence):
        view = change(view)
        settled = settle(view, settled, float(second))
        assert settled == settle(view, Settled(), float(second))


@given(views(), st.lists(changes(), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_what_is_taken_over_is_what_would_be_decided_and_rendered_anew(
    view: PolicyView, sequence: list[Change]
) -> None:
    settled, renderer = settle(view, Settled(), 0.0), Renderer()
    for turn, change in enumerate(sequence):
        view, second = change(view), turn * HOLD / 3
        anew = settle(_nothing_shared(view), settled, second)
        settled = settle(view, settled, second)
        assert settled == anew
        rendered = renderer.render(settled, view.pools, view.settings)
        assert rendered == Renderer().render(anew, view.pools, view.settings)


def _nothing_shared(view: PolicyView) -> PolicyView:
    """The same view, of which nothing can be told by identity."""
    return replace(view, endpoints=dict(view.endpoints), classes=dict(view.classes), programs=dict(view.programs))


@given(views(), views(), st.data())
@settings(max_examples=40, deadline=None)
def test_a_plan_broken_off_anywhere_is_taken_up_again(
    before: PolicyView, after: PolicyView, data: st.DataObject
) -> None:
    kernel, wanted = _kernel(_image(before)), _image(after)
    steps = plan(kernel.image(_from_end(after)), wanted)
    for step in steps[: data.draw(st.integers(0, len(steps)))]:
        kernel.run(step)
    for step in plan(kernel.image(_from_end(after)), wanted):
        kernel.run(step)
    assert kernel.image(_from_end(after)) == wanted


@given(views(complete=True), st.lists(changes(), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_each_packet_sees_the_old_policy_or_the_new(view: PolicyView, sequence: list[Change]) -> None:
    kernel, probes = _kernel(_image(view)), packets(("tcp", 80))[::2]
    for change in sequence:
        old = [kernel.verdict(packet) for packet in probes]
        wanted = _image(change(view))
        new = [_kernel(wanted).verdict(packet) for packet in probes]

        def either(old: list[Verdict] = old, new: list[Verdict] = new) -> None:
            for packet, before, after in zip(probes, old, new, strict=True):
                assert kernel.verdict(packet) in (before, after), packet

        for step in plan(kernel.image(_from_end(view)), wanted):
            kernel.run(step, either)
        view = change(view)


@given(views(complete=True), st.lists(changes(("class", "program")), min_size=2, max_size=6))
@settings(max_examples=50, deadline=None)
def test_nothing_gets_through_that_neither_policy_allows(view: PolicyView, together: list[Change]) -> None:
    """However many policies change at once, in the kernel of two pods that are both on this node."""
    after = reduce(lambda found, change: change(found), together, view)
    wanted = _image(after)
    kernel, new, probes = _kernel(_image(view)), _kernel(wanted), packets(("tcp", 80), ("udp", 53))
    denied = [packet for packet in probes if "ACCEPT" not in (kernel.verdict(packet), new.verdict(packet))]

    def still() -> None:
        for packet in denied:
            assert kernel.verdict(packet) != "ACCEPT", packet

    for step in plan(kernel.image(_from_end(view)), wanted):
        kernel.run(step, still)
    assert kernel.image(_from_end(after)) == wanted


def _between(*programs: PolicyProgramSpec) -> PolicyView:
    """Two pods that can send to each other, the first of a class that has the first program alone, the second of one
    that has all."""
    pods = [LocalEndpoint("d", f"p{n}", "u", f"c{n}", f"mnx{n:011x}", (f"10.244.0.{n}",)) for n in (1, 2)]
    named = [f"knp.d.{n}" for n, _ in enumerate(programs)]
    tiers = {"pc-a": tuple(named[:1]), "pc-b": tuple(named)}
    return PolicyView(
        endpoints={pod.container_id: pod for pod in pods},
        class_of={("d", "p1", "u"): "pc-a", ("d", "p2", "u"): "pc-b"},
        classes={name: (ClassTier("default", policies),) for name, policies in tiers.items()},
        programs=dict(zip(named, programs, strict=True)),
        pools=(PoolSettings(name="four", cidr="10.244.0.0/16"),),
    )


def _program(
    *types: Literal["Ingress", "Egress"], ingress: tuple[Rule, ...] = (), egress: tuple[Rule, ...] = ()
) -> PolicyProgramSpec:
    source = PolicySource(kind="NetworkPolicy", name="x")
    return PolicyProgramSpec(epoch=1, source=source, types=types, ingress=ingress, egress=egress)


_INGRESS, _EGRESS = _program("Ingress"), _program("Egress")
_ALL = (Rule(action="Allow"),)
_NONE = (Rule(action="Deny"),)
OTHER_END = {
    "isolates the sender, no longer the receiver": (_between(_INGRESS), _between(_EGRESS)),
    "isolates the receiver, no longer the sender": (_between(_EGRESS), _between(_INGRESS)),
    "denies the sender, where another isolates it in both": (
        _between(_INGRESS, _program("Ingress", "Egress", ingress=_ALL, egress=_ALL)),
        _between(_program("Egress", egress=_NONE), _program("Ingress", "Egress", ingress=_ALL, egress=_ALL)),
    ),
    "no longer denies the receiver, where another isolates it in both": (
        _between(_program("Ingress", ingress=_NONE), _program("Ingress", "Egress", ingress=_ALL, egress=_ALL)),
        _between(_EGRESS, _program("Ingress", "Egress", ingress=_ALL, egress=_ALL)),
    ),
}


@pytest.mark.parametrize(("before", "after"), OTHER_END.values(), ids=[*OTHER_END])
def test_a_policy_that_comes_to_deny_at_the_other_end_denies_all_the_time(
    before: PolicyView, after: PolicyView
) -> None:
    ways = [
        Packet(f"10.244.0.{a}", f"10.244.0.{b}", f"mnx{a:011x}", f"mnx{b:011x}", "tcp", 80) for a, b in ((1, 2), (2, 1))
    ]
    kernel, new = _kernel(_image(before)), _kernel(_image(after))
    denied = [way for way in ways if kernel.verdict(way) == new.verdict(way) == "DROP"]
    assert denied
    seen: list[Verdict] = []
    for step in plan(_image(before), _image(after)):
        kernel.run(step, lambda: seen.extend(kernel.verdict(way) for way in denied))
    assert set(seen) == {"DROP"}


def test_an_endpoints_named_ports_come_before_it_and_go_after_it() -> None:
    """So that a rule that denies by a name never misses one that is in force, nor one that allows."""
    whole = SHAPES["conditions"]
    without = replace(whole, endpoints={key: one for key, one in whole.endpoints.items() if one.name != "web"})
    before, after = _image(without), _image(whole)
    for begin, end, verb in ((before, after, "add"), (after, before, "del")):
        (step,) = plan(begin, end)
        lines = step.text.splitlines()
        port = lines.index(f"{verb} manx-own-tcp-web 10.244.0.11,tcp:80")
        endpoint = [at for at, line in enumerate(lines) if line.startswith(f"{verb} manx-") and ",mnx" in line]
        assert endpoint
        assert port < min(endpoint) if verb == "add" else port > max(endpoint)
