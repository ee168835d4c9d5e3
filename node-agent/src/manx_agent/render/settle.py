"""What is in force: the view, as far as everything that it refers to has arrived.

Owns: holding the old state while something is missing, for up to 10 s, and closing after that.
Must not: know iptables, or read a clock (the time is an argument).

A watch gives no order across objects: a class may name a policy, and a policy a group, that come a moment later. Per
missing object the time since when it is missing is kept. Until `HOLD` seconds have gone by,

- a policy with a missing group stays as it was before, with the groups of then;
- a class with a missing policy, or with a new policy that lacks a group, stays as it was before;
- an endpoint whose class is missing, or not to be had, stays in the class it was in before.

After that a policy goes into force without its groups (`rules` sees to it that this opens nothing), and a class with a
missing policy is no longer in force: its endpoints are closed. What has no state of before is closed from the start.
An endpoint of which it is not said what class it has is closed at once: nothing is on its way.

Most changes are to members of groups. Where the view has the same mappings of everything else, and as much is missing
as before, all else is taken over as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from manx_agent.model import LocalEndpoint, PolicyView
from manx_agent.render.needs import Policy, held, policy_of
from manx_core.api.v1alpha1 import OPEN_CLASS, ClassTier
from manx_core.policy.own_ports import OwnPort

K = TypeVar("K")
V = TypeVar("V")

HOLD = 10.0
"""Seconds for which an old state is held for what has not arrived."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What is to be in force in the kernel."""

    endpoints: Mapping[str, tuple[LocalEndpoint, str]] = field(default_factory=dict)
    """container_id → endpoint and its class. Closed endpoints are absent."""
    classes: Mapping[str, tuple[ClassTier, ...]] = field(default_factory=dict)
    """Classes that have, or are to have, an endpoint here → tiers. Without "open"."""
    policies: Mapping[str, Policy] = field(default_factory=dict)
    """Those of the classes."""
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Those of the policies."""
    group_types: Mapping[str, str] = field(default_factory=dict)
    own_ports: Mapping[OwnPort, frozenset[str]] = field(default_factory=dict)
    """Those that the policies ask for → which endpoints have them, closed ones too. A name that none has is there."""
    since: Mapping[str, float] = field(default_factory=dict)
    """Missing object → when that was first seen, in seconds of the caller's clock."""
    closed: frozenset[str] = frozenset()
    """container_ids of endpoints not in force."""
    awaited: frozenset[str] = frozenset()
    """container_ids of those among `closed`, or held in an old class, for which something may still come in time."""
    view: PolicyView | None = field(default=None, compare=False, repr=False)
    """What it was made from, so that it can be told what has changed since."""
    at: float = field(default=0.0, compare=False)
    """When, in seconds of the caller's clock."""

    def deadline(self, now: float) -> float | None:
        """When the next hold runs out, unless nothing is held."""
        return min((since + HOLD for since in self.since.values() if since + HOLD > now), default=None)


def policies_of(tiers: Iterable[ClassTier]) -> tuple[str, ...]:
    """The names of the policies of all tiers."""
    return tuple(name for tier in tiers for name in tier.policies)


def settle(view: PolicyView, before: Settled, now: float) -> Settled:
    """Decides what is in force, given what was before. `now` in seconds, of a clock that never goes back."""
    return _regrouped(view, before, now) or _Settling(view, before, now).run()


def _regrouped(view: PolicyView, before: Settled, now: float) -> Settled | None:
    """As before, with the groups of now; None where that may not be all there is to it."""
    groups, types, last = view.groups, view.group_types, before.view
    if last is None or any(getattr(view, part) is not getattr(last, part) for part in _BESIDE_GROUPS):
        return None
    if not before.groups.keys() <= groups.keys() or not before.since.keys().isdisjoint(groups):
        return None
    if any(_in_time(since, before.at) != _in_time(since, now) for since in before.since.values()):
        return None
    return replace(
        before,
        groups={group: groups[group] for group in before.groups},
        group_types=before.group_types if types is last.group_types else _types_of(before.groups, types),
        view=view,
        at=now,
    )


