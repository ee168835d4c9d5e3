"""The cost rule, at the model: what one event makes differ, and that nothing else is reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from manx_core.api.core_v1 import LabelSelector, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort, Pod
from manx_core.policy import kubernetes_pods
from manx_core.selectors import conjunction, equals
from manx_operator.model import Key, PolicyId, PolicyModel
from policy_cases import BROKEN, egress, ingress, namespace, peer, pod, policy, port, requirement, select, to_port

WEB = ("shop", "web-0")


def web(number: int, labels: dict[str, str] | None = None, **kwargs: object) -> Pod:
    """Pod number `number` of 250 on ten nodes."""
    given: dict[str, object] = {"node": f"n{number % 10}", "uid": f"u{number}", "ports": (port(80, "http"),), **kwargs}
    return pod("shop", f"web-{number}", labels or {"app": "web"}, **given)  # type: ignore[arg-type]


def address(number: int) -> tuple[str]:
    return (f"10.0.{number // 200}.{number % 200}",)


@pytest.fixture
def model() -> PolicyModel:
    """250 web pods and a database; web may talk to the database's named port, and web to web."""
    made = PolicyModel()
    made.set_namespace("shop", namespace("shop", {"team": "a"}))
    for number in range(250):
        made.set_pod(("shop", f"web-{number}"), web(number))
        made.set_addresses(("shop", f"web-{number}"), f"u{number}", address(number))
    made.set_pod(("shop", "db"), pod("shop", "db", {"app": "db"}, node="n1", uid="db", ports=(port(5432, "sql"),)))
    made.set_addresses(("shop", "db"), "db", ("10.1.0.1",))
    set_policy(made, "db", policy("shop", "db", select(app="db"), (from_web(to_port("sql")),)))
    set_policy(made, "web", policy("shop", "web", select(app="web"), (from_web(),)))
    made.drain()
    return made


def set_policy(model: PolicyModel, name: str, declared: NetworkPolicy | None) -> None:
    model.set_policy(PolicyId("knp", "shop", name), declared)


def from_web(*ports: NetworkPolicyPort) -> NetworkPolicyIngressRule:
    return ingress((peer(select(app="web")),), *ports)


class Counted(NamedTuple):
    """What a change made differ."""

    objects: set[Key]
    nodes: set[str]
    policies: set[PolicyId]

    def chunks(self) -> int:
        return sum(kind == "AddressGroup" for kind, _ in self.objects)

    def others(self) -> set[Key]:
        return {key for key in self.objects if key[0] != "AddressGroup"}


def group_of(model: PolicyModel, selector: str) -> str:
    """The id of the group that says this of itself."""
    for kind, name in model.all_keys():
        found = model.desired(kind, name)
        assert found is not None
        if getattr(found.spec, "selector", "") == selector:
            return name.removesuffix("-0")
    raise AssertionError(selector)


NONE = Counted(set(), set(), set())
WEB_GROUP = kubernetes_pods(conjunction([equals("app", "web")]), "shop").key

DB = kubernetes_pods(conjunction([equals("app", "db")]), "shop").key


def count(model: PolicyModel, change: Callable[[], None]) -> Counted:
    """What a change makes differ; fails where more, or less, is reported."""
    keys, nodes = model.all_keys(), model.nodes()
    before = {key: model.desired(*key) for key in keys}, {node: model.endpoints(node) for node in nodes}
    change()
    reported = model.drain()
    keys, nodes = keys | model.all_keys(), nodes | model.nodes()
    different = {key for key in keys if model.desired(*key) != before[0].get(key)}
    different_nodes = {node for node in nodes if model.endpoints(node) != before[1].get(node, ())}
    assert reported.objects == different
    assert reported.nodes == different_nodes
    return Counted(different, different_nodes, set(reported.policies))


def test_a_pod_is_scheduled(model: PolicyModel) -> None:
    changes = count(model, lambda: model.set_pod(("shop", "web-250"), web(250)))
    assert (changes.objects, changes.nodes) == (set(), {"n0"})


def test_a_pod_gets_its_address(model: PolicyModel) -> None:
    model.set_pod(("shop", "web-250"), web(250))
    model.drain()
    changes = count(model, lambda: model.set_addresses(("shop", "web-250"), "u250", address(250)))
    assert (len(changes.objects), changes.nodes) == (1, set())
    assert changes.chunks() == 1


def test_a_pods_status_changes(model: PolicyModel) -> None:
    assert count(model, lambda: model.set_pod(WEB, web(0, phase="Pending"))) == NONE


def test_a_pod_is_relabelled_without_concern(model: PolicyModel) -> None:
    assert count(model, lambda: model.set_pod(WEB, web(0, {"app": "web", "colour": "red"}))) == NONE


