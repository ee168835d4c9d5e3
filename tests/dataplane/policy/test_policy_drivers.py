"""The drivers that policy needs, against the real kernel."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator

import pytest

from manx_agent.dataplane.kernel import Kernel
from manx_agent.drivers import ipset
from manx_agent.drivers.iptables import Iptables, detect_backend
from manx_agent.drivers.nft_generation import generation
from manx_agent.drivers.process import ProcessFailed, run
from manx_agent.model import Backend
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
