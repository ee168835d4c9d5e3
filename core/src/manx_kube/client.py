"""Requests on single objects and whole collections: what `kubectl` does, as typed methods.

Owns: verbs, paging, preconditions, patch kinds. Must not: cache (the informer does) or retry a conflict (only the
caller knows whether its decision still holds).

Why this way: objects are msgspec structs or plain dicts, and what comes back has the type that went in. A struct holds
only the fields it names, so `replace` with one drops every field it does not name: replace only kinds whose structs are
complete (manx.dev's), patch or apply the others.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import msgspec

from manx_core.api.core_v1 import ObjectMeta
from manx_kube import codec
from manx_kube.config import ApiConfig
from manx_kube.errors import DecodeError, Gone, NotFound
from manx_kube.resources import Resource
from manx_kube.transport import JSON, Transport

T = TypeVar("T")
PAGE_SIZE = 500
PAGED_ATTEMPTS = 3


class PatchType(enum.Enum):
    """How a patch body is to be read, by its media type."""

    MERGE = "application/merge-patch+json"  # RFC 7386: null deletes a field, lists are replaced
    JSON = "application/json-patch+json"  # RFC 6902: a list of operations; `test` makes it conditional
    STRATEGIC = "application/strategic-merge-patch+json"  # built-in kinds only


METADATA_ALONE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
"""What an answer shall hold (Kubernetes API concepts, "Metadata-only fetches"); a server that cannot sends it all."""
UNCHECKED = {"fieldValidation": "Ignore"}
"""Fields that the server does not know, or that are there twice, are left out all the same, but not looked for to warn
of them ("Field validation", there): a twentieth of what a write costs it. Values are validated as ever."""
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML


class ListMeta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int = 0


class BadItem(msgspec.Struct, frozen=True, gc=False):
    """An object of a collection that does not fit the type: where it is, and which field is wrong."""

    namespace: str
    name: str
    resource_version: str
    error: str


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a collection. `continue_token` "" on the last page; all pages are of one `resource_version`."""

    items: list[T]
    bad: list[BadItem]
    resource_version: str
    continue_token: str


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A whole collection as it was at `resource_version`."""

    items: list[T]
    bad: list[BadItem]
    resource_version: str


class _Typed(msgspec.Struct, Generic[T], frozen=True):
    metadata: ListMeta = ListMeta()
    items: list[T] | None = None


class _RawItems(msgspec.Struct, frozen=True):
    metadata: ListMeta = ListMeta()
    items: list[msgspec.Raw] | None = None


class _OnlyMeta(msgspec.Struct, frozen=True, gc=False):
    metadata: ObjectMeta


class KubeClient:
    """Async context manager over one API server; safe to share between tasks. Every method raises KubeError kinds.

    `field_manager` names the writer of fields (server-side apply needs one). `timeout`: seconds for
    one request; `max_wait`: seconds that a call may spend waiting because the server asked it to. For another limit on
    one call, `asyncio.timeout()` around it.
    """

    def __init__(
        self,
        config: ApiConfig,
        *,
        timeout: float = 15.0,
        max_wait: float = 10.0,
        field_manager: str = "manx",
    ) -> None:
        self.transport = Transport(config, timeout=timeout, max_wait=max_wait, user_agent=field_manager)
        self.field_manager = field_manager

    async def __aenter__(self) -> Self:
        await self.transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.transport.__aexit__(kind, error, trace)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def get(
        self,
        resource: Resource,
        type_: type[T],
        name: str,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> T:
        """One object. Raises NotFound, DecodeError."""
        path = resource.path(namespace, name, subresource)
        return codec.decode(await self.transport.request("GET", path), type_)

    async def list_all(
        self,
        resource: Resource,
        type_: type[T],
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = PAGE_SIZE,
    ) -> Listing[T]:
        """A whole collection, consistently (as of a moment after this call began), paged.

        If the server forgets the snapshot between pages (410) it begins again; in the end without paging, which cannot
        fail so. Objects that do not fit `type_` are in `bad`, not in `items`.
        """
        attempts = [page_size] * PAGED_ATTEMPTS + [0]
        for limit in attempts:
            pages: list[Page[T]] = []
            try:
                async for page in self.pages(
                    resource, type_, namespace=namespace, label_selector=label_selector,
                    field_selector=field_selector, page_size=limit,
                ):  # fmt: skip
                    pages.append(page)
            except Gone:
                if limit == 0:
                    raise
                continue
            return _joined(pages)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def pages(
        self,
        resource: Resource,
        type_: type[T],
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = PAGE_SIZE,
    ) -> AsyncIterator[Page[T]]:
        """A collection page by page (`page_size` 0: all at once). Raises Gone if the snapshot expires in between."""
        params = selectors(label_selector, field_selector)
        if page_size:
            params["limit"] = str(page_size)
        while True:
            page = decode_page(await self.transport.request("GET", resource.path(namespace), params=params), type_)
            yield page
            if not page.continue_token:
                return
            params["continue"] = page.continue_token

    async def current_resource_version(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> str:
        """The collection's resourceVersion now, by a consistent read (quorum, or KEP-2340) of at most one object.

        It is the same whatever the selectors; they matter where RBAC allows no more than one name.
        """
        params = selectors(label_selector, field_selector) | {"limit": "1"}
        body = await self.transport.request("GET", resource.path(namespace), params=params)
        return codec.decode(body, _RawItems).metadata.resource_version

    # --- writing ------------------------------------------------------------------------------------------------------

    async def create(self, resource: Resource, obj: T, *, namespace: str | None = None) -> T:
        """Returns the object as stored. Raises AlreadyExists, Invalid, Forbidden."""
        path = resource.path(self._namespace(resource, obj, namespace))
        return await self._send("POST", path, obj, codec.encode_object(resource, obj), {}, JSON)

    async def replace(self, resource: Resource, obj: T, *, subresource: str | None = None, tracked: bool = True) -> T:
        """PUT; `obj`'s resourceVersion is the precondition. Raises Conflict if it is no longer that, NotFound, Invalid.

        Not for structs that hold only part of a kind: unnamed fields would be dropped. `tracked`: whether the server
        goes on noting who wrote which field (metadata.managedFields). Without, which is for kinds that nobody applies
        and has no effect on a subresource, a write costs it a third less, and the object is as much smaller for
        everybody who watches it.
        """
        path = resource.path(self._namespace(resource, obj, None), codec.metadata_of(obj, "name"), subresource)
        body = codec.encode_object(resource, obj, tracked=tracked)
        return await self._send("PUT", path, obj, body, {}, JSON)

    async def store(self, resource: Resource, obj: msgspec.Struct, *, new: bool) -> ObjectMeta:
        """`create` (`new`), or `replace` without tracking, for who knows what it sent: the stored object's metadata is
        all that is answered, as encoding the rest costs the server as much as us. Whether it made something else of the
        rest, a watch tells. Raises as those do."""
        name = "" if new else codec.metadata_of(obj, "name")
        answer = await self.transport.request(
            "POST" if new else "PUT",
            resource.path(self._namespace(resource, obj, None), name),
            params={"fieldManager": self.field_manager} | UNCHECKED,
            body=codec.encode_object(resource, obj, tracked=new),
            accept=METADATA_ALONE,
        )
        return codec.decode(answer, _OnlyMeta).metadata

    async def patch(
        self,
        resource: Resource,
        type_: type[T],
        name: str,
        patch: Any,
        *,
        how: PatchType = PatchType.MERGE,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> T:
        """Change some fields; put `metadata.resourceVersion` (or a JSON-patch `test`) in to make it conditional.
        Raises NotFound, Conflict, Invalid."""
        body = await self.transport.request(
            "PATCH",
            resource.path(namespace, name, subresource),
            params={"fieldManager": self.field_manager},
            body=codec.encode(patch),
            content_type=how.value,
        )
        return codec.decode(body, type_)

    async def apply(
        self,
        resource: Resource,
        obj: T,
        *,
        subresource: str | None = None,
        force: bool = True,
    ) -> T:
        """Server-side apply: creates the object, or makes the named fields ours. Raises Conflict if not `force` and
        others own one. An `obj` with a resourceVersion is applied only to that version.
        """
        path = resource.path(self._namespace(resource, obj, None), codec.metadata_of(obj, "name"), subresource)
        params = {"force": "true"} if force else {}
        return await self._send("PATCH", path, obj, codec.encode_object(resource, obj), params, APPLY_PATCH)

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
        missing_ok: bool = True,
    ) -> None:
        """Delete, only if uid and resourceVersion are still those given. Raises Conflict if not; NotFound only if not
        `missing_ok`. `propagation`: Foreground, Background or Orphan."""
        wanted = {"uid": uid, "resourceVersion": resource_version}
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        options["preconditions"] = {key: value for key, value in wanted.items() if value is not None}
        if propagation:
            options["propagationPolicy"] = propagation
        try:
            await self.transport.request("DELETE", resource.path(namespace, name), body=codec.encode(options))
        except NotFound:
            if not missing_ok:
                raise

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _send(
        self,
        method: str,
        path: str,
        obj: T,
        body: bytes,
        params: Mapping[str, str],
        content_type: str,
    ) -> T:
        params = {"fieldManager": self.field_manager} | dict(params)
        answer = await self.transport.request(method, path, params=params, body=body, content_type=content_type)
        return codec.decode(answer, type(obj))

    @staticmethod
    def _namespace(resource: Resource, obj: Any, namespace: str | None) -> str | None:
        return (namespace or codec.metadata_of(obj, "namespace")) if resource.namespaced else None


def selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    """The query parameters of a list or watch."""
    wanted = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in wanted.items() if value}


def decode_page(body: bytes, type_: type[T]) -> Page[T]:
    """A list's body. One object that does not fit costs only itself. Raises DecodeError if the body is no list."""
    item_type: Any = type_
    try:
        page = codec.decoder(_Typed[item_type]).decode(body)
        return Page(page.items or [], [], page.metadata.resource_version, page.metadata.continue_)
    except msgspec.MsgspecError:
        raw = codec.decode(body, _RawItems)
    items: list[T] = []
    bad: list[BadItem] = []
    for item in raw.items or []:
        try:
            items.append(codec.decode(item, type_))
        except DecodeError as error:
            bad.append(bad_item(item, error))
    return Page(items, bad, raw.metadata.resource_version, raw.metadata.continue_)


def bad_item(raw: bytes | msgspec.Raw, error: DecodeError) -> BadItem:
    """Who it is that could not be decoded; "?" for an object without readable metadata."""
    try:
        meta = codec.decode(raw, _OnlyMeta).metadata
    except DecodeError:
        return BadItem("", "?", "", error.message)
    return BadItem(meta.namespace, meta.name, meta.resource_version, error.message)


def _joined(pages: list[Page[T]]) -> Listing[T]:
    return Listing(
        [item for page in pages for item in page.items],
        [bad for page in pages for bad in page.bad],
        pages[-1].resource_version,
    )