def test_a_pod_is_relabelled_into_another_class(model: PolicyModel) -> None:
    changes = count(model, lambda: model.set_pod(("shop", "web-1"), web(1, {"app": "db"})))
    assert changes.nodes == {"n1"}
    assert (changes.chunks(), changes.others()) == (1, set())


def test_a_finished_pod_leaves(model: PolicyModel) -> None:
    changes = count(model, lambda: model.set_pod(WEB, web(0, phase="Succeeded")))
    assert (changes.chunks(), changes.others(), changes.nodes) == (1, set(), {"n0"})


def test_a_namespace_is_relabelled(model: PolicyModel) -> None:
    team = peer(namespaces=select(team="a"))
    set_policy(model, "team", policy("shop", "team", select(app="db"), (ingress((team,)),)))
    model.drain()
    assert count(model, lambda: model.set_namespace("shop", namespace("shop", {"team": "a", "x": "y"}))) == NONE
    changes = count(model, lambda: model.set_namespace("shop", namespace("shop", {"team": "b"})))
    assert (changes.chunks(), changes.others(), changes.nodes) == (3, set(), set())


def test_a_policys_rules_change(model: PolicyModel) -> None:
    """The class has the program inside, too, as no other has it."""
    new = policy("shop", "web", select(app="web"), (from_web(to_port(80)),))
    changes = count(model, lambda: set_policy(model, "web", new))
    name = model.endpoints("n0")[0].policy_class
    assert (changes.objects, changes.nodes) == ({("PolicyProgram", "knp.shop.web"), ("PolicyClass", name)}, set())


def test_the_rules_of_a_policy_of_many_classes_change(model: PolicyModel) -> None:
    set_policy(model, "all", policy("shop", "all", LabelSelector(), (from_web(),)))
    model.drain()
    new = policy("shop", "all", LabelSelector(), (from_web(to_port(80)),))
    changes = count(model, lambda: set_policy(model, "all", new))
    assert (changes.objects, changes.nodes) == ({("PolicyProgram", "knp.shop.all")}, set())


def test_a_policy_is_created_and_deleted_for_an_isolated_class(model: PolicyModel) -> None:
    declared = policy("shop", "more", select(app="web"), types=("Egress",))
    name = model.endpoints("n0")[0].policy_class
    expected: set[Key] = {("PolicyProgram", "knp.shop.more"), ("PolicyClass", name)}
    created = count(model, lambda: set_policy(model, "more", declared))
    deleted = count(model, lambda: set_policy(model, "more", None))
    assert (created.objects, created.nodes) == (deleted.objects, deleted.nodes) == (expected, set())


def test_a_group_is_first_needed_on_a_node(model: PolicyModel) -> None:
    """The database's class reaches n2, its program inside, and nothing else: web's group and program are there already,
    and what the database's port is on a pod, its node knows."""
    changes = count(
        model, lambda: model.set_pod(("shop", "db2"), pod("shop", "db2", {"app": "db"}, node="n2", uid="db2"))
    )
    name = next(e.policy_class for e in model.endpoints("n2") if e.name == "db2")
    assert changes.others() == {("PolicyClass", name)}
    assert (changes.chunks(), changes.nodes) == (0, {"n2"})


def test_a_named_port_of_the_policys_own_pods_is_no_object(model: PolicyModel) -> None:
    """Though it is followed, so that it can be told that nobody has it."""
    own = policy("shop", "db", select(app="db"), (from_web(to_port("sql"), to_port("http")),))
    changes = count(model, lambda: set_policy(model, "db", own))
    assert (changes.chunks(), {kind for kind, _ in changes.objects}) == (0, {"PolicyProgram", "PolicyClass"})
    assert [said for said in model.remarks("knp.shop.db") if "port" in said] == [
        f"spec.ingress[0].ports names a port http/TCP of {DB}, which nothing has"
    ]
    relabelled = count(model, lambda: model.set_pod(("shop", "web-1"), web(1, {"app": "db"})))
    assert (relabelled.chunks(), relabelled.others(), relabelled.nodes) == (1, set(), {"n1"})
    assert model.remarks("knp.shop.db") == ()
    moved = count(model, lambda: model.set_addresses(("shop", "db"), "db", ("10.1.0.2",)))
    assert moved == NONE


