"""What the Installation's conditions say, for every thing that may be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from manx_core.api.fields import Problem
from manx_core.api.v1alpha1 import Condition, NodeReportStatus
from manx_operator.conditions import Said, merged, some
from manx_operator.installer.foreign import OPERATOR_OF_CALICO
from manx_operator.installer.status import Observed, conditions

WAITING = {
    "containerStatuses": [{"name": "agent", "ready": False, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]
}


def daemonset(wanted: int = 1, ready: int = 1, updated: int = 1, generation: int = 1, seen: int = 1) -> dict[str, Any]:
    status = {"desiredNumberScheduled": wanted, "numberReady": ready, "updatedNumberScheduled": updated}
    return {"metadata": {"generation": generation}, "status": {**status, "observedGeneration": seen}}


def report(**bad: str) -> NodeReportStatus:
    kinds = ("Policy", "Routes", "BGP", "IPAM")
    return NodeReportStatus(
        conditions=tuple(
            Condition(type=kind, status="False" if kind in bad else "True", message=bad.get(kind, "")) for kind in kinds
        )
    )


def observed(**changes: Any) -> Observed:
    good: dict[str, Any] = {"daemonset": daemonset(), "reports": {"n1": report()}, "pool_problems": {"default": ()}}
    return Observed(**(good | changes))


def said(seen: Observed) -> dict[str, Said]:
    return {condition.type: condition for condition in conditions(seen)}


def test_all_is_well() -> None:
    found = said(observed())
    assert {kind: condition.status for kind, condition in found.items()} == {
        "Ready": "True", "Progressing": "False", "Degraded": "False", "Accepted": "True", "AgentsReady": "True",
        "IPPoolsReady": "True", "PolicyReady": "True", "RoutesReady": "True", "BGPReady": "True", "IPAMReady": "True",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "component", "words", "degraded"),
    [
        ({"calico": ("DaemonSet kube-system/calico-node",)}, "Accepted", "kube-system/calico-node", True),
        ({"problems": (Problem("spec.variant", "must be Calico"),)}, "Accepted", "spec.variant: must be Calico", True),
        ({"error": "daemonsets is forbidden"}, "Accepted", "daemonsets is forbidden", True),
        ({"daemonset": None}, "AgentsReady", "manx-node is not there", True),
        ({"daemonset": daemonset(wanted=0, ready=0, updated=0)}, "AgentsReady", "there is no node", True),
        ({"daemonset": daemonset(generation=2)}, "AgentsReady", "has just been changed", False),
        ({"daemonset": daemonset(wanted=3, ready=2, updated=3)}, "AgentsReady", "2 of 3 agents ready", False),
        ({"daemonset": daemonset(wanted=3, ready=3, updated=1)}, "AgentsReady", "1 of this version", False),
        ({"daemonset": daemonset(ready=0), "agent_pods": ({"spec": {"nodeName": "n1"}, "status": WAITING},)},
         "AgentsReady", "n1: agent ImagePullBackOff", True),
        ({"pool_problems": {}}, "IPPoolsReady", "there is no IPPool", True),
        ({"pool_problems": {"a": (Problem("spec.cidr", "overlaps"),)}}, "IPPoolsReady", "a: spec.cidr: overlaps", True),
        ({"plan_problems": (Problem("spec.calicoNetwork.ipPools[0].cidr", "cannot be changed"),)},
         "IPPoolsReady", "ipPools[0].cidr: cannot be changed", True),
        ({"reports": {"n1": report(BGP="n2 is Active")}}, "BGPReady", "n1: n2 is Active", True),
        ({"reports": {"n1": report(Policy="group missing")}}, "PolicyReady", "n1: group missing", True),
        ({"reports": {"n1": NodeReportStatus()}}, "IPAMReady", "n1: not reported yet", True),
    ],
)  # fmt: skip
def test_what_is_not_ready_is_said_and_why(changes: dict[str, Any], component: str, words: str, degraded: bool) -> None:
    found = said(observed(**changes))
    assert found[component].status == "False"
    assert words in found[component].message
    assert found["Ready"].status == "False"
    assert words in found["Ready"].message
    assert (found["Degraded"].status == "True") is degraded


def test_rolling_out_is_progress() -> None:
    found = said(observed(daemonset=daemonset(wanted=3, ready=2, updated=3)))
    assert found["Progressing"] == Said("Progressing", "True", "RollingOut", "2 of 3 agents ready, 3 of this version")


def test_nodes_that_have_not_reported_are_unknown() -> None:
    found = said(observed(daemonset=daemonset(wanted=2, ready=2, updated=2)))
    assert (found["PolicyReady"].status, found["PolicyReady"].message) == ("Unknown", "1 of 2 nodes have reported")


def test_fields_without_effect_are_told_and_do_no_harm() -> None:
    found = said(observed(ignored=("spec.flexVolumePath",)))
    assert (found["Accepted"].status, found["Accepted"].reason) == ("True", "FieldsWithoutEffect")
    assert "spec.flexVolumePath" in found["Accepted"].message
    assert found["Ready"].status == "True"


def test_agents_that_run_otherwise_need_no_daemonset() -> None:
    assert said(observed(rolls_out=False, daemonset=None))["Ready"].status == "True"


def test_transition_times_move_only_with_the_status() -> None:
    before = merged([Said("A", "True", "r"), Said("B", "True", "r")], [], "t1", 1)
    after = merged([Said("A", "True", "other", "text"), Said("B", "False", "r")], before, "t2", 2)
    assert [(each["type"], each["lastTransitionTime"], each["observedGeneration"]) for each in after] == [
        ("A", "t1", 2),
        ("B", "t2", 2),
    ]


def test_conditions_of_others_are_kept() -> None:
    before = [{"type": "Theirs", "status": "True"}, {"type": "A", "status": "True", "lastTransitionTime": "t0"}]
    after = merged([Said("A", "True", "r")], before, "t1")
    assert [each["type"] for each in after] == ["Theirs", "A"]
    assert after[0] == before[0]


def test_lists_are_kept_short() -> None:
    assert some(["a", "b"]) == "a; b"
    assert some(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"
    (long,) = merged([Said("A", "True", "r", "x" * 5000)], [], "t")
    assert len(long["message"]) == 2000


def test_an_installation_of_calicos_own_operator_keeps_its_words() -> None:
    found = said(observed(calico=(OPERATOR_OF_CALICO, "DaemonSet calico-system/calico-node")))
    assert set(found) == {"Accepted"}
    assert found["Accepted"].reason == "CalicoPresent"


def test_where_calico_came_without_its_operator_the_overall_conditions_are_ours() -> None:
    found = said(observed(calico=("DaemonSet kube-system/calico-node",)))
    assert set(found) == {"Ready", "Progressing", "Degraded", "Accepted"}
    assert (found["Ready"].status, found["Degraded"].status) == ("False", "True")