def _types_of(groups: Iterable[str], types: Mapping[str, str]) -> Mapping[str, str]:
    return {group: types.get(group, _TYPE) for group in groups}


def _in_time(since: float, now: float) -> bool:
    """Whether what has been missing since then may still come in time."""
    return now - since < HOLD


_BESIDE_GROUPS = ("endpoints", "classes", "programs", "class_of", "ports_of")
_TYPE = "Addresses"
"""Of a group of which none is said."""


def _unless_equal(before: Mapping[K, V], now: Mapping[K, V]) -> Mapping[K, V]:
    """The mapping of before where nothing has changed: those that compare by identity need not look."""
    return before if before == now else now


_Causes = frozenset[str]
_NONE: _Causes = frozenset()


class _Settling:
    """One run of `settle`. Methods named for a kind return it as in force, or None and what is missing for it."""

    def __init__(self, view: PolicyView, before: Settled, now: float) -> None:
        self.view = view
        self.before = before
        self.now = now
        self.since: dict[str, float] = {}
        self.known: dict[str, tuple[Policy | None, _Causes]] = {}
        self.classes: dict[str, tuple[ClassTier, ...]] = {}
        self.policies: dict[str, Policy] = {}
        self.complete = not before.since and before.groups.keys() <= view.groups.keys()
        self.changed = self._changed() if self.complete else frozenset()

    def run(self) -> Settled:
        view = self.view
        refused = {name: self._class(name) for name in self._wanted() if not self._same_class(name)}
        endpoints, awaited = self._endpoints(refused)
        policies, needed = self._policies()
        return Settled(
            endpoints=endpoints,
            classes=_unless_equal(self.before.classes, self.classes),
            policies=_unless_equal(self.before.policies, policies),
            groups={group: self._group(group) for group in needed},
            group_types={group: self._type(group) for group in needed},
            own_ports=self._own_ports(policies),
            since=self.since,
            closed=frozenset(view.endpoints.keys() - endpoints.keys()),
            awaited=awaited,
            view=view,
            at=self.now,
        )

    def _wanted(self) -> Iterable[str]:
        """The classes of pods on this node, whether they have come yet or not. The view may hold others."""
        return sorted(set(self.view.class_of.values()) - {OPEN_CLASS, ""})

    # What nothing can have happened to is taken over as it was; it is told by identity, which is quicker than deciding.

    def _changed(self) -> frozenset[str]:
        """The policies of before that are otherwise in the view."""
        programs = self.view.programs
        return frozenset(name for name, old in self.before.policies.items() if programs.get(name) is not old.spec)

    def _same_class(self, name: str) -> bool:
        """Takes over a class with all its policies, if they are all as before and nothing is missing."""
        listed = self.view.classes.get(name)
        same = self.complete and listed is not None and listed == self.before.classes.get(name)
        if not same or listed is None or not self.changed.isdisjoint(policies_of(listed)):
            return False
        self.classes[name] = listed
        return True

    def _policies(self) -> tuple[Mapping[str, Policy], Iterable[str]]:
        """The policies of all classes in force, and the groups that they need."""
        before = self.before
        if not self.policies and self.classes == before.classes:
            return before.policies, before.groups
        listed = dict.fromkeys(name for tiers in self.classes.values() for name in policies_of(tiers))
        policies = {name: self.policies.get(name) or before.policies[name] for name in listed}
        return policies, sorted({group for policy in policies.values() for group in policy.groups - policy.lacking})

    def _own_ports(self, policies: Mapping[str, Policy]) -> Mapping[OwnPort, frozenset[str]]:
        before, last, view = self.before, self.before.view, self.view
        if policies is not before.policies:
            asked = frozenset[OwnPort]().union(*(policy.own_ports for policy in policies.values()))
            return _unless_equal(before.own_ports, held(view, asked))
        if last is not None and last.endpoints is view.endpoints and last.ports_of is view.ports_of:
            return before.own_ports
        return _unless_equal(before.own_ports, held(view, before.own_ports))

    def _endpoints(self, refused: Mapping[str, _Causes]) -> tuple[Mapping[str, tuple[LocalEndpoint, str]], _Causes]:
        settled: dict[str, tuple[LocalEndpoint, str]] = {}
        awaited: set[str] = set()
        for identity, endpoint in self.view.endpoints.items():
            wanted = self.view.class_of.get((endpoint.namespace, endpoint.name, endpoint.uid), "")
            if wanted == OPEN_CLASS or wanted in self.classes:
                settled[identity] = (endpoint, wanted)
            elif wanted and self._in_time(refused[wanted]):
                awaited.add(identity)
                self._hold_endpoint(identity, endpoint, refused, settled)
        return _unless_equal(self.before.endpoints, settled), frozenset(awaited)

    def _hold_endpoint(
        self,
        identity: str,
        endpoint: LocalEndpoint,
        refused: Mapping[str, _Causes],
        settled: dict[str, tuple[LocalEndpoint, str]],
    ) -> None:
        _, old = self.before.endpoints.get(identity, (endpoint, ""))
        if not old or refused.get(old):
            return
        if old != OPEN_CLASS and old not in self.classes:
            self._keep_class(old)
        settled[identity] = (endpoint, old)

    def _class(self, name: str) -> _Causes:
        """Puts a class in force, and returns nothing; or what is missing for it."""
        listed = self.view.classes.get(name)
        if listed is None:
            causes = self._miss(name)
        else:
            found = {policy: self._policy(policy) for policy in policies_of(listed)}
            causes = _NONE.union(*(missing for policy, missing in found.values() if policy is None))
            if not causes:
                self._enforce(name, listed, {key: policy for key, (policy, _) in found.items() if policy})
                return _NONE
        if name in self.before.classes and self._in_time(causes):
            self._keep_class(name)
            return _NONE
        return causes

    def _keep_class(self, name: str) -> None:
        listed = self.before.classes[name]
        kept = {policy: self._policy_now(policy) or self._keep_policy(policy) for policy in policies_of(listed)}
        self._enforce(name, listed, kept)

    def _enforce(self, name: str, listed: tuple[ClassTier, ...], policies: Mapping[str, Policy]) -> None:
        self.classes[name] = listed
        self.policies.update(policies)

    def _policy_now(self, name: str) -> Policy | None:
        """The policy as the view has it. One that the view lacks is not missing for that: an old class asks."""
        return self._policy(name)[0] if name in self.view.programs else None

    def _policy(self, name: str) -> tuple[Policy | None, _Causes]:
        if name not in self.known:
            self.known[name] = self._decide_policy(name)
        return self.known[name]

    def _decide_policy(self, name: str) -> tuple[Policy | None, _Causes]:
        old = self.before.policies.get(name)
        spec = self.view.programs.get(name)
        if spec is None:
            causes = self._miss(name)
            return (self._keep_policy(name) if old and self._in_time(causes) else None), causes
        new = old if old and old.spec is spec else policy_of(spec)
        lacking = frozenset(group for group in new.groups if group not in self.view.groups)
        causes = _NONE.union(*(self._miss(group) for group in lacking))
        if lacking and self._in_time(causes):
            return (self._keep_policy(name) if old else None), causes
        return new.without(lacking), _NONE

    def _keep_policy(self, name: str) -> Policy:
        old = self.before.policies[name]
        lacking = frozenset(
            group for group in old.groups if group not in self.view.groups and group not in self.before.groups
        )
        return old.without(lacking)

    def _group(self, name: str) -> frozenset[str]:
        return self.view.groups[name] if name in self.view.groups else self.before.groups[name]

    def _type(self, name: str) -> str:
        known = self.view.group_types if name in self.view.groups else self.before.group_types
        return known.get(name, _TYPE)

    def _miss(self, name: str) -> _Causes:
        self.since.setdefault(name, self.before.since.get(name, self.now))
        return frozenset((name,))

    def _in_time(self, causes: _Causes) -> bool:
        """Whether all that is missing may still come in time."""
        return all(_in_time(self.since[cause], self.now) for cause in causes)
