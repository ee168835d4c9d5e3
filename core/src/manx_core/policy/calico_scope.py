"""What Calico's policies select, as selectors over flat labels.

Owns: the reading of selector, notSelector, namespaceSelector and serviceAccounts together, in a policy and in a rule.
Must not: know rules' other fields.

As in Calico: a namespaced policy's selectors are limited to its namespace, unless a namespaceSelector says where; that
holds for a notSelector alone, too. Where anything positive is asked, a notSelector takes from that; alone, it is the
address that must not be of what it selects. In a namespaceSelector, `all()` is what has a namespace, `global()` what
has none. Source: libcalico-go, updateprocessors/rules.go; Felix, calc/rule_scanner.go.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from manx_core.policy.scope import (
    CALICO_NAME,
    NAMESPACE,
    NAMESPACE_KNOWN,
    NAMESPACE_LABEL,
    ORCHESTRATOR,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_LABEL,
)
from manx_core.selectors import EVERYTHING, Selects, normalize
from manx_core.selectors.calico import parse
from manx_core.selectors.expression import And, Expression, LabelTest, Not, labels_read, rewrite

_ITEM_KEYS = {
    "projectcalico.org/namespace": NAMESPACE,
    "projectcalico.org/orchestrator": ORCHESTRATOR,
    "projectcalico.org/serviceaccount": SERVICE_ACCOUNT,
}
_HAS_NAMESPACE = LabelTest(NAMESPACE, "has")


class EntityScope(NamedTuple):
    """Which items one end of a rule may be."""

    known: Selects | None
    """The address is of one of these items. None: of anything."""
    unlike: Selects | None = None
    """The address is of none of these items."""


@lru_cache(maxsize=8192)
def applies_to(namespace: str, selector: str, namespace_selector: str = "", accounts: str = "") -> Selects:
    """The pods that a policy applies to; `namespace` is a NetworkPolicy's, empty for a GlobalNetworkPolicy.

    Raises SelectorError for a selector that cannot be read.
    """
    parts: list[Expression] = [LabelTest(NAMESPACE, "in", (namespace,))] if namespace else []
    if namespace_selector:
        parts.append(_in_namespaces(namespace_selector))
    if selector:
        parts.append(_items(selector))
    if accounts:
        parts.append(_by_account(accounts))
    return normalize(And(tuple(parts))) if parts else EVERYTHING


@lru_cache(maxsize=8192)
def entity_scope(
    namespace: str, selector: str, not_selector: str, namespace_selector: str, names: tuple[str, ...], accounts: str
) -> EntityScope:
    """What the selectors of one end of a rule come to; `names` and `accounts` are of service accounts.

    Raises SelectorError for a selector that cannot be read.
    """
    parts: list[Expression] = []
    if accounts:
        parts.append(_by_account(accounts))
    if names:
        parts.append(LabelTest(SERVICE_ACCOUNT, "in", names))
    if selector:
        parts.append(_items(selector))
    if namespace_selector:
        parts.append(_in_namespaces(namespace_selector))
    elif namespace and (parts or not_selector):
        parts.append(LabelTest(NAMESPACE, "in", (namespace,)))
    if not parts:
        return EntityScope(None, normalize(_items(not_selector)) if not_selector else None)
    if not_selector:
        parts.append(Not(_items(not_selector)))
    return EntityScope(normalize(And(tuple(parts))))


def _items(selector: str) -> Expression:
    """A selector over items' own labels, and those that Calico gives them."""
    return rewrite(parse(selector).expression, lambda label: _ITEM_KEYS.get(label, label))


def _in_namespaces(selector: str) -> Expression:
    expression = parse(selector).expression
    flat = rewrite(expression, _namespace_key, everything=_HAS_NAMESPACE, nowhere=Not(_HAS_NAMESPACE))
    return And((LabelTest(NAMESPACE_KNOWN, "has"), flat)) if labels_read(expression) else flat


def _namespace_key(label: str) -> str:
    return NAMESPACE if label == CALICO_NAME else NAMESPACE_LABEL + label


def _by_account(selector: str) -> Expression:
    return rewrite(parse(selector).expression, lambda label: SERVICE_ACCOUNT_LABEL + label)
