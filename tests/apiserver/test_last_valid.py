"""Tiers, network sets and FelixConfigurations that get past the API server's schema, on a real one: they count as they
last were valid, also with another operator leading, and their conditions say so.
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
from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig
from manx_kube.events import EventRecorder
from manx_kube.resources import CUSTOM_RESOURCE_DEFINITIONS, FELIX_CONFIGURATIONS, GLOBAL_NETWORK_SETS, TIERS, Resource
from manx_operator.installer import wiring
from operating import FAST, Leader, leading_on, new_term

ROOT = Path(__file__).resolve().parents[2]
Obj = dict[str, Any]
GOOD: dict[Resource, tuple[str, Obj]] = {
    TIERS: ("t", {"order": 5, "defaultAction": "Pass"}),
    GLOBAL_NETWORK_SETS: ("s", {"nets": ["192.0.2.0/24"]}),
    FELIX_CONFIGURATIONS: ("default", {"defaultEndpointToHostAction": "Drop"}),
}
BAD: dict[Resource, Obj] = {
    TIERS: {"order": "soon"},
    GLOBAL_NETWORK_SETS: {"nets": ["everywhere"]},
    FELIX_CONFIGURATIONS: {"defaultEndpointToHostAction": "Perhaps"},
}


async def define(client: KubeClient) -> None:
    """The kinds as an older version may have had them, which looked at no field of these specs."""
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        made = yaml.safe_load(path.read_text())
        schema = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        if made["spec"]["names"]["kind"] in [resource.kind for resource in GOOD]:
            schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            schema.pop("x-kubernetes-validations", None)
        await client.create(CUSTOM_RESOURCE_DEFINITIONS, made)


@asynccontextmanager
async def operator(config: ApiConfig, client: KubeClient, epoch: int) -> AsyncIterator[Leader]:
    """One leader, that reviews everything once a change is heard."""
    async with (
        leading_on(config, FAST, new_term(epoch)) as leader,
        EventRecorder(client, component="test", instance="test") as recorder,
    ):
        parts = wiring.parts(
            client, leader.inputs, recorder, leader.term, lambda active: None, leader.control.last_valid, {}
        )
        sweeping = asyncio.create_task(_sweep(parts))
        try:
            yield leader
        finally:
            sweeping.cancel()
            await asyncio.wait({sweeping})


async def _sweep(parts: wiring.Parts) -> None:
    while True:
        await parts.reviewer.sweep()
        await asyncio.sleep(0.2)


async def put(client: KubeClient, resource: Resource, spec: Obj) -> None:
    name = GOOD[resource][0]
    async with asyncio.timeout(30):
        while True:  # a kind is served some time after its definition was taken
            try:
                found = await client.get(resource, dict[str, Any], name)
                break
            except Exception:
                try:
                    await client.create(resource, {"metadata": {"name": name}, "spec": spec})
                    return
                except Exception:
                    await asyncio.sleep(0.2)
    await client.replace(resource, {**found, "spec": spec})


def said(leader: Leader, resource: Resource) -> tuple[str, str, Obj]:
    """The condition's status and message, and the version that the object carries."""
    raw = leader.inputs.of(resource).cache[("", GOOD[resource][0])]
    status = raw.get("status") or {}
    (condition,) = status.get("conditions") or [{"status": "", "message": ""}]
    seen = condition.get("observedGeneration") == raw["metadata"]["generation"]
    kept = json.loads(status.get("lastValid") or "{}").get("spec", {})
    return condition["status"] if seen else "", condition.get("message", ""), kept


async def test_they_stay_as_they_last_were_valid_whoever_leads(tmp_path: Path) -> None:
    with apiserver.running(tmp_path) as server:
        config = ApiConfig.from_kubeconfig(server.kubeconfig)
        async with KubeClient(config) as client:
            await define(client)
            for resource, (_, spec) in GOOD.items():
                await put(client, resource, spec)
            async with operator(config, client, 1) as leader:
                for resource, (_, spec) in GOOD.items():
                    await eventually(lambda resource=resource: said(leader, resource)[0] == "True")
                    await eventually(lambda resource=resource, spec=spec: said(leader, resource)[2] == spec)
                    await put(client, resource, BAD[resource])
                    await eventually(lambda resource=resource: said(leader, resource)[0] == "False")
            async with operator(config, client, 2) as leader:
                for resource, (_, spec) in GOOD.items():
                    status, message, kept = said(leader, resource)
                    assert (status, kept) == ("False", spec)
                    assert "The version last valid stays in force" in message
                    raw = leader.inputs.of(resource).cache[("", GOOD[resource][0])]
                    assert json.loads(leader.control.last_valid(resource, raw))["spec"] == spec
