"""Rules of Calico's policies: what users write in `ingress` and `egress`.

Owns: the fields of a rule and of its two ends.
Must not: judge them together (`policy_rule_check` does) or compile them.

Source: Calico v3.30, Rule and EntityRule.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from manx_core.api.fields import AnyObject, ApiModel, Selector, rule
from manx_core.api.policy_fields import Name, NamespaceSelector, Protocol, RuleNet, RulePort

Action = Literal["Allow", "Deny", "Log", "Pass"]


class IcmpFields(ApiModel):
    """An ICMP or ICMPv6 type, and a code of it."""

    type: Annotated[StrictInt, Field(ge=0, le=254)] | None = None
    """The type: 0 to 254; 8 is an echo request (ICMPv6: 128)."""
    code: Annotated[StrictInt, Field(ge=0, le=255)] | None = None
    """The code: 0 to 255. Only together with type."""


class ServiceAccountMatch(ApiModel):
    """Pods by their service accounts; names and selector must both hold."""

    names: tuple[Name, ...] = ()
    """Names of service accounts, any of which may match."""
    selector: Selector = ""
    """A selector over service accounts' labels, as "role == 'web'"."""


class ServiceMatch(ApiModel):
    """A Service, by its name."""

    name: Name = ""
    """The Service's name."""
    namespace: Name = ""
    """The Service's namespace. Default: the policy's. A GlobalNetworkPolicy must give it."""


class EntityRule(ApiModel):
    """What one end of a packet must be like: all that is present must hold."""

    nets: tuple[RuleNet, ...] = ()
    """CIDRs, one of which holds the address. All of a rule's CIDRs are of one IP version."""
    not_nets: tuple[RuleNet, ...] = ()
    """CIDRs, none of which holds the address."""
    selector: Selector = ""
    """Pods and network sets by their labels, as "app == 'web'". In a NetworkPolicy: of its own namespace, unless
    namespaceSelector is given."""
    not_selector: Selector = ""
    """The address is of nothing that this selects; other addresses match."""
    namespace_selector: NamespaceSelector = ""
    """Pods and network sets by the labels of their namespace; "global()": GlobalNetworkSets only."""
    ports: tuple[RulePort, ...] = ()
    """Ports, any of which may match: numbers, ranges such as "1000:2000", or names of containers' ports. Only with a
    protocol that has ports: TCP, UDP or SCTP."""
    not_ports: tuple[RulePort, ...] = ()
    """Ports, none of which may match."""
    service_accounts: ServiceAccountMatch | None = None
    """Pods that run as these service accounts."""
    services: ServiceMatch | None = None
    """The addresses, and in egress rules the ports, of a Service's endpoints. Only in the source of ingress rules and
    in the destination of egress rules; not together with selectors, nets or serviceAccounts."""


class RuleMetadata(ApiModel):
    """More about a rule."""

    annotations: Annotated[dict[str, str], Field(default_factory=dict)]
    """For people and tools; without effect on packets."""


class PolicyRule(ApiModel):
    """A packet that is like all that is said here is treated as `action` says."""

    action: Action
    """Allow and Deny end; Log writes to the kernel's log and goes on; Pass goes on with the next tier."""
    ip_version: Annotated[Literal[4, 6] | None, Field(alias="ipVersion")] = None
    """4 or 6. Default: both."""
    protocol: Protocol | None = None
    """TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite, or a number from 1 to 255. Default: any."""
    not_protocol: Protocol | None = None
    """The protocol is not this one."""
    icmp: IcmpFields | None = None
    """Only with protocol ICMP or ICMPv6."""
    not_icmp: Annotated[IcmpFields | None, Field(alias="notICMP")] = None
    """The packet is not of this ICMP type and code."""
    source: EntityRule = EntityRule()
    """The packet's source."""
    destination: EntityRule = EntityRule()
    """The packet's destination."""
    http: AnyObject | None = None
    """HTTP methods and paths. Not supported: a policy that has it is not in force, and what it selects is denied."""
    metadata: RuleMetadata | None = None
    """Annotations of the rule."""


def _is(field: str, *values: str | int) -> str:
    """CEL: whether a field is there with one of these values, a number also as text."""
    options = [
        f"self.{field} == {value!r}"
        for given in values
        for value in ((given, str(given)) if isinstance(given, int) else (given,))
    ]
    return f"has(self.{field}) && ({' || '.join(options)})"


def _empty(field: str) -> str:
    return f"(!has(self.{field}) || size(self.{field}) == 0)"


IcmpFields.RULES = (rule("!has(self.code) || has(self.type)", "needs a type", "code"),)
_ICMP, _ICMPV6 = ("ICMP", 1), ("ICMPv6", 58)
PolicyRule.RULES = (
    rule(f"!has(self.icmp) || {_is('protocol', *_ICMP, *_ICMPV6)}", "needs protocol ICMP or ICMPv6", "icmp"),
    *(
        rule(f"!has(self.ipVersion) || self.ipVersion == {version} || !({_is(field, *family)})",
             f"must be {version} where {field} is {family[0]}", "ipVersion")
        for field in ("protocol", "notProtocol") for version, family in ((4, _ICMP), (6, _ICMPV6))
    ),
    *(
        rule(
            f"!has(self.{end}) || {_empty(f'{end}.{ports}')} || {_is('protocol', 'TCP', 'UDP', 'SCTP', 6, 17, 132)}",
            "needs the rule's protocol to be TCP, UDP or SCTP", f"{end}.{ports}",
        )
        for end in ("source", "destination") for ports in ("ports", "notPorts")
    ),
    rule(
        "!has(self.destination) || !has(self.destination.services)"
        f" || {_empty('destination.ports')} && {_empty('destination.notPorts')}",
        "must not be set together with ports or notPorts, for the Service's ports count", "destination.services",
    ),
)  # fmt: skip
EntityRule.RULES = (
    *(
        rule(f"!has(self.services) || {_empty(field)}", "must not be set together with services", field)
        for field in ("selector", "notSelector", "namespaceSelector", "nets", "notNets")
    ),
    rule("!has(self.services) || !has(self.serviceAccounts)", "must not be set together with services",
         "serviceAccounts"),
    rule("!has(self.services) || has(self.services.name) && self.services.name != ''",
         "must have the name of a Service", "services"),
)  # fmt: skip
