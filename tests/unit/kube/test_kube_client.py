"""Requests: what is sent, what comes back, what is retried, and which error says what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fakeapi import FakeApi, Request
from fakeapi_state import Refused
from informing import LIMIT, pod
from manx_core.api.core_v1 import Lease, LeaseSpec, ObjectMeta, Pod
from manx_kube import errors
from manx_kube.client import KubeClient, PatchType, decode_page
from manx_kube.config import ApiConfig
from manx_kube.resources import LEASES, NODES, PODS, Resource


@asynccontextmanager
async def connected(**settings: Any) -> AsyncIterator[tuple[FakeApi, KubeClient]]:
    async with FakeApi() as api, KubeClient(api.config(), **({"timeout": LIMIT} | settings)) as client:
        yield api, client


async def test_get_typed_and_untyped() -> None:
    async with connected() as (api, client):
        api.state.put(PODS, pod("a", ip="10.0.0.1"))
        assert (await client.get(PODS, Pod, "a", namespace="d")).status.pod_ip == "10.0.0.1"
        assert (await client.get(PODS, dict, "a", namespace="d"))["status"] == {"podIP": "10.0.0.1"}


async def test_create_adds_kind_and_version_and_returns_what_is_stored() -> None:
    async with connected() as (api, client):
        lease = Lease(metadata=ObjectMeta(name="l", namespace="s"), spec=LeaseSpec(holder_identity="me"))
        stored = await client.create(LEASES, lease)
        assert stored.metadata.uid
        assert stored.spec == lease.spec
        body = api.requests[-1].body
        assert (body["apiVersion"], body["kind"]) == ("coordination.k8s.io/v1", "Lease")
        assert api.requests[-1].query["fieldManager"] == "manx"


async def test_replace_holds_to_the_version() -> None:
    async with connected() as (_, client):
        first = await client.create(LEASES, Lease(metadata=ObjectMeta(name="l", namespace="s")))
        second = await client.replace(LEASES, first)
        assert second.metadata.resource_version != first.metadata.resource_version
        with pytest.raises(errors.Conflict):
            await client.replace(LEASES, first)


async def test_a_replacement_that_is_not_tracked_clears_who_wrote_what_and_nothing_else() -> None:
    async with connected() as (api, client):
        lease = Lease(metadata=ObjectMeta(name="l", namespace="s"), spec=LeaseSpec(holder_identity="me"))
        first = await client.create(LEASES, lease)
        await client.replace(LEASES, first)
        plain = api.requests[-1].body
        first = await client.get(LEASES, Lease, "l", namespace="s")
        await client.replace(LEASES, first, tracked=False)
        body = api.requests[-1].body
        assert body["metadata"].pop("managedFields") == [{}]
        assert body["metadata"].pop("resourceVersion") != plain["metadata"].pop("resourceVersion")
        assert body == plain


async def test_what_is_stored_is_answered_by_its_metadata_and_sent_like_a_creation_or_an_untracked_replacement() -> (
    None
):
    async with connected() as (api, client):
        lease = Lease(metadata=ObjectMeta(name="l", namespace="s"), spec=LeaseSpec(holder_identity="me"))
        made = await client.store(LEASES, lease, new=True)
        await client.create(LEASES, Lease(metadata=ObjectMeta(name="m", namespace="s"), spec=lease.spec))
        created = [{**r.body, "metadata": {"namespace": "s"}} for r in api.requests if r.method == "POST"]
        assert created[0] == created[1]
        first = await client.get(LEASES, Lease, "l", namespace="s")
        assert made == first.metadata
        await client.store(LEASES, first, new=False)
        body = api.requests[-1].body
        assert api.requests[-1].query == {"fieldManager": "manx", "fieldValidation": "Ignore"}
        await client.replace(LEASES, await client.get(LEASES, Lease, "l", namespace="s"), tracked=False)
        for sent in (body, api.requests[-1].body):
            del sent["metadata"]["resourceVersion"]
        assert body == api.requests[-1].body
        with pytest.raises(errors.Conflict):
            await client.store(LEASES, first, new=False)
        with pytest.raises(errors.AlreadyExists):
            await client.store(LEASES, lease, new=True)


async def test_status_is_a_subresource() -> None:
    async with connected() as (api, client):
        api.state.put(NODES, {"metadata": {"name": "n"}, "spec": {"unschedulable": True}})
        node = await client.get(NODES, dict, "n")
        node = {**node, "spec": {}, "status": {"phase": "x"}}
        await client.replace(NODES, node, subresource="status")
        assert api.requests[-1].subresource == "status"
        stored = await client.get(NODES, dict, "n")
        assert (stored["spec"], stored["status"]) == ({"unschedulable": True}, {"phase": "x"})


async def test_merge_patch_and_its_media_types() -> None:
    async with connected() as (api, client):
        api.state.put(PODS, pod("a", labels={"x": "1", "y": "2"}))
        patched = await client.patch(PODS, Pod, "a", {"metadata": {"labels": {"x": None}}}, namespace="d")
        assert patched.metadata.labels == {"y": "2"}
        assert api.requests[-1].content_type == "application/merge-patch+json"
        await client.patch(PODS, Pod, "a", {}, namespace="d", how=PatchType.JSON)
        assert api.requests[-1].content_type == "application/json-patch+json"


async def test_apply_creates_then_changes() -> None:
    async with connected(field_manager="me") as (api, client):
        await client.apply(NODES, {"metadata": {"name": "n", "labels": {"a": "1"}}})
        await client.apply(NODES, {"metadata": {"name": "n", "labels": {"b": "1"}}})
        request = api.requests[-1]
        assert request.content_type == "application/apply-patch+yaml"
        assert (request.query["fieldManager"], request.query["force"]) == ("me", "true")


async def test_delete_with_preconditions() -> None:
    async with connected() as (api, client):
        stored = api.state.put(PODS, pod("a"))
        with pytest.raises(errors.Conflict):
            await client.delete(PODS, "a", namespace="d", uid="another")
        with pytest.raises(errors.Conflict):
            await client.delete(PODS, "a", namespace="d", resource_version="1")
        uid, version = stored["metadata"]["uid"], stored["metadata"]["resourceVersion"]
        await client.delete(PODS, "a", namespace="d", uid=uid, resource_version=version, propagation="Foreground")
        assert api.requests[-1].body["propagationPolicy"] == "Foreground"
        await client.delete(PODS, "a", namespace="d")
        with pytest.raises(errors.NotFound):
            await client.delete(PODS, "a", namespace="d", missing_ok=False)


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [(400, "BadRequest", errors.BadRequest), (401, "Unauthorized", errors.Unauthorized),
     (403, "Forbidden", errors.Forbidden), (404, "NotFound", errors.NotFound), (405, "X", errors.KubeError),
     (409, "Conflict", errors.Conflict), (409, "AlreadyExists", errors.AlreadyExists), (410, "Expired", errors.Gone),
     (413, "RequestEntityTooLarge", errors.TooLarge), (422, "Invalid", errors.Invalid),
     (500, "InternalError", errors.Unavailable), (503, "ServiceUnavailable", errors.Unavailable),
     (504, "Timeout", errors.Unavailable)],
)  # fmt: skip
async def test_errors_by_status(code: int, reason: str, kind: type[errors.KubeError]) -> None:
    async with connected() as (api, client):
        api.fail(lambda r: True, Refused(code, reason, "because"), times=10)
        with pytest.raises(errors.KubeError) as caught:
            await client.get(NODES, dict, "n")
        assert type(caught.value) is kind
        assert (caught.value.status, caught.value.reason, caught.value.message) == (code, reason, "because")


def test_an_error_without_a_status_body_quotes_it() -> None:
    error = errors.error_from_body(502, b"<html>Bad Gateway</html>")
    assert isinstance(error, errors.Unavailable)
    assert "Bad Gateway" in error.message
    assert errors.error_from_body(502, b"").message == "HTTP 502"


def test_an_error_names_the_fields() -> None:
    body = b'{"code":422,"reason":"Invalid","message":"m","details":{"causes":[{"field":"spec.cidr","message":"no"}]}}'
    assert errors.error_from_body(422, body).causes[0].field == "spec.cidr"


# --- waiting and retrying ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after_is_honoured(code: int) -> None:
    async with connected() as (api, client):
        api.state.put(NODES, {"metadata": {"name": "n"}})
        api.fail(lambda r: True, Refused(code, "x", retry_after=0), times=2)
        await client.get(NODES, dict, "n")
        assert len(api.requests) == 3


@pytest.mark.parametrize(("asked", "waited"), [(7, 7.0), (None, 1.0)])
async def test_it_waits_for_as_long_as_the_server_asks(
    asked: int | None, waited: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What priority and fairness answers where a queue is full; without a header, a second."""
    pauses = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with connected() as (api, client):
        api.state.put(NODES, {"metadata": {"name": "n"}})
        api.fail(lambda r: True, Refused(429, "TooManyRequests", retry_after=asked), times=1)
        monkeypatch.setattr("manx_kube.transport.asyncio.sleep", sleep)
        await client.get(NODES, dict, "n")
    assert waited in pauses


