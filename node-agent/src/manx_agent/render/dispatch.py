"""The chains that every packet from or to a pod goes through, up to the chains of its class.

Owns: the fixed chains, the dispatch by class, the jumps from built-in chains. Must not: know any policy's rules.

```
raw PREROUTING   in mnx+ → manx-raw         not (address, interface) of an endpoint in force: DROP
                                            (IPv6: nor one of its link-local addresses)
filter FORWARD   → manx-forward             out mnx+, not to an endpoint in force: DROP
                                            in mnx+ → manx-from; out mnx+ → manx-arrive; else back
filter INPUT     in mnx+ → manx-from        a pod's traffic to its own node is subject to its egress policy
                                            (IPv6: manx-input, where neighbour discovery is let through first)
manx-from        established ACCEPT, invalid DROP, to itself ACCEPT; not isolated for egress → manx-to;
                 by class of the sender → manx-ce-CLASS; else DROP
manx-to          out mnx+ → manx-in; to this node: defaultEndpointToHostAction; else ACCEPT
manx-arrive      established ACCEPT, invalid DROP; → manx-in
manx-in          not isolated for ingress: ACCEPT; by class of the receiver → manx-ci-CLASS; else DROP
nat POSTROUTING  → manx-nat                 from a natOutgoing pool to outside of all pools: MASQUERADE
```

- All of these goto, so the chains of a class need not return. manx-from, manx-to, manx-arrive and manx-in always come
  to a verdict. (With iptablesFilterAllowAction Return, ACCEPT is RETURN, which is from here to the built-in chain.)
- Nothing here names an endpoint: a pod comes and goes by its set memberships alone.
- Endpoints that are not isolated in a direction are in one set, whatever their class: one rule decides. Those of the
  others' classes are found by `signs` where there are many, before all classes are asked for.
- Anti-spoofing stands before connection tracking. It also silences endpoints that are not in force, their established
  connections included; the rule at the head of manx-forward does the same for what is sent to them.
- IPv6: a pod in force may also send from link-local addresses and from none (`::`) by its own interface, which nodes
  never forward (RFC 4291, 2.5.6), and of this the node takes in only what it needs to be the pod's neighbour
  (`_NEIGHBOURLY`). Link-local addresses belong to one link, and each pod has a link of its own, so it cannot take
  another pod's. Router advertisements and redirects of a pod are dropped.
- A family that no pool and no endpoint has is closed: its fixed chains drop all from pods and to them.
- What a node itself sends to its pods goes through OUTPUT, which has no rule of ours: probes always get in, and
  their answers are established connections.
- A pod may always reach itself (Kubernetes: "a Pod cannot block access to itself"). Through a service, such a packet
  comes in and goes out by the same interface, after DNAT with the pod's own address on both sides; anti-spoofing has
  established that the source is the sender's, so equal addresses are proof (`Family.same`).
- manx-to asks for `-o mnx+` and not for its opposite, because kernels before 5.4 do not evaluate a test of the outgoing
  interface at all where there is none (INPUT). For the same reason the destination says what is for the node.
- Masquerading stands first in POSTROUTING; kube-proxy's own, for services, matches other packets (marked ones), and
  whichever comes first does the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from manx_agent.render import names
from manx_agent.render.family import IPV4, Family
from manx_agent.render.image import FIRST, LAST, Chains, Image, Jumps, Rules, Table, seal
from manx_agent.render.signs import asking, signs_for
from manx_agent.render.style import DROP, Direction, Style

_PODS = names.POD_INTERFACES
_NEIGHBOURLY = (131, 132, 133, 135, 136, 143)
"""ICMPv6 types that a node takes from its pods whatever their policy: multicast listener reports (RFC 2710, RFC 3810),
router solicitations, neighbour solicitations and advertisements (RFC 4861)."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """In which directions a class is isolated."""

    ingress: bool = False
    egress: bool = False


def fixed_chains(family: Family, style: Style, nat: bool) -> dict[Table, dict[str, Rules]]:
    """The chains that are the same whatever the policy. `nat`: there is something to masquerade. Tables come into force
    one after another: the filter before what lets packets come as far as it."""
    everyone = family.set(names.ENDPOINTS)
    receiver = f"-o {_PODS} -m set ! --match-set {everyone} dst,dst "
    chains: dict[Table, dict[str, list[str]]] = {
        family.table("filter"): {
            names.FORWARD: [
                *_denied(style, receiver, "ingress", _NOBODY),
                f"-i {_PODS} -g {names.FROM}",
                f"-o {_PODS} -g {names.ARRIVE}",
            ],
            names.ARRIVE: [*_tracked(style), f"-g {names.INBOUND}"],
            names.TO: _onward(family, style),
            **(_neighbours() if family.version == 6 else {}),
        },
    }
    if nat:
        chains[family.table("nat")] = {names.NAT: _masquerading(family, style)}
    return _sealed({**chains, family.table("raw"): _known_sources(family, style)})


LINK_LOCAL = ("fe80::/10", "::")
"""What a pod sends neighbour discovery from, as members of a set."""
_FALSE, _NOBODY = "false source, or pod not in force", "pod not in force"
_UNDECIDED = "class of the pod not decided"


def _known_sources(family: Family, style: Style) -> dict[str, list[str]]:
    """Anti-spoofing. In IPv6 addresses stand first, for nearly all packets have one."""
    everyone = family.set(names.ENDPOINTS)
    if family.version == 4:
        return {names.RAW: _denied(style, f"-m set ! --match-set {everyone} src,src ", "egress", _FALSE)}
    others = _denied(style, "", "egress", _FALSE)
    links = [f"-m set --match-set {family.set(name)} src,src -j RETURN" for name in names.LINKS]
    return {
        names.RAW: [
            f"-m set --match-set {everyone} src,src -j RETURN",
            *(f"-s {network} -g {names.LINK}" for network in ("fe80::/10", "::/128")),
            *others,
        ],
        names.LINK: [*links, *others],
    }


def _denied(style: Style, match: str, direction: str, why: str) -> list[str]:
    """What is dropped before any policy has its say; noted where everything denied is."""
    rules = [f"{match}{DROP}"]
    if style.logs and style.settings.log_denied:
        rules.insert(0, f"{match}{style.denial('ingress' if direction == 'ingress' else 'egress', '', why)}")
    return rules


def _tracked(style: Style) -> list[str]:
    rules = [
        f"-m conntrack --ctstate RELATED,ESTABLISHED {style.final}",
        f"-m conntrack --ctstate INVALID {DROP}",
    ]
    return [*rules, _STRAY] if style.settings.established == "Recheck" else rules


_STRAY = f"-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW {DROP}"
"""The kernel takes a packet from the midst of a connection that it does not know for the first of one: an answer would
bring back what `recheck` has forgotten, turned round."""


def _onward(family: Family, style: Style) -> list[str]:
    rules = [f"-o {_PODS} -g {names.INBOUND}"]
    if style.to_host != style.final:
        rules += [f"{match}{style.to_host}" for match in family.local]
    return [*rules, style.final]


def _neighbours() -> dict[str, list[str]]:
    return {
        names.INPUT: [f"-p ipv6-icmp -j {names.NEIGHBOURS}", f"-g {names.FROM}"],
        names.NEIGHBOURS: [f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT" for kind in _NEIGHBOURLY],
    }


def _masquerading(family: Family, style: Style) -> list[str]:
    own, every = family.set(names.NAT_POOLS), family.set(names.POOLS)
    match = f"-m set --match-set {own} src -m set ! --match-set {every} dst -j MASQUERADE "
    ranged = [
        f"-p {protocol} {match}--to-ports {style.nat_ports} --random-fully" for protocol in ("tcp", "udp", "sctp")
    ]
    return [*(ranged if style.nat_ports else []), f"{match}--random-fully"]


def closed_chains(family: Family) -> dict[Table, dict[str, Rules]]:
    """Those of a family that is not in use. Nothing of a pod comes as far as the filter; it is closed all the same, for
    it comes into force before the rest, also when a family goes out of use."""
    return _sealed(
        {
            family.table("filter"): {
                names.FORWARD: [f"-o {_PODS} {DROP}", f"-i {_PODS} {DROP}"],
                names.FROM: [DROP],
            },
            family.table("raw"): {names.RAW: [DROP]},
        }
    )


def _sealed(chains: Mapping[Table, Mapping[str, Iterable[str]]]) -> dict[Table, dict[str, Rules]]:
    return {table: {name: seal(name, rules) for name, rules in own.items()} for table, own in chains.items()}


def jumps(chains: Mapping[Table, Chains], style: Style) -> dict[tuple[Table, str], Jumps]:
    """By table and built-in chain: our one rule, which is to stand first or last."""
    position = FIRST if style.settings.chain_insert_mode == "Insert" else LAST
    found: dict[tuple[Table, str], Jumps] = {}
    for table, own in chains.items():
        for built_in, match, entries in _ENTRIES[table.rstrip("6")]:
            target = next((entry for entry in entries if entry in own), None)
            if target:
                found[table, built_in] = ((position, seal(built_in, [f"{match}-j {target}"])[0]),)
    return found


_ENTRIES: Mapping[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "raw": (("PREROUTING", f"-i {_PODS} ", (names.RAW,)),),
    "filter": (("INPUT", f"-i {_PODS} ", (names.INPUT, names.FROM)), ("FORWARD", "", (names.FORWARD,))),
    "nat": (("POSTROUTING", "", (names.NAT,)),),
}
"""By table: the built-in chain, which packets, and where to: the first of these chains that there is."""


def dispatch_chains(
    family: Family, classes: Mapping[str, Isolation], style: Style, reaches_itself: bool = True
) -> dict[str, Rules]:
    """manx-from, manx-in and the chains below them, for the classes that are isolated in some direction.
    `reaches_itself`: the kernel can run `Family.same`."""
    itself = [f"{family.same}{style.final}"] if reaches_itself else []
    senders = {name: _from(family, name) for name in _ordered(classes) if classes[name].egress}
    receivers = {name: _in(family, name) for name in _ordered(classes) if classes[name].ingress}
    free = f"-m set --match-set {family.set(names.OPEN_OUT)} src,src -g {names.TO}"
    taken = f"-m set --match-set {family.set(names.OPEN_IN)} dst,dst {style.final}"
    signs = signs_for(len(classes))
    return {
        **_dispatch(names.FROM, [*_tracked(style), *itself, free], family, senders, "egress", style, signs),
        **_dispatch(names.INBOUND, [taken], family, receivers, "ingress", style, signs),
    }


def _dispatch(
    chain: str,
    head: list[str],
    family: Family,
    rules: Mapping[str, str],
    direction: Direction,
    style: Style,
    signs: int,
) -> dict[str, Rules]:
    side = "dst" if direction == "ingress" else "src"
    front, below = asking(chain, family, side, 0 if style.returns(direction) else signs, rules)
    return {**below, chain: seal(chain, [*head, *front, *rules.values(), *_denied(style, "", direction, _UNDECIDED)])}


def _ordered(classes: Iterable[str]) -> list[str]:
    return sorted(classes, key=names.class_set)


def _from(family: Family, name: str) -> str:
    return f"-m set --match-set {family.set(names.class_set(name))} src,src -g {names.class_egress(name)}"


def _in(family: Family, name: str) -> str:
    return f"-m set --match-set {family.set(names.class_set(name))} dst,dst -g {names.class_ingress(name)}"


def without_ipv6(image: Image) -> Image:
    """The same for a kernel that has no IPv6."""
    return Image(
        {table: chains for table, chains in image.chains.items() if not table.endswith("6")},
        {where: rules for where, rules in image.jumps.items() if not where[0].endswith("6")},
        {name: one for name, one in image.sets.items() if one.family == IPV4.set_family},
    )
