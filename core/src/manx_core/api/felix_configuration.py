"""projectcalico.org/v3 FelixConfiguration: how nodes enforce policy, for all (`default`) or one (`node.<node's name>`).

Owns: the kind's fields, and what they come to for a node.
Must not: enforce anything, nor know nodes.

Source: Calico v3.30, FelixConfigurationSpec. Words such as Drop are taken in any case, as Calico's schema does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, StrictInt, StrictStr, WithJsonSchema
from pydantic_core import CoreSchema

from manx_core.api.calico_policy import LOG_DENIED
from manx_core.api.felix_other_fields import OTHER_FIELDS, PYTHON_TYPES, allowed, fits
from manx_core.api.fields import (
    NO_EFFECT,
    PRESERVE,
    RULES,
    ApiModel,
    KeptStatus,
    Metadata,
    Problem,
    parse_duration,
    rule,
)
from manx_core.api.kind import ACCEPTED, AGE, Column, Kind
from manx_core.api.policy_fields import parse_port
from manx_core.api.v1alpha1 import PolicySettings

DEFAULT_NAME = "default"
NODE_PREFIX = "node."
ESTABLISHED = "manx.dev/established-connections"
LOG_PREFIX_LENGTH = 27
"""iptables takes 29 characters, and ": " is put behind."""
MARK_BITS = 0xFFFFFFFF
MARK_BITS_NEEDED = 2


def _word(*allowed: str) -> Any:
    """One of some words in any case; empty counts as absent."""
    by_lower = {word.lower(): word for word in allowed}
    listed = ", ".join(allowed)

    def validate(value: object) -> str | None:
        if value == "":
            return None
        if not isinstance(value, str) or value.lower() not in by_lower:
            raise ValueError(f"{value!r} is not allowed; must be one of {listed}")
        return by_lower[value.lower()]

    pattern = f"^(?i)({'|'.join(allowed)})?$"
    said = rule(f"self.matches('{pattern}')", f"must be one of {listed}")
    schema = WithJsonSchema({"type": "string", "maxLength": 32, RULES: [said]})
    return BeforeValidator(validate), schema


_DURATION_ALLOWED = 'a duration such as "90s" or "2m30s"'
_DURATION_RULE = rule("self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))*$')", f"must be {_DURATION_ALLOWED}")


def _interval(value: object) -> str | None:
    if value == "":
        return None
    if not isinstance(value, str) or not re.fullmatch(r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+", value):
        raise ValueError(f"{value!r} is not allowed; must be {_DURATION_ALLOWED}")
    return value


Interval = Annotated[
    StrictStr | None,
    BeforeValidator(_interval),
    WithJsonSchema({"type": "string", "maxLength": 32, RULES: [_DURATION_RULE]}),
]
_RANGE_ALLOWED = 'a range of ports such as "1024:65535", or one port'


def _port_range(value: object) -> str:
    try:
        port = parse_port(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not allowed; must be {_RANGE_ALLOWED}") from error
    if isinstance(port, str) and ":" not in port:
        raise ValueError(f"{value!r} is not allowed; must be {_RANGE_ALLOWED}")
    return port if isinstance(port, str) else f"{port}:{port}"


_RANGE_RULE = (
    "type(self) == int ? self >= 1 && self <= 65535 : self.matches('^[0-9]{1,5}(:[0-9]{1,5})?$')"
    " && self.split(':').all(p, int(p) >= 1 && int(p) <= 65535)"
    " && (self.split(':').size() == 1 || int(self.split(':')[0]) <= int(self.split(':')[1]))"
)
PortRange = Annotated[
    str,
    BeforeValidator(_port_range),
    WithJsonSchema(
        {"x-kubernetes-int-or-string": True, "maxLength": 11, RULES: [rule(_RANGE_RULE, f"must be {_RANGE_ALLOWED}")]}
    ),
]
_PREFIX_ALLOWED = "printable ASCII without quotation marks and backslashes"
LogPrefix = Annotated[
    StrictStr,
    Field(pattern=r"^[ !#-&(-\[\]-~]*$", max_length=1024),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 1024,
            RULES: [rule("self.matches('^[ !#-&(-\\\\[\\\\]-~]*$')", f"must be {_PREFIX_ALLOWED}")],
        }
    ),
]


class FelixConfigurationSpec(ApiModel):
    """How nodes enforce policy."""

    default_endpoint_to_host_action: Annotated[
        Literal["Accept", "Drop", "Return"] | None, *_word("Accept", "Drop", "Return")
    ] = None
    """What becomes of a pod's packet to its own node that the pod's policies allow: Accept; Drop; or Return, to the
    node's own rules. Default: Accept."""
    chain_insert_mode: Annotated[Literal["Insert", "Append"] | None, *_word("Insert", "Append")] = None
    """Whether Manx's rules stand first (Insert) or last (Append) in the kernel's chains. Default: Insert."""
    iptables_backend: Annotated[Literal["Auto", "NFT", "Legacy"] | None, *_word("Auto", "NFT", "Legacy")] = None
    """NFT, Legacy, or Auto: the one that the node uses already. Default: Auto."""
    iptables_filter_allow_action: Annotated[Literal["Accept", "Return"] | None, *_word("Accept", "Return")] = None
    """Whether an allowed packet leaves the table accepted, or returns to others' rules. Default: Accept."""
    iptables_filter_deny_action: Annotated[Literal["Drop", "Reject"] | None, *_word("Drop", "Reject")] = None
    """What becomes of a denied packet. What is not decided yet is always dropped. Default: Drop."""
    iptables_mark_mask: Annotated[StrictInt, Field(ge=1, le=MARK_BITS)] | None = None
    """The bits of packets' marks that Manx may use, as a number with two bits at least; it uses the lowest two.
    Default: 4294901760 (0xffff0000)."""
    log_prefix: LogPrefix | None = None
    """What the kernel's log lines of rules with action Log begin with; 27 characters at most count. Default:
    calico-packet."""
    iptables_refresh_interval: Interval = None
    """How often the kernel's rules are compared with what they should be, as "90s". "0s", and default: as often as Manx
    does by itself; it cannot be switched off."""
    ipsets_refresh_interval: Interval = None
    """The same of sets of addresses. The smaller of both counts."""
    route_refresh_interval: Interval = None
    """The same of routes."""
    nat_port_range: PortRange | None = None
    """Source ports of masqueraded packets, as "1024:65535". Default: the kernel's choice."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = super().__get_pydantic_json_schema__(core, handler)
        schema["properties"] |= {name: _schema(name) for name in sorted(OTHER_FIELDS)}
        return schema

    def without_effect(self) -> Iterator[str]:
        """As of every model; a field that only Calico has is not called unknown."""
        for name in super().without_effect():
            known = name.removesuffix(" (unknown)")
            yield known if known in OTHER_FIELDS else name


def _schema(name: str) -> dict[str, Any]:
    wanted = OTHER_FIELDS[name]
    said = {"description": "Of Calico's data plane.", NO_EFFECT: True, **allowed(name)[1]}
    if wanted == "any":
        return {"x-kubernetes-int-or-string": True, **said}
    if wanted == "array":
        return {"type": "array", "items": {PRESERVE: True}, **said}
    return {"type": wanted, **({PRESERVE: True} if wanted == "object" else {}), **said}


class FelixConfiguration(ApiModel):
    """How nodes enforce policy. The object named default holds for every node; one named node.<node's name> overrides
    what it gives for that node. Annotations: manx.dev/log-denied "true" logs denied packets of every policy;
    manx.dev/established-connections Recheck ends connections that a changed policy denies, where Keep, the default,
    leaves them."""

    metadata: Metadata
    spec: FelixConfigurationSpec = FelixConfigurationSpec()
    status: KeptStatus = KeptStatus()


_ANNOTATED = "has(self.metadata.annotations)"
KIND = Kind(
    group="projectcalico.org",
    version="v3",
    kind="FelixConfiguration",
    plural="felixconfigurations",
    short_names=("felixconfig", "felixconfigs"),
    categories=("calico",),
    columns=(ACCEPTED, Column("Message", ".status.conditions[?(@.type=='Accepted')].message", priority=1), AGE),
    rules=(
        rule(
            "self.metadata.name == 'default' || self.metadata.name.startsWith('node.') && size(self.metadata.name) > 5",
            'metadata.name must be "default" (for all nodes), or "node." and the name of a node (for that one)',
        ),
    ),
)


def check(found: FelixConfiguration) -> tuple[Problem, ...]:
    """What the field types alone cannot say."""
    name = found.metadata.name
    problems = []
    if name != DEFAULT_NAME and not (name.startswith(NODE_PREFIX) and name != NODE_PREFIX):
        allowed = f'must be "{DEFAULT_NAME}", or "{NODE_PREFIX}" and a node\'s name'
        problems.append(Problem("metadata.name", f"{name!r} means nothing; {allowed}"))
    mask = found.spec.iptables_mark_mask
    if mask is not None and mask.bit_count() < MARK_BITS_NEEDED:
        problems.append(Problem("spec.iptablesMarkMask", f"{mask:#x} is not allowed; must have two bits at least"))
    for annotation, allowed_values in ((LOG_DENIED, ("true", "false")), (ESTABLISHED, ("Keep", "Recheck"))):
        value = found.metadata.annotations.get(annotation)
        if value is not None and value not in allowed_values:
            text = f"{value!r} is not allowed; must be {' or '.join(allowed_values)}"
            problems.append(Problem(f"metadata.annotations[{annotation}]", text))
    return (*problems, *_other_problems(found.spec))


def _other_problems(spec: FelixConfigurationSpec) -> Iterator[Problem]:
    """Of the fields that only Calico has: what its own schema refuses."""
    for name, value in (spec.model_extra or {}).items():
        wanted = OTHER_FIELDS.get(name)
        if wanted is None:
            continue
        if not isinstance(value, PYTHON_TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean"):
            said = "an integer or a string" if wanted == "any" else f"of type {wanted}"
            yield Problem(f"spec.{name}", f"{value!r} is not allowed; must be {said}")
        elif not fits(name, value):
            yield Problem(f"spec.{name}", f"{value!r} is not allowed; must be {allowed(name)[0]}")


def without_effect(found: FelixConfiguration) -> tuple[str, ...]:
    """What is accepted and changes nothing: fields, and parts of values."""
    spec, said = found.spec, list(found.without_effect())
    if spec.log_prefix is not None and len(spec.log_prefix) > LOG_PREFIX_LENGTH:
        said.append(f"spec.logPrefix beyond its first {LOG_PREFIX_LENGTH} characters")
    intervals = {
        "spec.iptablesRefreshInterval": spec.iptables_refresh_interval,
        "spec.ipsetsRefreshInterval": spec.ipsets_refresh_interval,
        "spec.routeRefreshInterval": spec.route_refresh_interval,
    }
    said += [f"{path} 0 (cannot be switched off)" for path, text in intervals.items() if text and not _seconds(text)]
    return tuple(said)


def settings_of(default: FelixConfiguration | None, for_node: FelixConfiguration | None = None) -> PolicySettings:
    """Settings of the node that `for_node` (named node.<its name>) is about, or of all. What is absent is as in
    `PolicySettings`."""
    given: dict[str, Any] = {}
    for found in (default, for_node):
        if found is not None:
            given |= _given(found)
    if intervals := [given.pop(name) for name in ("iptables", "ipsets") if given.get(name)]:
        given["refresh_interval"] = min(intervals)
    return PolicySettings(**{name: value for name, value in given.items() if name in PolicySettings.__struct_fields__})


def _given(found: FelixConfiguration) -> Mapping[str, Any]:
    spec, annotations = found.spec, found.metadata.annotations
    log_denied = annotations.get(LOG_DENIED)
    fields: dict[str, Any] = {
        "default_endpoint_to_host_action": spec.default_endpoint_to_host_action,
        "chain_insert_mode": spec.chain_insert_mode,
        "iptables_backend": spec.iptables_backend,
        "allow_action": spec.iptables_filter_allow_action,
        "deny_action": spec.iptables_filter_deny_action,
        "mark_mask": spec.iptables_mark_mask,
        "log_prefix": None if spec.log_prefix is None else spec.log_prefix[:LOG_PREFIX_LENGTH],
        "log_denied": None if log_denied is None else log_denied == "true",
        "established": annotations.get(ESTABLISHED),
        "iptables": _seconds(spec.iptables_refresh_interval),
        "ipsets": _seconds(spec.ipsets_refresh_interval),
        "route_refresh_interval": _seconds(spec.route_refresh_interval),
        "nat_port_range": spec.nat_port_range,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _seconds(text: str | None) -> float | None:
    return None if text is None else parse_duration(text)
