"""HTTP to one API server: a pooled session, credentials, time limits, and errors as our own.

Owns: the aiohttp session, the bearer token on each request, bounded waiting when the server says "later" (429, or 503
with Retry-After), one retry with a fresh token on 401. Must not: know paths or types, or retry what may have been done.

Why this way: a request whose answer was lost may have been executed, so only answers that say "not done" are retried
here; everything else is the caller's decision. Responses are asked for uncompressed: API server and clients share a
network, and gzip would cost both more than it saves (kube-controller-manager does the same).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import aiohttp

from manx_kube.config import ApiConfig, TokenSource
from manx_kube.errors import KubeError, RequestTimeout, Unavailable, error_from_body

JSON = "application/json"
CONNECT_TIMEOUT = 5.0
DEFAULT_RETRY_AFTER = 1.0


class Transport:
    """Async context manager. `timeout`: seconds for one whole request; `max_wait`: seconds in all that one call
    spends waiting because the server asked it to (0: never waits)."""

    def __init__(
        self,
        config: ApiConfig,
        *,
        timeout: float = 15.0,
        max_wait: float = 10.0,
        user_agent: str = "manx",
    ) -> None:
        self.config = config
        self.max_wait = max_wait
        self._user_agent = user_agent
        self._limits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT)
        self._tokens = TokenSource(config)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        context: ssl.SSLContext | bool = self.config.ssl_context() or True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> bytes:
        """The body of a 2xx answer. Raises KubeError by status, or `RequestTimeout`, `Unavailable` without answer."""
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        waited = 0.0
        fresh_token = False
        while True:
            try:
                return await self._exchange(method, path, params, headers, body)
            except KubeError as error:
                if error.status == 401 and not fresh_token:
                    fresh_token = True
                    self._tokens.invalidate()
                    continue
                pause = self._asked_to_wait(error)
                if pause is None or waited + pause > self.max_wait:
                    raise
            waited += pause
            await asyncio.sleep(pause)

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str], idle_timeout: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """GET an endless body: an iterator over whatever bytes have arrived, in as large pieces as there are.

        Raises as `request` does, also between pieces; `RequestTimeout` if nothing comes for `idle_timeout` seconds.
        A 401 makes the next attempt use a fresh token; nothing is retried here.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=idle_timeout)
        try:
            with _own_errors("GET", path):
                async with self._send("GET", path, params, limits, {"Accept": JSON}, None) as response:
                    if not _is_good(response):
                        raise error_from_body(response.status, await response.read(), _retry_after(response))
                    yield _pieces(response)
        except KubeError as error:
            if error.status == 401:
                self._tokens.invalidate()
            raise

    async def _exchange(
        self, method: str, path: str, params: Mapping[str, str] | None, headers: Mapping[str, str], body: bytes | None
    ) -> bytes:
        """One attempt. No context manager around the response: having been read, or failing to be, gives its connection
        back."""
        with _own_errors(method, path):
            response = await self._send(method, path, params, self._limits, headers, body)
            answer = await response.read()
        if not _is_good(response):
            raise error_from_body(response.status, answer, _retry_after(response))
        return answer

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        limits: aiohttp.ClientTimeout,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> aiohttp.client._RequestContextManager:
        """To be awaited, or entered."""
        if self._session is None:
            raise RuntimeError("Transport is used outside its context manager")
        token = self._tokens.get()
        return self._session.request(
            method,
            self.config.server + path,
            params=params,
            data=body,
            headers={**headers, "Authorization": f"Bearer {token}"} if token else headers,
            timeout=limits,
            allow_redirects=False,
            server_hostname=self.config.tls_server_name,
        )

    @staticmethod
    def _asked_to_wait(error: KubeError) -> float | None:
        """Seconds to wait before trying again; None: final. A 503 without Retry-After may have been done."""
        if error.status == 429:
            return error.retry_after or DEFAULT_RETRY_AFTER
        return error.retry_after if error.status == 503 else None


class _own_errors:
    """Turns aiohttp's, asyncio's and the OS's errors into ours. A class, as it is on the path of every request."""

    def __init__(self, method: str, path: str) -> None:
        self._method = method
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TimeoutError):
            raise RequestTimeout(f"{self._method} {self._path}: no answer in time", reason="Timeout") from error
        if isinstance(error, aiohttp.ClientError | OSError):
            what = f"{self._method} {self._path}: {error or type(error).__name__}"
            raise Unavailable(what, reason="NoAnswer") from error


def _is_good(response: aiohttp.ClientResponse) -> bool:
    return 200 <= response.status < 300


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    while True:
        piece = await response.content.readany()
        if not piece:
            return
        yield piece


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """The Retry-After header in seconds (the API server never sends the date form)."""
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None
