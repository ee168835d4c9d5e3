"""The manx.dev kinds as the API server knows them: names, columns, and the limits beyond which no agent could render.

Owns: those limits and rules. Must not: repeat what the structs of `manx_core.api.v1alpha1` say themselves.

Patterns rather than CEL where lists have no length limit: the API server bounds what a CEL rule may cost by the
longest list there could be.
"""

from __future__ import annotations

from typing import Any

import msgspec

from generator.schema import Schema
from manx_core.api import v1alpha1
from manx_core.api.fields import MAX_AS_NUMBER, RULES, rule
from manx_core.api.kind import AGE, Column, Kind
from manx_core.api.policy_status import IN_FORCE

_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4 = rf"{_OCTET}(\.{_OCTET}){{3}}"
_V6 = "[0-9a-f]{0,4}:[0-9a-f:.]{1,41}"
_NET = f"({_V4}(/(3[0-2]|[12]?[0-9]))?|{_V6}(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?)"
_PORT = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
_AS: Schema = {"minimum": 1, "maximum": MAX_AS_NUMBER}
_PORT_NUMBER: Schema = {"minimum": 1, "maximum": 65535}
_NAME: Schema = {"minLength": 1, "maxLength": 253}
_ADDRESS: Schema = {"pattern": f"^({_V4}|{_V6})$"}
_IPV4_OR_NONE: Schema = {"pattern": f"^({_V4})?$"}
_IPV6_OR_NONE: Schema = {"pattern": f"^({_V6})?$"}
_PROTOCOL = "(TCP|UDP|SCTP|UDPLite|ICMP|ICMPv6|25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9][0-9]?)?"
_POD_LINE = r"[^ /\n]+/[^ /\n]+ [^ \n]+ [^ \n]+( [^ =\n]+=[A-Z]+:[0-9]+)*"
_MEMBER = f"({_NET}|({_V4}|{_V6}),(tcp|udp|sctp):{_PORT})"
_LONGEST_MEMBER = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255,sctp:65535\n")


def _lines(line: str) -> Schema:
    """Of `manx_core.api.lines`. Go's regexp is quickest with this form: half a microsecond for a line."""
    return {"type": "string", "pattern": rf"^({line}(\n|$))*$"}


_EPOCH: Schema = {
    "minimum": 0,
    "description": "The writer's Lease epoch; an update with a lower one is refused.",
    RULES: [
        {
            "rule": "self >= oldSelf",
            "messageExpression": "'%d is lower than the object\\'s, %d: another leader has taken over'"
            ".format([self, oldSelf])",
            "reason": "FieldValueForbidden",
        }
    ],
}
"""A leader that slept cannot undo what its successor wrote. Here and not in an admission policy, which costs each write
a tenth more. `format`, because the API server has no bound for the length of a number as text."""
_FIXED: Schema = {RULES: [rule("self == oldSelf", "cannot be changed")]}


def _named(expression: str, message: str) -> dict[str, Any]:
    """metadata.name must be this. Looked at when the object is made, since what the expression reads is `_FIXED`: to
    look at it with each write was a fifteenth of what an AddressGroup's costs the API server."""
    return rule(f"oldSelf.hasValue() || self.metadata.name == {expression}", message) | {"optionalOldSelf": True}


