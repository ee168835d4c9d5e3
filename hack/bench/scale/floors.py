"""How fast the machine is today: what the figures of the same run are to be read by.

Owns: the bare programs, loops and requests that do the least of each. Must not: use anything of Manx's but its imports.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.scale import load
from bench.scale.changes import create_policy, delete_policy
from bench.scale.ears import Ear
from bench.scale.processes import COMPILED, Usage, imported, python, usage
from manx_kube.client import KubeClient
from manx_kube.resources import NETWORK_POLICIES
from netns import Netns

AGENT, OPERATOR = "manx_agent.main", "manx_operator.main"
CALICO_RULES, CALICO_PODS = 3100, 100
LOOP = 5_000_000
_POLICIES_OF_A_POD = 2


def took(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def loop() -> float:
    """A fixed loop of Python."""
    return took(lambda: sum(i * i for i in range(LOOP)))


@dataclass(frozen=True)
class Start:
    """Of a Python that imports and ends. Seconds."""

    took: float
    cpu: float


def imports(module: str = AGENT) -> Start:
    """Python's start with a process's imports: the agent's, where nothing else is said."""
    imported(module)  # compiled now, where it was not
    before = _children()
    seconds = took(lambda: imported(module))
    return Start(seconds, _children() - before)


def _children() -> float:
    """Processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory(module: str = AGENT) -> Usage:
    """Of a Python with a process's imports that sleeps."""
    script = f"import time, {module}; print(flush=True); time.sleep(86400)"
    with subprocess.Popen(python("-c", script), stdout=subprocess.PIPE, env={**os.environ, **COMPILED}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = usage(process.pid)
        process.kill()
        return found


def restore(rules: str, sets: str = "") -> float:
    """One iptables-nft-restore into a namespace that holds the sets and nothing else."""
    with Netns() as bare:
        bare.run("ipset", "restore", stdin=sets)
        return took(lambda: bare.run("iptables-nft-restore", stdin=rules))


class OneRule:
    """iptables-nft-restore of one policy's rules, again and again, beside all others. A context manager."""

    def __init__(self, rules: str, sets: str, chain: str) -> None:
        mine = [line.replace(chain, "floor", 1) for line in rules.splitlines() if line.startswith(f"-A {chain} ")]
        self._add = "\n".join(["*filter", ":floor - [0:0]", *mine, "COMMIT", ""])
        self._bare = Netns()
        self._bare.run("ipset", "restore", stdin=sets)
        self._bare.run("iptables-nft-restore", stdin=rules)

    def __enter__(self) -> OneRule:
        return self

    def __exit__(self, *_: object) -> None:
        self._bare.close()

    def restore(self) -> float:
        """Seconds until the rules are there; then they go again."""
        found = took(lambda: self._restore(self._add))
        self._restore("*filter\n-F floor\n-X floor\nCOMMIT\n")
        return found

    def _restore(self, text: str) -> None:
        self._bare.run("iptables-nft-restore", "--noflush", "-w", "10", stdin=text)


async def through_server(client: KubeClient, rounds: int) -> list[float]:
    """A policy's creation sent → heard by a watch, s. The policy selects nothing."""
    found = []
    policy = load.policy(0, load.QUICK)
    policy["spec"] = {"podSelector": {"matchLabels": {"app": "none"}}}
    async with Ear(client, [(NETWORK_POLICIES, {})]) as ear:
        for number in range(rounds):
            began = time.perf_counter()
            sent = await create_policy(client, policy, f"floor-{number}")
            found.append(await ear.quiet(0.2) - began)
            await delete_policy(client, sent)
            await ear.quiet(0.2)
    return found


# --- as many rules as Felix writes for a hundred pods -----------------------------------------------------------------


def calico_rules() -> str:
    """An iptables-restore of CALICO_RULES rules, a chain pair for each pod, each policy of its tier a jump and a test
    of the mark, a pair of profile chains for each pod: laid out as Calico's documentation and iptables-save of a node
    show it, without its names."""
    policies = [f"floor-po-{number}" for number in range(_POLICIES_OF_A_POD * 2)]
    chains = {name: ["-j MARK --set-mark 0x10000/0x10000"] for name in policies}
    for number in range(CALICO_PODS):
        chains |= dict(_pod_chains(number, policies))
    chains["floor-dispatch"] = [f"-i floor{n} -g floor-fw-{n}" for n in range(CALICO_PODS)]
    chains["floor-dispatch"] += [f"-o floor{n} -g floor-tw-{n}" for n in range(CALICO_PODS)]
    missing = CALICO_RULES - sum(map(len, chains.values()))
    chains["floor-rest"] = ["-m mark --mark 0x10000/0x10000 -j RETURN"] * missing
    heads = [f":{name} - [0:0]" for name in chains]
    lines = [f"-A {name} {rule}" for name, rules in chains.items() for rule in rules]
    return "\n".join(["*filter", *heads, *lines, "COMMIT", ""])


def _pod_chains(number: int, policies: list[str]) -> Iterator[tuple[str, list[str]]]:
    begin = ["-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-m conntrack --ctstate INVALID -j DROP",
             "-j MARK --set-mark 0x0/0x10000"]  # fmt: skip
    accepted = "-m mark --mark 0x10000/0x10000 -j RETURN"
    tier = [rule for name in policies[:_POLICIES_OF_A_POD] for rule in (f"-j {name}", accepted)]
    profile = f"floor-pr-{number}"
    end = [f"-j {profile}", accepted, "-j DROP"]
    yield profile, ["-j MARK --set-mark 0x10000/0x10000"]
    yield f"floor-tw-{number}", [*begin, *tier, "-j DROP", *end]
    yield f"floor-fw-{number}", [*begin, "-p udp --dport 4789 -j DROP", "-p 4 -j DROP", *tier, "-j DROP", *end]
