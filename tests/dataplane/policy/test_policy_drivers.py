"""The drivers that policy needs, against the real kernel."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator

import pytest

from manx_agent.dataplane.kernel import Kernel
from manx_agent.drivers import ipset, ipset_netlink
from manx_agent.drivers.iptables import Iptables, detect_backend
from manx_agent.drivers.nft_generation import generation
from manx_agent.drivers.process import ProcessFailed, run
from manx_agent.model import AgentError, Backend
from netns import Netns


@pytest.fixture
def inside() -> Iterator[Netns]:
    """The test runs in a network namespace of its own."""
    with Netns() as namespace, namespace.entered():
        yield namespace


async def test_sets_in_use_stay_and_the_others_go(inside: Netns) -> None:
    await ipset.restore("create manx-1 hash:net\ncreate manx-2 hash:net\ncreate manx-3 hash:net\n")
    inside.run("iptables-nft", "-A", "INPUT", "-m", "set", "--match-set", "manx-2", "src", "-j", "DROP")
    assert await ipset.destroy(("manx-1", "manx-2", "manx-gone", "manx-3")) == ("manx-2",)
    assert inside.run("ipset", "list", "-n").split() == ["manx-2"]
    inside.run("iptables-nft", "-F", "INPUT")
    assert await ipset.destroy(("manx-2",)) == ()


async def test_a_set_freed_meanwhile_goes(inside: Netns) -> None:
    await ipset.restore("create manx-1 hash:net\n")
    inside.run("iptables-nft", "-A", "INPUT", "-m", "set", "--match-set", "manx-1", "src", "-j", "DROP")

    async def free() -> None:
        await asyncio.sleep(0.02)
        await run(("iptables-nft", "-F", "INPUT"))

    left, _ = await asyncio.gather(ipset.destroy(("manx-1",)), free())
    assert left == ()


async def test_a_bad_line_is_an_error_of_ours(inside: Netns) -> None:
    with pytest.raises(ProcessFailed, match="Error in line 2"):
        await ipset.restore("create manx-1 hash:net\nadd manx-1 not-an-address\n")
    with pytest.raises(ProcessFailed, match="line 2 failed"):
        await Iptables("nft").restore("*filter\n-A manx-nowhere -j DROP\nCOMMIT\n")


async def test_the_generation_counts_every_change_of_rules_and_nothing_else(inside: Netns) -> None:
    first = generation()
    assert first is not None
    inside.run("ipset", "create", "manx-1", "hash:net")
    inside.run("iptables-nft-save")
    assert generation() == first
    inside.run("iptables-nft", "-A", "INPUT", "-j", "ACCEPT")
    second = generation()
    inside.run("ip6tables-nft", "-t", "nat", "-N", "X")
    assert len({first, second, generation()}) == 3


@pytest.mark.parametrize("backend", ["nft", "legacy"])
async def test_the_back_end_in_use_is_detected(inside: Netns, backend: Backend) -> None:
    assert await detect_backend("") == "nft"
    inside.run(f"iptables-{backend}", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
    for _ in range(3):
        other = "legacy" if backend == "nft" else "nft"
        inside.run(f"iptables-{other}", "-A", "INPUT", "-j", "ACCEPT")
    assert await detect_backend("") == backend


@pytest.mark.parametrize("backend", ["nft", "legacy"])
async def test_the_kernel_is_asked_whether_it_can_compare_addresses(inside: Netns, backend: Backend) -> None:
    assert await Kernel(backend).can_compare_addresses()
    assert "manx-" not in inside.run(f"iptables-{backend}-save")


async def test_python_iptables_reads_in_a_process_of_its_own(inside: Netns) -> None:
    inside.run("iptables-legacy", "-N", "manx-x")
    inside.run("iptables-legacy", "-A", "manx-x", "-p", "tcp", "-m", "multiport", "--dports", "80,443", "-g", "manx-x")
    chains = json.dumps({"filter": ["manx-x", "manx-gone"]})
    said = json.loads(await run((sys.executable, "-m", "manx_agent.drivers.iptc_check"), chains))
    rule = {"protocol": "tcp", "multiport": {"dports": "80,443"}, "target": {"goto": "manx-x"}}
    assert said == {"filter": {"manx-x": [rule]}}


SETS = {"manx-n": "hash:net", "manx-i": "hash:net,iface", "manx-6-n": "hash:net family inet6",
        "manx-6-i": "hash:net,iface family inet6", "manx-p": "hash:ip,port",
        "manx-6-p": "hash:ip,port family inet6"}  # fmt: skip
MEMBERS = {
    "manx-n": ["10.0.0.1", "10.1.0.0/16", "0.0.0.0/1"],
    "manx-i": ["10.0.0.1,mnx1", "10.0.0.2,mnx0123456789a", "10.2.0.0/24,mnx1"],
    "manx-6-n": ["fd00::1", "fd00:1::/32"],
    "manx-6-i": ["fd00::1,mnx1", "fe80::/64,mnx1"],
    "manx-p": ["10.0.0.1,tcp:80", "10.0.0.1,udp:65535", "10.0.0.2,sctp:0"],
    "manx-6-p": ["fd00::1,tcp:8080", "fd00::1,udp:53"],
}


async def test_a_few_members_by_netlink_are_as_by_the_program(inside: Netns) -> None:
    await ipset.restore("".join(f"create {name} {kind}\n" for name, kind in SETS.items()))
    adding = "".join(f"add {name} {member}\n" for name, members in MEMBERS.items() for member in members)
    assert ipset_netlink.parsed(adding) is not None
    for text in (adding, adding):
        await ipset.restore(text)
        assert members(inside) == sorted(adding.splitlines())
    removing = adding.replace("add ", "del ")
    for text in (removing, removing):
        await ipset.restore(text)
        assert members(inside) == []


async def test_nothing_after_a_member_that_the_kernel_refuses_is_done(inside: Netns) -> None:
    await ipset.restore("create manx-n hash:net\n")
    with pytest.raises(AgentError, match="ipset add manx-gone: there is no such set"):
        await ipset.restore("add manx-n 10.0.0.1\nadd manx-gone 10.0.0.2\nadd manx-n 10.0.0.3\n")
    assert members(inside) == ["add manx-n 10.0.0.1"]
    with pytest.raises(AgentError, match="ipset add manx-n"):
        await ipset.restore("add manx-n fd00::1\n")


def members(inside: Netns) -> list[str]:
    return sorted(line for line in inside.run("ipset", "save").splitlines() if line.startswith("add "))


async def test_a_change_of_a_set_changes_its_digest_alone(inside: Netns) -> None:
    await ipset.restore("create manx-n hash:net\ncreate manx-p hash:ip,port\n")
    await ipset.restore("".join(f"add manx-n 10.0.{number // 250}.{number % 250}\n" for number in range(5000)))
    before = await ipset.digests()
    assert before is not None
    assert before.keys() == {"manx-n", "manx-p"}
    assert await ipset.digests() == before
    await ipset.restore("add manx-n 10.9.0.1\n")
    after = await ipset.digests()
    assert after is not None
    assert (after["manx-n"] != before["manx-n"], after["manx-p"] == before["manx-p"]) == (True, True)
