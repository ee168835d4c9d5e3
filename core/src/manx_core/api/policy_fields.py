"""Field types that only policies and network sets have: protocols, ports, CIDRs, orders.

Owns: what is accepted there, and the one form that each value takes once read ("6" is 6, "80:80" is 80).
Must not: know rules or kinds.

Source: Calico v3.30, `numorstring.Protocol`, `numorstring.Port` and the validators "net", "cidr" and "portName" of
libcalico-go; RFC 6335, 5.1 (port names). Calico's own examples are applied unmodified: what it takes is taken here.
"""

from __future__ import annotations

import ipaddress
import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictStr, WithJsonSchema

from manx_core.api.fields import RULES, Cidr, Problem, rule
from manx_core.selectors import calico

PROTOCOL_NAMES = ("TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite")
WITH_PORTS: frozenset[str | int] = frozenset({"TCP", "UDP", "SCTP", 6, 17, 132})
ICMP: frozenset[str | int] = frozenset({"ICMP", 1})
ICMPV6: frozenset[str | int] = frozenset({"ICMPv6", 58})

PROTOCOL_ALLOWED = f"{', '.join(PROTOCOL_NAMES)}, or a number from 1 to 255"
PORT_ALLOWED = (
    'a port from 1 to 65535, a range such as "1000:2000", or the name of a port (at most 15 of a-z, 0-9 and -, with a'
    " letter among them)"
)
NET_ALLOWED = 'an address, or a CIDR such as "198.51.100.0/24" or "2001:db8::/32"'
PORT_NAME = "([0-9]+-)*[0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*"
"""Of at most 15 characters; the expression is one that the API server can read, too, which has no lookahead."""


def _protocol(value: object) -> str | int:
    if isinstance(value, str) and value in PROTOCOL_NAMES:
        return value
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,3}", value) else value
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 255:
        return number
    raise ValueError(f"{value!r} is not allowed; must be {PROTOCOL_ALLOWED}")


_PROTOCOL_RULE = (
    f"type(self) == int ? self >= 1 && self <= 255 : self in {list(PROTOCOL_NAMES)}"
    " || self.matches('^[0-9]{1,3}$') && int(self) >= 1 && int(self) <= 255"
)
Protocol = Annotated[
    str | int,
    BeforeValidator(_protocol),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 64,
            RULES: [rule(_PROTOCOL_RULE, f"must be {PROTOCOL_ALLOWED}")],
        }
    ),
]
"""A name of PROTOCOL_NAMES, or a number from 1 to 255."""


def parse_port(value: object) -> int | str:
    """80, "80", "1000:2000", "http" → 80, 80, "1000:2000", "http". Raises ValueError."""
    ends = _ends(value)
    if ends is not None and 1 <= ends[0] <= ends[1] <= 65535:
        return ends[0] if ends[0] == ends[1] else f"{ends[0]}:{ends[1]}"
    if ends is None and isinstance(value, str) and _is_port_name(value):
        return value
    raise ValueError(f"{value!r} is not allowed; must be {PORT_ALLOWED}")


def _ends(value: object) -> tuple[int, int] | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    match = re.fullmatch(r"([0-9]{1,9})(?::([0-9]{1,9}))?", value) if isinstance(value, str) else None
    return (int(match[1]), int(match[2] or match[1])) if match else None


def _is_port_name(text: str) -> bool:
    return len(text) <= 15 and re.fullmatch(PORT_NAME, text) is not None


RulePort = Annotated[
    int | str,
    BeforeValidator(parse_port),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "minimum": 1, "maximum": 65535}),
]
"""A number, "<first>:<last>", or a port's name."""


def _with_prefix(value: str) -> str:
    if "/" not in value:
        raise ValueError(f'{value!r} is not allowed; must be a CIDR, as "{value}/{128 if ":" in value else 32}"')
    return value


RuleNet = Annotated[
    Cidr, AfterValidator(_with_prefix), WithJsonSchema({"type": "string", "maxLength": 43, "format": "cidr"})
]
"""Of a rule: no bit may be set beyond the prefix (an admission policy refuses that), and a prefix there must be."""


def parse_net(value: object) -> str:
    """ "198.51.100.7", "198.51.100.7/24" → "198.51.100.7/32", "198.51.100.0/24". Raises ValueError."""
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"{value!r} is not allowed; must be {NET_ALLOWED}") from None


SetNet = Annotated[str, BeforeValidator(parse_net), WithJsonSchema({"type": "string", "maxLength": 43})]
"""Of a network set: an address counts as a network of its own, and bits beyond the prefix as 0."""


def _order(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not allowed; must be a number")
    return float(value)


Order = Annotated[float, BeforeValidator(_order), WithJsonSchema({"type": "number"})]
"""Lower comes first."""


def _namespace_selector(value: Any) -> Any:
    if isinstance(value, str) and value.strip() != GLOBAL:
        try:
            calico.parse(value)
        except calico.SelectorError as error:
            raise ValueError(
                f'{value!r} is not allowed; must be a selector such as "has(team)", or "global()": {error}'
            ) from error
    return value


GLOBAL = "global()"
NamespaceSelector = Annotated[StrictStr, Field(max_length=calico.MAX_LENGTH), BeforeValidator(_namespace_selector)]
"""A selector over namespaces' labels, or "global()": what belongs to no namespace."""

Name = Annotated[StrictStr, Field(max_length=253)]


def no_global(field: str, selector: str) -> list[Problem]:
    """What is wrong where `global()` stands in a selector that is not a rule's namespaceSelector."""
    return (
        [Problem(field, "global() is allowed only in the namespaceSelector of a rule")]
        if GLOBAL[:-1] in selector
        else []
    )
