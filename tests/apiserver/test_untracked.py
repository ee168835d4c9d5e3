"""What the API server makes of a replacement that shall not be tracked: no managedFields, then or later; and what it
answers to who wants to hear no more than metadata."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

import apiserver
from manx_core.api.v1alpha1 import StoredProgram
from manx_kube import codec
from manx_kube.client import METADATA_ALONE, KubeClient
from manx_kube.config import ApiConfig
from manx_kube.errors import Invalid, NotFound
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


async def test_metadata_alone_is_the_answer_to_who_wants_no_more(tmp_path: Path) -> None:
    with apiserver.running(tmp_path) as server:
        async with KubeClient(ApiConfig.from_kubeconfig(server.kubeconfig)) as client:
            await client.create(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(CRD.read_text()))
            await created(client)
            found = await client.get(POLICY_PROGRAMS, StoredProgram, "knp.d.p")
            changed = msgspec.structs.replace(found, declared="{}")
            meta = await client.store(POLICY_PROGRAMS, changed, new=False)
            assert meta.resource_version != found.metadata.resource_version
            assert (
                await client.store(POLICY_PROGRAMS, msgspec.structs.replace(changed, metadata=meta), new=False) == meta
            )
            named = msgspec.structs.replace(found.metadata, name="knp.d.q", uid="", resource_version="")
            other = await client.store(POLICY_PROGRAMS, msgspec.structs.replace(changed, metadata=named), new=True)
            for known in (meta, other):
                stored = await client.get(POLICY_PROGRAMS, StoredProgram, known.name)
                assert stored == msgspec.structs.replace(changed, metadata=known)
            wrong = msgspec.structs.replace(found.spec, types=("Sideways",))
            with pytest.raises(Invalid):  # values are validated as ever
                await client.store(
                    POLICY_PROGRAMS, msgspec.structs.replace(changed, metadata=meta, spec=wrong), new=False
                )
            raw = await client.transport.request(
                "GET", POLICY_PROGRAMS.path(name="knp.d.q"), accept=METADATA_ALONE,
            )  # fmt: skip
            assert "spec" not in codec.decode(raw, dict[str, Any])