LIMITS: dict[tuple[str, str], Schema] = {
    **{(f"{kind}Spec", "epoch"): _EPOCH for kind in ("NodeState", "PolicyClass", "PolicyProgram", "AddressGroup",
                                                     "MeshNode", "IPAMBlock")},
    ("PoolSettings", "cidr"): {"pattern": f"^{_NET}$"},
    ("BgpSettings", "as_number"): _AS,
    ("BgpSettings", "router_id"): _IPV4_OR_NONE,
    ("BgpSettings", "listen_port"): _PORT_NUMBER,
    ("BgpSettings", "hold_time"): {"minimum": 0, "maximum": 65535},
    ("BgpSettings", "restart_time"): {"minimum": 0, "maximum": 4095},
    ("BgpPeer", "address"): _ADDRESS,
    ("BgpPeer", "as_number"): _AS,
    ("BgpPeer", "port"): _PORT_NUMBER,
    ("NodeStateSpec", "ipv4"): _IPV4_OR_NONE,
    ("NodeStateSpec", "pods"): _lines(_POD_LINE),
    ("NodeStateSpec", "mtu"): {"minimum": 0, "maximum": 65535},
    ("NodeStateSpec", "ipv6"): _IPV6_OR_NONE,
    ("PolicySettings", "mark_mask"): {"minimum": 0, "maximum": 0xFFFFFFFF},
    ("PolicySettings", "refresh_interval"): {"minimum": 0},
    ("PolicySettings", "route_refresh_interval"): {"minimum": 0},
    ("PolicySettings", "nat_port_range"): {"pattern": f"^({_PORT}:{_PORT})?$"},
    ("ClassTier", "name"): _NAME,
    ("PolicyClassSpec", "programs"): _lines(r"\{[^\n]*\}"),
    ("ClassTier", "policies"): {"minItems": 1, "items": _NAME},
    ("RuleEnd", "ports"): {"items": {"pattern": f"^{_PORT}(-{_PORT})?$"}},
    ("RuleEnd", "not_ports"): {"items": {"pattern": f"^{_PORT}(-{_PORT})?$"}},
    ("RuleEnd", "nets"): {"items": {"pattern": f"^{_NET}$"}},
    ("RuleEnd", "not_nets"): {"items": {"pattern": f"^{_NET}$"}},
    ("IcmpMatch", "type"): {"minimum": 0, "maximum": 255},
    ("IcmpMatch", "code"): {"minimum": -1, "maximum": 255},
    ("Rule", "protocol"): {"pattern": f"^{_PROTOCOL}$"},
    ("Rule", "not_protocol"): {"pattern": f"^{_PROTOCOL}$"},
    ("Rule", "index"): {"minimum": 0},
    ("AddressGroupSpec", "group"): {**_NAME, **_FIXED},
    ("AddressGroupSpec", "chunk"): {"minimum": 0, "x-manx-default": 0, **_FIXED},
    ("AddressGroupSpec", "chunks"): {"minimum": 0},
    ("AddressGroupSpec", "members"): {**_lines(_MEMBER), "maxLength": 100 * _LONGEST_MEMBER},
    ("MeshNodeSpec", "ipv4"): _IPV4_OR_NONE,
    ("MeshNodeSpec", "ipv6"): _IPV6_OR_NONE,
    ("MeshNodeSpec", "as_number"): {**_AS, "x-manx-default": 64512},
    ("MeshNodeSpec", "blocks"): {"items": {"pattern": f"^{_NET}$"}},
    ("IPAMBlockSpec", "cidr"): {"pattern": f"^{_NET}$", "maxLength": 43, **_FIXED},
    ("IPAMBlockSpec", "pool"): _NAME,
    ("IPAMBlockSpec", "node"): _NAME,
    ("IPAMBlockSpec", "state"): {"x-manx-default": "Active"},
    ("IPAMBlockSpec", "forgotten"): {"minimum": 0},
    ("Allocation", "address"): _ADDRESS,
    ("FreedAddress", "address"): _ADDRESS,
    **{("PolicyNodes", count): {"minimum": 0, "x-manx-default": 0} for count in ("concerned", "in_force")},
    **{("NodeReportStatus", count): {"x-manx-default": 0} for count in ("policies", "endpoints", "groups", "routes",
                                                                        "lag_milliseconds")},
}  # fmt: skip
"""Defaults are only where a column would be empty without (an absent number says nothing to people), and where a rule
compares with the field as it was: one that is absent would not be compared."""


def _kind(
    kind: str,
    plural: str,
    short: str,
    *columns: Column,
    rules: tuple[dict[str, str], ...] = (),
    status: bool = False,
    selectable: tuple[str, ...] = (),
) -> Kind:
    shown = (*columns, AGE)
    outside = (v1alpha1.GROUP, v1alpha1.VERSION, kind, plural, (short,), ("manx",), shown)
    return Kind(*outside, rules=rules, status=status, selectable=selectable)


