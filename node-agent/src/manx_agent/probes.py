"""Answers kubelet's probes.

Owns: /livez and /readyz on a loopback port. Must not: look at anything but the two functions given.

Why a few lines and not a web framework: aiohttp's server half would add megabytes to every node for two fixed
answers. /livez says that the event loop turns, however much there is to apply; /readyz that policy is in force and pods
can come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

REQUEST_TIMEOUT = 5.0


async def serve(port: int, ready: Callable[[], str]) -> asyncio.Server:
    """Listens on 127.0.0.1; `ready` returns "" or what is not ready. Raises OSError where the port is taken."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                line = await reader.readline()
            writer.write(response(line, ready))
            await writer.drain()
        except (TimeoutError, OSError, ValueError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", port, limit=4096)


def response(line: bytes, ready: Callable[[], str]) -> bytes:
    """The whole HTTP/1.0 response to a request line (RFC 9110)."""
    parts = line.split()
    path = parts[1] if len(parts) > 1 and parts[0] in (b"GET", b"HEAD") else b""
    if path == b"/livez":
        return _http(200, "ok")
    if path == b"/readyz":
        problem = ready()
        return _http(503, problem) if problem else _http(200, "ok")
    return _http(404, "known paths: /livez, /readyz")


def _http(status: int, text: str) -> bytes:
    reason = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}[status]
    body = text.encode() + b"\n"
    head = f"HTTP/1.0 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
