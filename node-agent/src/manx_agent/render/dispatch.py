"""The chains that every packet from or to a pod goes through, up to the chains of its class.

Owns: the fixed chains, the dispatch by class, the jumps from built-in chains. Must not: know any policy's rules.

```
raw PREROUTING   in mnx+ → manx-raw         not (address, interface) of an endpoint in force: DROP
filter FORWARD   → manx-forward             out mnx+, not to an endpoint in force: DROP
                                            in mnx+ → manx-from; out mnx+ → manx-arrive; else back
filter INPUT     in mnx+ → manx-from        a pod's traffic to its own node is subject to its egress policy
manx-from        established ACCEPT, invalid DROP, to itself ACCEPT;
                 by class of the sender → manx-ce-CLASS, or manx-to where egress is not isolated; else DROP
manx-to          out mnx+ → manx-in; else ACCEPT
manx-arrive      established ACCEPT, invalid DROP; → manx-in
manx-in          by class of the receiver → manx-ci-CLASS, or ACCEPT where ingress is not isolated; else DROP
nat POSTROUTING  → manx-nat                 from a natOutgoing pool to outside of all pools: MASQUERADE
```

- All of these goto, so the chains of a class need not return, and no packet mark is used. manx-from, manx-to,
  manx-arrive and manx-in always come to a verdict.
- Nothing here names an endpoint: a pod comes and goes by its set memberships alone.
- Anti-spoofing stands before connection tracking. It also silences endpoints that are not in force, their established
  connections included; the rule at the head of manx-forward does the same for what is sent to them.
- What a node itself sends to its pods goes through OUTPUT, which has no rule of ours: probes always get in, and
  their answers are established connections.
- A pod may always reach itself (Kubernetes: "a Pod cannot block access to itself"). Through a service, such a packet
  comes in and goes out by the same interface, after DNAT with the pod's own address on both sides; anti-spoofing has
  established that the source is the sender's, so equal addresses are proof. The filter (`SELF`) is classic BPF, for
  want of a set type that every kernel has: load the source at byte 12, compare with the destination at byte 16.
- manx-to asks for `-o mnx+` and not for its opposite, because kernels before 5.4 do not evaluate a test of the outgoing
  interface at all where there is none (INPUT).
- Masquerading stands first in POSTROUTING; kube-proxy's own, for services, matches other packets (marked ones), and
  whichever comes first does the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from manx_agent.render import names
from manx_agent.render.image import Image, Jumps, Rules, Table, seal

SELF = '-m bpf --bytecode "6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 65535,6 0 0 0" '
_TRACKED = (
    "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-m conntrack --ctstate INVALID -j DROP",
)
_UNKNOWN_SOURCE = f"-m set ! --match-set {names.ENDPOINTS} src,src "
_UNKNOWN_RECEIVER = f"-o {names.POD_INTERFACES} -m set ! --match-set {names.ENDPOINTS} dst,dst "


@dataclass(frozen=True, slots=True)
class Isolation:
    """In which directions a class is isolated."""

    ingress: bool = False
    egress: bool = False


def dispatch_chains(classes: Mapping[str, Isolation], reaches_itself: bool = True) -> dict[str, Rules]:
    """manx-from and manx-in for these classes. `reaches_itself`: the kernel can run SELF."""
    ordered = sorted(classes.items(), key=lambda item: names.class_set(item[0]))
    senders = [_from(name, isolation.egress) for name, isolation in ordered]
    receivers = [_in(name, isolation.ingress) for name, isolation in ordered]
    itself = [f"{SELF}-j ACCEPT"] if reaches_itself else []
    return {
        names.FROM: seal(names.FROM, [*_TRACKED, *itself, *senders, "-j DROP"]),
        names.INBOUND: seal(names.INBOUND, [*receivers, "-j DROP"]),
    }


def _from(name: str, isolated: bool) -> str:
    target = names.class_egress(name) if isolated else names.TO
    return f"-m set --match-set {names.class_set(name)} src,src -g {target}"


def _in(name: str, isolated: bool) -> str:
    target = f"-g {names.class_ingress(name)}" if isolated else "-j ACCEPT"
    return f"-m set --match-set {names.class_set(name)} dst,dst {target}"


def class_chain(chain: str, programs: Iterable[str]) -> Rules:
    """One class in one direction: its policies' chains in order, then denial."""
    return seal(chain, [*(f"-j {program}" for program in programs), "-j DROP"])


def _fixed() -> dict[Table, dict[str, Rules]]:
    pods = names.POD_INTERFACES
    chains: dict[Table, dict[str, list[str]]] = {
        "raw": {names.RAW: [f"{_UNKNOWN_SOURCE}-j DROP"]},
        "filter": {
            names.FORWARD: [
                f"{_UNKNOWN_RECEIVER}-j DROP",
                f"-i {pods} -g {names.FROM}",
                f"-o {pods} -g {names.ARRIVE}",
            ],
            names.ARRIVE: [*_TRACKED, f"-g {names.INBOUND}"],
            names.TO: [f"-o {pods} -g {names.INBOUND}", "-j ACCEPT"],
        },
        "nat": {
            names.NAT: [
                f"-m set --match-set {names.NAT_POOLS} src -m set ! --match-set {names.POOLS} dst "
                "-j MASQUERADE --random-fully"
            ]
        },
        "raw6": {names.RAW: ["-j DROP"]},
        "filter6": {names.FORWARD: [f"-o {pods} -j DROP"]},
    }
    return {table: {name: seal(name, rules) for name, rules in own.items()} for table, own in chains.items()}


def _jumps() -> dict[tuple[Table, str], Jumps]:
    pods = names.POD_INTERFACES
    rules: dict[tuple[Table, str], str] = {
        ("raw", "PREROUTING"): f"-i {pods} -j {names.RAW}",
        ("filter", "INPUT"): f"-i {pods} -j {names.FROM}",
        ("filter", "FORWARD"): f"-j {names.FORWARD}",
        ("nat", "POSTROUTING"): f"-j {names.NAT}",
        ("raw6", "PREROUTING"): f"-i {pods} -j {names.RAW}",
        ("filter6", "FORWARD"): f"-j {names.FORWARD}",
    }
    return {where: ((0, seal(where[1], [rule])[0]),) for where, rule in rules.items()}


FIXED: Mapping[Table, Mapping[str, Rules]] = _fixed()
"""The chains that are the same whatever the policy."""

JUMPS: Mapping[tuple[Table, str], Jumps] = _jumps()
"""By table and built-in chain: our one rule, which is to stand first."""


def without_ipv6(image: Image) -> Image:
    """The same for a kernel that has no IPv6."""
    return Image(
        {table: chains for table, chains in image.chains.items() if not table.endswith("6")},
        {where: jumps for where, jumps in image.jumps.items() if not where[0].endswith("6")},
        image.sets,
    )
