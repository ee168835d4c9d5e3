"""NetworkPolicies of equal specs are compiled once, wherever they are.

Owns: what is remembered of a spec, and what of it depends on the policy's namespace. Must not: know what a spec means.

Why: policies come from templates, the same in every namespace, and compiling takes several times what it takes to say
the same of another namespace. Of a spec that is met again, it is remembered what it comes to in PLACE, where nothing
can be: so all that depends on the namespace can be told by it, and what was left unmoved would select nothing at all.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from manx_core.api.core_v1 import NetworkPolicy, NetworkPolicySpec, ObjectMeta
from manx_core.api.v1alpha1 import Rule, RuleEnd
from manx_core.policy.compile import compile_anew, compiled_as
from manx_core.policy.compiled import CompiledPolicy, InvalidPolicy
from manx_core.policy.scope import NAMESPACE, GroupDef
from manx_core.selectors import Blank, Selector, Selects

PLACE = ":here"
"""No namespace has a colon in its name."""
_LONGEST_SPEC = 4096
"""Bytes of a spec that is remembered: longer ones come one of a kind."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(NetworkPolicySpec).decode


def compile_network_policy(policy: NetworkPolicy) -> CompiledPolicy | InvalidPolicy:
    """networking.k8s.io/v1 NetworkPolicy; never raises on what a user may write. As `compile_anew`."""
    spec = _encode(policy.spec)
    known = _known(spec) if len(spec) <= _LONGEST_SPEC and policy.metadata.namespace else None
    template = known.template() if known is not None else None
    return compile_anew(policy) if template is None else template.of(policy)


class _Known:
    """A spec that was met. Only what is met again is worth a template: many specs are one of a kind."""

    __slots__ = ("_met", "_spec", "_template")

    def __init__(self, spec: bytes) -> None:
        self._spec = spec
        self._met = 0
        self._template: _Template | None = None

    def template(self) -> _Template | None:
        """None the first time, and for a spec that is not valid."""
        self._met += 1
        if self._met == 2:
            self._template = _template(self._spec)
        return self._template


@lru_cache(maxsize=512)
def _known(spec: bytes) -> _Known:
    return _Known(spec)


class _Template:
    """A spec compiled for PLACE."""

    __slots__ = ("_applies_to", "_egress", "_groups", "_ingress", "_types")

    def __init__(self, compiled: CompiledPolicy) -> None:
        self._types = compiled.types
        self._applies_to = _Moving(compiled.applies_to)
        self._groups = [(group, _Moving(group.selects)) for group in compiled.groups]
        local = {group.id for group, selects in self._groups if selects.moves}
        self._ingress = [(rule, _names(rule, local)) for rule in compiled.ingress]
        self._egress = [(rule, _names(rule, local)) for rule in compiled.egress]

    def of(self, policy: NetworkPolicy) -> CompiledPolicy:
        """The policy, which has that spec, compiled."""
        namespace, groups, ids = policy.metadata.namespace, [], {}
        for group, selects in self._groups:
            moved = GroupDef(selects.to(namespace), group.port, group.protocol) if selects.moves else group
            groups.append(moved)
            ids[group.id] = moved.id
        return compiled_as(
            policy,
            self._applies_to.to(namespace),
            self._types,
            tuple([_moved(rule, ids) if moves else rule for rule, moves in self._ingress]),
            tuple([_moved(rule, ids) if moves else rule for rule, moves in self._egress]),
            tuple(groups),
        )


class _Moving:
    """A selector of a template. It moves where it asks for the policy's own namespace."""

    __slots__ = ("_blank", "_selects")

    def __init__(self, selects: Selects) -> None:
        self._selects = selects
        self._blank: Blank | None = None
        if isinstance(selects, Selector) and NAMESPACE in selects.reads:
            self._blank = Blank(selects, NAMESPACE)

    @property
    def moves(self) -> bool:
        return self._blank is not None

    def to(self, namespace: str) -> Selects:
        return self._selects if self._blank is None else self._blank.filled(namespace)


def _template(spec: bytes) -> _Template | None:
    """None for a spec that is not valid."""
    compiled = compile_anew(NetworkPolicy(metadata=ObjectMeta(namespace=PLACE), spec=_decode(spec)))
    return _Template(compiled) if isinstance(compiled, CompiledPolicy) else None


def _names(rule: Rule, local: set[str]) -> bool:
    """Whether the rule names any of these groups."""
    ends = (rule.peer, rule.subject)
    return any(name in local for end in ends for name in (*end.groups, *end.port_groups))


def _moved(rule: Rule, ids: dict[str, str]) -> Rule:
    return msgspec.structs.replace(rule, peer=_end(rule.peer, ids), subject=_end(rule.subject, ids))


def _end(end: RuleEnd, ids: dict[str, str]) -> RuleEnd:
    if not end.groups and not end.port_groups:
        return end
    groups, port_groups = (tuple([ids[name] for name in names]) for names in (end.groups, end.port_groups))
    return msgspec.structs.replace(end, groups=groups, port_groups=port_groups)
