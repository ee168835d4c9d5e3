"""`python -m manx_agent cleanup`: takes everything of Manx's out of this node's kernel, and its CNI configuration.

Owns: the order: the CNI configuration, rules of both back ends, sets, routes. Must not: run while an agent does (it
would put everything back), or touch what is not recognisably Manx's: names that begin with manx-, routes of protocol
77, the CNI configuration of that name.

Pods that still run here lose their routes, and policy with them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from manx_agent.cni.install import CONFLIST, places_from
from manx_agent.drivers import ipset
from manx_agent.drivers.iptables import Iptables, has_ipv6
from manx_agent.drivers.process import ProcessError, run
from manx_agent.model import AgentError, Backend
from manx_agent.render.image import Image
from manx_agent.render.plan import plan
from manx_agent.render.saved import parse_rules, parse_sets
from manx_core.api.v1alpha1 import ROUTE_PROTOCOL


async def clean() -> list[str]:
    """Removes rules, sets and routes, and says what of them there was. Raises ProcessError, NetlinkError."""
    said = []
    for backend in get_args(Backend):
        for ipv6 in (False, True)[: 2 if has_ipv6() else 1]:
            said += await _rules(Iptables(backend, ipv6))
    sets = parse_sets(await ipset.save())
    busy = await ipset.destroy(sorted(sets))
    said += [f"removed {len(sets) - len(busy)} sets"] if sets else []
    said += [f"ipset {name} is still in use by rules of others" for name in busy]
    for family in ("-4", "-6"):
        with contextlib.suppress(ProcessError):  # Nothing to flush, or no such family.
            await run(("ip", family, "route", "flush", "table", "all", "proto", str(ROUTE_PROTOCOL)))
    return said


async def _rules(iptables: Iptables) -> list[str]:
    try:
        found = parse_rules(await iptables.save(), iptables.ipv6)
    except ProcessError:
        return []  # Not installed, or not supported here: then nothing of ours is in it.
    for step in plan(Image(found.chains, found.jumps), Image()):
        await iptables.restore(step.text)
    chains = sum(map(len, found.chains.values()))
    return [f"{iptables.program('save').removesuffix('-save')}: removed {chains} chains"] if chains else []


def main(arguments: Sequence[str]) -> int:
    """Returns 0; 1 where something could not be removed."""
    parser = argparse.ArgumentParser(prog="manx-agent cleanup", description="Takes Manx out of this node's kernel")
    parser.add_argument("--cni-conf-dir", type=Path, default=None, help="of the container runtime")
    options = parser.parse_args(arguments)
    try:
        directory = options.cni_conf_dir or places_from(os.environ, Path()).configurations
        (directory / CONFLIST).unlink(missing_ok=True)
        said = asyncio.run(clean())
    except (AgentError, OSError) as error:
        print(f"manx-agent: {error}")
        return 1
    print("\n".join(said or ["nothing of Manx's was there"]))
    return 0
