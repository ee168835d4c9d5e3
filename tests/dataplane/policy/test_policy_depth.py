"""As deep as our chains are ever nested: nf_tables takes no more than NFT_JUMP_STACK_SIZE (16), gotos included."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from manx_agent.model import LocalEndpoint
from manx_core.api.v1alpha1 import ClassTier, PolicyProgramSpec, PolicySource, Rule
from policy_world import Applied, World

pytestmark = pytest.mark.usefixtures("backend")
_TIERS = [f"gnp.t{number}.x" for number in range(10)]
_CLASSES = [f"pc-{number:020x}" for number in range(60)]


def _passing(port: str) -> PolicyProgramSpec:
    rules = (Rule(action="Pass", protocol="TCP"), Rule(protocol="UDP", index=1))
    source = PolicySource(kind="GlobalNetworkPolicy", name="x", tier="t")
    return PolicyProgramSpec(epoch=1, source=source, types=("Ingress", "Egress"), ingress=rules, egress=rules)


@pytest.mark.parametrize("settings", [{}, {"allow_action": "Return"}, {"default_endpoint_to_host_action": "Return"}])
def test_many_tiers_and_many_classes(world: World, applied: Applied, settings: dict[str, Any]) -> None:
    """Every class isolated both ways, every tier passing on, and every allowed packet to another's chain."""
    tiers = tuple(ClassTier(name=name, policies=(name,), default_action="Deny") for name in _TIERS)
    others = [
        LocalEndpoint("d", f"p{n}", "u", f"x{n}", f"mnx{n + 4096:011x}", (f"10.244.9.{n + 1}", f"fd00::9:{n + 1:x}"))
        for n in range(len(_CLASSES))
    ]
    world.settings(**settings)
    world.view = replace(
        world.view,
        endpoints={**world.view.endpoints, **{one.container_id: one for one in others}},
        classes=dict.fromkeys(_CLASSES, tiers),
        programs={name: _passing(name) for name in _TIERS},
        class_of={
            **{("d", one.name, "u"): name for one, name in zip(others, _CLASSES, strict=True)},
            **{pod.identity: _CLASSES[at] for at, pod in enumerate(world.pods.values())},
        },
    )
    applied.apply()
    assert world.tcp("a", "b", 80)
    assert world.udp("a", "b", 80)
    assert any("manx-sign-" in line for line in applied.saved()) == ("allow_action" not in settings)
