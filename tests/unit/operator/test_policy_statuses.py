"""What users are told of their policies, on a fake API server: validity, where in force, and how little is written."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from informing import eventually
from manx_core.api.inside import programs_in
from manx_core.span import span_label
from manx_kube.resources import (
    CALICO_NETWORK_POLICIES,
    FELIX_CONFIGURATIONS,
    GLOBAL_NETWORK_POLICIES,
    NETWORK_POLICIES,
    NODE_REPORTS,
    NODE_STATES,
    PODS,
    POLICY_CLASSES,
    POLICY_PROGRAMS,
    TIERS,
    Resource,
)
from operating import FAST, Cluster, cluster, leading, settled

SETTINGS = replace(FAST, status_coalesce=0.02)
RULE = {"action": "Allow", "source": {"selector": "app == 'client'"}}


def small(world: Cluster) -> None:
    for number in (1, 2):
        world.node(f"n{number}", number)
    world.pool()
    world.namespace("d")
    world.pod("web", "n1", labels={"app": "web"})
    world.pod("web2", "n2", labels={"app": "web"})


def calico(world: Cluster, name: str = "p", generation: int = 1, **spec: Any) -> None:
    """A user's write leaves the status as it is."""
    meta = {"name": name, "namespace": "d", "uid": name, "generation": generation}
    status = status_of(world, CALICO_NETWORK_POLICIES, name)
    obj = {"metadata": meta, "spec": {"selector": "app == 'web'", **spec}, "status": status}
    world.put(CALICO_NETWORK_POLICIES, obj)


def applied(world: Cluster, *nodes: str) -> None:
    """These nodes' agents have everything there is in the kernel."""
    fields = ("policyprograms", "policyclasses", "policyprogramsEverywhere", "policyclassesEverywhere")
    for node in nodes:
        status = {"applied": dict.fromkeys(fields, str(world.api.state.version))}
        world.put(NODE_REPORTS, {"metadata": {"name": node}, "status": status})


def status_of(world: Cluster, resource: Resource, name: str) -> dict[str, Any]:
    found: dict[str, Any] = world.all(resource).get(name, {}).get("status") or {}
    return found


def condition(world: Cluster, resource: Resource, name: str, type_: str) -> tuple[str, str, str]:
    for found in status_of(world, resource, name).get("conditions", []):
        if found["type"] == type_:
            return found["status"], found["reason"], found.get("message", "")
    return "", "", ""


def told(world: Cluster, name: str) -> set[tuple[str, str]]:
    """Type and reason of each Event on the object."""
    return {
        (request.body["type"], request.body["reason"])
        for request in world.api.requests
        if request.resource == "events.events.k8s.io"
        and request.method == "POST"
        and request.body["regarding"]["name"] == name
    }


async def test_a_calico_policy_says_on_how_many_nodes_it_is_in_force() -> None:
    async with cluster() as world:
        small(world)
        calico(world, ingress=[RULE], generation=3)
        async with leading(world, settings=SETTINGS) as leader:
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")[1] == "Waiting")
            said = condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")
            assert said == ("False", "Waiting", "in force on 0 of 2 concerned; not yet on: n1; n2")
            assert condition(world, CALICO_NETWORK_POLICIES, "p", "Valid")[0] == "True"
            await settled(world, leader)
            applied(world, "n1")
            await eventually(lambda: status_of(world, CALICO_NETWORK_POLICIES, "p")["nodes"]["inForce"] == 1)
            applied(world, "n2")
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")[0] == "True")
            status = status_of(world, CALICO_NETWORK_POLICIES, "p")
            assert status["observedGeneration"] == 3
            assert (status["nodes"]["concerned"], status["nodes"]["inForce"]) == (2, 2)
            assert condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")[2] == "on all 2 nodes concerned"


