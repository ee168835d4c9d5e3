"""Hypothesis strategies for what policy on a node consists of: views, single changes of them, packets.

Owns: a small world (four pods here, two elsewhere, of either family) in which rules, groups and packets often meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar

from hypothesis import strategies as st

from kernelsim import Packet
from manx_agent.model import LocalEndpoint, PolicyView
from manx_core.api.v1alpha1 import (
    ClassTier,
    IcmpMatch,
    PolicyProgramSpec,
    PolicySettings,
    PolicySource,
    PoolSettings,
    Rule,
    RuleEnd,
)
from manx_core.policy.endpoint import NamedPort

T = TypeVar("T")

LOCAL = tuple(f"10.244.0.{number}" for number in range(1, 5))
LOCAL6 = tuple(f"fd00::{number}" for number in range(1, 5))
REMOTE = ("10.244.1.9", "198.51.100.7")
REMOTE6 = ("fd00:1::9", "2001:db8::7")
ADDRESSES = (*LOCAL, *REMOTE)
ADDRESSES6 = (*LOCAL6, *REMOTE6)
CLASSES = tuple(f"pc-{letter * 20}" for letter in "abc")
POLICIES = tuple(f"knp.default.{letter}" for letter in "pqrs")
TIERS = ("first", "default", "last")
GROUPS = tuple(f"ag-{letter * 20}" for letter in "gh")
PORT_GROUPS = tuple(f"ag-{letter * 20}" for letter in "xy")
NETS = ("0.0.0.0/0", "10.244.0.0/16", "10.244.0.2/31", "198.51.100.7/32", "fd00::/8", "fd00::2/127", "::/0")

_ports = st.sampled_from(("80", "53-80", "8080", "1-65535"))
_PORTED = ("TCP", "UDP", "SCTP", "UDPLite", "6")
_NAMED = ("TCP", "UDP", "SCTP")
"""Protocols for which a port may have a name."""
_NAMES = ("web", "alt")
_named_ports = st.builds(NamedPort, st.sampled_from(_NAMES), st.sampled_from(_NAMED), st.sampled_from((53, 80, 8080)))


def _some(values: tuple[T, ...] | st.SearchStrategy[T], most: int = 3) -> st.SearchStrategy[tuple[T, ...]]:
    strategy = st.sampled_from(values) if isinstance(values, tuple) else values
    return st.lists(strategy, max_size=most, unique=True).map(tuple)


def _rarely(values: tuple[T, ...] | st.SearchStrategy[T], most: int = 2) -> st.SearchStrategy[tuple[T, ...]]:
    """Mostly nothing, or rules would match nothing."""
    return st.one_of(st.just(()), st.just(()), st.just(()), _some(values, most))


@st.composite
def ends(draw: st.DrawFn, ports: bool, busy: bool, named: bool = False) -> RuleEnd:
    """One end of a rule. `ports`: it may ask for ports; `busy`: it is the end that most rules are about; `named`: for
    ports by names of its own."""
    kind = draw(st.sampled_from(("any", "groups", "nets", "all"))) if busy else "any"
    return RuleEnd(
        groups=draw(_some(GROUPS, 2)) if kind in ("groups", "all") else draw(_rarely(GROUPS)),
        not_groups=draw(_rarely(GROUPS)),
        nets=draw(_some(NETS)) if kind in ("nets", "all") else draw(_rarely(NETS)),
        not_nets=draw(_some(NETS[1:6])) if kind in ("nets", "all") else draw(_rarely(NETS)),
        ports=draw(_rarely(_ports)) if ports else (),
        not_ports=draw(_rarely(_ports)) if ports else (),
        port_groups=draw(_rarely(PORT_GROUPS)),
        not_port_groups=draw(_rarely(PORT_GROUPS)),
        named_ports=draw(_rarely(_NAMES)) if named else (),
        not_named_ports=draw(_rarely(_NAMES)) if named else (),
    )


_icmp = st.none() | st.builds(IcmpMatch, type=st.sampled_from((8, 128, 3)), code=st.sampled_from((-1, 0, 1)))


@st.composite
def rules(draw: st.DrawFn, actions: tuple[str, ...] = ("Allow", "Allow", "Deny", "Deny", "Pass", "Log")) -> Rule:
    """Rules as a compiler makes them: ports and types only with a protocol that has them."""
    protocol = draw(st.sampled_from(("", "", "TCP", "TCP", "UDP", "SCTP", "UDPLite", "6", "ICMP", "ICMPv6", "47")))
    ports, typed = protocol in _PORTED, protocol in ("ICMP", "ICMPv6")
    return Rule(
        action=draw(st.sampled_from(actions)),
        index=draw(st.integers(0, 20)),
        ip_version=draw(st.sampled_from((0, 0, 0, 4, 6))),
        protocol=protocol,
        not_protocol=draw(st.sampled_from(("", "", "", "TCP", "ICMP", "17", "200"))),
        icmp=draw(_icmp) if typed else None,
        not_icmp=draw(_icmp) if typed else None,
        peer=draw(ends(ports, busy=True)),
        subject=draw(ends(ports, busy=False, named=protocol in _NAMED)),
    )


def programs() -> st.SearchStrategy[PolicyProgramSpec]:
    """Compiled policies."""
    return st.builds(
        PolicyProgramSpec,
        epoch=st.just(1),
        source=st.just(PolicySource(kind="NetworkPolicy", name="p")),
        types=st.sampled_from((("Ingress", "Egress"), ("Ingress",), ("Egress",), ())),
        ingress=_some(rules()),
        egress=_some(rules()),
        log_denied=st.sampled_from((False, False, True)),
    )


def tiers() -> st.SearchStrategy[tuple[ClassTier, ...]]:
    """The policies of a class: one tier, or up to three."""
    one = st.builds(
        ClassTier,
        name=st.sampled_from(TIERS),
        policies=_some(POLICIES).filter(bool),
        default_action=st.sampled_from(("Deny", "Deny", "Pass")),
    )
    return st.lists(one, max_size=3, unique_by=lambda tier: tier.name).map(tuple)


SETTINGS = st.one_of(
    st.just(PolicySettings()),
    st.builds(
        PolicySettings,
        default_endpoint_to_host_action=st.sampled_from(("Accept", "Drop", "Return")),
        chain_insert_mode=st.sampled_from(("Insert", "Append")),
        deny_action=st.sampled_from(("Drop", "Reject")),
        allow_action=st.sampled_from(("Accept", "Return")),
        mark_mask=st.sampled_from((0xFFFF0000, 0xC, 0x80000001)),
        log_denied=st.booleans(),
    ),
)

_group_members = st.frozensets(st.sampled_from((*ADDRESSES, *ADDRESSES6, "fd00:1::/64")), max_size=5)
_port_members = st.frozensets(
    st.sampled_from(
        [
            f"{address},{protocol}:{port}"
            for address in (*ADDRESSES, *ADDRESSES6)
            for protocol, port in (("tcp", 80), ("udp", 53), ("sctp", 80), ("tcp", 40000))
        ]
    ),
    max_size=6,
)


def _endpoint(number: int) -> LocalEndpoint:
    """The third has no IPv6 address, the fourth no IPv4 address."""
    addresses = ((LOCAL[number],) if number != 3 else ()) + ((LOCAL6[number],) if number != 2 else ())
    return LocalEndpoint("default", f"pod{number}", f"uid{number}", f"c{number}", f"mnx{number:011x}", addresses)


ENDPOINTS = {one.container_id: one for one in map(_endpoint, range(len(LOCAL)))}
_identities = tuple((one.namespace, one.name, one.uid) for one in ENDPOINTS.values())
_class = st.sampled_from((*CLASSES, *CLASSES, "open", ""))
TYPES = {**dict.fromkeys(GROUPS, "Addresses"), **dict.fromkeys(PORT_GROUPS, "AddressPorts")}


def _mapping(keys: tuple[Any, ...], values: st.SearchStrategy[T], complete: bool) -> st.SearchStrategy[dict[Any, T]]:
    """All keys, or each with a chance to be missing."""
    if complete:
        return st.fixed_dictionaries(dict.fromkeys(keys, values))
    some = st.sampled_from((True, True, True, True, False))
    chosen = st.fixed_dictionaries({key: st.tuples(some, values) for key in keys})
    return chosen.map(lambda drawn: {key: value for key, (there, value) in drawn.items() if there})


@st.composite
def views(draw: st.DrawFn, complete: bool = False) -> PolicyView:
    """Whole views. `complete`: nothing that anything refers to is missing."""
    groups = draw(_mapping(GROUPS, _group_members, complete))
    port_groups = draw(_mapping(PORT_GROUPS, _port_members, complete))
    return PolicyView(
        endpoints={key: ENDPOINTS[key] for key in draw(_mapping(tuple(ENDPOINTS), st.none(), False))},
        classes=draw(_mapping(CLASSES, tiers(), complete)),
        programs=draw(_mapping(POLICIES, programs(), complete)),
        groups={**groups, **port_groups},
        group_types=TYPES,
        class_of=draw(_mapping(_identities, _class, complete)),
        ports_of=draw(_mapping(_identities, _some(_named_ports), False)),
        pools=draw(st.sampled_from(POOLS)),
        settings=draw(SETTINGS),
    )


def _toggled(view: PolicyView, identity: tuple[str, str, str], port: NamedPort) -> tuple[NamedPort, ...]:
    return tuple(sorted({*view.ports_of.get(identity, ())} ^ {port}))


def _with(mapping: Mapping[Any, T], key: Any, value: T | None) -> dict[Any, T]:
    changed = dict(mapping)
    changed.pop(key, None)
    if value is not None:
        changed[key] = value
    return changed


POOLS = (
    (PoolSettings(name="p", cidr="10.244.0.0/16", nat_outgoing=True),),
    (PoolSettings(name="p", cidr="10.244.0.0/16"), PoolSettings(name="q", cidr="fd00::/64", nat_outgoing=True)),
    (PoolSettings(name="q", cidr="fd00::/64", nat_outgoing=True),),
)

Change = Callable[[PolicyView], PolicyView]
KINDS = ("endpoint", "class", "program", "class_of", "port", "member", "pools", "settings")
"""Of changes."""


@st.composite
def changes(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> Change:
    """One change that keeps a complete view complete, of which packets should see either before or after."""
    kind = draw(st.sampled_from(kinds))
    if kind == "endpoint":
        key = draw(st.sampled_from(tuple(ENDPOINTS)))
        there = draw(st.booleans())
        return lambda view: replace(view, endpoints=_with(view.endpoints, key, ENDPOINTS[key] if there else None))
    if kind == "class":
        name, listed = draw(st.sampled_from(CLASSES)), draw(tiers())
        return lambda view: replace(view, classes=_with(view.classes, name, listed))
    if kind == "program":
        policy, spec = draw(st.sampled_from(POLICIES)), draw(programs())
        return lambda view: replace(view, programs=_with(view.programs, policy, spec))
    if kind == "pools":
        pools = draw(st.sampled_from(POOLS))
        return lambda view: replace(view, pools=pools)
    if kind == "settings":
        settings = draw(SETTINGS)
        return lambda view: replace(view, settings=settings)
    if kind == "class_of":
        identity, wanted = draw(st.sampled_from(_identities)), draw(_class)
        return lambda view: replace(view, class_of=_with(view.class_of, identity, wanted))
    if kind == "port":
        identity, port = draw(st.sampled_from(_identities)), draw(_named_ports)
        return lambda view: replace(view, ports_of=_with(view.ports_of, identity, _toggled(view, identity, port)))
    group, member = draw(st.sampled_from(GROUPS)), draw(st.sampled_from((*ADDRESSES, *ADDRESSES6)))
    return lambda view: replace(view, groups=_with(view.groups, group, view.groups.get(group, frozenset()) ^ {member}))


_interfaces = {
    address: endpoint.interface
    for number, endpoint in enumerate(ENDPOINTS.values())
    for address in (LOCAL[number], LOCAL6[number])
}
"""The third's IPv6 and the fourth's IPv4 address are routed to them, though they do not have them."""
_NODES = ("192.0.2.1", "2001:db8:2::1")


def _packet(source: str, destination: str, entered: str = "", **rest: Any) -> Packet:
    """As routing has it: into the interface of the source (or of `entered`), out of that of the destination."""
    into = _interfaces.get(entered or source, "eth0")
    out = "" if destination in _NODES else _interfaces.get(destination, "eth0")
    return Packet(source, destination, into, out, **rest)


def packets(*kinds: tuple[str, int]) -> list[Packet]:
    """Packets of these protocols and ports (types, of ICMP) from everywhere to everywhere, the node itself included;
    some established, invalid, or with a false source. Of both families."""
    found = []
    for addresses, node in ((ADDRESSES, _NODES[0]), (ADDRESSES6, _NODES[1])):
        pairs = list(product(addresses, (*addresses, node)))
        found += [_of_kind(*pair, *kind) for pair in pairs for kind in kinds]
        found += [_packet(*pair, state=state) for pair in pairs[:8] for state in ("ESTABLISHED", "INVALID")]
        found += [_packet(addresses[1], other, entered=addresses[0]) for other in addresses]
    return found


def _of_kind(source: str, destination: str, protocol: str, number: int) -> Packet:
    if protocol == "icmp" and ":" in source:
        protocol, number = "ipv6-icmp", {8: 128}.get(number, number)
    if "icmp" in protocol:
        return _packet(source, destination, protocol=protocol, icmp_type=number, icmp_code=0)
    return _packet(source, destination, protocol=protocol, port=number)
