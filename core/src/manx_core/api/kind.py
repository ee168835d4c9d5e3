"""How a kind presents itself at the API server: names, columns, rules. crds/ is generated from these and the models.

Owns: the description of a kind's outside. Must not: know schemas (models do) or do I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`. `priority` above 0 shows only with -o wide."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind. `rules`: CEL on the whole object; `status`: whether it has the status subresource; `selectable`: paths of
    the fields that `kubectl get --field-selector` may ask for."""

    group: str
    version: str
    kind: str
    plural: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    rules: tuple[dict[str, Any], ...] = ()
    status: bool = True
    namespaced: bool = False
    selectable: tuple[str, ...] = ()


AGE = Column("Age", ".metadata.creationTimestamp", "date")
ACCEPTED = Column("Accepted", ".status.conditions[?(@.type=='Accepted')].status", description="Valid and in force.")
