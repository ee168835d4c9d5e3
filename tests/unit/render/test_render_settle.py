"""What is held while something is missing, for how long, and what comes then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from manx_agent.model import LocalEndpoint, PolicyView
from manx_agent.render.settle import HOLD, Settled, settle
from manx_core.api.v1alpha1 import ClassTier, PolicyProgramSpec, PolicySource, Rule, RuleEnd
from manx_core.policy.endpoint import NamedPort
from manx_core.policy.own_ports import OwnPort

_SOURCE = PolicySource(kind="NetworkPolicy", name="n")
_POD = LocalEndpoint("default", "pod", "uid", "c1", "mnx00000000001", ("10.244.0.1",))
_C1 = frozenset({"c1"})
_ID = ("default", "pod", "uid")


def _tiers(*policies: str) -> tuple[ClassTier, ...]:
    return (ClassTier(name="default", policies=policies),)


def _spec(*groups: str) -> PolicyProgramSpec:
    rules = tuple(Rule(peer=RuleEnd(groups=(group,))) for group in groups)
    return PolicyProgramSpec(epoch=1, source=_SOURCE, types=("Ingress",), ingress=rules)


def _view(**changes: Any) -> PolicyView:
    base = PolicyView(
        endpoints={"c1": _POD},
        classes={"pc-1": _tiers("p")},
        programs={"p": _spec("g")},
        groups={"g": frozenset({"10.0.0.1"})},
        group_types={"g": "Addresses"},
        class_of={_ID: "pc-1"},
    )
    return replace(base, **changes)


def _whole() -> Settled:
    return settle(_view(), Settled(), 0.0)


def test_a_complete_view_is_in_force() -> None:
    settled = _whole()
    assert settled.endpoints == {"c1": (_POD, "pc-1")}
    assert settled.groups == {"g": frozenset({"10.0.0.1"})}
    assert (settled.closed, dict(settled.since), settled.deadline(0.0)) == (frozenset(), {}, None)


def test_where_groups_alone_change_everything_else_is_taken_over() -> None:
    view = _view()
    before = settle(view, Settled(), 0.0)
    now = settle(replace(view, groups={"g": frozenset({"10.0.0.2"}), "h": frozenset()}), before, 1.0)
    assert now.groups == {"g": frozenset({"10.0.0.2"})}
    assert (now.endpoints, now.classes, now.policies) == (before.endpoints, before.classes, before.policies)
    assert now.policies is before.policies


def test_named_ports_of_endpoints_are_there_as_soon_as_a_policy_asks_and_never_missing() -> None:
    asking = Rule(protocol="TCP", subject=RuleEnd(named_ports=("http",), not_named_ports=("gone",)))
    spec = PolicyProgramSpec(epoch=1, source=_SOURCE, types=("Ingress",), ingress=(asking,))
    view = _view(programs={"p": spec}, ports_of={_ID: (NamedPort("http", "TCP", 80), NamedPort("ssh", "TCP", 22))})
    http, gone = OwnPort("TCP", "http"), OwnPort("TCP", "gone")
    before = settle(view, _whole(), 0.0)
    assert before.own_ports == {http: frozenset({"10.244.0.1,tcp:80"}), gone: frozenset()}
    assert (dict(before.since), before.policies["p"].lacking) == ({}, frozenset())
    same = settle(replace(view, class_of={_ID: "pc-1"}), before, 1.0)
    assert same.own_ports is before.own_ports
    other = settle(replace(view, ports_of={_ID: (NamedPort("http", "TCP", 8080),)}), before, 1.0)
    assert other.own_ports == {http: frozenset({"10.244.0.1,tcp:8080"}), gone: frozenset()}
    assert settle(replace(view, endpoints={}), before, 1.0).own_ports == {http: frozenset(), gone: frozenset()}
    assert settle(_view(ports_of=view.ports_of), before, 1.0).own_ports == {}


def test_a_policy_keeps_its_old_rules_until_its_new_group_comes_or_time_is_up() -> None:
    waiting = _view(programs={"p": _spec("h")}, groups={})
    held = settle(waiting, _whole(), 5.0)
    assert held.policies["p"].spec == _spec("g")
    assert held.groups == {"g": frozenset({"10.0.0.1"})}, "with the groups of then, though the view lacks them"
    assert (set(held.since), held.deadline(5.0), held.closed) == ({"h"}, 15.0, frozenset())
    held = settle(waiting, held, 14.9)
    assert held.policies["p"].spec == _spec("g")
    late = settle(waiting, held, 15.0)
    assert (late.policies["p"].spec, late.policies["p"].lacking) == (_spec("h"), frozenset({"h"}))
    assert (late.groups, late.deadline(15.0)) == ({}, None)
    come = settle(replace(waiting, groups={"h": frozenset()}), late, 16.0)
    assert (come.policies["p"].lacking, dict(come.since)) == (frozenset(), {})


def test_a_group_that_goes_while_a_policy_needs_it_is_held_too() -> None:
    held = settle(_view(groups={}), _whole(), 1.0)
    assert (held.groups["g"], held.policies["p"].lacking) == (frozenset({"10.0.0.1"}), frozenset())
    assert settle(_view(groups={}), held, 11.0).policies["p"].lacking == frozenset({"g"})


def test_a_class_with_a_missing_policy_stays_as_it_was_and_then_closes() -> None:
    waiting = _view(classes={"pc-1": _tiers("p", "q")})
    held = settle(waiting, _whole(), 0.0)
    assert held.classes == {"pc-1": _tiers("p")}
    late = settle(waiting, held, HOLD)
    assert (late.classes, late.closed, late.policies) == ({}, _C1, {})
    come = settle(replace(waiting, programs={"p": _spec("g"), "q": _spec()}), late, HOLD)
    assert (come.classes, come.closed) == ({"pc-1": _tiers("p", "q")}, frozenset())


def test_a_policy_that_goes_before_the_class_lets_go_of_it_is_held() -> None:
    held = settle(_view(programs={}), _whole(), 0.0)
    assert held.policies["p"].spec == _spec("g")
    assert settle(_view(programs={}), held, HOLD).closed == _C1


def test_a_new_policy_that_lacks_a_group_leaves_the_class_as_it_was_and_then_does_without() -> None:
    waiting = _view(classes={"pc-1": _tiers("p", "q")}, programs={"p": _spec("g"), "q": _spec("h")})
    held = settle(waiting, _whole(), 0.0)
    assert held.classes == {"pc-1": _tiers("p")}
    late = settle(waiting, held, HOLD)
    assert (late.classes, late.policies["q"].lacking) == ({"pc-1": _tiers("p", "q")}, frozenset({"h"}))


def test_an_endpoint_stays_in_its_old_class_until_the_new_one_is_there() -> None:
    waiting = _view(class_of={_ID: "pc-2"}, classes={})
    held = settle(waiting, _whole(), 0.0)
    assert (held.endpoints["c1"][1], held.classes, held.awaited) == ("pc-1", {"pc-1": _tiers("p")}, _C1)
    late = settle(waiting, held, HOLD)
    assert (late.closed, late.classes, late.awaited) == (_C1, {}, frozenset())
    come = settle(_view(class_of={_ID: "pc-2"}, classes={"pc-2": ()}), held, 1.0)
    assert (come.endpoints["c1"][1], come.classes) == ("pc-2", {"pc-2": ()})


def test_an_open_endpoint_stays_open_until_its_class_is_there() -> None:
    opened = settle(_view(class_of={_ID: "open"}), Settled(), 0.0)
    held = settle(_view(class_of={_ID: "pc-2"}), opened, 0.0)
    assert held.endpoints["c1"][1] == "open"
    assert settle(_view(class_of={_ID: "pc-2"}), held, HOLD).closed == _C1


def test_a_new_endpoint_waits_closed_and_never_opens_for_want_of_its_class() -> None:
    waiting = settle(_view(classes={}), Settled(), 0.0)
    assert (waiting.closed, waiting.awaited) == (_C1, _C1)
    assert settle(_view(classes={}), waiting, HOLD).closed == _C1


def test_an_endpoint_that_nobody_speaks_of_is_closed_at_once() -> None:
    for class_of in ({}, {_ID: ""}, {("default", "pod", "another uid"): "open"}):
        settled = settle(_view(class_of=class_of), _whole(), 0.0)
        assert (settled.closed, settled.awaited) == (_C1, frozenset())


def test_a_group_missing_for_long_is_not_waited_for_again() -> None:
    late = settle(_view(groups={}), settle(_view(groups={}), _whole(), 0.0), HOLD)
    other = settle(_view(programs={"p": _spec("g", "h")}, groups={"h": frozenset()}), late, HOLD + 1)
    assert (other.policies["p"].spec, other.policies["p"].lacking) == (_spec("g", "h"), frozenset({"g"}))


def test_classes_of_no_pod_here_are_left_out() -> None:
    settled = settle(_view(classes={"pc-1": _tiers("p"), "pc-9": _tiers("q")}), Settled(), 0.0)
    assert (set(settled.classes), dict(settled.since)) == ({"pc-1"}, {})
