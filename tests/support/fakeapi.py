"""A fake API server on 127.0.0.1 that misbehaves on demand.

Owns: HTTP lists, watches with bookmarks, single-object verbs over `fakeapi_state.State`, and faults. Must not: be
relied on for what only the real kube-apiserver decides (admission, field ownership); the lab has that one.

    async with FakeApi() as api:
        api.state.put(PODS, {"metadata": {"name": "a", "namespace": "d"}})
        async with KubeClient(api.config()) as client: ...

Faults: `api.fail(match, Refused(503, "x"), times=2)` for requests; `api.send_to_watches(b"...")`, `api.cut_watches()`,
`api.freeze_watches()` for live watches; `api.state.compact()` for 410s; `await api.stop()` / `await api.start()` for a
restart on the same port; `api.before_page` for what happens between the pages of a list, `api.before_write` and
`api.after_write` for what happens while a write or its answer is on its way.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from fakeapi_state import Obj, Refused, State
from manx_kube.config import ApiConfig


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    resource: str
    namespace: str
    name: str
    subresource: str
    query: dict[str, str]
    content_type: str
    body: Any

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") == "true"

    @property
    def is_list(self) -> bool:
        return self.method == "GET" and not self.name and not self.is_watch

    @property
    def key(self) -> tuple[str, str]:
        return (self.namespace, self.name)


Match = Callable[[Request], bool]


@dataclass
class Fault:
    match: Match
    refused: Refused
    times: int


@dataclass(eq=False)
class Watch:
    """A live watch: raw bytes to be sent, and whether anything is sent at all."""

    request: Request
    raw: list[bytes] = field(default_factory=list)
    frozen: bool = False
    cut: bool = False
    ended: bool = False


class FakeApi:
    """Async context manager. `tokens` None: no authentication; else the bearer tokens that are good now."""

    def __init__(self, *, bookmark_every: float = 0.05) -> None:
        self.state = State()
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.tokens: set[str] | None = None
        self.watches: set[Watch] = set()
        self.before_page: Callable[[Request], None] | None = None
        self.before_write: Callable[[Request], None] | None = None
        self.after_write: Callable[[], object] | None = None
        self.bookmark_every = bookmark_every
        self.poll = 0.002
        self.slow = 0.0  # seconds before any answer
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop(self) -> None:
        self.cut_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def config(self, **settings: Any) -> ApiConfig:
        return ApiConfig(server=f"http://127.0.0.1:{self.port}", **settings)

    # --- faults -------------------------------------------------------------------------------------------------------

    def fail(self, match: Match, refused: Refused, times: int = 1) -> None:
        """The next `times` requests that match are refused."""
        self.faults.append(Fault(match, refused, times))

    def send_to_watches(self, raw: bytes) -> None:
        for watch in self.watches:
            watch.raw.append(raw)

    def send_event(self, type_: str, obj: Any) -> None:
        self.send_to_watches(_line(type_, obj))

    def cut_watches(self, partial: bytes = b"") -> None:
        """Close every watch's connection, after sending some bytes of an unfinished line."""
        for watch in self.watches:
            watch.raw.append(partial)
            watch.cut = True

    def end_watches(self) -> None:
        """Every watch ends properly, as after its timeoutSeconds."""
        for watch in self.watches:
            watch.ended = True

    def freeze_watches(self) -> None:
        """The watches there are now send nothing any more, and stay open."""
        for watch in self.watches:
            watch.frozen = True

    def count(self, match: Match) -> int:
        return sum(1 for request in self.requests if match(request))

    # --- serving ------------------------------------------------------------------------------------------------------

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        request = await _parse(http)
        self.requests.append(request)
        await asyncio.sleep(self.slow)
        try:
            self._refuse_if_told(http, request)
            self.state.check_established(request.resource)
            if request.is_watch:
                return await self._watch(http, request)
            answer = self._answer(request)
            if self.after_write is not None and request.method != "GET":
                self.after_write()
            return web.json_response(_as_asked(http, answer))
        except Refused as refused:
            headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
            return web.json_response(refused.status(), status=refused.code, headers=headers)

    def _refuse_if_told(self, http: web.Request, request: Request) -> None:
        if self.tokens is not None and http.headers.get("Authorization", "")[len("Bearer ") :] not in self.tokens:
            raise Refused(401, "Unauthorized")
        for fault in self.faults:
            if fault.times > 0 and fault.match(request):
                fault.times -= 1
                raise fault.refused

    def _answer(self, request: Request) -> Obj:
        state, resource = self.state, request.resource
        if self.before_write is not None and request.method != "GET":
            self.before_write(request)
        if request.is_list:
            if self.before_page is not None:
                self.before_page(request)
            return state.page(resource, request.namespace, request.query)
        match request.method:
            case "GET":
                return state.get(resource, request.key)
            case "POST":
                return state.create(resource, request.namespace, request.body)
            case "PUT":
                return state.replace(resource, request.key, request.body, request.subresource)
            case "PATCH":
                return self._patch(request)
            case "DELETE":
                return state.delete(resource, request.key, (request.body or {}).get("preconditions"))
        raise Refused(405, "MethodNotAllowed")

    def _patch(self, request: Request) -> Obj:
        if "apply" in request.content_type and request.key not in self.state.objects.get(request.resource, {}):
            return self.state.create(request.resource, request.namespace, request.body)
        return self.state.merge(request.resource, request.key, request.body)

    async def _watch(self, http: web.Request, request: Request) -> web.StreamResponse:
        after = int(request.query.get("resourceVersion") or self.state.version)
        if after < self.state.compacted:
            raise Refused(410, "Expired", "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(http)
        watch = Watch(request)
        self.watches.add(watch)
        try:
            with suppress(ConnectionError):
                await self._serve_watch(response, watch, after)
        finally:
            self.watches.discard(watch)
        if watch.cut and http.transport is not None:
            http.transport.abort()
        return response

    async def _serve_watch(self, response: web.StreamResponse, watch: Watch, after: int) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + float(watch.request.query.get("timeoutSeconds", "3600"))
        bookmark_at = loop.time() + self.bookmark_every
        while not watch.cut and not watch.ended and loop.time() < ends:
            out = b""
            if not watch.frozen:
                out, after = self._news(watch.request, after)
                if loop.time() >= bookmark_at and watch.request.query.get("allowWatchBookmarks") == "true":
                    bookmark_at = loop.time() + self.bookmark_every
                    out += _line("BOOKMARK", {"kind": "X", "metadata": {"resourceVersion": str(after)}})
            out += b"".join(watch.raw)
            watch.raw.clear()
            if out:
                await response.write(out)
            await asyncio.sleep(self.poll)
        if watch.raw:
            await response.write(b"".join(watch.raw))

    def _news(self, request: Request, after: int) -> tuple[bytes, int]:
        try:
            news = list(self.state.changes(after, request.resource, request.namespace, request.query))
        except Refused as refused:
            return _line("ERROR", refused.status()), self.state.version
        return b"".join(_line(type_, obj) for type_, obj in news), self.state.version


def _as_asked(http: web.Request, answer: Obj) -> Obj:
    if "as=PartialObjectMetadata" not in http.headers.get("Accept", ""):
        return answer
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": answer["metadata"]}


def _line(type_: str, obj: Any) -> bytes:
    return json.dumps({"type": type_, "object": obj}).encode() + b"\n"


async def _parse(http: web.Request) -> Request:
    parts = http.path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    rest += ["", "", ""]
    body = await http.read()
    return Request(
        method=http.method,
        resource=f"{rest[0]}.{group}" if group else rest[0],
        namespace=namespace,
        name=rest[1],
        subresource=rest[2],
        query=dict(http.query),
        content_type=http.content_type,
        body=json.loads(body) if body else None,
    )
