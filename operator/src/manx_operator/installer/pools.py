"""The IPPools that the Installation asks for, against those that are there.

Owns: which to create, change and delete, and what cannot be done. Must not: do I/O.

A pool that the Installation made carries our label. One of the same name without it is the user's: it is left as it is,
and told. A pool in use is not deleted; it is disabled, so that it empties.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from manx_core.api.fields import Problem
from manx_core.api.installation import Installation, InstallationIPPool
from manx_core.api.installation_settings import block_size, nat_outgoing, pools_wanted
from manx_core.api.ip_pool import DEFAULT_BLOCK_SIZE
from manx_operator.installer.names import INSTALLATION_UID, MANAGED_BY, OPERATOR, OWN_LABELS

Raw = Mapping[str, Any]
_MODES = {
    "IPIP": ("Always", "Never"),
    "IPIPCrossSubnet": ("CrossSubnet", "Never"),
    "VXLAN": ("Never", "Always"),
    "VXLANCrossSubnet": ("Never", "CrossSubnet"),
    "None": ("Never", "Never"),
}
_FIXED = ("cidr", "blockSize")


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What to do about pools. `create` and `change` hold whole objects; `delete` (name, resourceVersion)."""

    create: tuple[dict[str, Any], ...] = ()
    change: tuple[dict[str, Any], ...] = ()
    delete: tuple[tuple[str, str], ...] = ()
    problems: tuple[Problem, ...] = ()


def render_pools(installation: Installation) -> tuple[dict[str, Any], ...]:
    """The IPPools that a valid Installation asks for."""
    return tuple(_pool(name, pool, installation.metadata.uid) for name, pool in pools_wanted(installation))


def _pool(name: str, pool: InstallationIPPool, uid: str) -> dict[str, Any]:
    ipip, vxlan = _MODES[pool.encapsulation or "None"]
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": {"name": name, "labels": dict(OWN_LABELS), "annotations": {INSTALLATION_UID: uid}},
        "spec": {
            "cidr": pool.cidr,
            "blockSize": block_size(pool),
            "natOutgoing": nat_outgoing(pool),
            "nodeSelector": pool.node_selector or "all()",
            "ipipMode": ipip,
            "vxlanMode": vxlan,
            "allowedUses": list(pool.allowed_uses or ("Workload", "Tunnel")),
            "disabled": bool(pool.disable_new_allocations),
        },
    }


def plan_pools(installation: Installation, there: Mapping[str, Raw], in_use: Collection[str]) -> PoolPlan:
    """`there`: every IPPool by name; `in_use`: names of pools that blocks are of."""
    wanted = {pool["metadata"]["name"]: pool for pool in render_pools(installation)}
    create, change, problems = [], [], []
    for index, (name, pool) in enumerate(wanted.items()):
        path = f"spec.calicoNetwork.ipPools[{index}]"
        if name not in there:
            create.append(pool)
        elif not is_ours(there[name]):
            message = f"an IPPool {name} that the Installation did not make is there and is left as it is"
            problems += [Problem(path, message)] if _differs(pool, there[name]) else []
        elif fixed := _changed_fixed(pool, there[name]):
            problems.append(Problem(f"{path}.{fixed}", _fixed_message(name, fixed, there[name])))
        elif _differs(pool, there[name]):
            change.append(pool)
    unwanted = {name: raw for name, raw in there.items() if is_ours(raw) and name not in wanted}
    used = sorted(name for name in unwanted if name in in_use)
    change += [_disabled(unwanted[name]) for name in used if not unwanted[name]["spec"].get("disabled")]
    problems += [Problem("spec.calicoNetwork.ipPools", _in_use_message(name)) for name in used]
    delete = tuple((name, _version(raw)) for name, raw in sorted(unwanted.items()) if name not in in_use)
    return PoolPlan(tuple(create), tuple(change), delete, tuple(problems))


def is_ours(raw: Raw) -> bool:
    """Whether an IPPool was made for the Installation."""
    labels = raw.get("metadata", {}).get("labels") or {}
    return labels.get(MANAGED_BY) == OPERATOR


def _changed_fixed(pool: Raw, there: Raw) -> str:
    for name in _FIXED:
        if pool["spec"][name] != _fixed_value(there, name):
            return name
    return ""


def _fixed_message(name: str, field: str, there: Raw) -> str:
    value = _fixed_value(there, field)
    return f"{field} of IPPool {name} cannot be changed: it stays {value}; add another pool instead"


def _fixed_value(there: Raw, field: str) -> Any:
    spec = there["spec"]
    if field == "blockSize":
        return spec.get(field, DEFAULT_BLOCK_SIZE[6 if ":" in spec.get("cidr", "") else 4])
    return spec.get(field)


def _in_use_message(name: str) -> str:
    return f"IPPool {name} is not asked for any more and is in use: it gives out no more addresses, and goes when empty"


def _differs(pool: Raw, there: Raw) -> bool:
    return any(there["spec"].get(name) != value for name, value in pool["spec"].items())


def _disabled(raw: Raw) -> dict[str, Any]:
    """The same pool, giving out no more addresses."""
    name, labels = raw["metadata"]["name"], dict(OWN_LABELS)
    annotations = {INSTALLATION_UID: (raw["metadata"].get("annotations") or {}).get(INSTALLATION_UID, "")}
    metadata = {"name": name, "labels": labels, "annotations": annotations}
    head = {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": metadata}
    return head | {"spec": {**raw["spec"], "disabled": True}}


def _version(raw: Raw) -> str:
    return str(raw["metadata"].get("resourceVersion", ""))
