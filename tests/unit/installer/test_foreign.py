"""The signs of a real Calico, and what is none."""

from __future__ import annotations

from typing import Any

import pytest

from fakeapi import FakeApi
from manx_kube.client import KubeClient
from manx_kube.resources import API_SERVICES, DAEMON_SETS, DEPLOYMENTS, Resource
from manx_operator.installer.foreign import signs_of_calico

APISERVICE = {"metadata": {"name": "v3.projectcalico.org"}}
SERVED = {"service": {"namespace": "calico-system", "name": "calico-api"}}


@pytest.mark.parametrize(
    ("resource", "obj", "sign"),
    [
        (API_SERVICES, {**APISERVICE, "spec": SERVED}, "served by calico-system/calico-api"),
        (API_SERVICES, {**APISERVICE, "spec": {}}, ""),
        (DEPLOYMENTS, {"metadata": {"name": "tigera-operator", "namespace": "tigera-operator"}}, "tigera-operator"),
        (DEPLOYMENTS, {"metadata": {"name": "tigera-operator", "namespace": "elsewhere"}}, ""),
        (DAEMON_SETS, {"metadata": {"name": "calico-node", "namespace": "kube-system"}}, "kube-system/calico-node"),
        (DAEMON_SETS, {"metadata": {"name": "calico-node", "namespace": "calico-system"}}, "calico-system/calico-node"),
        (DAEMON_SETS, {"metadata": {"name": "manx-node", "namespace": "manx-system"}}, ""),
    ],
)
async def test_signs(resource: Resource, obj: dict[str, Any], sign: str) -> None:
    async with FakeApi() as api, KubeClient(api.config()) as client:
        api.state.put(resource, obj)
        found = await signs_of_calico(client)
        assert len(found) == (1 if sign else 0)
        assert sign in "".join(found)
