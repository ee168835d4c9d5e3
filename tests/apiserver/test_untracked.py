"""What the API server makes of a replacement that shall not be tracked: no managedFields, then or later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import yaml

import apiserver
from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig
from manx_kube.errors import NotFound
from manx_kube.resources import CUSTOM_RESOURCE_DEFINITIONS, POLICY_PROGRAMS

CRD = Path(__file__).resolve().parents[2] / "crds/manx.dev_policyprograms.yaml"
Obj = dict[str, Any]
SOURCE = {"kind": "NetworkPolicy", "namespace": "d", "name": "p", "uid": "u", "generation": 1}
PROGRAM: Obj = {"metadata": {"name": "knp.d.p", "labels": {"a": ""}}, "spec": {"epoch": 1, "source": SOURCE}}


async def created(client: KubeClient) -> Obj:
    """As soon as the kind is served."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await client.create(POLICY_PROGRAMS, PROGRAM)
            except NotFound:
                await asyncio.sleep(0.05)


async def test_who_wrote_which_field_is_forgotten_and_not_noted_again(tmp_path: Path) -> None:
    with apiserver.running(tmp_path) as server:
        async with KubeClient(ApiConfig.from_kubeconfig(server.kubeconfig)) as client:
            await client.create(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(CRD.read_text()))
            found = await created(client)
            assert found["metadata"]["managedFields"]
            found = await client.replace(POLICY_PROGRAMS, found, tracked=False)
            assert "managedFields" not in found["metadata"]
            found["metadata"]["labels"] = {"b": ""}
            found = await client.replace(POLICY_PROGRAMS, found)
            status = {"status": {"observedGeneration": 1}}
            found = await client.patch(POLICY_PROGRAMS, dict[str, Any], "knp.d.p", status, subresource="status")
            assert "managedFields" not in found["metadata"]
            assert found["metadata"]["labels"] == {"b": ""}
