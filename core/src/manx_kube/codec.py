"""From the API server's JSON to typed structs and back.

Owns: cached decoders, tolerance of null, and the `apiVersion` and `kind` of what is sent. Must not: do I/O.

Why this way: Kubernetes' API conventions let null stand for an absent optional field, but hardly any server sends it.
So structs are typed without None, decoded at full speed, and only where that fails is the same body decoded untyped,
rid of nulls, and converted. A type thus never needs to say `| None` merely because JSON can.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from manx_kube.errors import DecodeError
from manx_kube.resources import Resource

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_METADATA = b'{"metadata":{'
_UNTRACKED = b'"metadata":{"managedFields":[{}]'
"""One empty entry clears the record of who wrote which field (Kubernetes documentation, Server-Side Apply, "Clearing
managedFields"); none at all would leave it as it is."""


@lru_cache(maxsize=256)
def decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    """The one decoder for `type_`; building one costs far more than using it."""
    return msgspec.json.Decoder(type_)


def decode(body: bytes | msgspec.Raw, type_: type[T]) -> T:
    """Decode one JSON value; null object members count as absent. Raises `DecodeError`, naming the field."""
    wanted: Any = type_
    try:
        return decoder(wanted).decode(body)  # type: ignore[no-any-return]
    except msgspec.MsgspecError:
        return _decode_without_nulls(body, type_)


def _decode_without_nulls(body: bytes | msgspec.Raw, type_: type[T]) -> T:
    try:
        return msgspec.convert(_drop_nulls(decoder(Any).decode(body)), type_)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DecodeError(f"{getattr(type_, '__name__', type_)}: {error}", reason="Undecodable") from error


def _drop_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_drop_nulls(item) for item in value]
    return value


def encode(obj: Any) -> bytes:
    """JSON of a struct, dict or list."""
    return _encoder.encode(obj)


def encode_object(resource: Resource, obj: Any, *, tracked: bool = True) -> bytes:
    """JSON of an object to send, with the resource's `apiVersion` and `kind`: a dict's own come first, structs have
    none, and begin with `metadata`. A dict must have that unless it is `tracked` (see `KubeClient.replace`)."""
    if isinstance(obj, msgspec.Struct):
        text = _encoder.encode(obj)
        return _head(resource) + (text[1:] if tracked else _untracked(text))
    if not tracked:
        obj = {**obj, "metadata": {**obj["metadata"], "managedFields": [{}]}}
    return _encoder.encode({"apiVersion": resource.api_version, "kind": resource.kind, **obj})


@lru_cache(maxsize=64)
def _head(resource: Resource) -> bytes:
    """How an object of this kind begins."""
    return _encoder.encode({"apiVersion": resource.api_version, "kind": resource.kind})[:-1] + b","


def _untracked(text: bytes) -> bytes:
    """The rest of an object, with what clears the record of who wrote which field. Spliced, not decoded and encoded
    again: that was half of what sending an object cost here. Structs have `metadata` first."""
    opening, found, rest = text.partition(_METADATA)
    if opening or not found:
        raise ValueError(f"{text[:80]!r}: does not begin with metadata")
    return _UNTRACKED + (rest if rest.startswith(b"}") else b"," + rest)


def metadata_of(obj: Any, field: str) -> str:
    """`metadata.<field>` of a struct (by its snake_case name, as `resource_version`) or dict; "" if absent."""
    if isinstance(obj, dict):
        meta = obj.get("metadata") or {}
        head, *rest = field.split("_")
        return str(meta.get(head + "".join(word.title() for word in rest)) or "")
    return str(getattr(obj.metadata, field, "") or "")
