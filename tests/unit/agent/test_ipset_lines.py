"""Which lines for ipset are few and plain enough to be done without the program, and as what messages."""

from __future__ import annotations

import pytest

from manx_agent.drivers.ipset_netlink import FEW, Change, message, parsed


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("add manx-a 10.0.0.1", Change("add", "manx-a", b"\n\0\0\1", None, "")),
        ("del manx-a 10.0.0.0/24", Change("del", "manx-a", b"\n\0\0\0", 24, "")),
        ("add manx-e 10.0.0.1,mnx0123456789a", Change("add", "manx-e", b"\n\0\0\1", None, "mnx0123456789a")),
        ("add manx-l fe80::/64,mnx1", Change("add", "manx-l", b"\xfe\x80" + bytes(14), 64, "mnx1")),
        ("add manx-p 10.0.0.1,tcp:8080", Change("add", "manx-p", b"\n\0\0\1", None, "", (6, 8080))),
        ("del manx-p fd00::1,sctp:1", Change("del", "manx-p", b"\xfd" + bytes(14) + b"\1", None, "", (132, 1))),
    ],
)
def test_plain_lines(line: str, change: Change) -> None:
    assert parsed(f"{line}\n") == [change]


@pytest.mark.parametrize(
    "line",
    [
        "create manx-a hash:net",
        "destroy manx-a",
        "flush manx-a",
        "swap manx-a manx-b",
        "add manx-a 10.0.0.1,icmp:80",
        "add manx-a 10.0.0.1,tcp:65536",
        "add manx-a 10.0.0.0/24,tcp:80",
        "add manx-a 10.0.0.1,tcp:http",
        "add manx-a 10.0.0.1,80",
        "add manx-a 10.0.0.1/33",
        "add manx-a 10.0.0.300",
        "add manx-a 10.0.0.1 timeout 3",
        "add manx-a not-an-address",
        f"add {'a' * 32} 10.0.0.1",
        f"add manx-a 10.0.0.1,{'i' * 16}",
        "",
    ],
)
def test_others_are_the_programs(line: str) -> None:
    assert parsed(f"add manx-a 10.0.0.1\n{line}\n") is None


def test_many_lines_are_the_programs() -> None:
    line = "add manx-a 10.0.0.1\n"
    assert len(parsed(line * FEW) or ()) == FEW
    assert parsed(line * (FEW + 1)) is None


def test_a_message_is_as_the_kernel_defines_it() -> None:
    """linux/netfilter/ipset/ip_set.h, linux/netfilter/nfnetlink.h; attributes are padded to four bytes."""
    made = message(Change("add", "ab", b"\n\0\0\1", 24, "i"))
    assert (made.type, made.flags) == (0x0609, 0)
    assert made.body.hex(" ") == (
        "02 00 00 00 "  # nfgenmsg: AF_INET
        "05 00 01 00 06 00 00 00 "  # protocol 6
        "07 00 02 00 61 62 00 00 "  # set "ab"
        "20 00 07 80 "  # data, nested
        "0c 00 01 80 08 00 01 40 0a 00 00 01 "  # address, nested, in network order
        "05 00 03 00 18 00 00 00 "  # prefix
        "06 00 17 00 69 00 00 00"  # interface
    )


def test_an_address_with_a_port_is_as_the_kernel_defines_it() -> None:
    made = message(Change("del", "ab", b"\n\0\0\1", None, "", (17, 53)))
    assert made.type == 0x060A
    assert made.body.hex(" ").endswith(
        "20 00 07 80 "  # data, nested
        "0c 00 01 80 08 00 01 40 0a 00 00 01 "  # address, nested, in network order
        "06 00 04 40 00 35 00 00 "  # port, in network order
        "05 00 07 00 11 00 00 00"  # protocol
    )
