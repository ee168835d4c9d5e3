"""Which of a node's addresses is its underlay address."""

from __future__ import annotations

from typing import Any

import pytest

from manx_core.api.autodetection import Found, detect
from manx_core.api.installation import NodeAddressAutodetection

INTERFACES = [
    ("lo", ["127.0.0.1/8", "::1/128"]),
    ("docker0", ["172.17.0.1/16"]),
    ("eth0", ["fe80::1/64", "192.0.2.11/24", "2001:db8:1::11/64"]),
    ("eth1", ["198.51.100.11/25", "2001:db8:2::11/64", "fd00:2::11/64"]),
    ("mnx0123456789a", ["169.254.1.1/32"]),
]


def detected(version: int, internal: list[str], **method: Any) -> str | None:
    wanted = NodeAddressAutodetection(**method) if method else None
    found = detect(version, wanted, internal, INTERFACES)
    return None if found is None else f"{found.address} {found.network}"


@pytest.mark.parametrize(
    ("internal", "method", "expected"),
    [
        (["198.51.100.11"], {}, "198.51.100.11 198.51.100.0/25"),
        (["203.0.113.1"], {}, "192.0.2.11 192.0.2.0/24"),
        ([], {}, "192.0.2.11 192.0.2.0/24"),
        (["198.51.100.11"], {"first_found": True}, "198.51.100.11 198.51.100.0/25"),
        (["2001:db8::1", "198.51.100.11"], {"kubernetes": "NodeInternalIP"}, "198.51.100.11 198.51.100.0/25"),
        (["203.0.113.1"], {"kubernetes": "NodeInternalIP"}, "203.0.113.1 None"),
        ([], {"kubernetes": "NodeInternalIP"}, None),
        ([], {"interface": "eth1"}, "198.51.100.11 198.51.100.0/25"),
        ([], {"interface": "wlan.*,eth.*"}, "192.0.2.11 192.0.2.0/24"),
        ([], {"interface": "eth"}, None),
        ([], {"skip_interface": "eth0"}, "198.51.100.11 198.51.100.0/25"),
        (["192.0.2.11"], {"skip_interface": "eth0"}, "198.51.100.11 198.51.100.0/25"),
        ([], {"skip_interface": "eth.*"}, None),
        ([], {"cidrs": ["198.51.100.0/24"]}, "198.51.100.11 198.51.100.0/25"),
        ([], {"cidrs": ["203.0.113.0/24"]}, None),
        ([], {"can_reach": "203.0.113.1"}, "192.0.2.11 192.0.2.0/24"),
    ],
)
def test_methods(internal: list[str], method: dict[str, Any], expected: str | None) -> None:
    assert detected(4, internal, **method) == expected


@pytest.mark.parametrize(
    ("internal", "method", "expected"),
    [
        (["198.51.100.11"], {}, "2001:db8:1::11 2001:db8:1::/64"),
        (["198.51.100.11", "fd00:2::11"], {}, "fd00:2::11 fd00:2::/64"),
        (["fd00:2::11"], {"kubernetes": "NodeInternalIP"}, "fd00:2::11 fd00:2::/64"),
        (["fd00:2::12"], {"kubernetes": "NodeInternalIP"}, "fd00:2::12 None"),
        (["192.0.2.11"], {"kubernetes": "NodeInternalIP"}, None),
        ([], {"interface": "eth1"}, "2001:db8:2::11 2001:db8:2::/64"),
        ([], {"skip_interface": "eth0"}, "2001:db8:2::11 2001:db8:2::/64"),
        ([], {"cidrs": ["fd00::/8"]}, "fd00:2::11 fd00:2::/64"),
        ([], {"cidrs": ["192.0.2.0/24"]}, None),
    ],
)
def test_methods_for_ipv6(internal: list[str], method: dict[str, Any], expected: str | None) -> None:
    assert detected(6, internal, **method) == expected


def test_what_is_no_address_is_passed_over() -> None:
    assert detect(4, None, ["not an address"], [("eth0", ["nor this", "192.0.2.1/24"])]) is not None
    assert detect(4, None, [], []) is None
    assert isinstance(detect(4, None, [], INTERFACES), Found)
