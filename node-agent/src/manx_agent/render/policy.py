"""The whole of policy on this node as chains and sets.

Owns: putting together what the other modules of this package render, for each family of addresses that is in use. Must
not: do I/O, or decide what is in force (`settle`) or what is to be done about it (`plan`).

`Renderer` is a function with a memory: what it renders depends on its arguments alone; of what has not changed since
the last call it returns the same objects, so that comparing and writing cost as much as the change. A family that no
pool and no endpoint has costs nothing: its chains are the closed ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import is_not

from manx_agent.render import names
from manx_agent.render.dispatch import Isolation, closed_chains, dispatch_chains, fixed_chains, jumps
from manx_agent.render.family import FAMILIES, IPV4, Family
from manx_agent.render.image import Chains, Image, Rules, SetImage, Table
from manx_agent.render.members import GroupSets
from manx_agent.render.needs import Policy
from manx_agent.render.nets import family_of, networks_of
from manx_agent.render.rules import DIRECTIONS, Program, render_program
from manx_agent.render.sets import endpoint_sets, masqueraded, own_port_sets, pool_problems, pool_sets
from manx_agent.render.settle import Settled
from manx_agent.render.style import Direction, Style
from manx_agent.render.tiers import Tier, class_chains, marking_chains, tiers_of
from manx_core.api.v1alpha1 import ClassTier, PolicySettings, PoolSettings


@dataclass(frozen=True, slots=True)
class Rendered:
    """An image, and what of the input could not be rendered, one sentence each."""

    image: Image
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Frame:
    """What all rules depend on. Where it changes, they are rendered anew."""

    style: Style
    reaches_itself: bool
    families: tuple[Family, ...]
    nat: tuple[Family, ...]
    """Those with something to masquerade."""


@dataclass(frozen=True, slots=True)
class _Last:
    """What was rendered of some policies and classes."""

    policies: Mapping[str, Policy]
    classes: Mapping[str, tuple[ClassTier, ...]]
    isolations: Mapping[str, Isolation]
    """Of classes that are isolated in some direction."""
    image: Image
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _BesideGroups:
    """All that does not depend on who is in which group."""

    families: tuple[Family, ...]
    image: Image
    problems: tuple[str, ...]
    pool_problems: tuple[str, ...]


@dataclass(slots=True)
class Renderer:
    """Renders what is in force. One for each kernel; not for concurrent use."""

    reaches_itself: bool = True
    """Whether the kernel can run `Family.same`."""
    logs: bool = True
    """Whether the kernel has the targets LOG and NFLOG."""
    _frame: _Frame | None = None
    _families: dict[int, _FamilyRenderer] = field(default_factory=dict)
    _groups: GroupSets = field(default_factory=GroupSets)
    _last: _Last | None = None
    _endpoints: dict[int, tuple[object, _Last | None, Mapping[str, SetImage]]] = field(default_factory=dict)
    """By family: the sets of endpoints, and what they were made of."""
    _beside: tuple[tuple[object, ...], _BesideGroups] | None = None
    """What it was made of, compared by identity, and what was made of it."""

    def render(
        self,
        settled: Settled,
        pools: tuple[PoolSettings, ...] = (),
        settings: PolicySettings = PolicySettings(),  # noqa: B008 (frozen)
    ) -> Rendered:
        """Everything that the kernel is to hold of ours."""
        beside = self._beside_groups(settled, pools, settings)
        groups, problems = self._groups.render(settled, beside.families)
        image = Image(beside.image.chains, beside.image.jumps, {**groups, **beside.image.sets})
        return Rendered(image, (*beside.problems, *problems, *beside.pool_problems))

    def _beside_groups(
        self, settled: Settled, pools: tuple[PoolSettings, ...], settings: PolicySettings
    ) -> _BesideGroups:
        """The same object as long as groups alone are others, which most changes are to."""
        made_of = (
            settled.endpoints,
            settled.classes,
            settled.policies,
            settled.own_ports,
            pools,
            settings,
            self.reaches_itself,
            self.logs,
        )
        if self._beside is None or any(map(is_not, made_of, self._beside[0])):
            self._beside = made_of, self._render_beside(settled, pools, settings)
        return self._beside[1]

    def _render_beside(
        self, settled: Settled, pools: tuple[PoolSettings, ...], settings: PolicySettings
    ) -> _BesideGroups:
        frame = self._framed(settled, pools, Style(settings, self.logs))
        last = self._last
        if last is None or last.policies is not settled.policies or last.classes != settled.classes:
            last = self._last = self._render_rules(settled, frame)
        sets = {**last.image.sets}
        for family in frame.families:
            sets |= {**self._endpoint_sets(settled, last, family), **pool_sets(pools, family)}
            sets |= own_port_sets(settled, family)
        problems = (*frame.style.problems, *last.problems)
        image = Image(last.image.chains, last.image.jumps, sets)
        return _BesideGroups(frame.families, image, problems, pool_problems(pools))

    def _endpoint_sets(self, settled: Settled, last: _Last, family: Family) -> Mapping[str, SetImage]:
        """The same objects as long as neither endpoints nor classes are others."""
        endpoints, rules, sets = self._endpoints.get(family.version, (None, None, {}))
        if endpoints is not settled.endpoints or rules is not last:
            sets = endpoint_sets(settled, last.isolations, family)
            self._endpoints[family.version] = settled.endpoints, last, sets
        return sets

    def _framed(self, settled: Settled, pools: tuple[PoolSettings, ...], style: Style) -> _Frame:
        families = _in_use(settled, pools)
        natted = tuple(family for family in families if family is IPV4 or masqueraded(pools, family))
        frame = _Frame(style, self.reaches_itself, families, natted)
        if frame != self._frame:
            self._frame, self._last = frame, None
            self._families = {family.version: _FamilyRenderer(family, frame) for family in families}
        return frame

    def _render_rules(self, settled: Settled, frame: _Frame) -> _Last:
        chains: dict[Table, Chains] = {}
        sets: dict[str, SetImage] = {}
        problems: dict[str, None] = {}
        for family in FAMILIES:
            if family not in frame.families:
                chains |= closed_chains(family)
                continue
            renderer = self._families[family.version]
            chains |= renderer.render(settled)
            sets |= {name: image for program in renderer.programs.values() for name, image in program.sets.items()}
            problems |= dict.fromkeys(one for program in renderer.programs.values() for one in program.problems)
        image = Image(chains, jumps(chains, frame.style), sets)
        isolations = self._families[frame.families[0].version].isolations
        return _Last(settled.policies, settled.classes, isolations, image, tuple(problems))


@dataclass(frozen=True, slots=True)
class _Class:
    """A class, rendered."""

    tiers: tuple[ClassTier, ...]
    reached: Mapping[Direction, tuple[Tier, ...]]
    chains: Mapping[str, Rules]

    @property
    def isolation(self) -> Isolation:
        return Isolation(bool(self.reached["ingress"]), bool(self.reached["egress"]))


class _FamilyRenderer:
    """The rules of one family, remembered as long as the frame is the same."""

    def __init__(self, family: Family, frame: _Frame) -> None:
        self._family, self._frame, self._style = family, frame, frame.style
        self._fixed = fixed_chains(family, frame.style, family in frame.nat)
        self._marking = marking_chains(frame.style)
        self._known: dict[str, tuple[Policy, Program]] = {}
        self._classes: dict[str, _Class] = {}
        self._dispatch: tuple[object, dict[str, Rules]] = (None, {})
        self.programs: dict[str, Program] = {}
        self.isolations: dict[str, Isolation] = {}
        """Of classes that are isolated in some direction, which is the same in both families."""

    def render(self, settled: Settled) -> dict[Table, Chains]:
        changed = self._render_programs(settled)
        chains: dict[str, Rules] = {}
        for name, program in self.programs.items():
            chains.update(_program_chains(name, program))
        before, self._classes = self._classes, {}
        for name, tiers in settled.classes.items():
            self._classes[name] = self._render_class(name, tiers, before.get(name), changed)
            chains.update(self._classes[name].chains)
        self.isolations = {name: one.isolation for name, one in self._classes.items() if any(one.reached.values())}
        chains.update(self._render_dispatch(self.isolations))
        chains.update(self._marks())
        table = self._family.table("filter")
        return {**self._fixed, table: {**self._fixed[table], **chains}}

    def _render_programs(self, settled: Settled) -> set[str]:
        """Returns the names of those that are not as they were."""
        known, self._known = self._known, {}
        changed = set(known.keys() - settled.policies.keys())
        for name, policy in settled.policies.items():
            before = known.get(name)
            if before is None or before[0] is not policy:
                types = settled.group_types
                program = render_program(name, policy.spec, policy.lacking, types, self._family, self._style)
                before = policy, program
                changed.add(name)
            self._known[name] = before
        self.programs = {name: program for name, (_, program) in self._known.items()}
        return changed

    def _render_class(
        self, name: str, tiers: tuple[ClassTier, ...], before: _Class | None, changed: set[str]
    ) -> _Class:
        if before and before.tiers == tiers and all(changed.isdisjoint(tier.policies) for tier in tiers):
            return before
        reached = {way: tiers_of(tiers, self.programs, way, self._style) for way in DIRECTIONS}
        if before and before.reached == reached:
            return _Class(tiers, reached, before.chains)
        chains: dict[str, Rules] = {}
        for way, own in reached.items():
            chains.update(class_chains(name, own, way, self._family, self._style))
        if before:
            chains = {chain: _as_before(rules, before.chains.get(chain)) for chain, rules in chains.items()}
        return _Class(tiers, reached, chains)

    def _render_dispatch(self, classes: Mapping[str, Isolation]) -> dict[str, Rules]:
        if self._dispatch[0] != classes:
            chains = dispatch_chains(self._family, classes, self._style, self._frame.reaches_itself)
            self._dispatch = dict(classes), chains
        return self._dispatch[1]

    def _marks(self) -> dict[str, Rules]:
        """The marking chains that something may refer to."""
        passing = any(program.passes for program in self.programs.values())
        returning = any(self._style.returns(way) for way in DIRECTIONS) and bool(self.programs)
        wanted = {names.PASS} if passing else set()
        if returning:
            wanted.add(names.ALLOW)
        if passing or returning:
            wanted |= {names.ALLOWED_IN, names.ALLOWED_OUT}
        return {name: rules for name, rules in self._marking.items() if name in wanted}


def _as_before(rules: Rules, before: Rules | None) -> Rules:
    return before if before == rules else rules


def _program_chains(name: str, program: Program) -> dict[str, Rules]:
    chains = {}
    if program.ingress is not None:
        chains[names.program_ingress(name)] = program.ingress
    if program.egress is not None:
        chains[names.program_egress(name)] = program.egress
    return chains


def _in_use(settled: Settled, pools: tuple[PoolSettings, ...]) -> tuple[Family, ...]:
    """The families of some pool or endpoint; IPv4 where there is none."""
    addresses = (address for endpoint, _ in settled.endpoints.values() for address in endpoint.addresses)
    found = {family_of(address) for address in addresses}
    found |= {family for family in FAMILIES if networks_of(family, tuple(pool.cidr for pool in pools)).members}
    return tuple(family for family in FAMILIES if family in found) or (IPV4,)
