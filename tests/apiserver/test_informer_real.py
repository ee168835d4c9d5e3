"""Client, informer, Lease and Events against a real kube-apiserver: what the fake one only imitates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import apiserver
from apiserver import ApiServer, Gate
from informing import eventually
from manx_core.api.core_v1 import Event, Namespace, NetworkPolicy, Pod
from manx_kube import errors
from manx_kube.backoff import Backoff
from manx_kube.client import KubeClient, PatchType
from manx_kube.config import ApiConfig
from manx_kube.events import EventRecorder, reference_to
from manx_kube.informer import Batch, Informer
from manx_kube.lease import LeaseElector, LeaseLost, LeaseTiming, Term
from manx_kube.resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    EVENTS,
    LEASES,
    NAMESPACES,
    NETWORK_POLICIES,
    Resource,
)

WIDGETS = Resource("test.manx.dev", "v1", "widgets", "Widget", False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with apiserver.running(tmp_path_factory.mktemp("apiserver")) as running:
        yield running


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[KubeClient]:
    async with KubeClient(ApiConfig.from_kubeconfig(server.kubeconfig)) as client:
        yield client


@pytest.fixture
async def namespace(client: KubeClient) -> str:
    """A namespace of its own for each test. No controller empties it: that is no part of what is tested."""
    made = await client.create(NAMESPACES, {"metadata": {"generateName": "t-"}})
    name: str = made["metadata"]["name"]
    return name


def policy(name: str, namespace: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    spec = {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": "http"}]}]}
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels or {}}, "spec": spec}


class Following:
    """An informer of one namespace's NetworkPolicies through a gate, and what it told."""

    def __init__(self, gate: Gate, informer: Informer[NetworkPolicy]) -> None:
        self.gate = gate
        self.informer = informer
        self.batches: list[Batch[NetworkPolicy]] = []
        informer.add_handler(self.batches.append)

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(event.kind.value, event.key[1]) for batch in self.batches for event in batch.events]

    @property
    def names(self) -> list[str]:
        return sorted(name for _, name in self.informer.cache)


@asynccontextmanager
async def following(server: ApiServer, namespace: str, **settings: Any) -> AsyncIterator[Following]:
    path = server.directory / "gated.kubeconfig"
    async with Gate(server.port) as gate:
        server.write_kubeconfig(path, gate.port)
        async with KubeClient(ApiConfig.from_kubeconfig(path)) as client:
            informer = Informer(
                client, NETWORK_POLICIES, NetworkPolicy, namespace=namespace, backoff=Backoff(0.02, 0.5), **settings
            )
            seen = Following(gate, informer)
            async with informer:
                await informer.wait_synced()
                yield seen


async def _make(client: KubeClient, namespace: str, *names: str) -> None:
    await asyncio.gather(*(client.create(NETWORK_POLICIES, policy(name, namespace)) for name in names))


