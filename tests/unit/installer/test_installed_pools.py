"""The Installation's pools against those that are there."""

from __future__ import annotations

from typing import Any

from manx_core.api.installation import Installation
from manx_operator.installer.names import OWN_LABELS
from manx_operator.installer.pools import PoolPlan, plan_pools, render_pools


def installation(*pools: dict[str, Any]) -> Installation:
    raw = {"metadata": {"name": "default", "uid": "u1"}, "spec": {"calicoNetwork": {"ipPools": list(pools)}}}
    return Installation.parse(raw)


def there(made_for: Installation, **changes: Any) -> dict[str, Any]:
    found = {}
    for pool in render_pools(made_for):
        spec = {**pool["spec"], **changes}
        found[pool["metadata"]["name"]] = {
            **pool,
            "spec": spec,
            "metadata": {**pool["metadata"], "resourceVersion": "7"},
        }
    return found


ONE = {"cidr": "10.244.0.0/16"}


def test_what_a_pool_is_made_of() -> None:
    (pool,) = render_pools(installation({**ONE, "encapsulation": "VXLANCrossSubnet", "natOutgoing": "Disabled"}))
    assert pool["metadata"]["name"] == "default-ipv4-ippool"
    assert pool["metadata"]["labels"] == OWN_LABELS
    assert pool["spec"] == {
        "cidr": "10.244.0.0/16", "blockSize": 26, "natOutgoing": False, "nodeSelector": "all()", "ipipMode": "Never",
        "vxlanMode": "CrossSubnet", "allowedUses": ["Workload", "Tunnel"], "disabled": False,
    }  # fmt: skip


SIX = {"cidr": "fd00:10:244::/56"}


def test_defaults_of_both_families() -> None:
    four, six = render_pools(installation(ONE, SIX))
    assert [pool["metadata"]["name"] for pool in (four, six)] == ["default-ipv4-ippool", "default-ipv6-ippool"]
    assert (four["spec"]["blockSize"], four["spec"]["natOutgoing"]) == (26, True)
    assert (six["spec"]["blockSize"], six["spec"]["natOutgoing"]) == (122, False)
    assert (six["spec"]["ipipMode"], six["spec"]["vxlanMode"]) == ("Never", "Never")
    (said,) = render_pools(installation({**SIX, "natOutgoing": "Enabled", "blockSize": 120}))
    assert (said["spec"]["blockSize"], said["spec"]["natOutgoing"]) == (120, True)


def test_only_the_first_of_each_family_has_the_default_name() -> None:
    pools = render_pools(installation(SIX, ONE, {"cidr": "10.9.0.0/16"}, {"cidr": "fd00:9::/64"}))
    assert [pool["metadata"]["name"] for pool in pools] == [
        "default-ipv6-ippool", "default-ipv4-ippool", "10-9-0-0-16", "fd00-9-64",
    ]  # fmt: skip


def test_a_pool_without_block_size_has_its_familys() -> None:
    wanted = installation(SIX)
    found = there(wanted)
    del found["default-ipv6-ippool"]["spec"]["blockSize"]
    plan = plan_pools(wanted, found, ())
    assert not plan.problems
    plan = plan_pools(installation({**SIX, "blockSize": 124}), found, ())
    assert "it stays 122" in plan.problems[0].message


def test_missing_pools_are_made() -> None:
    plan = plan_pools(installation(ONE), {}, ())
    assert [pool["metadata"]["name"] for pool in plan.create] == ["default-ipv4-ippool"]


def test_nothing_is_done_about_what_is_right() -> None:
    wanted = installation(ONE)
    assert plan_pools(wanted, there(wanted), {"default-ipv4-ippool"}) == PoolPlan()


def test_what_can_be_changed_is_changed() -> None:
    wanted = installation({**ONE, "natOutgoing": "Disabled"})
    plan = plan_pools(wanted, there(installation(ONE)), ())
    assert [pool["spec"]["natOutgoing"] for pool in plan.change] == [False]
    assert not plan.problems


def test_what_cannot_be_changed_is_told_and_left() -> None:
    for changed, field in (({"cidr": "10.0.0.0/16"}, "cidr"), ({**ONE, "blockSize": 24}, "blockSize")):
        plan = plan_pools(installation(changed), there(installation(ONE)), ())
        assert not plan.create
        assert not plan.change
        assert not plan.delete
        (problem,) = plan.problems
        assert problem.field == f"spec.calicoNetwork.ipPools[0].{field}"
        assert "cannot be changed" in problem.message


def test_pools_not_asked_for_any_more_go_if_they_are_empty() -> None:
    plan = plan_pools(installation(), there(installation(ONE)), ())
    assert plan == PoolPlan(delete=(("default-ipv4-ippool", "7"),))


def test_pools_in_use_give_out_no_more_and_stay() -> None:
    found = there(installation(ONE))
    plan = plan_pools(installation(), found, {"default-ipv4-ippool"})
    assert not plan.delete
    assert [pool["spec"]["disabled"] for pool in plan.change] == [True]
    assert "is in use" in plan.problems[0].message
    again = plan_pools(installation(), there(installation(ONE), disabled=True), {"default-ipv4-ippool"})
    assert not again.change


def test_users_own_pools_are_left_alone() -> None:
    found = there(installation(ONE))
    for raw in found.values():
        raw["metadata"] = {**raw["metadata"], "labels": {}}
    assert plan_pools(installation(), found, ()) == PoolPlan()
    plan = plan_pools(installation({**ONE, "natOutgoing": "Disabled"}), found, ())
    assert (plan.create, plan.change, plan.delete) == ((), (), ())
    assert "did not make" in plan.problems[0].message
