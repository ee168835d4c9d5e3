"""What the kinds that users write are built of: the base model, its field types, and how problems are said.

Owns: the types of fields that several kinds share (addresses, CIDRs, AS numbers, durations, selectors), each with the
schema and the CEL rule by which the API server refuses the same values, and `Problem`.
Must not: know any one kind.

Why this way: a value is refused by `kubectl` where its schema can say so, and by these models where an object came in
another way (a CRD of an older version, say). Both say the same because the schema hangs on the same type. Unknown
fields are taken and kept, so that Calico's own YAML is never refused for a field that Manx lacks; they are told as
having no effect.

Source: Calico v3.30 `projectcalico.org/v3` and `operator.tigera.io/v1`; RFC 5396 (AS number notation).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from manx_core.selectors import calico

MAX_AS_NUMBER = 4294967295
RULES = "x-kubernetes-validations"
PRESERVE = "x-kubernetes-preserve-unknown-fields"
NO_EFFECT = "x-manx-no-effect"

__all__ = [
    "AnyObject", "ApiModel", "AsNumber", "Bool", "Cidr", "Duration", "InvalidObject", "Ip", "Metadata", "NoEffect",
    "Port", "Problem", "Selector", "StatusCondition", "Text", "rule",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with an object: which field (as in YAML, "spec.asNumber"), and what is allowed there."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidObject(ValueError):
    """An object that its model refuses; `problems` names each field."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


class NoEffect:
    """Marks a field that is accepted, because Calico's YAML may carry it, and that Manx does not act on (yet). Used as
    an annotation, as the class itself."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Tell whoever makes a custom resource definition of it."""
        return {**handler(core), NO_EFFECT: True}


def rule(expression: str, message: str, field: str = "") -> dict[str, Any]:
    """One CEL validation rule. `field`: the one below that it is about, as "blockSize"."""
    return {"rule": expression, "message": message} | ({"fieldPath": f".{field}"} if field else {})


# --- field types ------------------------------------------------------------------------------------------------------

Bool = StrictBool
Text = Annotated[StrictStr, Field(max_length=1024)]
Port = Annotated[StrictInt, Field(ge=1, le=65535)]
AnyObject = Annotated[dict[str, Any], WithJsonSchema({"type": "object", PRESERVE: True})]
"""An object of Calico's that Manx does not look into."""

_AS_ALLOWED = f'an AS number: 1 to {MAX_AS_NUMBER}, or a string in dotted form such as "1.10"'


def parse_as_number(value: object) -> int:
    """63400, "63400" or "1.10" (asdot+, RFC 5396: 1 × 65536 + 10) → 1 to 4294967295. Raises ValueError."""
    number = _as_int(value)
    if number is None or not 1 <= number <= MAX_AS_NUMBER:
        raise ValueError(f"{value!r} is not allowed; must be {_AS_ALLOWED}")
    return number


def _as_int(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, int):
        return value
    if dotted := re.fullmatch(r"([0-9]{1,5})\.([0-9]{1,5})", value):
        high, low = map(int, dotted.groups())
        return high << 16 | low if high <= 65535 and low <= 65535 else None
    return int(value) if re.fullmatch(r"[0-9]{1,10}", value) else None


_AS_RULE = (
    f"type(self) == int ? self >= 1 && self <= {MAX_AS_NUMBER}"
    f" : self.matches('^[0-9]{{1,10}}$') ? int(self) >= 1 && int(self) <= {MAX_AS_NUMBER}"
    " : self.matches('^[0-9]{1,5}[.][0-9]{1,5}$') && self.matches('[1-9]')"
    " && int(self.split('.')[0]) <= 65535 && int(self.split('.')[1]) <= 65535"
)
AsNumber = Annotated[
    int,
    BeforeValidator(parse_as_number),
    WithJsonSchema({"x-kubernetes-int-or-string": True, RULES: [rule(_AS_RULE, f"must be {_AS_ALLOWED}")]}),
]


def _check_cidr(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not allowed; must be {_CIDR_ALLOWED}") from error
    return value


_CIDR_ALLOWED = 'a CIDR such as "10.244.0.0/16", with no bit set beyond the prefix'
Cidr = Annotated[
    StrictStr,
    AfterValidator(_check_cidr),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 43,
            RULES: [rule("isCIDR(self) && cidr(self).masked() == cidr(self)", f"must be {_CIDR_ALLOWED}")],
        }
    ),
]


