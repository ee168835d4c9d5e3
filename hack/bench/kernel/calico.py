"""The rules that Calico's layout has a packet walk, counted on paper.

Owns: the arithmetic, from what Felix' renderer writes for iptables (felix/rules: static.go, dispatch.go, endpoints.go,
policy.go; v3.29): a chain pair for each endpoint; two levels of dispatch by the interface's name, the second one after
the first character in which names differ; of a tier each policy of the endpoint a jump and a look whether it accepted;
of a policy's rule one that marks and one that returns. Must not: count more than there is: no host endpoints, one tier,
nothing of the tables nat and mangle (Manx has nothing in mangle), and of connection tracking what is for first packets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_RAW = 7
"""The jump; clear the mark, mark by interface, two for reverse paths, host endpoints, accepted."""
_FORWARD, _AFTER = 3, 3
"""Jump, clear, host endpoints. And after the policies: host endpoints, blocked CIDRs, accepted."""
_FROM, _TO = 5, 3
"""An endpoint's chain: established, invalid, clear; from a pod also VXLAN and IPIP."""


def name_of(pod: str) -> str:
    """The interface of a pod, given as namespace.name."""
    return "cali" + hashlib.sha1(pod.encode()).hexdigest()[:11]


def dispatched(interfaces: Sequence[str], name: str) -> int:
    """Rules until an endpoint's chain is found."""
    groups: dict[str, list[str]] = {}
    for one in sorted(interfaces):
        groups.setdefault(one[4], []).append(one)
    own = groups[name[4]]
    return 1 + list(groups).index(name[4]) + (1 + own.index(name) if len(own) > 1 else 0)


def policies(each: int, rules: int) -> int:
    """Rules of an endpoint's policies until the last rule of the last one allows: the tier's start, each policy's jump
    and look, and for each rule a mark and a return."""
    return 1 + each * 2 + each * rules * 2


_PROFILE = 1 + 2 + 1
"""Where no policy of the endpoint says anything of the direction: its namespace's profile allows."""


def walked(interfaces: Sequence[str], sender: str, receiver: str, each: int, rules: int, egress: bool) -> int:
    """Rules for the first packet of an allowed connection; `sender` or `receiver` empty: outside the node."""
    found = _RAW + _FORWARD + 2 + _AFTER
    if sender:
        found += dispatched(interfaces, sender) + _FROM + (policies(each, rules) if egress else _PROFILE)
    if receiver:
        found += dispatched(interfaces, receiver) + _TO + policies(each, rules)
    return found