@pytest.mark.parametrize(("code", "kind"), [(429, errors.TooManyRequests), (503, errors.Unavailable)])
async def test_waiting_is_bounded(code: int, kind: type[errors.KubeError]) -> None:
    async with connected(max_wait=2) as (api, client):
        api.fail(lambda r: True, Refused(code, "x", retry_after=3600), times=1)
        with pytest.raises(kind) as caught:
            await client.get(NODES, dict, "n")
        assert caught.value.retry_after == 3600
        assert len(api.requests) == 1


async def test_writes_that_may_have_been_done_are_not_repeated() -> None:
    async with connected() as (api, client):
        api.fail(lambda r: True, Refused(503, "x"), times=1)
        with pytest.raises(errors.Unavailable):
            await client.create(NODES, {"metadata": {"name": "n"}})
        assert len(api.requests) == 1


async def test_a_slow_answer_is_a_timeout() -> None:
    async with connected(timeout=0.05) as (api, client):
        api.slow = 5.0
        with pytest.raises(errors.RequestTimeout):
            await client.get(NODES, dict, "n")


async def test_no_server_is_unavailable() -> None:
    async with connected() as (api, client):
        await api.stop()
        with pytest.raises(errors.Unavailable) as caught:
            await client.get(NODES, dict, "n")
        assert caught.value.status == 0


