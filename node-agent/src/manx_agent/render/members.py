"""AddressGroups as sets.

Owns: which members of a group a set of IPv4 can hold. Must not: know rules.

A group of thousands changes by a few members at a time, so the set is derived from the one before by the difference,
as long as every member is spelt as the kernel spells it; else it is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from manx_agent.render import names
from manx_agent.render.image import SetImage
from manx_agent.render.nets import address_member, port_member
from manx_agent.render.settle import Settled

_Reader = Callable[[str], tuple[str, ...] | None]


@dataclass(frozen=True, slots=True)
class _Known:
    source: frozenset[str]
    image: SetImage
    plain: bool
    """Every member of the source is IPv4 and spelt as in the image."""
    problems: tuple[str, ...]


@dataclass(slots=True)
class GroupSets:
    """Renders groups, remembering the last rendering of each."""

    _known: dict[str, _Known] = field(default_factory=dict)

    def render(self, settled: Settled) -> tuple[dict[str, SetImage], tuple[str, ...]]:
        """The sets by name, and what could not be read, one sentence each."""
        before, self._known = self._known, {}
        for group, members in settled.groups.items():
            name, kind, reader = _form(group, settled.group_types.get(group, "Addresses"))
            self._known[name] = _render(group, kind, reader, members, before.get(name))
        problems = tuple(problem for known in self._known.values() for problem in known.problems)
        return {name: known.image for name, known in self._known.items()}, problems


def _form(group: str, group_type: str) -> tuple[str, str, _Reader]:
    if group_type == "AddressPorts":
        return names.port_group(group), "hash:ip,port", port_member
    return names.address_group(group), "hash:net", address_member


def _render(group: str, kind: str, reader: _Reader, members: frozenset[str], before: _Known | None) -> _Known:
    if before is not None and (before.source is members or before.source == members):
        return before
    if before is not None and before.plain:
        added = members - before.source
        if all(reader(member) == (member,) for member in added):
            return _Known(members, SetImage(kind, members), True, ())
    return _anew(group, kind, reader, members)


def _anew(group: str, kind: str, reader: _Reader, members: Iterable[str]) -> _Known:
    members = frozenset(members)
    read = {member: reader(member) for member in members}
    written = frozenset(part for parts in read.values() for part in parts or ())
    problems = tuple(
        f"AddressGroup {group}: member {member!r} is not of the form {_FORMS[kind]}"
        for member, parts in sorted(read.items())
        if parts is None
    )
    plain = written == members
    return _Known(members, SetImage(kind, members if plain else written), plain, problems)


_FORMS = {"hash:net": "10.0.0.1", "hash:ip,port": "10.0.0.1,tcp:80"}
