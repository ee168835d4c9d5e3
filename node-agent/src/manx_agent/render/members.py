"""AddressGroups as sets.

Owns: which members of a group the set of each family can hold. Must not: know rules.

A group of thousands changes by a few members at a time, so a set is derived from the one before by the difference,
as long as every member is spelt as the kernel spells it; else it is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from manx_agent.render import names
from manx_agent.render.family import Family
from manx_agent.render.image import SetImage, changes
from manx_agent.render.nets import address_member, port_member
from manx_agent.render.settle import Settled

_Reader = Callable[[Family, str], tuple[str, ...] | None]
_Key = tuple[str, str]
"""The group and its type."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How the groups of one type become sets of one family."""

    family: Family
    kind: str
    read: _Reader
    example: str


@dataclass(frozen=True, slots=True)
class _Known:
    name: str
    """The set's."""
    source: frozenset[str]
    image: SetImage
    plain: bool
    """Every member of the source is of the other family, or spelt as in the image."""
    problems: tuple[str, ...]


@dataclass(slots=True)
class GroupSets:
    """Renders groups, remembering the last rendering of each."""

    _known: dict[int, dict[_Key, _Known]] = field(default_factory=dict)
    """By the family's version."""
    _last: Settled | None = None
    _sets: dict[str, SetImage] = field(default_factory=dict)

    def render(self, settled: Settled, families: Iterable[Family]) -> tuple[dict[str, SetImage], tuple[str, ...]]:
        """The sets by name, and what could not be read, one sentence each."""
        families, last = tuple(families), self._last
        if last is None or not self._same_groups(last, settled, families):
            before, self._known, self._sets = self._known, {family.version: {} for family in families}, {}
            changed = list(settled.groups.items())
        else:
            before, groups = self._known, last.groups
            changed = [(group, now) for group, now in settled.groups.items() if now is not groups[group]]
        for family in families:
            self._update(family, changed, settled.group_types, before.get(family.version, {}))
        self._last = settled
        return dict(self._sets), tuple(dict.fromkeys(self._problems()))

    def _same_groups(self, last: Settled, settled: Settled, families: tuple[Family, ...]) -> bool:
        """Whether there are the same sets as before, be their members others."""
        same = settled.groups.keys() == last.groups.keys() and settled.group_types == last.group_types
        return same and [family.version for family in families] == [*self._known]

    def _update(
        self,
        family: Family,
        changed: Iterable[tuple[str, frozenset[str]]],
        types: Mapping[str, str],
        before: Mapping[_Key, _Known],
    ) -> None:
        rendered = self._known[family.version]
        for group, members in changed:
            key = group, types.get(group, "Addresses")
            known = before.get(key)
            if known is None or known.source is not members:
                known = _render(key, family, members, known)
            rendered[key] = known
            self._sets[known.name] = known.image

    def _problems(self) -> Iterator[str]:
        return (problem for known in self._known.values() for one in known.values() for problem in one.problems)


def _form(family: Family, group: str, group_type: str) -> tuple[str, _Form]:
    if group_type == "AddressPorts":
        form = _Form(family, "hash:ip,port", port_member, "10.0.0.1,tcp:80")
        return family.set(names.port_group(group)), form
    return family.set(names.address_group(group)), _Form(family, "hash:net", address_member, "10.0.0.1")


def _render(key: _Key, family: Family, members: frozenset[str], before: _Known | None) -> _Known:
    group, group_type = key
    name, form = _form(family, group, group_type)
    found = _derived(form, members, before) if before is not None and before.plain else None
    return found or _anew(group, name, form, members)


def _derived(form: _Form, members: frozenset[str], before: _Known) -> _Known | None:
    """From the set before, which may be large; None where a new member is not spelt as the kernel spells it."""
    come, gone = changes(before.source, members)
    if not come and not gone:
        return before
    added = {member: form.read(form.family, member) for member in come}
    if not all(_plain(member, parts) for member, parts in added.items()):
        return None
    if before.image.members is before.source and all(added.values()):
        image = SetImage(form.kind, members, form.family.set_family)
        return _Known(before.name, members, image, True, ())
    held = before.image.members - gone
    return _known(before.name, form, members, held.union(*(parts for parts in added.values() if parts)), True, ())


def _plain(member: str, parts: tuple[str, ...] | None) -> bool:
    return parts in ((), (member,))


def _anew(group: str, name: str, form: _Form, members: frozenset[str]) -> _Known:
    read = {member: form.read(form.family, member) for member in members}
    written = frozenset(part for parts in read.values() for part in parts or ())
    problems = tuple(
        f"AddressGroup {group}: member {member!r} is not of the form {form.example}"
        for member, parts in sorted(read.items())
        if parts is None
    )
    plain = all(_plain(member, parts) for member, parts in read.items())
    return _known(name, form, members, written, plain, problems)


def _known(
    name: str, form: _Form, source: frozenset[str], written: frozenset[str], plain: bool, problems: tuple[str, ...]
) -> _Known:
    image = SetImage(form.kind, source if written == source else written, form.family.set_family)
    return _Known(name, source, image, plain, problems)
