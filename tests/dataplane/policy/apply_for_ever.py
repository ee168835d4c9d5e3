"""Applies random views without end, in the network namespace that it is started in, until it is killed.

Arguments: back end, then one NAME,INTERFACE,ADDRESS,ADDRESS for each endpoint. Prints "ready" before the first apply.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import cast

from manx_agent.dataplane import KernelPolicy
from manx_agent.model import Backend, Dirty, LocalEndpoint, PolicyView
from manx_core.api.v1alpha1 import ClassTier, PolicyProgramSpec, PolicySource, Rule, RuleEnd


def _view(endpoints: list[LocalEndpoint]) -> PolicyView:
    source = PolicySource(kind="NetworkPolicy", name="p")
    group = f"ag-{random.choice('abc') * 20}"
    rule = Rule(peer=RuleEnd(groups=(group,)), protocol="TCP", subject=RuleEnd(ports=("80",)))
    programs = {
        f"knp.x.{number}": PolicyProgramSpec(epoch=1, source=source, types=("Ingress",), ingress=(rule,))
        for number in random.sample(range(20), 5)
    }
    tiers = (ClassTier(name="default", policies=tuple(programs)),)
    classes = {f"pc-{letter * 20}": tiers for letter in random.sample("abcdef", 2)}
    return PolicyView(
        endpoints={one.container_id: one for one in endpoints},
        classes=classes,
        programs=programs,
        groups={group: frozenset(f"10.0.{random.randrange(256)}.{number}" for number in range(100))},
        group_types={group: "Addresses"},
        class_of={(one.namespace, one.name, one.uid): random.choice(list(classes)) for one in endpoints},
    )


async def main(backend: str, *texts: str) -> None:
    """Applies until killed."""
    endpoints = []
    for text in texts:
        name, interface, *addresses = text.split(",")
        endpoints.append(LocalEndpoint("default", name, f"uid-{name}", f"c-{name}", interface, tuple(addresses)))
    policy = KernelPolicy(cast(Backend, backend))
    print("ready", flush=True)
    while True:
        await policy.apply(_view(endpoints), Dirty())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
