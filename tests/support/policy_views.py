"""Hypothesis strategies for what policy on a node consists of: views, single changes of them, packets.

Owns: a small world (four addresses of pods here, two elsewhere) in which rules, groups and packets often meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar

from hypothesis import strategies as st

from kernelsim import Packet
from manx_agent.model import LocalEndpoint, PolicyView
from manx_core.api.v1alpha1 import PolicyProgramSpec, PolicySource, PoolSettings, Rule

T = TypeVar("T")

LOCAL = tuple(f"10.244.0.{number}" for number in range(1, 5))
REMOTE = ("10.244.1.9", "198.51.100.7")
ADDRESSES = (*LOCAL, *REMOTE)
CLASSES = tuple(f"pc-{letter * 20}" for letter in "abc")
POLICIES = tuple(f"knp.default.{letter}" for letter in "pqrs")
GROUPS = tuple(f"ag-{letter * 20}" for letter in "gh")
PORT_GROUPS = tuple(f"ag-{letter * 20}" for letter in "xy")
PORTS = (53, 80, 8080)
NETS = ("0.0.0.0/0", "10.244.0.0/16", "10.244.0.2/31", "198.51.100.7/32", "fd00::/8", "::/0")

_ports = st.sampled_from(("80", "53-80", "8080", "1-65535"))


def _some(values: tuple[T, ...] | st.SearchStrategy[T], most: int = 3) -> st.SearchStrategy[tuple[T, ...]]:
    strategy = st.sampled_from(values) if isinstance(values, tuple) else values
    return st.lists(strategy, max_size=most, unique=True).map(tuple)


@st.composite
def rules(draw: st.DrawFn, actions: tuple[str, ...] = ("Allow", "Deny")) -> Rule:
    """Rules as a compiler makes them: ports only with a protocol."""
    protocol = draw(st.sampled_from(("", "TCP", "TCP", "UDP", "SCTP")))
    peer = draw(st.sampled_from(("any", "group", "nets", "all")))
    return Rule(
        action=draw(st.sampled_from(actions)),
        protocol=protocol,  # type: ignore[arg-type]
        ports=draw(_some(_ports)) if protocol else (),
        port_group=draw(st.sampled_from(("", "", *PORT_GROUPS))),
        peer_group=draw(st.sampled_from(GROUPS)) if peer in ("group", "all") else "",
        nets=draw(_some(NETS)) if peer in ("nets", "all") else (),
        not_nets=draw(_some(NETS[1:4])) if peer in ("nets", "all") else (),
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
    )


_group_members = st.frozensets(st.sampled_from((*ADDRESSES, "fd00::1")), max_size=4)
_port_members = st.frozensets(
    st.sampled_from([f"{address},{protocol}:80" for address in ADDRESSES for protocol in ("tcp", "udp", "sctp")]),
    max_size=4,
)


def _endpoint(number: int) -> LocalEndpoint:
    return LocalEndpoint("default", f"pod{number}", f"uid{number}", f"c{number}", f"mnx{number:011x}", LOCAL[number])


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
        classes=draw(_mapping(CLASSES, _some(POLICIES), complete)),
        programs=draw(_mapping(POLICIES, programs(), complete)),
        groups={**groups, **port_groups},
        group_types=TYPES,
        class_of=draw(_mapping(_identities, _class, complete)),
        pools=(PoolSettings(name="p", cidr="10.244.0.0/16", nat_outgoing=True),),
    )


def _with(mapping: Mapping[Any, T], key: Any, value: T | None) -> dict[Any, T]:
    changed = dict(mapping)
    changed.pop(key, None)
    if value is not None:
        changed[key] = value
    return changed


Change = Callable[[PolicyView], PolicyView]


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """One change that keeps a complete view complete, of which packets should see either before or after."""
    kind = draw(st.sampled_from(("endpoint", "class", "program", "class_of", "member")))
    if kind == "endpoint":
        key = draw(st.sampled_from(tuple(ENDPOINTS)))
        there = draw(st.booleans())
        return lambda view: replace(view, endpoints=_with(view.endpoints, key, ENDPOINTS[key] if there else None))
    if kind == "class":
        name, listed = draw(st.sampled_from(CLASSES)), draw(_some(POLICIES))
        return lambda view: replace(view, classes=_with(view.classes, name, listed))
    if kind == "program":
        policy, spec = draw(st.sampled_from(POLICIES)), draw(programs())
        return lambda view: replace(view, programs=_with(view.programs, policy, spec))
    if kind == "class_of":
        identity, wanted = draw(st.sampled_from(_identities)), draw(_class)
        return lambda view: replace(view, class_of=_with(view.class_of, identity, wanted))
    group, member = draw(st.sampled_from(GROUPS)), draw(st.sampled_from(ADDRESSES))
    return lambda view: replace(view, groups={**view.groups, group: view.groups[group] ^ {member}})


_interfaces = {one.address: one.interface for one in ENDPOINTS.values()}
_NODE = "192.0.2.1"


def _packet(source: str, destination: str, entered: str = "", **rest: Any) -> Packet:
    """As routing has it: into the interface of the source (or of `entered`), out of that of the destination."""
    into = _interfaces.get(entered or source, "eth0")
    return Packet(
        source, destination, into, "" if destination == _NODE else _interfaces.get(destination, "eth0"), **rest
    )


def packets(*kinds: tuple[str, int]) -> list[Packet]:
    """Packets of these protocols and ports from everywhere to everywhere, the node itself included; some established,
    invalid, or with a false source."""
    pairs = list(product(ADDRESSES, (*ADDRESSES, _NODE)))
    new = [_packet(*pair, protocol=protocol, port=port) for pair in pairs for protocol, port in kinds]
    tracked = [_packet(*pair, state=state) for pair in pairs[:8] for state in ("ESTABLISHED", "INVALID")]
    return [*new, *tracked, *(_packet(ADDRESSES[1], other, entered=LOCAL[0]) for other in ADDRESSES)]
