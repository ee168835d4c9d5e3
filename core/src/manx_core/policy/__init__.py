"""Policy: from what users declare to rules that a kernel can hold, and what those declarations mean.

Owns: the compilation of each policy kind into one rule model, and the reference semantics (`verdict`) against which the
compiled form is checked. Must not: keep state between calls, or know nodes, objects' names on the wire or kernels.

Why names are looked up late: agents import `evaluate` alone, and must not carry the models of users' kinds (pydantic)
with it, which everything else here reaches. (`verdict` and `evaluate` are imported from their modules of that name.)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manx_core.policy.cluster import Cluster, Direction, PodKey, PolicyKey, is_endpoint, named_ports
    from manx_core.policy.compile_calico import calico_program_name, closed_calico_policy, compile_calico_policy
    from manx_core.policy.compile_once import compile_network_policy
    from manx_core.policy.compiled import DEFAULT_TIER, CompiledPolicy, InvalidPolicy, program_name
    from manx_core.policy.endpoint import NamedPort
    from manx_core.policy.evaluate import Decision, Flow, Groups
    from manx_core.policy.scope import GroupDef, ServiceRef, kubernetes_pods, network_set_item, pod_item
    from manx_core.policy.validate import Problem, check_network_policy
    from manx_core.policy.verdict import Verdict

__all__ = [
    "DEFAULT_TIER",
    "Cluster",
    "CompiledPolicy",
    "Decision",
    "Direction",
    "Flow",
    "GroupDef",
    "Groups",
    "InvalidPolicy",
    "NamedPort",
    "PodKey",
    "PolicyKey",
    "Problem",
    "ServiceRef",
    "Verdict",
    "calico_program_name",
    "check_network_policy",
    "closed_calico_policy",
    "compile_calico_policy",
    "compile_network_policy",
    "is_endpoint",
    "kubernetes_pods",
    "named_ports",
    "network_set_item",
    "pod_item",
    "program_name",
]

_MODULES = {
    "cluster": ("Cluster", "Direction", "PodKey", "PolicyKey", "is_endpoint", "named_ports"),
    "compile_once": ("compile_network_policy",),
    "compile_calico": ("calico_program_name", "closed_calico_policy", "compile_calico_policy"),
    "compiled": ("DEFAULT_TIER", "CompiledPolicy", "InvalidPolicy", "program_name"),
    "endpoint": ("NamedPort",),
    "evaluate": ("Decision", "Flow", "Groups"),
    "scope": ("GroupDef", "ServiceRef", "kubernetes_pods", "network_set_item", "pod_item"),
    "validate": ("Problem", "check_network_policy"),
    "verdict": ("Verdict",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = found
    return found