async def test_follows_and_reads_every_field(server: ApiServer, client: KubeClient, namespace: str) -> None:
    async with following(server, namespace) as f:
        await _make(client, namespace, "a")
        await eventually(lambda: f.names == ["a"])
        seen = f.informer.get("a", namespace)
        assert seen is not None
        assert seen.spec.policy_types == ("Ingress",)  # the server's defaulting
        assert seen.spec.ingress[0].ports[0].port == "http"
        assert seen.spec.ingress[0].ports[0].protocol == "TCP"
        await client.patch(NETWORK_POLICIES, dict, "a", {"metadata": {"labels": {"x": "y"}}}, namespace=namespace)
        await client.delete(NETWORK_POLICIES, "a", namespace=namespace)
        await eventually(lambda: f.told == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")])


async def test_relabelling_enters_and_leaves_a_selection(server: ApiServer, client: KubeClient, namespace: str) -> None:
    async with following(server, namespace, label_selector="span.manx.dev/n1") as f:
        await _make(client, namespace, "a")
        for labels in ({"span.manx.dev/n1": ""}, {"span.manx.dev/n1": None}, {"span.manx.dev/n1": ""}):
            await client.patch(NETWORK_POLICIES, dict, "a", {"metadata": {"labels": labels}}, namespace=namespace)
        await eventually(lambda: f.told == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")])


async def test_pages(client: KubeClient, namespace: str) -> None:
    await _make(client, namespace, *(f"p{i}" for i in range(25)))
    listing = await client.list_all(NETWORK_POLICIES, NetworkPolicy, namespace=namespace, page_size=4)
    assert len(listing.items) == 25
    assert len({item.metadata.name for item in listing.items}) == 25


async def test_a_connection_reset_is_resumed_without_a_list(
    server: ApiServer, client: KubeClient, namespace: str
) -> None:
    async with following(server, namespace) as f:
        await _make(client, namespace, "a", "b")
        await eventually(lambda: f.names == ["a", "b"])
        f.gate.shut()
        await client.delete(NETWORK_POLICIES, "a", namespace=namespace)
        await _make(client, namespace, "c")
        f.gate.open()
        await eventually(lambda: f.names == ["b", "c"])
        assert f.told[-2:] == [("DELETED", "a"), ("ADDED", "c")]
        assert f.informer._lists_done == 1


async def test_the_api_server_restarts_and_what_happened_meanwhile_is_told(
    server: ApiServer, client: KubeClient, namespace: str
) -> None:
    async with following(server, namespace) as f:
        await _make(client, namespace, "a", "b")
        await eventually(lambda: f.names == ["a", "b"])
        f.gate.shut()
        await client.delete(NETWORK_POLICIES, "a", namespace=namespace)
        await client.delete(NETWORK_POLICIES, "b", namespace=namespace)
        await _make(client, namespace, "b", "c")
        server.kill_apiserver()
        server.spawn_apiserver()
        await asyncio.to_thread(server.wait_ready)
        f.gate.open()
        await eventually(lambda: f.names == ["b", "c"])
        # The new server's history begins after our version: 410, a list, and the difference; b is another object.
        assert f.informer._lists_done > 1
        assert f.told.count(("DELETED", "a")) == 1
        assert f.told.count(("DELETED", "b")) == 1
        assert f.told.count(("ADDED", "b")) == 2
        await _make(client, namespace, "d")
        await eventually(lambda: f.names == ["b", "c", "d"])


async def test_a_restart_under_a_live_watch(server: ApiServer, client: KubeClient, namespace: str) -> None:
    async with following(server, namespace) as f:
        await _make(client, namespace, "a")
        await eventually(lambda: f.names == ["a"])
        server.kill_apiserver()
        await eventually(lambda: f.informer.last_error is not None)
        assert f.names == ["a"]
        server.spawn_apiserver()
        await asyncio.to_thread(server.wait_ready)
        await _make(client, namespace, "b")
        await eventually(lambda: f.names == ["a", "b"])


async def test_a_version_the_server_has_forgotten(server: ApiServer, client: KubeClient, namespace: str) -> None:
    async with following(server, namespace) as f:
        await _make(client, namespace, "a")
        await eventually(lambda: f.names == ["a"])
        f.gate.shut()
        f.informer.resource_version = "1"
        await client.delete(NETWORK_POLICIES, "a", namespace=namespace)
        f.gate.open()
        await eventually(lambda: f.names == [])
        assert f.informer._lists_done == 2


async def test_a_version_from_the_future(server: ApiServer, client: KubeClient, namespace: str) -> None:
    """As after etcd was restored from a backup: the server takes the watch and says nothing, not even bookmarks,
    until it gets there. Silence ends that."""
    async with following(server, namespace, idle_timeout=0.3) as f:
        await _make(client, namespace, "a")
        await eventually(lambda: f.names == ["a"])
        f.gate.shut()
        f.informer.resource_version = "99999999999"
        await client.delete(NETWORK_POLICIES, "a", namespace=namespace)
        f.gate.open()
        await eventually(lambda: f.names == [])


async def test_a_compacted_continue_token_begins_the_list_again(
    server: ApiServer, client: KubeClient, namespace: str
) -> None:
    await _make(client, namespace, *(f"p{i}" for i in range(6)))
    pages = client.pages(NETWORK_POLICIES, NetworkPolicy, namespace=namespace, page_size=2)
    first = await anext(pages)
    for number in range(5):  # something newer must exist before the old can be forgotten
        await client.patch(
            NETWORK_POLICIES, dict, "p0", {"metadata": {"labels": {"n": str(number)}}}, namespace=namespace
        )
    newest = await client.current_resource_version(NETWORK_POLICIES)
    assert int(newest) > int(first.resource_version)
    await asyncio.to_thread(server.compact, int(newest))
    listing = await client.list_all(NETWORK_POLICIES, NetworkPolicy, namespace=namespace, page_size=2)
    assert len(listing.items) == 6


async def test_reach_consistent_sees_every_write_before_it(
    server: ApiServer, client: KubeClient, namespace: str
) -> None:
    async with following(server, namespace) as f:
        for number in range(10):
            await _make(client, namespace, f"p{number}")
            async with asyncio.timeout(30):
                await f.informer.reach_consistent()
            assert f"p{number}" in f.names


async def test_a_crd_that_comes_late_and_objects_that_do_not_fit(client: KubeClient) -> None:
    informer = Informer(client, WIDGETS, Pod, backoff=Backoff(0.02, 0.2))
    async with informer:
        await eventually(lambda: informer.last_error is not None)
        assert informer.last_error is not None
        assert isinstance(informer.last_error, errors.NotFound)
        assert not informer.synced
        await client.create(CUSTOM_RESOURCE_DEFINITIONS, _widget_crd())
        await eventually(lambda: informer.synced)
        await client.create(WIDGETS, {"metadata": {"name": "good"}, "spec": {"nodeName": "n1"}})
        await client.create(WIDGETS, {"metadata": {"name": "bad"}, "spec": {"nodeName": 7}})
        await eventually(lambda: list(informer.cache) == [("", "good")] and list(informer.bad) == [("", "bad")])
        await client.apply(WIDGETS, {"metadata": {"name": "bad"}, "spec": {"nodeName": "n2"}})
        await eventually(lambda: len(informer.cache) == 2 and not informer.bad)
        await client.delete(CUSTOM_RESOURCE_DEFINITIONS, "widgets.test.manx.dev")
        await eventually(lambda: not informer.cache)


def _widget_crd() -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "metadata": {"name": "widgets.test.manx.dev"},
        "spec": {
            "group": "test.manx.dev",
            "scope": "Cluster",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema}}},
                }
            ],
        },
    }


