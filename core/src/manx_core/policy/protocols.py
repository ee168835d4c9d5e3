"""IP protocols as policies name them.

Owns: the names that compiled rules use, and their numbers. Must not: know what a rule does with a protocol.
Source: IANA, Assigned Internet Protocol Numbers; Calico API reference, "Protocols".
"""

from __future__ import annotations

NUMBERS = {"ICMP": 1, "TCP": 6, "UDP": 17, "ICMPv6": 58, "SCTP": 132, "UDPLite": 136}
WITH_PORTS = ("TCP", "UDP", "SCTP")
"""Those whose ports a rule may name: what iptables and ipsets match ports of."""

_NAMES = {str(number): name for name, number in NUMBERS.items()}
_BY_LOWER_NAME = {name.lower(): name for name in NUMBERS}


def canonical_protocol(protocol: str | int | None) -> str:
    """One of NUMBERS' names, or a number; empty for None. Names in any case, and numbers as such or as text.

    Raises ValueError where it is none of these.
    """
    if protocol is None:
        return ""
    text = str(protocol)
    if text.lower() in _BY_LOWER_NAME:
        return _BY_LOWER_NAME[text.lower()]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 255):
        raise ValueError(f"{protocol!r} is none of {', '.join(NUMBERS)}, nor a number from 1 to 255")
    return _NAMES.get(str(int(text)), str(int(text)))
