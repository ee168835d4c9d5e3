"""The whole of policy on this node as chains and sets.

Owns: putting together what the other modules of this package render. Must not: do I/O, or decide what is in force
(`settle`) or what is to be done about it (`plan`).

`Renderer` is a function with a memory: what it renders depends on its arguments alone; of what has not changed since
the last call it returns the same objects, so that comparing and writing cost as much as the change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from manx_agent.model import LocalEndpoint
from manx_agent.render import names
from manx_agent.render.dispatch import FIXED, JUMPS, Isolation, class_chain, dispatch_chains
from manx_agent.render.image import Chains, Image, Rules, SetImage, Table
from manx_agent.render.members import GroupSets
from manx_agent.render.nets import ipv4_networks
from manx_agent.render.rules import Program, render_program
from manx_agent.render.settle import Policy, Settled
from manx_core.api.v1alpha1 import OPEN_CLASS, PoolSettings


@dataclass(frozen=True, slots=True)
class Rendered:
    """An image, and what of the input could not be rendered, one sentence each."""

    image: Image
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Last:
    """What was rendered of some policies and classes."""

    policies: Mapping[str, Policy]
    classes: Mapping[str, tuple[str, ...]]
    tables: Mapping[Table, Chains]
    sets: Mapping[str, SetImage]
    problems: tuple[str, ...]


@dataclass(slots=True)
class Renderer:
    """Renders what is in force. One for each kernel; not for concurrent use."""

    reaches_itself: bool = True
    """Whether the kernel can run `dispatch.SELF`."""
    _programs: dict[str, tuple[Policy, Program]] = field(default_factory=dict)
    _classes: dict[str, tuple[object, dict[str, Rules]]] = field(default_factory=dict)
    _dispatch: tuple[object, dict[str, Rules]] = (None, {})
    _groups: GroupSets = field(default_factory=GroupSets)
    _last: _Last | None = None

    def render(self, settled: Settled, pools: Iterable[PoolSettings] = ()) -> Rendered:
        """Everything that the kernel is to hold of ours."""
        last = self._last
        if last is None or last.policies is not settled.policies or last.classes != settled.classes:
            last = self._last = self._render_rules(settled)
        groups, problems = self._groups.render(settled)
        pool_sets, pool_problems = _pool_sets(pools)
        sets = {**groups, **_endpoint_sets(settled), **pool_sets, **last.sets}
        return Rendered(Image(last.tables, JUMPS, sets), (*last.problems, *problems, *pool_problems))

    def _render_rules(self, settled: Settled) -> _Last:
        programs = self._render_programs(settled)
        isolations = {name: _isolation(policies, settled.policies) for name, policies in settled.classes.items()}
        chains = self._render_dispatch({OPEN_CLASS: Isolation(), **isolations})
        for name, program in programs.items():
            chains.update(_program_chains(name, program))
        for name, policies in settled.classes.items():
            chains.update(self._render_class(name, policies, isolations[name], programs))
        for gone in self._classes.keys() - settled.classes.keys():
            del self._classes[gone]
        sets = {name: image for program in programs.values() for name, image in program.sets.items()}
        problems = tuple(problem for program in programs.values() for problem in program.problems)
        return _Last(settled.policies, settled.classes, _tables(chains), sets, problems)

    def _render_programs(self, settled: Settled) -> dict[str, Program]:
        known = self._programs
        self._programs = {}
        for name, policy in settled.policies.items():
            before = known.get(name)
            if before is None or before[0] is not policy:
                before = policy, render_program(name, policy.spec, policy.lacking, settled.group_types)
            self._programs[name] = before
        return {name: program for name, (_, program) in self._programs.items()}

    def _render_class(
        self, name: str, policies: tuple[str, ...], isolation: Isolation, programs: Mapping[str, Program]
    ) -> dict[str, Rules]:
        ingress = [policy for policy in policies if isolation.ingress and programs[policy].ingress is not None]
        egress = [policy for policy in policies if isolation.egress and programs[policy].egress is not None]
        key = (ingress, egress, isolation)
        before = self._classes.get(name)
        if before is None or before[0] != key:
            before = self._classes[name] = key, _class_chains(name, isolation, ingress, egress)
        return before[1]

    def _render_dispatch(self, classes: Mapping[str, Isolation]) -> dict[str, Rules]:
        key = (dict(classes), self.reaches_itself)
        if self._dispatch[0] != key:
            self._dispatch = key, dispatch_chains(classes, self.reaches_itself)
        return dict(self._dispatch[1])


def _tables(chains: Chains) -> dict[Table, Chains]:
    return {table: {**own, **chains} if table == "filter" else own for table, own in FIXED.items()}


def _isolation(policies: Iterable[str], known: Mapping[str, Policy]) -> Isolation:
    types = {direction for policy in policies for direction in known[policy].spec.types}
    return Isolation("Ingress" in types, "Egress" in types)


def _program_chains(name: str, program: Program) -> dict[str, Rules]:
    chains = {}
    if program.ingress is not None:
        chains[names.program_ingress(name)] = program.ingress
    if program.egress is not None:
        chains[names.program_egress(name)] = program.egress
    return chains


def _class_chains(name: str, isolation: Isolation, ingress: Iterable[str], egress: Iterable[str]) -> dict[str, Rules]:
    chains = {}
    if isolation.ingress:
        chain = names.class_ingress(name)
        chains[chain] = class_chain(chain, map(names.program_ingress, ingress))
    if isolation.egress:
        chain = names.class_egress(name)
        chains[chain] = class_chain(chain, map(names.program_egress, egress))
    return chains


def _endpoint_sets(settled: Settled) -> dict[str, SetImage]:
    members: dict[str, set[str]] = {name: set() for name in (OPEN_CLASS, *settled.classes)}
    for endpoint, name in settled.endpoints.values():
        members[name].add(endpoint_member(endpoint))
    everyone = frozenset().union(*members.values())
    own = {names.class_set(name): SetImage("hash:net,iface", frozenset(of)) for name, of in members.items()}
    return {names.ENDPOINTS: SetImage("hash:net,iface", everyone), **own}


def endpoint_member(endpoint: LocalEndpoint) -> str:
    """The endpoint as a member of hash:net,iface sets."""
    return f"{endpoint.address},{endpoint.interface}"


def _pool_sets(pools: Iterable[PoolSettings]) -> tuple[dict[str, SetImage], tuple[str, ...]]:
    """The pools' sets, and what could not be read."""
    pools = tuple(pools)
    every = ipv4_networks(tuple(pool.cidr for pool in pools))
    natted = ipv4_networks(tuple(pool.cidr for pool in pools if pool.nat_outgoing))
    sets = {
        names.POOLS: SetImage("hash:net", every.members),
        names.NAT_POOLS: SetImage("hash:net", natted.members),
    }
    return sets, tuple(
        f"NodeState: spec.pools: {cidr!r} is not a CIDR such as 10.244.0.0/16" for cidr in every.unreadable
    )
