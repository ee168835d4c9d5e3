"""How long after CNI ADD began a pod's address is in its peers' groups, with and without reserving it early; and how
long a policy that is made together with its pod, but after it, takes to its node.

    PYTHONPATH=tests/support python tests/support/early_figures.py [pods]

Operator (its usual settings) and the agent's part that gives addresses, against a fake API server on this machine:
what is measured is our own part, without the API server's and the network's. A runtime asks for an address `SANDBOX`
seconds after the pod was scheduled, which is short: kubelet mounts volumes before, containerd makes a sandbox.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from early_agent import EarlyAgent, early_agent
from informing import eventually
from manx_kube.resources import PODS
from manx_operator.settings import Settings
from operating import Cluster, cluster, leading

SANDBOX = 0.2


async def one(world: Cluster, agent: EarlyAgent, number: int) -> tuple[float, float]:
    """Milliseconds from ADD's begin to its answer, and to the address being in the group (negative: before it)."""
    name = f"client-{number}"
    world.pod(name, labels={"app": "peer"})
    uid = str(world.api.state.of(PODS)["d", name]["metadata"]["uid"])
    listed = time.perf_counter()
    reserved = asyncio.create_task(known(world, lambda: agent.ipam.reservations().get(uid)))
    await asyncio.sleep(SANDBOX)
    began = time.perf_counter()
    address = await agent.add(f"c{number}", name, uid)
    answered = time.perf_counter()
    if reserved.done():
        in_group = reserved.result()
    else:
        reserved.cancel()
        await until(lambda: world.members(address))
        in_group = time.perf_counter()
    assert in_group > listed
    return (answered - began) * 1000, (in_group - began) * 1000


async def window(world: Cluster, agent: EarlyAgent, number: int) -> tuple[float, float]:
    """Milliseconds until the agent has the pod's class without the policy made right after it, and with it."""
    name = f"guarded-{number}"
    began = time.perf_counter()
    world.pod(name, labels={"app": name})
    world.policy(name, {"app": name}, {"app": "peer"})
    uid = str(world.api.state.of(PODS)["d", name]["metadata"]["uid"])
    await until(lambda: ("d", name, uid) in agent.share.policy_view().class_of)
    listed = time.perf_counter()

    def guarded() -> bool:
        view = agent.share.policy_view()
        tiers = view.classes.get(view.class_of[("d", name, uid)], ())
        return any(f"knp.d.{name}" in tier.policies for tier in tiers) and f"knp.d.{name}" in view.programs

    there = listed if guarded() else 0.0
    await until(guarded)
    return (listed - began) * 1000, ((there or time.perf_counter()) - began) * 1000


async def known(world, held) -> float:  # type: ignore[no-untyped-def]
    await until(lambda: held() and world.members(held()[0].address))
    return time.perf_counter()


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    while not condition():
        await asyncio.sleep(0.0005)


async def run(pods: int, reserves: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with cluster() as world:
            world.namespace("d")
            world.pool()
            world.node("n1")
            world.policy("p", {"app": "server"}, {"app": "peer"})
            async with (
                leading(world, settings=Settings(kopf=False)),
                early_agent(world.api.config(), "n1", Path(directory), reserves=reserves) as agent,
            ):
                world.pod("server", labels={"app": "server"})
                await eventually(lambda: agent.ipam.families())
                found = [await one(world, agent, number) for number in range(pods)]
                windows = [await window(world, agent, number) for number in range(pods)] if reserves else []
    if windows:
        show("policy made right after its pod: pod listed on its node", [listed for listed, _ in windows])
        late = [there - listed for listed, there in windows if there > listed]
        print(f"policy made right after its pod: not there yet in {len(late)} of {pods}")
        if late:
            show("policy made right after its pod: there after another", late)
    answered, grouped = zip(*found, strict=True)
    name = "reserved early" if reserves else "given at ADD"
    for label, values in (("ADD answered", answered), ("in the group", grouped)):
        show(f"{name}: {label} after ADD began", values)


def show(label: str, values: Sequence[float]) -> None:
    print(f"{label}: median {statistics.median(values):.1f} ms, least {min(values):.1f}, most {max(values):.1f}")


def main() -> None:
    pods = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    for reserves in (False, True):
        asyncio.run(run(pods, reserves))


if __name__ == "__main__":
    main()
