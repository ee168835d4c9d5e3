"""Policy classes: pods that are alike, the programs that apply to them, and the nodes that they are on.

Owns: every PolicyClass object, and the need of programs that comes of it. Must not: know single pods; it counts them.

A class is named after what makes its pods alike: their namespace, those of their labels that policies which may concern
the namespace read, and their service account where such a policy asks for it. So its name survives every change of
policy but one by which something is read for the first time there, or not at all any more, and then only for pods that
have it. The labels of namespaces and service accounts are attributes of the class: where they change, classes change
which programs they name, and no pod changes its class.

While a namespace is not known yet and some policy asks for namespaces by labels, nobody can tell what applies there:
its pods have no class, and are closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from manx_core.api.lines import text_of
from manx_core.api.v1alpha1 import OPEN_CLASS, PolicyClassSpec
from manx_core.policy.scope import SERVICE_ACCOUNT, hash20
from manx_core.selectors import Change, IncrementalIndex, Selects
from manx_operator.model.groups import GroupTable
from manx_operator.model.programs import Audience, Program
from manx_operator.model.surroundings import Surroundings
from manx_operator.model.tiers import TierTable
from manx_operator.model.types import DesiredObject, Key, ObjectKey, Span

ROOM = 8
"""Audiences that a class may belong to for having their programs inside; none of them may be crowded. So no class comes
to be large by what is inside."""

Alike = tuple[str, tuple[tuple[str, str], ...]]
"""A namespace, and sorted pairs of labels; the service account is a label of the key SERVICE_ACCOUNT."""


class PodClass:
    """A set of pods alike; made and ended by the table."""

    __slots__ = ("alike", "audiences", "name", "span")

    def __init__(self, alike: Alike) -> None:
        self.alike = alike
        self.name = "pc-" + hash20(alike)
        self.audiences: dict[Audience, None] = {}
        """Those that it belongs to; never one without programs."""
        self.span = Span()

    @property
    def namespace(self) -> str:
        return self.alike[0]

    @property
    def service_account(self) -> str:
        """Empty where no policy asks for it."""
        return next((value for key, value in self.alike[1] if key == SERVICE_ACCOUNT), "")

    @property
    def has_room(self) -> bool:
        """Whether programs may be inside."""
        return len(self.audiences) <= ROOM and not any(audience.crowded for audience in self.audiences)

    @property
    def programs(self) -> list[Program]:
        return [program for audience in self.audiences for program in audience.programs.values()]


class ClassTable:
    """All classes that have pods, and the audiences of all policies."""

    def __init__(self, groups: GroupTable, tiers: TierTable, around: Surroundings) -> None:
        self._groups = groups
        self._tiers = tiers
        self._around = around
        self._by_alike: dict[Alike, PodClass] = {}
        self._by_name: dict[str, PodClass] = {}
        self._by_namespace: dict[str, dict[PodClass, None]] = {}
        self._audiences: dict[str, Audience] = {}
        """By the selector's key."""
        self._in_tier: dict[str, dict[str, Audience]] = {}
        """By the names of the tier and the program."""
        self._asking: set[str] = set()
        """The policies that ask for namespaces by labels."""
        self._index: IncrementalIndex[PodClass, Audience] = IncrementalIndex()
        self._dirty: dict[PodClass, None] = {}
        self._moved: dict[Audience, None] = {}
        """Those whose span may have changed."""
        self._rehomed: dict[Audience, None] = {}
        """Those that have another home, or none any more."""
        self._dirty_nodes: set[str] = set()

    # --- pods come and go

    def of(self, alike: Alike) -> PodClass:
        """The class of pods that are such. It exists as long as it has some: `join` follows."""
        return self._by_alike.get(alike) or self._add(alike)

    def join(self, pod_class: PodClass, node: str) -> None:
        """One pod more of that class on that node."""
        if pod_class.span.add(node):
            self._dirty[pod_class] = None
            for audience in pod_class.audiences:
                self._need(audience, node)

    def leave(self, pod_class: PodClass, node: str) -> None:
        """One pod less of that class on that node."""
        if pod_class.span.drop(node):
            self._dirty[pod_class] = None
            for audience in pod_class.audiences:
                self._unneed(audience, node)
            if not pod_class.span:
                self._remove(pod_class)

    # --- policies and tiers

    def set_policy(self, program: Program, old: Program | None) -> None:
        """The program, which was `old`, applies to the pods that its policy says."""
        self._ask(program.compiled.name, program.compiled.asks_for_namespaces)
        before = old.audience if old is not None else None
        audience = self._audience(program.compiled.applies_to)
        crowded = audience.crowded
        audience.put(program, self._groups)
        self._fill(audience, crowded)
        if audience.home:
            self._dirty[self._by_name[audience.home]] = None
        if before is not audience:
            self._joined(audience, before)
        if old is not None and before is not None and before is not audience:
            self._drop(old, before, audience)
        self._place(program, old)

    def remove_policy(self, program: Program) -> None:
        self._ask(program.compiled.name, False)
        self._drop(program, program.audience, None)
        self._displace(program)

    def tier_changed(self, name: str) -> None:
        """Its order or default action."""
        for audience in {*self._in_tier.get(name, {}).values()}:
            self._dirty.update(dict.fromkeys(self._index.selected(audience)))

    # --- what classes have of their surroundings

    def namespace_changed(self, name: str, *, came_or_went: bool) -> None:
        """Its labels, or whether it is known."""
        for pod_class in self._by_namespace.get(name, ()):
            self._relabel(pod_class)
            if came_or_went and self._asking:
                self._dirty_nodes.update(pod_class.span)

    def service_account_changed(self, key: ObjectKey) -> None:
        """Its labels."""
        for pod_class in self._by_namespace.get(key[0], ()):
            if pod_class.service_account == key[1]:
                self._relabel(pod_class)

    # --- what comes of it

    def effective_name(self, pod_class: PodClass) -> str:
        """What an endpoint names as its class; empty while that cannot be told."""
        if self._asking and not self._around.knows(pod_class.namespace):
            return ""
        return pod_class.name if pod_class.audiences else OPEN_CLASS

    def drain(self) -> tuple[list[Key], set[str], frozenset[str]]:
        """The classes, and the programs by where they are, that may have changed since the last drain; the nodes where
        what endpoints name as their class may have; and the programs that may concern other nodes."""
        changed: list[Key] = [("PolicyClass", pod_class.name) for pod_class in self._dirty]
        changed += [("PolicyProgram", program.compiled.name) for program in self._placed_anew()]
        moved = frozenset([name for audience in self._moved for name in audience.programs])
        nodes, self._dirty_nodes = self._dirty_nodes, set()
        self._dirty.clear()
        self._moved.clear()
        self._rehomed.clear()
        return changed, nodes, moved

    def _placed_anew(self) -> Iterator[Program]:
        """Programs whose objects are for other nodes."""
        for audience in self._moved | self._rehomed:
            was, audience.spread = audience.spread, bool(audience.span) and not audience.home
            for program in audience.programs.values():
                if (was or audience.spread) if program.small else audience in self._moved:
                    yield program

    def desired(self, name: str) -> DesiredObject | None:
        """None where no pod is of that class, or no policy applies to it."""
        pod_class = self._by_name.get(name)
        if pod_class is None or not pod_class.audiences:
            return None
        programs = pod_class.programs
        tiers = self._tiers.arrange([program.in_force.compiled for program in programs])
        inside = text_of(sorted([program.line for program in programs if program.inside]))
        spec = PolicyClassSpec(epoch=0, tiers=tiers, programs=inside)
        return DesiredObject("PolicyClass", name, spec, pod_class.span.nodes)

    def keys(self) -> set[Key]:
        return {("PolicyClass", pod_class.name) for pod_class in self._by_name.values() if pod_class.audiences}

    # --- classes come, change and go

    def _add(self, alike: Alike) -> PodClass:
        pod_class = self._by_alike[alike] = PodClass(alike)
        self._by_name[pod_class.name] = pod_class
        self._by_namespace.setdefault(pod_class.namespace, {})[pod_class] = None
        self._relabel(pod_class)
        return pod_class

    def _remove(self, pod_class: PodClass) -> None:
        self._index.remove_item(pod_class)
        for audience in pod_class.audiences:
            audience.classes -= 1
            self._settle(audience)
        del self._by_alike[pod_class.alike], self._by_name[pod_class.name]
        of_namespace = self._by_namespace[pod_class.namespace]
        del of_namespace[pod_class]
        if not of_namespace:
            del self._by_namespace[pod_class.namespace]

    def _relabel(self, pod_class: PodClass) -> None:
        own = {key: value for key, value in pod_class.alike[1] if key != SERVICE_ACCOUNT}
        item = self._around.pod(pod_class.namespace, own, pod_class.service_account)
        self._move(self._index.set_item(pod_class, item))

    def _ask(self, program: str, asks: bool) -> None:
        if not asks and not self._asking:
            return
        before = bool(self._asking)
        (self._asking.add if asks else self._asking.discard)(program)
        if before != bool(self._asking):
            for pod_class in self._by_name.values():
                if not self._around.knows(pod_class.namespace):
                    self._dirty_nodes.update(pod_class.span)

    # --- audiences come, change and go

    def _audience(self, applies_to: Selects) -> Audience:
        found = self._audiences.get(applies_to.key)
        if found is None:
            found = self._audiences[applies_to.key] = Audience()
            self._move(self._index.set_selector(found, applies_to))
        return found

    def _joined(self, audience: Audience, before: Audience | None) -> None:
        """A policy came to that audience; those who had it from another have it still."""
        if before is None:
            self._dirty.update(dict.fromkeys(self._index.selected(audience)))
            return
        had = self._index.items_of(before)
        self._dirty.update({pod_class: None for pod_class in self._index.selected(audience) if pod_class not in had})

    def _drop(self, program: Program, audience: Audience, now: Audience | None) -> None:
        """A policy left that audience, for another or for good."""
        crowded = audience.crowded
        audience.remove(program, self._groups)
        self._fill(audience, crowded)
        have = frozenset[PodClass]() if now is None else self._index.items_of(now)
        self._dirty.update({pod_class: None for pod_class in self._index.selected(audience) if pod_class not in have})
        if not audience.programs:
            self._move(self._index.remove_selector(audience))
            self._moved.pop(audience, None)
            self._rehomed.pop(audience, None)
            del self._audiences[program.compiled.applies_to.key]

    def _place(self, program: Program, old: Program | None) -> None:
        if old is not None and _order(old) != _order(program):
            self._dirty.update(dict.fromkeys(self._index.selected(program.audience)))
        if old is not None and old.compiled.tier != program.compiled.tier:
            self._displace(old)
        self._in_tier.setdefault(program.compiled.tier, {})[program.compiled.name] = program.audience

    def _displace(self, program: Program) -> None:
        in_tier = self._in_tier[program.compiled.tier]
        del in_tier[program.compiled.name]
        if not in_tier:
            del self._in_tier[program.compiled.tier]

    def _move(self, changes: Iterable[Change[Audience, PodClass]]) -> None:
        unsettled: dict[Audience, None] = {}
        for audience, pod_class, joined in changes:
            was_open, had_room = not pod_class.audiences, pod_class.has_room
            if joined:
                self._apply(pod_class, audience)
            else:
                self._unapply(pod_class, audience)
            self._dirty[pod_class] = None
            if was_open != (not pod_class.audiences):
                self._dirty_nodes.update(pod_class.span)
            unsettled[audience] = None
            if had_room != pod_class.has_room:
                unsettled |= pod_class.audiences
        for audience in unsettled:
            self._settle(audience)

    def _apply(self, pod_class: PodClass, audience: Audience) -> None:
        pod_class.audiences[audience] = None
        audience.classes += 1
        for node in pod_class.span:
            self._need(audience, node)

    def _unapply(self, pod_class: PodClass, audience: Audience) -> None:
        del pod_class.audiences[audience]
        audience.classes -= 1
        for node in pod_class.span:
            self._unneed(audience, node)

    def _fill(self, audience: Audience, was_crowded: bool) -> None:
        """It has a program more, or less."""
        if was_crowded == audience.crowded:
            return
        for pod_class in self._index.selected(audience):
            if len(pod_class.audiences) <= ROOM:
                for other in pod_class.audiences:
                    self._settle(other)

    def _settle(self, audience: Audience) -> None:
        """Where its programs are, after something that this depends on has changed."""
        home, before = self._home(audience), audience.home
        if home == before:
            return
        audience.home = home
        self._rehomed[audience] = None
        self._dirty.update({self._by_name[name]: None for name in (before, home) if name in self._by_name})

    def _home(self, audience: Audience) -> str:
        if audience.classes != 1:
            return ""
        (only,) = self._index.selected(audience)
        return only.name if only.has_room else ""

    def _need(self, audience: Audience, node: str) -> None:
        if audience.need(node, self._groups):
            self._moved[audience] = None

    def _unneed(self, audience: Audience, node: str) -> None:
        if audience.unneed(node, self._groups):
            self._moved[audience] = None


def _order(program: Program) -> tuple[object, ...]:
    """A policy's tier, and its place in it."""
    return program.compiled.tier, program.compiled.sort_key
