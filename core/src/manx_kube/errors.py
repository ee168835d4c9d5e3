"""What can go wrong with the API server, as types that callers can catch.

Owns: the mapping from an HTTP status and a meta/v1 Status body to one exception. Must not: retry or log.
Why this way: callers branch on what happened (`Conflict`, `Gone`), never on aiohttp's types or on numbers, so that the
HTTP library can change without anybody noticing. Source: Kubernetes API conventions, "Response Status Kind".
"""

from __future__ import annotations

import msgspec


class Cause(msgspec.Struct, frozen=True, gc=False):
    """meta/v1 StatusCause: which field was refused, and why."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    name: str = ""
    kind: str = ""
    causes: tuple[Cause, ...] = ()
    retry_after_seconds: int = 0


class Status(msgspec.Struct, frozen=True, gc=False):
    """meta/v1 Status: the body of a failed request, and the object of a watch's ERROR event."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None


class KubeError(Exception):
    """A request to the API server failed.

    `status` is the HTTP status, 0 if there was no answer; `reason` the API's machine-readable word ("NotFound"), "" if
    none; `message` for humans; `causes` the fields concerned; `retry_after` seconds that the server asked to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.causes = causes
        self.retry_after = retry_after


class BadRequest(KubeError):
    """400: the server does not understand the request."""


class Unauthorized(KubeError):
    """401: no or no longer valid credentials; a re-read token did not help."""


class Forbidden(KubeError):
    """403: RBAC or an admission policy says no."""


class NotFound(KubeError):
    """404: no such object, or no such resource (its CRD is not established)."""


class Conflict(KubeError):
    """409: the object is not what the resourceVersion or uid in the request says. Read again, decide again."""


class AlreadyExists(KubeError):
    """409 on create: there is an object of that name."""


class Gone(KubeError):
    """410: the resourceVersion or continue token is older than what the server remembers. List again."""


class TooLarge(KubeError):
    """413: the object is larger than the server takes."""


class Invalid(KubeError):
    """422: validation refused the object; `causes` name the fields."""


class TooManyRequests(KubeError):
    """429 for longer than the client waits."""


class Unavailable(KubeError):
    """No answer, or 5xx: the server is down, restarting, overloaded or beyond reach. The request may have been done."""


class RequestTimeout(Unavailable):
    """No complete answer in time. The request may have been done."""


class DecodeError(KubeError):
    """The server's answer does not fit the type asked for, or is no JSON."""


class ConfigError(Exception):
    """No usable connection configuration; the message names file and field."""


_BY_STATUS: dict[int, type[KubeError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    422: Invalid,
    429: TooManyRequests,
}


def error_for(code: int, status: Status, retry_after: float | None = None) -> KubeError:
    """The exception for HTTP (or ERROR event) status `code` with the decoded body `status`."""
    kind = _BY_STATUS.get(code, Unavailable if code >= 500 else KubeError)
    if code == 409 and status.reason == "AlreadyExists":
        kind = AlreadyExists
    details = status.details or StatusDetails()
    return kind(
        status.message or f"HTTP {code}",
        status=code,
        reason=status.reason,
        causes=details.causes,
        retry_after=retry_after if retry_after is not None else (details.retry_after_seconds or None),
    )


def error_from_body(code: int, body: bytes, retry_after: float | None = None) -> KubeError:
    """As `error_for`; a body that is no Status (a proxy's HTML, say) is quoted, shortened, as the message."""
    try:
        status = msgspec.json.decode(body, type=Status)
    except msgspec.MsgspecError:
        text = body[:200].decode("utf-8", "replace").strip()
        status = Status(code=code, message=f"HTTP {code}: {text}" if text else f"HTTP {code}")
    return error_for(code, status, retry_after)