async def test_kubernetes_policies_are_told_of_in_their_programs() -> None:
    async with cluster() as world:
        small(world)
        world.policy("p", {"app": "web"}, {"app": "client"})
        async with leading(world, settings=SETTINGS) as leader:
            await eventually(lambda: condition(world, POLICY_PROGRAMS, "knp.d.p", "InForce")[1] == "Waiting")
            await settled(world, leader)
            applied(world, "n1", "n2")
            await eventually(lambda: condition(world, POLICY_PROGRAMS, "knp.d.p", "InForce")[0] == "True")
            assert status_of(world, POLICY_PROGRAMS, "knp.d.p")["nodes"]["inForce"] == 2


async def test_an_invalid_kubernetes_policy_is_told_of_in_its_program_and_by_an_event() -> None:
    async with cluster() as world:
        small(world)

        def declare(cidr: str) -> None:
            spec = {
                "podSelector": {"matchLabels": {"app": "web"}},
                "ingress": [{"from": [{"ipBlock": {"cidr": cidr}}]}],
            }
            world.put(NETWORK_POLICIES, {"metadata": {"name": "p", "namespace": "d", "uid": "p"}, "spec": spec})

        def said(type_: str) -> tuple[str, str, str]:
            return condition(world, POLICY_PROGRAMS, "knp.d.p", type_)

        declare("192.0.2.0/24")
        async with leading(world, settings=SETTINGS) as leader:
            await eventually(lambda: said("InForce")[1] == "Waiting")
            assert said("Valid") == ("", "", "")
            declare("192.0.2.0/33")
            await eventually(lambda: said("Valid")[0] == "False")
            assert "spec.ingress[0].from[0].ipBlock.cidr" in said("Valid")[2]
            await settled(world, leader)
            applied(world, "n1", "n2")
            await eventually(lambda: said("InForce")[1] == "Invalid")
            await eventually(lambda: ("Warning", "InvalidPolicy") in told(world, "p"))
            assert "192.0.2.0/24" in str(world.all(POLICY_PROGRAMS)["knp.d.p"]["spec"])
            declare("192.0.2.0/25")
            await eventually(lambda: said("Valid")[0] == "True")


async def test_nothing_more_is_written_when_nothing_changes_also_by_a_new_leader() -> None:
    async with cluster() as world:
        small(world)
        calico(world, ingress=[RULE])
        world.policy("k", {"app": "web"}, {"app": "client"})
        async with leading(world, settings=SETTINGS) as leader:
            await settled(world, leader, lambda: "knp.d.k" in world.all(POLICY_PROGRAMS))
            applied(world, "n1", "n2")
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")[0] == "True")
            await eventually(lambda: condition(world, POLICY_PROGRAMS, "knp.d.k", "InForce")[0] == "True")
        world.forget_requests()
        async with leading(world, epoch=2, settings=SETTINGS) as leader:
            await settled(world, leader)
            calico(world, "q", ingress=[RULE])  # something that shows that statuses were looked at
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "q", "Valid")[0] == "True")
            patched = {r.name for r in world.api.requests if r.method == "PATCH" and r.subresource == "status"}
            assert patched == {"q"}


async def test_statuses_are_within_the_ceiling_on_writes() -> None:
    async with cluster() as world:
        small(world)
        for number in range(30):
            calico(world, f"p{number}", ingress=[RULE])
        async with leading(world, settings=replace(SETTINGS, write_rate=30.0, write_burst=5.0)) as leader:
            loop = asyncio.get_running_loop()
            began = loop.time()
            names = [f"p{number}" for number in range(30)]
            await eventually(lambda: all(status_of(world, CALICO_NETWORK_POLICIES, name) for name in names))
            await settled(world, leader)
            count = sum(r.method in ("POST", "PUT", "PATCH") for r in world.api.requests)
            assert 60 < count <= 5 + 30 * (loop.time() - began) + 1


def inside(world: Cluster, program: str) -> list[str]:
    """The classes that have the program inside."""
    classes = world.all(POLICY_CLASSES)
    there = {name: programs_in(found["spec"].get("programs", "")) for name, found in classes.items()}
    return [name for name, programs in there.items() if program in {found.name for found in programs}]