def test_a_group_without_nodes_is_no_object(model: PolicyModel) -> None:
    group = group_of(model, WEB_GROUP)
    assert model.desired("AddressGroup", f"{group}-2") is not None
    for number in range(250):
        model.set_pod(("shop", f"web-{number}"), web(number, {"app": "other"}))
    model.set_pod(("shop", "db"), None)
    changes = model.drain()
    assert {("AddressGroup", f"{group}-{number}") for number in range(3)} <= changes.objects
    assert model.all_keys() == {("PolicyProgram", "knp.shop.db"), ("PolicyProgram", "knp.shop.web")}
    assert all(model.desired("AddressGroup", f"{group}-{number}") is None for number in range(3))


def test_a_policy_replaced_in_one_batch_moves_no_member(model: PolicyModel) -> None:
    """Deleted and made again between two drains: its groups keep their chunks."""
    for number in range(0, 100, 2):
        model.set_addresses(("shop", f"web-{number}"), f"u{number}", ())
    model.drain()
    declared = policy("shop", "web", select(app="web"), (from_web(),))
    other = policy("shop", "db", select(app="db"), (from_web(to_port("sql")),))

    def replace() -> None:
        for name in ("web", "db"):
            set_policy(model, name, None)
        for name, new in (("web", declared), ("db", other)):
            set_policy(model, name, new)

    before = {key: model.desired(*key) for key in model.all_keys()}
    replace()
    model.drain()
    assert {key: model.desired(*key) for key in model.all_keys()} == before


def test_a_label_read_for_the_first_time_renames_only_classes_of_pods_that_have_it(model: PolicyModel) -> None:
    model.set_pod(("shop", "web-7"), web(7, {"app": "web", "canary": "yes"}))
    model.drain()
    declared = policy("shop", "canary", LabelSelector(match_expressions=(requirement("canary", "Exists"),)))
    classes = {pod.policy_class for pod in model.endpoints("n0")}
    changes = count(model, lambda: set_policy(model, "canary", declared))
    assert changes.nodes == {"n7"}
    classes |= {pod.policy_class for pod in model.endpoints("n7") if pod.name == "web-7"}
    programs = {"knp.shop.canary", "knp.shop.web"}  # (the latter had one class, and has two now)
    assert changes.others() == {("PolicyClass", name) for name in classes} | {("PolicyProgram", p) for p in programs}
    assert changes.chunks() == 0


# --- validity ---------------------------------------------------------------------------------------------------------


def test_a_policy_that_became_invalid_stays_as_it_was(model: PolicyModel) -> None:
    broken = policy("shop", "web", BROKEN)
    changes = count(model, lambda: set_policy(model, "web", broken))
    assert (changes.objects, changes.nodes, changes.policies) == (set(), set(), {PolicyId("knp", "shop", "web")})
    assert [problem.field for problem in model.problems(PolicyId("knp", "shop", "web"))] == [
        "spec.podSelector.matchExpressions[0].operator"
    ]
    repaired = count(model, lambda: set_policy(model, "web", policy("shop", "web", select(app="web"), (from_web(),))))
    assert repaired.policies == {PolicyId("knp", "shop", "web")}
    assert model.problems(PolicyId("knp", "shop", "web")) == ()


def test_a_policy_that_never_was_valid_closes(model: PolicyModel) -> None:
    changes = count(model, lambda: set_policy(model, "bad", policy("shop", "bad", BROKEN)))
    program = model.desired("PolicyProgram", "knp.shop.bad")
    assert program is not None
    assert (program.spec.types, program.spec.ingress) == (("Ingress",), ())  # type: ignore[union-attr]
    assert program.nodes == {f"n{number}" for number in range(10)}
    assert changes.policies == {PolicyId("knp", "shop", "bad")}


def test_a_policy_of_the_same_name_made_later_is_another(model: PolicyModel) -> None:
    set_policy(model, "web", policy("shop", "web", BROKEN, uid="later"))
    program = model.desired("PolicyProgram", "knp.shop.web")
    assert program is not None
    assert program.spec.ingress == ()  # type: ignore[union-attr]


def test_egress_to_a_named_port_needs_one_group(model: PolicyModel) -> None:
    declared = policy("shop", "out", select(app="web"), out=(egress((peer(select(app="db")),), to_port("sql")),))
    set_policy(model, "out", declared)
    found = model.desired("AddressGroup", group_of(model, f"port sql/TCP of {DB}") + "-0")
    assert found is not None
    assert found.spec.members == "10.1.0.1,tcp:5432"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["ag-x-0", "ag-x", "", "-3", "--1", "-00", "-1x", "-²"])
def test_unknown_names_are_not_desired(model: PolicyModel, name: str) -> None:
    assert model.desired("AddressGroup", name) is None
    assert model.desired("AddressGroup", group_of(model, WEB_GROUP) + name) is None
    assert model.desired("PolicyClass", name) is None
    assert model.desired("PolicyProgram", name) is None