# --- the client -------------------------------------------------------------------------------------------------------


async def test_writes_and_their_refusals(client: KubeClient, namespace: str) -> None:
    made = await client.create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": namespace}, "data": {"a": "1"}})
    with pytest.raises(errors.AlreadyExists):
        await client.create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": namespace}})
    changed = await client.replace(CONFIG_MAPS, {**made, "data": {"a": "2"}})
    with pytest.raises(errors.Conflict):
        await client.replace(CONFIG_MAPS, {**made, "data": {"a": "3"}})
    test = [{"op": "test", "path": "/data/a", "value": "2"}, {"op": "replace", "path": "/data/a", "value": "4"}]
    await client.patch(CONFIG_MAPS, dict, "c", test, how=PatchType.JSON, namespace=namespace)
    with pytest.raises(errors.Invalid):
        await client.patch(CONFIG_MAPS, dict, "c", test, how=PatchType.JSON, namespace=namespace)
    with pytest.raises(errors.Invalid) as caught:
        await client.create(CONFIG_MAPS, {"metadata": {"name": "C_", "namespace": namespace}})
    assert caught.value.causes[0].field == "metadata.name"
    with pytest.raises(errors.Conflict):
        await client.delete(
            CONFIG_MAPS, "c", namespace=namespace, resource_version=changed["metadata"]["resourceVersion"]
        )
    with pytest.raises(errors.Conflict):
        await client.delete(CONFIG_MAPS, "c", namespace=namespace, uid="00000000-0000-0000-0000-000000000000")
    await client.delete(CONFIG_MAPS, "c", namespace=namespace, uid=made["metadata"]["uid"])
    with pytest.raises(errors.NotFound):
        await client.get(CONFIG_MAPS, dict, "c", namespace=namespace)


async def test_apply_owns_fields(server: ApiServer, client: KubeClient, namespace: str) -> None:
    config = ApiConfig.from_kubeconfig(server.kubeconfig)
    meta = {"name": "c", "namespace": namespace}
    async with KubeClient(config, field_manager="other") as other:
        await client.apply(CONFIG_MAPS, {"metadata": meta, "data": {"a": "1", "b": "1"}})
        with pytest.raises(errors.Conflict):
            await other.apply(CONFIG_MAPS, {"metadata": meta, "data": {"a": "2"}}, force=False)
        taken = await other.apply(CONFIG_MAPS, {"metadata": meta, "data": {"a": "2"}})
        assert taken["data"] == {"a": "2", "b": "1"}


async def test_status_of_a_namespace_is_a_subresource(client: KubeClient, namespace: str) -> None:
    ns = await client.get(NAMESPACES, dict, namespace)
    condition = {"type": "NamespaceContentRemaining", "status": "False", "reason": "Test"}
    answer = await client.patch(
        NAMESPACES, dict, namespace, {"status": {"conditions": [condition]}}, subresource="status"
    )
    assert answer["status"]["conditions"][0]["reason"] == "Test"
    assert (await client.get(NAMESPACES, Namespace, namespace)).metadata.uid == ns["metadata"]["uid"]