def spans_node(world: Cluster, program: str, node: str) -> bool:
    """By its own object, or inside a class."""
    found = [world.all(POLICY_CLASSES)[name] for name in inside(world, program)]
    found += [obj for name, obj in world.all(POLICY_PROGRAMS).items() if name == program]
    return any(span_label(node) in obj["metadata"].get("labels", {}) for obj in found)


class Leisure:
    """None until there is some."""

    there = False

    def delay(self) -> float:
        return 0.0 if self.there else 0.01

    def take(self) -> None:
        assert self.there


async def test_what_follows_pods_waits_for_leisure_and_what_users_wait_for_does_not() -> None:
    async with cluster() as world:
        small(world)
        world.node("n3", 3)
        calico(world, ingress=[RULE])
        async with leading(world, settings=SETTINGS) as leader:
            leisure = leader.control._statuses._leisure = Leisure()  # type: ignore[assignment]
            await settled(world, leader, lambda: spans_node(world, "np.d.p", "n1"))
            applied(world, "n1", "n2")
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")[0] == "True")
            world.pod("web3", "n3", labels={"app": "web"})
            await settled(world, leader, lambda: spans_node(world, "np.d.p", "n3"))
            applied(world, "n1", "n2", "n3")
            calico(world, "q", ingress=[RULE])
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "q", "InForce")[1] == "Waiting")
            await settled(world, leader)
            applied(world, "n1", "n2", "n3")
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "q", "InForce")[0] == "True")
            assert status_of(world, CALICO_NETWORK_POLICIES, "q")["nodes"]["concerned"] == 3
            assert status_of(world, CALICO_NETWORK_POLICIES, "p")["nodes"]["concerned"] == 2
            leisure.there = True
            await eventually(lambda: status_of(world, CALICO_NETWORK_POLICIES, "p")["nodes"]["inForce"] == 3)


async def test_a_pod_on_another_node_counts_too() -> None:
    async with cluster() as world:
        small(world)
        calico(world, ingress=[RULE], selector="app == 'new'")
        async with leading(world, settings=SETTINGS) as leader:
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")[1] == "NothingSelected")
            world.pod("late", "n2", labels={"app": "new"})
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")[1] == "Waiting")
            await settled(world, leader)
            applied(world, "n2")
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")[0] == "True")


async def test_an_edited_policy_waits_for_the_nodes_that_have_it_inside_their_class() -> None:
    async with cluster() as world:
        small(world)
        calico(world, ingress=[RULE])

        def nodes() -> dict[str, Any]:
            found: dict[str, Any] = status_of(world, CALICO_NETWORK_POLICIES, "p")["nodes"]
            return found

        async with leading(world, settings=SETTINGS) as leader:
            await settled(world, leader, lambda: spans_node(world, "np.d.p", "n1"))
            assert inside(world, "np.d.p")
            assert not world.all(POLICY_PROGRAMS)["np.d.p"]["metadata"].get("labels")
            applied(world, "n1", "n2")
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")[0] == "True")
            before = nodes()["programVersion"]
            calico(world, ingress=[RULE, RULE], generation=2)
            await eventually(lambda: status_of(world, CALICO_NETWORK_POLICIES, "p")["observedGeneration"] == 2)
            await settled(world, leader)
            await eventually(lambda: nodes()["programVersion"] != before)
            assert nodes()["inForce"] == 0
            applied(world, "n2")
            await eventually(lambda: nodes()["inForce"] == 1)
            applied(world, "n1")
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")[0] == "True")


