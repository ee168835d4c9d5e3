"""Policies with the longest names there are, on a real API server: a class of ten thousand is stored in less than
400 KiB, and a policy's program is found by the policy's name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

import apiserver
from informing import eventually
from manx_core.api.core_v1 import ObjectMeta
from manx_core.api.v1alpha1 import ClassTier, PolicyClass, PolicyClassSpec, PolicyProgram
from manx_core.policy.compiled import program_name
from manx_core.span import span_labels
from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig
from manx_kube.errors import KubeError
from manx_kube.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    NETWORK_POLICIES,
    POLICY_CLASSES,
    POLICY_PROGRAMS,
)
from operating import FAST, leading_on, new_term

ROOT = Path(__file__).resolve().parents[2]
SPACE = "n" * 63
NAMES = [f"{number}-".ljust(253, "x") for number in range(10_000)]
RULE = {"podSelector": {}, "ingress": [{}]}


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[tuple[ApiConfig, KubeClient]]:
    """With Manx's definitions."""
    with apiserver.running(directory) as server:
        config = ApiConfig.from_kubeconfig(server.kubeconfig)
        async with KubeClient(config) as client:
            for path in sorted((ROOT / "crds").glob("*.yaml")):
                await client.create(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()))
            async with asyncio.timeout(60):
                while not await _are_served(client):
                    await asyncio.sleep(0.1)
            yield config, client


async def _are_served(client: KubeClient) -> bool:
    try:
        await client.list_all(POLICY_CLASSES, PolicyClass)
        await client.list_all(POLICY_PROGRAMS, PolicyProgram)
    except KubeError:
        return False
    return True


async def test_a_class_of_ten_thousand_is_small_enough(tmp_path: Path) -> None:
    programs = tuple(program_name("knp", SPACE, name) for name in NAMES)
    labels = span_labels([f"node-{number}" for number in range(50)], False)
    spec = PolicyClassSpec(epoch=1, tiers=(ClassTier(name="default", policies=programs),))
    async with served(tmp_path) as (_, client):
        await client.create(POLICY_CLASSES, PolicyClass(ObjectMeta(name="pc-" + "0" * 20, labels=labels), spec))
        stored = await client.get(POLICY_CLASSES, dict[str, Any], "pc-" + "0" * 20)
    assert len(stored["metadata"]["labels"]) == 50
    assert len(set(stored["spec"]["tiers"][0]["policies"])) == 10_000
    assert len(json.dumps(stored, separators=(",", ":"))) < 400 * 1024


async def test_a_program_is_found_by_its_policy_s_name(tmp_path: Path) -> None:
    async with served(tmp_path) as (config, client):
        await client.create(NAMESPACES, {"metadata": {"name": SPACE}})
        for name in NAMES[:3]:
            await client.create(NETWORK_POLICIES, {"metadata": {"namespace": SPACE, "name": name}, "spec": RULE})
        async with leading_on(config, FAST, new_term(1)) as leader:
            leader.control.activate(True)
            await eventually(lambda: len(leader.inputs.ours[POLICY_PROGRAMS].cache) == 3)
        wanted = f"spec.source.namespace={SPACE},spec.source.name={NAMES[1]}"
        found = await client.list_all(POLICY_PROGRAMS, PolicyProgram, field_selector=wanted)
        (program,) = found.items
    assert program.spec.source.name == NAMES[1]
    assert program.metadata.name == program_name("knp", SPACE, NAMES[1])
