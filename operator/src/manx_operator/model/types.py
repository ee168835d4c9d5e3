"""What the model takes and hands out, and the counted sets that it is made of.

Owns: the frozen values of the model's interface, and `Span`.
Must not: know how any of it comes about.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from manx_core.api.v1alpha1 import AddressGroupSpec, PolicyClassSpec, PolicyProgramSpec
from manx_core.policy import program_name

Kind = Literal["PolicyClass", "PolicyProgram", "AddressGroup"]
Key = tuple[Kind, str]
"""A kind and an object's name."""
ObjectSpec = PolicyClassSpec | PolicyProgramSpec | AddressGroupSpec
ObjectKey = tuple[str, str]
"""Namespace ("" for none) and name of a user's object."""

WIDE = 32
"""Nodes, from which on a span keeps the value that it was last asked for."""

PolicyKind = Literal["knp", "np", "gnp"]
"""Kubernetes' NetworkPolicy, Calico's NetworkPolicy and GlobalNetworkPolicy."""


class PolicyId(NamedTuple):
    """A policy of a user's."""

    kind: PolicyKind
    namespace: str
    """Empty for a GlobalNetworkPolicy."""
    name: str

    @property
    def program(self) -> str:
        """Its PolicyProgram's name."""
        return program_name(*(part for part in self if part))


class DesiredObject(msgspec.Struct, frozen=True, gc=False):
    """An object that shall exist."""

    kind: Kind
    name: str
    spec: ObjectSpec
    """With epoch 0: the writer knows the real one."""
    nodes: frozenset[str]
    """The nodes that need it now."""
    declared: str = ""
    """Of a PolicyProgram: what `StoredProgram.declared` shall be."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Where the model may differ from what it was at the drain before. It may name more than really differs."""

    objects: Set[Key] = frozenset()
    """In the order in which they came to differ: whoever asks for them goes through memory as it was filled."""
    nodes: frozenset[str] = frozenset()
    """Nodes whose endpoints may differ."""
    policies: frozenset[PolicyId] = frozenset()
    """Policies whose problems differ."""
    remarked: frozenset[str] = frozenset()
    """Programs of whose policies there is something else to remark."""
    moved: frozenset[str] = frozenset()
    """Programs that may concern other nodes: those that are inside a class have objects that say nothing of it."""

    def __bool__(self) -> bool:
        return bool(self.objects or self.nodes or self.policies or self.remarked or self.moved)


class Span:
    """The nodes that need something, each with the number of reasons."""

    __slots__ = ("_nodes", "_reasons")

    def __init__(self) -> None:
        self._reasons: dict[str, int] = {}
        self._nodes: frozenset[str] | None = None

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes. One value for all who ask, as long as it stays the same: a wide span has thousands of objects."""
        if self._nodes is None:
            if len(self._reasons) == 1:
                return _alone(*self._reasons)
            found = frozenset(self._reasons)
            if len(found) < WIDE:
                return found
            self._nodes = found
        return self._nodes

    def add(self, node: str) -> bool:
        """One reason more; whether it is the first."""
        reasons = self._reasons.get(node, 0)
        self._reasons[node] = reasons + 1
        if reasons:
            return False
        self._nodes = None
        return True

    def drop(self, node: str) -> bool:
        """One reason less; whether it was the last. There must have been one."""
        reasons = self._reasons[node] - 1
        if reasons:
            self._reasons[node] = reasons
            return False
        del self._reasons[node]
        self._nodes = None
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._reasons)

    def __len__(self) -> int:
        return len(self._reasons)


@lru_cache(maxsize=8192)
def _alone(node: str) -> frozenset[str]:
    """One value for all that only this node needs."""
    return frozenset((node,))