async def test_a_policy_that_comes_to_apply_to_a_second_class_and_leaves_it() -> None:
    """Its program moves out of the class into its own object, and back."""
    async with cluster() as world:
        small(world)
        calico(world, ingress=[RULE])
        calico(world, "of-more", ingress=[RULE], selector="tier == 'front'")

        def in_force(number: int) -> bool:
            found = status_of(world, CALICO_NETWORK_POLICIES, "p").get("nodes", {})
            return (found.get("concerned"), found.get("inForce")) == (number, number)

        async with leading(world, settings=SETTINGS) as leader:
            await settled(world, leader, lambda: spans_node(world, "np.d.p", "n1"))
            applied(world, "n1", "n2")
            await eventually(lambda: in_force(2))
            world.node("n3", 3)
            world.pod("other", "n3", labels={"app": "web", "tier": "front"})
            await settled(world, leader, lambda: not inside(world, "np.d.p") and spans_node(world, "np.d.p", "n3"))
            applied(world, "n1", "n2", "n3")
            await eventually(lambda: in_force(3))
            world.delete(PODS, "other", "d")
            await settled(world, leader, lambda: inside(world, "np.d.p"))
            applied(world, "n1", "n2", "n3")
            await eventually(lambda: in_force(2))
            assert condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")[0] == "True"


async def test_an_invalid_policy_is_told_with_an_event_and_valid_again() -> None:
    async with cluster() as world:
        small(world)
        calico(world, ingress=[{"action": "Allow", "protocol": "tcp"}])
        async with leading(world, settings=SETTINGS) as leader:
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "p", "Valid")[0] == "False")
            assert "spec.ingress[0].protocol: 'tcp'" in condition(world, CALICO_NETWORK_POLICIES, "p", "Valid")[2]
            await settled(world, leader)
            applied(world, "n1", "n2")
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "p", "InForce")[1] == "Invalid")
            calico(world, ingress=[RULE], generation=2)
            await eventually(lambda: condition(world, CALICO_NETWORK_POLICIES, "p", "Valid")[0] == "True")
            await eventually(lambda: {("Warning", "Invalid"), ("Normal", "Valid")} <= told(world, "p"))


async def test_a_policy_of_a_tier_that_is_not_there_says_so_until_it_is() -> None:
    async with cluster() as world:
        small(world)
        meta = {"name": "g", "uid": "g", "generation": 1}
        world.put(GLOBAL_NETWORK_POLICIES, {"metadata": meta, "spec": {"tier": "security", "ingress": [RULE]}})
        async with leading(world, settings=SETTINGS):
            await eventually(lambda: condition(world, GLOBAL_NETWORK_POLICIES, "g", "Valid")[1] == "NoSuchTier")
            world.put(TIERS, {"metadata": {"name": "security"}, "spec": {"order": 5}})
            await eventually(lambda: condition(world, GLOBAL_NETWORK_POLICIES, "g", "Valid")[0] == "True")


async def test_felix_configuration_reaches_each_node() -> None:
    async with cluster() as world:
        small(world)
        world.put(FELIX_CONFIGURATIONS, {"metadata": {"name": "default"}, "spec": {"chainInsertMode": "append"}})
        async with leading(world, settings=SETTINGS) as leader:
            await settled(world, leader, lambda: world.all(NODE_STATES))
            own = {"metadata": {"name": "node.n2"}, "spec": {"iptablesFilterDenyAction": "Reject"}}
            world.put(FELIX_CONFIGURATIONS, own)
            await eventually(lambda: "denyAction" in world.all(NODE_STATES)["n2"]["spec"].get("policy", {}))
            assert world.all(NODE_STATES)["n1"]["spec"]["policy"] == {"chainInsertMode": "Append"}
            both = {"chainInsertMode": "Append", "denyAction": "Reject"}
            assert world.all(NODE_STATES)["n2"]["spec"]["policy"] == both


async def test_nothing_is_told_while_there_is_no_installation() -> None:
    async with cluster() as world:
        small(world)
        calico(world, ingress=[RULE])
        async with leading(world, settings=SETTINGS, active=False) as leader:
            await eventually(lambda: not leader.control.flush_pending)
            leader.control.activate(True)
            leader.control.activate(False)
            assert status_of(world, CALICO_NETWORK_POLICIES, "p") == {}
            leader.control.activate(True)
            await eventually(lambda: status_of(world, CALICO_NETWORK_POLICIES, "p"))