def _check_ip(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not allowed; must be an IP address") from error
    return value


Ip = Annotated[
    StrictStr,
    AfterValidator(_check_ip),
    WithJsonSchema({"type": "string", "maxLength": 45, RULES: [rule("isIP(self)", "must be an IP address")]}),
]

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = r"([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+"
_DURATION_ALLOWED = 'a duration such as "120s" or "2m30s"'


def parse_duration(value: str) -> float:
    """A metav1.Duration ("2m30s") → seconds. Raises ValueError."""
    if not isinstance(value, str) or not re.fullmatch(_DURATION, value):
        raise ValueError(f"{value!r} is not allowed; must be {_DURATION_ALLOWED}")
    return sum(float(n) * _UNITS[unit] for n, unit in re.findall(r"([0-9.]+)(ns|us|µs|ms|s|m|h)", value))


def _check_duration(value: str) -> str:
    parse_duration(value)
    return value


Duration = Annotated[
    StrictStr,
    AfterValidator(_check_duration),
    WithJsonSchema(
        {"type": "string", "maxLength": 32, RULES: [rule(f"self.matches('^{_DURATION}$')".replace("\\", "\\\\"),
                                                         f"must be {_DURATION_ALLOWED}")]}
    ),
]  # fmt: skip


def _check_selector(value: str) -> str:
    try:
        calico.parse(value)
    except calico.SelectorError as error:
        raise ValueError(
            f'{value!r} is not allowed; must be a selector such as "all()" or "rack == \'a\'": {error}'
        ) from error
    return value


Selector = Annotated[StrictStr, Field(max_length=calico.MAX_LENGTH), AfterValidator(_check_selector)]
"""A selector over labels, as "all()" or "has(rack) && zone in {'a', 'b'}"; empty selects everything."""


# --- models -----------------------------------------------------------------------------------------------------------


class ApiModel(BaseModel):
    """Base of every model here: camelCase in YAML, frozen, unknown fields kept, field docstrings are descriptions."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, extra="allow", frozen=True, use_attribute_docstrings=True
    )

    RULES: ClassVar[tuple[dict[str, Any], ...]] = ()
    """CEL rules on the object as a whole."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The class's rules are part of its schema."""
        schema = handler.resolve_ref_schema(handler(core))
        if cls.RULES:
            schema[RULES] = list(cls.RULES)
        return schema

    def without_effect(self) -> Iterator[str]:
        """Paths, below this object, of the fields that are set and change nothing: unknown ones, and NoEffect ones."""
        yield from (f"{name} (unknown)" for name in self.model_extra or {} if name not in ("apiVersion", "kind"))
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if name not in self.model_fields_set or name == "metadata":
                continue
            if NoEffect in info.metadata:
                yield info.alias or name
            else:
                yield from _below(info.alias or name, value)

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """An object as the API server sent it, nulls counting as absent. Raises InvalidObject naming each field."""
        try:
            return cls.model_validate(_without_nulls(raw))
        except ValidationError as error:
            raise InvalidObject(_problems(error)) from error


def _below(path: str, value: object) -> Iterator[str]:
    if isinstance(value, ApiModel):
        yield from (f"{path}.{rest}" for rest in value.without_effect())
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _below(f"{path}[{index}]", item)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _problems(error: ValidationError) -> tuple[Problem, ...]:
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_context=True):
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] != "value_error" and detail["type"] != "missing":
            message = f"{detail['input']!r} is not allowed; {message[0].lower()}{message[1:]}"
        found.setdefault(_path(detail["loc"]), message)
    return tuple(Problem(field, message) for field, message in found.items())


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "object"


class Metadata(ApiModel):
    """meta/v1 ObjectMeta, as far as it is read."""

    name: StrictStr = ""
    namespace: StrictStr = ""
    uid: StrictStr = ""
    generation: StrictInt = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: StrictStr = ""
    deletion_timestamp: StrictStr = ""


class StatusCondition(ApiModel):
    """meta/v1 Condition."""

    type: StrictStr
    """What it is about, as Ready or Accepted."""
    status: Annotated[StrictStr, Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})]
    """True, False or Unknown."""
    reason: StrictStr = ""
    """One word for machines."""
    message: StrictStr = ""
    """For people: the field or component, and what is allowed or awaited."""
    last_transition_time: StrictStr = ""
    """When `status` last changed."""
    observed_generation: StrictInt = 0
    """The metadata.generation that this was found for."""


class ConditionsStatus(ApiModel):
    """What Manx's operator says about an object."""

    conditions: tuple[StatusCondition, ...] = ()
    """What the operator found. Accepted: whether the object is valid and in force."""


class KeptStatus(ConditionsStatus):
    """What Manx's operator says about an object that stays as it last was valid."""

    last_valid: StrictStr = ""
    """The object, as JSON, as it last was valid. It counts for as long as what is declared is not valid."""
