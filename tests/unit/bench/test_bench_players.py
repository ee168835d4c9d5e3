"""Played agents: each pod of a NodeState gets an address of its node's block, whatever a write comes to."""

from __future__ import annotations

from typing import Any

from bench.scale.load import HERE
from bench.scale.players import Players
from fakeapi import FakeApi, Request
from fakeapi_state import Refused
from informing import eventually
from manx_core.api.lines import text_of
from manx_core.policy.endpoint import Endpoint, line_of
from manx_kube.client import KubeClient
from manx_kube.resources import IPAM_BLOCKS, NODE_STATES


def state(node: str, *pods: str) -> dict[str, Any]:
    lines = [line_of(Endpoint("ns", pod, f"uid-{pod}", "open")) for pod in pods]
    return {"metadata": {"name": node}, "spec": {"epoch": 1, "pods": text_of(lines)}}


def block(node: str, cidr: str) -> dict[str, Any]:
    spec = {"epoch": 1, "cidr": cidr, "node": node, "pool": "pods", "nodeUID": "u"}
    return {"metadata": {"name": f"block-{node}"}, "spec": spec, "status": {}}


def given(api: FakeApi, node: str) -> dict[str, str]:
    status = api.state.get(str(IPAM_BLOCKS), ("", f"block-{node}"))["status"]
    return {entry["name"]: entry["address"] for entry in status.get("allocations", [])}


async def test_pods_get_addresses_after_a_write_that_failed_and_real_nodes_get_none() -> None:
    async with FakeApi() as api, KubeClient(api.config()) as client:
        api.state.put(NODE_STATES, state("node-1", "a", "b"))
        api.state.put(IPAM_BLOCKS, block("node-1", "10.0.0.0/30"))
        api.state.put(NODE_STATES, state(HERE, "c"))
        api.state.put(IPAM_BLOCKS, block(HERE, "10.0.0.4/30"))
        api.fail(_is_patch, Refused(500, "InternalError"), times=2)
        async with Players(client):
            await eventually(lambda: given(api, "node-1") == {"a": "10.0.0.0", "b": "10.0.0.1"})
            api.state.put(NODE_STATES, state("node-1", "b", "d"))
            await eventually(lambda: given(api, "node-1") == {"b": "10.0.0.1", "d": "10.0.0.0"})
        assert given(api, HERE) == {}


def _is_patch(request: Request) -> bool:
    return request.method == "PATCH"