async def test_without_credentials(server: ApiServer) -> None:
    config = ApiConfig.from_kubeconfig(server.kubeconfig)
    anonymous = ApiConfig(server=config.server, ca_pem=config.ca_pem)
    async with KubeClient(anonymous) as client:
        with pytest.raises(errors.Forbidden):
            await client.list_all(NAMESPACES, Namespace)
    wrong = ApiConfig(server=config.server, ca_pem=config.ca_pem, token="nonsense")
    async with KubeClient(wrong) as client:
        with pytest.raises(errors.Unauthorized):
            await client.list_all(NAMESPACES, Namespace)


async def test_a_service_accounts_token_file(server: ApiServer, client: KubeClient, tmp_path: Path) -> None:
    config = ApiConfig.from_kubeconfig(server.kubeconfig)
    for account in ("first", "second"):
        await client.create(
            Resource("", "v1", "serviceaccounts", "ServiceAccount", True),
            {"metadata": {"name": account, "namespace": "default"}},
        )
    token = tmp_path / "token"

    async def rotate(account: str) -> None:
        path = f"/api/v1/namespaces/default/serviceaccounts/{account}/token"
        body = b'{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}'
        answer = await client.transport.request("POST", path, body=body)
        token.write_bytes(answer.split(b'"token":"')[1].split(b'"')[0])

    await rotate("first")
    own = ApiConfig(server=config.server, ca_pem=config.ca_pem, token_file=token)
    async with KubeClient(own) as as_account:
        with pytest.raises(errors.Forbidden, match="default:first"):
            await as_account.list_all(NAMESPACES, Namespace)
        await client.delete(Resource("", "v1", "serviceaccounts", "ServiceAccount", True), "first", namespace="default")
        await rotate("second")

        async def is_second() -> bool:  # the server caches a good token's answer for some seconds
            try:
                await as_account.list_all(NAMESPACES, Namespace)
            except errors.Forbidden as error:
                return "default:second" in error.message
            return False

        async with asyncio.timeout(60):
            while not await is_second():
                await asyncio.sleep(0.2)


# --- Lease and Events -------------------------------------------------------------------------------------------------


def _elector(client: KubeClient, namespace: str, identity: str, **settings: Any) -> LeaseElector:
    settings = {"timing": LeaseTiming(60.0, 40.0, 0.2)} | settings
    return LeaseElector(client, name="l", namespace=namespace, identity=identity, **settings)


async def test_leaders_take_turns(client: KubeClient, namespace: str) -> None:
    terms: list[tuple[str, int]] = []

    def lead_as(name: str) -> Callable[[Term], Any]:
        async def lead(term: Term) -> None:
            assert term.is_valid()
            terms.append((name, term.epoch))
            await asyncio.sleep(0.5)

        return lead

    await asyncio.gather(*(_elector(client, namespace, name).run(lead_as(name)) for name in "abc"))
    assert sorted(name for name, _ in terms) == ["a", "b", "c"]
    assert [epoch for _, epoch in terms] == [1, 2, 3]
    lease = await client.get(LEASES, dict, "l", namespace=namespace)
    assert lease["spec"]["leaseTransitions"] == 2
    await client.delete(LEASES, "l", namespace=namespace)
    await _elector(client, namespace, "d", floor_epoch=lambda: 3).run(lead_as("d"))
    assert terms[-1] == ("d", 4)


async def test_a_leader_without_a_server_stops(server: ApiServer, namespace: str) -> None:
    async with Gate(server.port) as gate:
        path = server.directory / "leader.kubeconfig"
        server.write_kubeconfig(path, gate.port)
        async with KubeClient(ApiConfig.from_kubeconfig(path)) as gated:

            async def lead(term: Term) -> None:
                gate.shut()
                await asyncio.sleep(3600)

            with pytest.raises(LeaseLost):
                await _elector(gated, namespace, "a", timing=LeaseTiming(3.0, 2.0, 0.2)).run(lead)


async def test_events_are_taken(client: KubeClient, namespace: str) -> None:
    cluster_scoped = await client.get(NAMESPACES, Namespace, namespace)
    async with EventRecorder(client, component="manx.dev/test", instance="t", series_every=0.1) as recorder:
        note = f"about {namespace}"
        recorder.emit(reference_to(NAMESPACES, cluster_scoped), "Warning", reason="Test", note=note)

        async def stored() -> list[Event]:
            return [e for e in (await client.list_all(EVENTS, Event, namespace="default")).items if e.note == note]

        async with asyncio.timeout(30):
            while not await stored():
                await asyncio.sleep(0.05)
        recorder.emit(reference_to(NAMESPACES, cluster_scoped), "Warning", reason="Test", note=note)
        async with asyncio.timeout(30):
            while (await stored())[0].series is None:
                await asyncio.sleep(0.05)
        (event,) = await stored()
        assert event.series is not None
        assert event.series.count == 2
        assert event.regarding.uid == cluster_scoped.metadata.uid