async def test_an_answer_of_another_shape_is_a_decode_error() -> None:
    async with connected() as (api, client):
        api.state.put(PODS, {"metadata": {"name": "a", "namespace": "d"}, "spec": {"hostNetwork": "yes"}})
        with pytest.raises(errors.DecodeError, match=r"spec\.hostNetwork"):
            await client.get(PODS, Pod, "a", namespace="d")


async def test_outside_its_context_the_client_says_so() -> None:
    with pytest.raises(RuntimeError, match="context manager"):
        await KubeClient(ApiConfig(server="http://127.0.0.1:1")).get(NODES, dict, "n")


# --- credentials ------------------------------------------------------------------------------------------------------


async def test_a_rotated_token_is_read_again_after_401(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    async with FakeApi() as api, KubeClient(api.config(token_file=token)) as client:
        api.tokens = {"old"}
        api.state.put(NODES, {"metadata": {"name": "n"}})
        await client.get(NODES, dict, "n")
        token.write_text("new")
        api.tokens = {"new"}
        await client.get(NODES, dict, "n")
        api.tokens = {"other"}
        with pytest.raises(errors.Unauthorized):
            await client.get(NODES, dict, "n")


# --- lists ------------------------------------------------------------------------------------------------------------


def continued(request: Request) -> bool:
    return "continue" in request.query


async def test_a_list_is_paged() -> None:
    async with connected() as (api, client):
        for name in "abcde":
            api.state.put(PODS, pod(name, labels={"x": name}))
        listing = await client.list_all(PODS, Pod, page_size=2)
        assert [item.metadata.name for item in listing.items] == list("abcde")
        assert listing.resource_version == str(api.state.version)
        assert api.count(continued) == 2
        some = await client.list_all(PODS, Pod, namespace="d", label_selector="x in (a,b)")
        assert [item.metadata.name for item in some.items] == ["a", "b"]


async def test_the_current_version_takes_one_object() -> None:
    async with connected() as (api, client):
        for name in "abc":
            api.state.put(PODS, pod(name))
        assert await client.current_resource_version(PODS) == str(api.state.version)
        assert api.requests[-1].query == {"limit": "1"}


def test_a_page_with_null_items_is_empty() -> None:
    page = decode_page(b'{"metadata":{"resourceVersion":"5"},"items":null}', Pod)
    assert (page.items, page.bad, page.resource_version) == ([], [], "5")


def test_an_item_without_metadata_has_no_name() -> None:
    page = decode_page(b'{"metadata":{},"items":[{"spec":{}},7]}', Pod)
    assert [item.name for item in page.bad] == ["?", "?"]


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"items":7}'])
def test_what_is_no_list_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(errors.DecodeError):
        decode_page(body, Pod)


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "arguments", "path"),
    [
        (PODS, (), "/api/v1/pods"),
        (PODS, ("d",), "/api/v1/namespaces/d/pods"),
        (PODS, ("d", "a", "status"), "/api/v1/namespaces/d/pods/a/status"),
        (NODES, (None, "n"), "/api/v1/nodes/n"),
        (LEASES, ("d", "l"), "/apis/coordination.k8s.io/v1/namespaces/d/leases/l"),
    ],
)
def test_paths(resource: Resource, arguments: tuple[str | None, ...], path: str) -> None:
    assert resource.path(*arguments) == path


def test_scope_is_checked() -> None:
    with pytest.raises(ValueError, match="cluster-scoped"):
        NODES.path("d", "n")
    with pytest.raises(ValueError, match="no namespace"):
        PODS.path(None, "a")


async def test_many_requests_at_once_share_the_client() -> None:
    async with connected() as (api, client):
        await asyncio.gather(*(client.create(NODES, {"metadata": {"name": f"n{i}"}}) for i in range(50)))
        assert len(api.state.of(NODES)) == 50
