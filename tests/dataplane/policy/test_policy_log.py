"""What the kernel's own log says of a rule with action Log, and that it says it once for each packet.

The machine's kernel writes entries of other network namespaces only with net.netfilter.nf_log_all_netns, which is set
for these tests and put back.
"""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policy_world import Applied, World, program, rule

_ALL = Path("/proc/sys/net/netfilter/nf_log_all_netns")
_PATIENCE = 10.0
Logged = Callable[[int], list[str]]


@pytest.fixture
def prefix(world: World) -> str:
    """One that nobody else's entries have."""
    return f"manx-{world.node.pid}"


@pytest.fixture
def logged(prefix: str) -> Iterator[Logged]:
    """Waits for so many entries of the prefix; gives all that there are."""
    if not _ALL.exists():
        pytest.skip("only the machine's first network namespace can ask the kernel for log entries of others")
    before = _ALL.read_text()
    _ALL.write_text("1")
    reader = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(reader, 0, os.SEEK_END)
    found: list[str] = []

    def wait(count: int) -> list[str]:
        deadline = time.monotonic() + _PATIENCE
        while len(found) < count and time.monotonic() < deadline:
            found.extend(line for line in _lines(reader) if f"{prefix}: " in line)
            time.sleep(0.05)
        return found

    try:
        yield wait
    finally:
        os.close(reader)
        _ALL.write_text(before)


def _lines(reader: int) -> Iterator[str]:
    while True:
        try:
            yield os.read(reader, 8192).decode(errors="replace")
        except BlockingIOError:
            return
        except BrokenPipeError:
            continue  # The kernel has overwritten what was to be read next.


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_an_entry_says_where_from_and_where_to_and_under_which_prefix(
    world: World, applied: Applied, prefix: str, logged: Logged, ipv6: bool
) -> None:
    """A port that is given both as a number and by name is one packet, and one entry."""
    ends = (f"{address},udp:53" for address in (world.pods["b"].address, world.pods["b"].address6))
    web = world.group("w", *ends, kind="AddressPorts")
    world.policy("b", program(ingress=(rule(action="Log", protocol="UDP", ports=("53",), port_groups=(web,)), rule())))
    world.settings(log_prefix=prefix)
    applied.apply()
    world.ipv6 = ipv6
    assert world.udp("a", "b", 54)
    assert world.udp("a", "b", 53)
    assert world.tcp("a", "b", 53)
    assert world.udp("c", "b", 53)
    said = [re.sub(r"^.*?;", "", line) for line in logged(2)]
    assert len(said) == 2, said
    for name, line in zip("ac", said, strict=True):
        words = dict(word.partition("=")[::2] for word in line.split() if "=" in word)
        assert line.startswith(f"{prefix}: IN={world.pods[name].interface} OUT={world.pods['b'].interface} ")
        assert (words["PROTO"], words["DPT"]) == ("UDP", "53")
        assert [_address(words[end]) for end in ("SRC", "DST")] == [world.address(name), world.address("b")]


def _address(text: str) -> str:
    """The kernel writes out every digit of IPv6."""
    return str(ipaddress.ip_address(text))