_EPOCH_COLUMN = Column("Epoch", ".spec.epoch", "integer", "The writer's Lease epoch.", priority=1)

KINDS: tuple[tuple[Kind, type[msgspec.Struct]], ...] = (
    (
        _kind(
            "NodeState", "nodestates", "nstate",
            Column("IPv4", ".spec.ipv4", description="Underlay address."),
            Column("AS", ".spec.bgp.asNumber", "integer", "AS number, where it is not 64512."),
            _EPOCH_COLUMN,
        ),
        v1alpha1.NodeState,
    ),
    (
        _kind(
            "NodeReport", "nodereports", "nreport",
            Column("Policies", ".status.policies", "integer", "Policies in force on the node."),
            Column("Endpoints", ".status.endpoints", "integer", "Pods with an interface of Manx's."),
            Column("Peers", ".status.peersSummary", description="BGP sessions: established/all."),
            Column("Blocks", ".status.blocks", description="Address blocks of the node."),
            Column("Lag-ms", ".status.lagMilliseconds", "integer", "From hearing of the last change to its being in the"
                   " kernel, in milliseconds."),
            Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
            Column("Backend", ".status.backend", description="iptables back end.", priority=1),
            Column("Drift", ".status.drift.count", "integer", "Alterations found and repaired.", priority=1),
            Column("Problem", ".status.conditions[?(@.status=='False')].message", priority=1),
        ),
        v1alpha1.NodeReport,
    ),
    (
        _kind(
            "PolicyClass", "policyclasses", "pclass",
            Column("Policies", ".spec.tiers[*].policies", description="By tier, in the order of evaluation."),
            _EPOCH_COLUMN,
        ),
        v1alpha1.PolicyClass,
    ),
    (
        _kind(
            "PolicyProgram", "policyprograms", "pprogram",
            Column("Types", ".spec.types", description="Directions in which the pods selected are isolated."),
            Column("Source", ".spec.source.kind", description="Kind of the user's object."),
            Column("Namespace", ".spec.source.namespace"),
            Column("Policy", ".spec.source.name"),
            Column("Tier", ".spec.source.tier", description="Where it is not default."),
            *IN_FORCE,
            _EPOCH_COLUMN,
            status=True,
            selectable=tuple(f".spec.source.{field}" for field in ("namespace", "name")),
        ),
        v1alpha1.StoredProgram,
    ),
    (
        _kind(
            "AddressGroup", "addressgroups", "agroup",
            Column("Group", ".spec.group", priority=1),
            Column("Type", ".spec.type", priority=1),
            Column("Selector", ".spec.selector", description="What the group selects."),
            Column("Members", ".spec.members", priority=1),
            rules=(
                _named("'%s-%d'.format([self.spec.group, self.spec.chunk])",
                       "metadata.name must be <spec.group>-<spec.chunk>"),
            ),
        ),
        v1alpha1.AddressGroup,
    ),
    (
        _kind(
            "MeshNode", "meshnodes", "mesh",
            Column("IPv4", ".spec.ipv4", description="Underlay address."),
            Column("AS", ".spec.asNumber", "integer", "AS number."),
            Column("Blocks", ".spec.blocks", description="What others accept from this node."),
        ),
        v1alpha1.MeshNode,
    ),
    (
        _kind(
            "IPAMBlock", "ipamblocks", "ipamb",
            Column("CIDR", ".spec.cidr"),
            Column("Pool", ".spec.pool"),
            Column("Node", ".spec.node"),
            Column("State", ".spec.state"),
            rules=(
                _named("self.spec.cidr.replace('.', '-').replace(':', '-').replace('/', '-')",
                       "metadata.name must be spec.cidr with dashes, as 10-244-0-64-26"),
            ),
            status=True,
        ),
        v1alpha1.IPAMBlock,
    ),
)  # fmt: skip
